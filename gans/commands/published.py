"""`gans import [KIND] FILE`: a checkpoint that others have published, as an ordinary checkpoint of this framework.

Without a kind, the names and shapes of the file's tensors tell it.
"""

import shlex
from pathlib import Path
from typing import Any

import yaml

from gans.commands.parser import Parser, check_writable
from gans.engine.interface import translates
from gans.published.checkpoint import imported, save
from gans.published.kinds import KINDS, REFUSED, named
from gans.recipes.configuration import LINKED
from gans.runs.recipes import recipes

# Files of further networks, with what the help says of them.
OTHERS = {
    "discriminator": "file of the discriminator, where it has one of its own",
    "average": "file of the averaged generator, where it has one of its own",
    "back": "file of CycleGAN's generator from targets to sources, netG_B",
    "back_discriminator": "file of CycleGAN's discriminator of sources, netD_B",
    "encoder": "file of AdaIN's encoder, vgg_normalised.pth",
    "heads": "file of CUT's heads, netF",
}
SHOWN = 12  # characters of a hash


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans import", description=__doc__)
    flags.add_argument("file", type=Path, help="the published file; of several, the generator's")
    flags.add_argument("--kind", type=str, help=f"kind of the file; by default it is recognised: {', '.join(KINDS)}")
    for name, told in OTHERS.items():
        flags.add_argument(f"--{name}", type=Path, help=told)
    flags.add_argument("--out", type=Path, help="checkpoint to write, X.ckpt; by default beside the file")
    flags.add_argument("--source", type=str, help="where the file is from; by default the repository of its kind")
    flags.add_argument("--licence", type=str, help="of the weights; by default that of the repository")
    return flags


def flagged(args: list[str]) -> list[str]:
    """Return arguments with the kind, if it stands before the file, as a flag.

    Raises:
        ValueError: if it is also given as a flag.
    """
    known = args[:1] and (args[0] in KINDS or args[0] in REFUSED)
    if not known and not (len(args) > 1 and not args[0].startswith("-") and not args[1].startswith("-")):
        return args
    if "--kind" in args:
        raise ValueError(f"the kind is given twice, as {args[0]} and by --kind; expected one of them")
    return ["--kind", args[0], *args[1:]]


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(flagged(args))
    if options.kind is not None:
        named(options.kind)
    out = options.out or options.file.with_suffix(".ckpt")
    if out.suffix != ".ckpt":
        raise ValueError(f"out is {out}; expected a name that ends with .ckpt")
    if any(
        out.absolute() == given.absolute() for given in (options.file, *(options[name] for name in OTHERS)) if given
    ):
        raise ValueError(f"out is {out}, the file that is imported; expected another")
    check_writable(out.parent)
    model = imported(options.kind, options.file, **{name: options[name] for name in (*OTHERS, "source", "licence")})
    save(model, out)
    report(model, out)


def report(model: Any, out: Path) -> None:
    """Print what was imported, where it is from, and how to train it further."""
    origin, name = model.origin, type(model).__name__
    files = ", ".join(f"{file} (sha256 {hashed[:SHOWN]})" for file, hashed in origin["files"].items())
    print(f"imported     {files}")
    print(f"kind         {origin['kind']}")
    print(f"source       {origin['source']}")
    print(f"licence      {origin['licence']}")
    print(f"model        {name}({', '.join(f'{key}={value!r}' for key, value in origin['arguments'].items())})")
    for part in origin["missing"]:
        if not part.startswith("generator_ema."):  # the average of a part that is named
            print(f"{part}  not published: its weights are drawn, and --init_from does not take them")
    print(f"checkpoint   {out}\n")
    made = "predict {} --input PICTURES --output FOLDER" if translates(model) else "sample {}"
    print(f"gans {made.format(shlex.quote(str(out)))}")
    if recipe := KINDS[origin["kind"]].recipe or recipe_of(name):
        print(fine_tuning(recipe, origin["arguments"], out))


def recipe_of(model: str) -> str | None:
    """Return the first recipe of a class of models that trains on a folder of images."""
    for name, path in recipes().items():
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
        classes = [held[part]["class_path"].rpartition(".")[2] for part in ("model", "data")]
        if classes == [model, "ImageFolderDataModule"]:
            return name
    return None


def written_in(recipe: str) -> dict[str, Any]:
    """Return the arguments of the model in a recipe."""
    found: dict[str, Any] = yaml.safe_load(recipes()[recipe].read_text(encoding="utf-8"))["model"]["init_args"]
    return found


def fine_tuning(recipe: str, arguments: dict[str, Any], out: Path) -> str:
    """Return the command that trains the model further on images of a folder."""
    given = {f"{'data' if name in LINKED else 'model'}.{name}": value for name, value in arguments.items()}
    if "scale" in arguments:
        given["model.content_steps"] = 0  # they have learnt to enlarge
        if arguments["scale"] != written_in(recipe)["scale"]:
            given["data.degrade"] = f"downscale {arguments['scale']} bicubic"
    flags = " ".join(f"--{key} {shlex.quote(written(value))}" for key, value in given.items())
    return f"gans fit {recipe} --data.root FOLDER {flags} --init_from {shlex.quote(str(out))}"


def written(value: Any) -> str:
    """Return an argument as a flag has it: a pair in brackets, without blanks."""
    if isinstance(value, tuple | list):
        return f"[{','.join(map(str, value))}]"
    return str(value)
