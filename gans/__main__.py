"""The `gans` command: recipes, the trainer's four verbs on them, and the words for what is wrong with its input.

Nothing here imports torch or Lightning, so that listing recipes and refusing a mistyped one take no time.
"""

import difflib
import importlib.util
import os
import re
import sys
from argparse import Namespace
from importlib.resources import files
from pathlib import Path
from typing import Any

from gans.parent import end_with_launcher, launched_by, main_process

USAGE = """\
usage: gans recipes [NAME]                      list the recipes, or print one
       gans fit      RECIPE|FILE.yaml [flags]   train it; flags win over the recipe
       gans validate RECIPE|FILE.yaml [flags]   \\
       gans test     RECIPE|FILE.yaml [flags]    } on the last checkpoint, or on --ckpt_path
       gans predict  RECIPE|FILE.yaml [flags]   /  (predict writes pictures)
       gans predict  CKPT --input FILE|DIR --output DIR     translate, fill or restyle whole pictures; --help
       gans evaluate CKPT|--images DIR [flags]  FID, KID, IS, recall, ... with their protocol; --help
       gans sample   CKPT [flags]               pictures of a seed: a grid, or a file each; --help
       gans explore  WHAT CKPT [flags]          walks, directions, inversion, neighbours of its latent space; --help
       gans export   CKPT --format FORMAT       the averaged generator for plain torch, or onnxruntime; --help

       gans fit dcgan-digits                             no download, three minutes on two cores
       gans fit dcgan-digits --ckpt_path last            resume from its last checkpoint
       gans fit dcgan-folder --data.root photos --init_from CKPT       start from its weights
       gans fit dcgan-folder --data.root photos --data.size 64 --trainer.max_steps 20000
       gans fit dcgan-mnist --trainer.devices 8 --trainer.precision bf16-mixed
       gans fit dcgan-mnist --print_config > my.yaml     write it all out, edit, gans fit my.yaml
       gans fit --help                                   the flags of trainer, pictures, health and checkpoints
       gans fit --model.help DCGAN                       those of a model; --data.help MNISTDataModule of a data set

CKPT is a file that training wrote, the folder of a run, or a recipe: the newest last.ckpt of its runs.
A wrong input is one sentence and exit code 2; GANS_TRACEBACK=1 shows where it came from.
"""

VERBS = ("fit", "validate", "test", "predict")
COMMANDS = ("evaluate", "sample", "explore", "export")  # on what was trained, each a file of gans.commands
LINKED = ("size", "channels", "source_channels", "frames", "max_length")  # what the data decide for the model
NODES = 10_000  # keys and values in a YAML file
HERE = "\0"  # stands before a key in the complaint of a parser that does not know below which key it was called


def expanded(value: Any) -> Any:
    """Return what a parser has read, with the home folder in place of the `~` that a path or a string begins with.

    A shell does not expand `--flag=~/x`, and nothing expands what a YAML file holds.
    """
    if isinstance(value, str):
        return os.path.expanduser(value)  # unlike Path.expanduser, it leaves ~name as it is where there is no such user
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))
    if isinstance(value, list):
        return [expanded(part) for part in value]
    if isinstance(value, dict | Namespace):
        held = value if isinstance(value, dict) else vars(value)
        held.update({name: expanded(part) for name, part in held.items()})
    return value


def recipes() -> dict[str, Path]:
    """Return the path of every recipe by its name."""
    folder = Path(str(files("gans") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def nearest(word: str, words: list[str]) -> str:
    """Return ' (did you mean X?)' for the word most like `word`, or nothing."""
    # lr is model.lr, grid.every is grid.every_n_steps
    close = [other for other in words if other.endswith(f".{word.lstrip(HERE)}") or other.startswith(f"{word}_")]
    close = close or difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def find(name: str) -> Path:
    """Return the file of a recipe, or of a configuration of the user's own.

    Raises:
        ValueError: if there is neither.
    """
    known = recipes()
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        path = Path(os.path.expanduser(name))
        try:
            there = path.is_file()
        except OSError as error:  # a name longer than any file's
            raise ValueError(f"there is no file {name[:40]}...: {error.strerror}") from error
        if there:
            return path
        raise ValueError(f"there is no file {name}")
    raise ValueError(f"there is no recipe {name}{nearest(name, list(known))}: `gans recipes` lists them")


def show(names: list[str]) -> None:
    """Print the recipes with a line each, or one recipe whole."""
    if names:
        print(find(names[0]).read_text(encoding="utf-8"), end="")
        return
    for name, path in recipes().items():
        print(f"{name:25}{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


def checked(verb: str, args: list[str]) -> tuple[str, list[str]]:
    """Return the name of the run and its flags, with the paths of all configurations, whose keys have been looked at.

    Raises:
        ValueError: for a file that is missing or no YAML, and for what is set where the data decide it.
    """
    if not args:
        raise ValueError(f"{verb} needs a recipe or a YAML file: `gans recipes` lists the recipes")
    args = list(args) if args[0].startswith("-") else ["--config", *args]
    name = ""
    for i, flag in enumerate(args):
        if found := re.match(rf"--model\.(?:init_args\.)?({'|'.join(LINKED)})\b", flag):
            raise ValueError(f"model.{found[1]} follows data.{found[1]}: give --data.{found[1]}")
        if flag.startswith(("--config=", "-c=")):
            args[i : i + 1] = flag.split("=", 1)  # the list grows behind i, so the value comes next
        if args[i] in ("--config", "-c") and i + 1 < len(args):
            path = find(args[i + 1])
            check_file(path)
            args[i : i + 2] = ["--config", str(path)]
            parent = path.absolute().parent
            of_a_run = path.stem == "config" and parent.name.startswith("version_")
            name = name or (parent.parent.name if of_a_run else path.stem)
    return name or "run", [*args, *whole_epochs(args)]


def whole_epochs(args: list[str]) -> list[str]:
    """Return the flag that lifts a recipe's `max_steps` for a user who gives `max_epochs` alone, and say so."""
    import yaml

    given: dict[str, Any] = {}  # beside the recipe, which is the first configuration
    files = [args[i + 1] for i, flag in enumerate(args[:-1]) if flag == "--config"]
    for file in files[1:]:
        given |= yaml.safe_load(Path(file).read_text(encoding="utf-8")).get("trainer") or {}
    for i, flag in enumerate(args):
        if found := re.match(r"--trainer\.(max_epochs|max_steps)(?:=(.*))?$", flag):
            given[found[1]] = found[2] if found[2] is not None else "".join(args[i + 1 : i + 2])
    recipe = yaml.safe_load(Path(files[0]).read_text(encoding="utf-8")).get("trainer") or {} if files else {}
    steps, epochs = recipe.get("max_steps", -1), str(given.get("max_epochs", ""))
    if "max_steps" in given or not epochs.isdigit() or steps in (None, -1):
        return []
    if main_process():
        name = Path(files[0]).stem
        print(f"gans: trainer.max_epochs is {epochs}: max_steps of {name}, {steps}, is lifted", file=sys.stderr)
    return ["--trainer.max_steps=-1"]


def check_file(path: Path) -> None:
    """Raise a ValueError for a configuration that is no YAML, or sets what it cannot."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        check_nodes(path, yaml.compose(text, Loader=yaml.SafeLoader))
        config = yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep; expected at most a few levels of keys") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        raise ValueError(
            f"{path}{f', line {mark.line + 1},' if mark else ''} is not YAML: {' '.join(str(problem).split())}"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no keys; expected model, data, trainer and what is below them")
    for part in ("trainer", "grid", "health", "checkpoint", "evaluate", "explore"):
        if not isinstance(config.get(part, {}), dict):
            raise ValueError(f"{part} is {config[part]} in {path}; expected keys and values below it")
    for part in ("model", "data"):
        value = config.get(part)
        if isinstance(value, dict) and not isinstance(value.get("init_args") or {}, dict):
            raise ValueError(f"{part}.init_args is {value['init_args']} in {path}; expected keys and values below it")
    model = config["model"] if isinstance(config.get("model"), dict) else {}
    given = model.get("init_args") or {}
    for name in LINKED:
        if name in model or name in given:
            raise ValueError(f"model.{name} follows data.{name}: set that one in {path}")


def check_nodes(path: Path, root: Any) -> None:
    """Raise a ValueError for YAML that aliases (`*name`) make endless, or larger than any recipe."""
    sizes: dict[int, int] = {}  # of what a node becomes where every alias is written out; 0 while it is looked at

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0
            parts = node.value if isinstance(node.value, list) else ()
            keys = [entry[0].value for entry in parts if isinstance(entry, tuple)]
            if twice := [key for key in keys if isinstance(key, str) and keys.count(key) > 1]:
                raise ValueError(f"{path} holds {twice[0]} twice, below line {node.start_mark.line + 1}")
            within = (part for entry in parts for part in (entry if isinstance(entry, tuple) else (entry,)))
            sizes[id(node)] = 1 + sum(map(size, within))
        elif not sizes[id(node)]:
            raise ValueError(f"{path} holds an alias of what it stands in, line {node.start_mark.line + 1}")
        return sizes[id(node)]

    if root is not None and (count := size(root)) > NODES:
        raise ValueError(f"{path} holds {count:,} keys and values, aliases written out; expected at most {NODES:,}")


def sentence(message: str, flags: set[str], classes: dict[str, list[str]]) -> str:
    """Return jsonargparse's report, nested as its parsers are, as one complaint with the nearest valid name.

    `flags` are the valid keys, `classes` the names that `model` and `data` may have.
    """
    owner, value = re.search(r'Parser key "([\w.]+)"', message), re.search(r"(?:Got|Given) value: (.*)", message)
    key = owner[1] if owner else ""
    if found := re.search(rf".*{HERE}.*", message):  # the parser of a class has found the words already
        return found[0].strip(" -").replace(HERE, f"{HERE}{key}." if key else HERE)
    if found := re.search(r"(?:ption '|Key '|unrecognized arguments: )([^\s'=]+)", message):
        name = found[1].lstrip("-").replace("init_args.", "")
        if name == found[1] and "unrecognized" in message:
            return f"{name} stands alone; expected --key value, and a recipe only right after the command"
        return f"there is no key {HERE}{name}{nearest(HERE + name, [HERE + flag for flag in sorted(flags)])}"
    if found := re.search(r"arguments are required: (?:\w+\.)?(.*)", message):
        return f"{HERE}{re.sub(r', (fit|validate|test|predict)[.]', ' and ', found[1])} must be given"
    if value and key in classes:
        given = re.search(r"class_path': '([^']+)", value[1])
        name, known = given[1] if given else value[1], classes[key]
        return f"{key} is {name}{nearest(name, known)}; expected {', '.join(known)} or the import path of another"
    kinds = re.findall(r"Expected an? (.+?)(?:\. Got value|$)", message, re.MULTILINE)
    told = [kind for kind in dict.fromkeys(map(plain, kinds)) if kind not in ("", "NoneType")]
    if key and value and told:
        # Two numbers as people write sizes; told is then a list of types that says nothing of brackets.
        if sides := re.fullmatch(r"\W*(\d+)\s*[x*,]\s*(\d+)\W*", value[1]):
            return f"{HERE}{key} is {value[1]}; expected [{sides[1]},{sides[2]}] for two numbers"
        near = nearest(value[1], re.findall(r"'([^']+)'", " ".join(told)))
        return f"{HERE}{key} is {value[1]}{near}; expected {' or '.join(told)}"
    return " ".join(message.split())


def plain(kind: str) -> str:
    """Return a type, as jsonargparse writes it, for the eyes of a user."""
    kind = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", kind)
    kind = re.sub(r"^dot import path.*", "the import path of a class", re.sub(r"^path but.*", "", kind))
    return re.sub(r"(?:typing\.)?Literal\[(.*)\]", r"one of \1", kind)


def located(message: str, config: dict[str, Any]) -> str:
    """Return a complaint of a constructor, such as "size is 0", with the whole key: that which has the value."""
    word = re.match(r"`?(\w+)`?", message)
    keys = [
        key for key, value in config.items() if word and f".{key}".endswith(f".{word[1]}") and str(value) in message
    ]
    keys.sort(key=lambda key: key.startswith("model."))  # where both have it, the data decide
    return keys[0].replace("init_args.", "") + message[word.end() :] if word and keys else message


def check_home() -> None:
    """Raise a ValueError if another folder `datamodules` stands before this project's on Python's path."""
    home, spec = Path(__file__).absolute().parents[1], importlib.util.find_spec("datamodules")
    found = [Path(place).absolute() for place in (spec and spec.submodule_search_locations) or ()]
    if spec and home / "datamodules" not in found:
        other = found[0] if found else spec.origin
        raise ValueError(f"{other} hides the package datamodules of {home}: rename it, or take it from PYTHONPATH")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 is success, 1 a run that failed, 2 bad input, 128 + n the end by signal n: 130 for Ctrl-C, 143 for SIGTERM.
    """
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    pictures = any(arg.startswith("--input") for arg in rest) or (rest[:1] and rest[0].endswith(".ckpt"))
    is_command = verb in COMMANDS or (verb == "predict" and pictures)  # a verb on a recipe, a command on a checkpoint
    try:
        check_home()
        if is_command:
            pass
        elif verb in VERBS:
            name, args = checked(verb, rest)
        elif verb in ("-h", "--help", "help"):
            print(USAGE, end="")
        elif verb == "recipes":
            show(rest)
        else:
            close = nearest(verb, [*VERBS, *COMMANDS, "recipes"])
            raise ValueError(f"there is no command {verb}{close}: `gans --help` lists them")
    except ValueError as error:
        print(f"gans: error: {error}", file=sys.stderr)
        return 2
    try:
        if is_command:
            from gans.cli import command

            return command(verb, rest)
        if verb in VERBS:
            end_with_launcher()  # before the seconds that importing torch takes
            from gans.cli import run

            return run(verb, name, args)
    except KeyboardInterrupt:
        if launched_by() is None:
            print("gans: stopped before it began", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
