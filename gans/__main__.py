"""The `gans` command: recipes, and the trainer's four verbs on them.

Nothing here imports torch or Lightning, so that listing recipes and refusing a mistyped one take no time.
"""

import difflib
import sys
from importlib.resources import files
from pathlib import Path

USAGE = """\
usage: gans recipes [NAME]                      list the recipes, or print one
       gans fit      RECIPE|FILE.yaml [flags]   train it; flags win over the recipe
       gans validate RECIPE|FILE.yaml [flags]   \\
       gans test     RECIPE|FILE.yaml [flags]    } on the last checkpoint, or on --ckpt_path
       gans predict  RECIPE|FILE.yaml [flags]   /  (predict writes pictures)

       gans fit dcgan-digits                             no download, three minutes on two cores
       gans fit dcgan-digits --ckpt_path last            go on where it stopped
       gans fit dcgan-folder --data.root photos --data.size 64 --trainer.max_steps 20000
       gans fit dcgan-mnist --trainer.devices 8 --trainer.precision bf16-mixed
       gans fit dcgan-mnist --print_config > my.yaml     write it all out, edit, gans fit my.yaml
       gans fit --help                                   every flag
"""

VERBS = ("fit", "validate", "test", "predict")


def recipes() -> dict[str, Path]:
    """Return the path of every recipe by its name."""
    folder = Path(str(files("gans") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def nearest(word: str, words: list[str]) -> str:
    """Return ' (did you mean X?)' for the word most like `word`, or nothing."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
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
        if Path(name).is_file():
            return Path(name)
        raise ValueError(f"there is no file {name}")
    raise ValueError(f"there is no recipe {name}{nearest(name, list(known))}: `gans recipes` lists them")


def show(names: list[str]) -> None:
    """Print the recipes with a line each, or one recipe whole."""
    if names:
        print(find(names[0]).read_text(encoding="utf-8"), end="")
        return
    for name, path in recipes().items():
        print(f"{name:16}{path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a run that failed, 2 for bad input."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        if verb in ("-h", "--help", "help"):
            print(USAGE, end="")
        elif verb == "recipes":
            show(rest)
        elif verb in VERBS:
            if rest and not rest[0].startswith("-"):
                rest = ["--config", str(find(rest[0])), *rest[1:]]
            from gans.cli import run

            return run(verb, rest)
        else:
            raise ValueError(
                f"there is no command {verb}{nearest(verb, [*VERBS, 'recipes'])}: `gans --help` lists them"
            )
    except ValueError as error:
        print(f"gans: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
