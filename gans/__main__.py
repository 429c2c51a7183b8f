"""The `gans` command: it lists recipes, runs the trainer's four verbs on them, or runs a command on a checkpoint.

Nothing here imports torch or Lightning, so that listing recipes and refusing a mistyped one take no time.
"""

import importlib
import importlib.util
import os
import select
import sys
from pathlib import Path

from gans.checks import nearest
from gans.commands.run_as_recipe import as_recipe
from gans.recipes.arguments import checked
from gans.recipes.listing import show
from gans.runs.parent import end_with_launcher, launched_by

USAGE = """\
usage: gans recipes [NAME] [--json]             list the recipes in groups, or print one
       gans fit      RECIPE|FILE.yaml [flags]   train it; flags win over the recipe
       gans validate RECIPE|FILE.yaml [flags]   \\
       gans test     RECIPE|FILE.yaml [flags]    } on the last checkpoint, or on --ckpt_path
       gans predict  RECIPE|FILE.yaml [flags]   /  (predict writes pictures)
       gans predict  CKPT --input FILE|DIR --output DIR     translate, fill or restyle pictures, or a clip; --help
       gans test     CKPT --protocol sr --images DIR        PSNR and SSIM as papers report them; --help
       gans evaluate CKPT|--images DIR [flags]  FID, KID, IS, recall, ... with their protocol; --help
       gans sample   CKPT [flags]               pictures of a seed: a grid, or a file each; --help
       gans explore  WHAT CKPT [flags]          walks, directions, inversion, neighbours of its latent space; --help
       gans runs     [FOLDER] [--sort best]     table of runs: data, steps, best score, state; --json
       gans report   RUN... [--out FILE.html]   one page: curves, grids, scores, configurations of runs; --help
       gans results  run LIST.yaml --out DIR    recipes with several seeds; a file and a README of their results; --help
       gans export   CKPT --format FORMAT       the averaged generator for plain torch, or onnxruntime; --help
       gans blend    CKPT CKPT WEIGHT           a checkpoint between two of the same model; --help
       gans data look   FOLDER|DATAMODULE [flags]           counts, classes, sizes, contact sheet; --help
       gans data clips  PHOTOS OUT [--frames 16]            clips of a moving camera from photographs; --help
       gans data encode FOLDER OUT --autoencoder CKPT       codes of images, written once; --help
       gans data pack   FOLDER OUT [--size 256]             images in tar shards, shrunk once; --help
       gans import   KIND FILE [flags]          a checkpoint that others have published, as one of ours; --help

       gans fit dcgan-digits                             no download, two to four minutes on two cores
       gans fit dcgan-digits --ckpt_path last            resume from its last checkpoint
       gans fit dcgan-folder --data.root photos --init_from CKPT       start from its weights
       gans fit dcgan-folder --data.root photos --data.size 64 --trainer.max_steps 20000
       gans fit dcgan-mnist --trainer.devices 8 --trainer.precision bf16-mixed
       gans fit dcgan-mnist --print_config > my.yaml     write it all out, edit, gans fit my.yaml
       gans fit --help                                   the flags of trainer, pictures, health and checkpoints
       gans fit --model.help DCGAN                       those of a model; --data.help MNISTDataModule of a data set

CKPT is a checkpoint, the folder of a run, a recipe (its newest run), or user/name on the Hub; :best or :last chooses.
A wrong input is one sentence and exit code 2; GANS_TRACEBACK=1 shows where it came from.
"""


VERBS = ("fit", "validate", "test", "predict")  # on a recipe
# On a checkpoint or a folder: each command with its file in gans.commands.
COMMANDS = {
    name: name
    for name in ("evaluate", "sample", "explore", "export", "predict", "blend", "test", "data", "report", "results")
}
COMMANDS["import"] = "published"  # no file of Python is called import


def check_home() -> None:
    """Raise a ValueError if another package `datamodules` comes before this project's on Python's path."""
    home, spec = Path(__file__).absolute().parents[1], importlib.util.find_spec("datamodules")
    found = [Path(place).absolute() for place in (spec and spec.submodule_search_locations) or ()]
    if spec and home / "datamodules" not in found:
        other = found[0] if found else spec.origin
        raise ValueError(f"{other} hides the package datamodules of {home}: rename it, or take it from PYTHONPATH")


def on_pictures(verb: str, rest: list[str]) -> bool:
    """Return whether the arguments of a verb on a recipe are those of the command of that name, on pictures."""
    flags = {"predict": ("--input", "--output"), "test": ("--protocol",)}.get(verb)
    on_checkpoint = bool(rest) and rest[0].endswith(".ckpt")
    return flags is not None and (on_checkpoint or any(arg.startswith(flags) for arg in rest))


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 is success, 1 a run that failed, 2 bad input, 128 + n the end by signal n: 130 for Ctrl-C, 143 for SIGTERM, 141 if
    the reader of a pipe has left, such as `head`.
    """
    try:
        code = run(argv)
        sys.stdout.flush()  # what is left in the buffer
    except BrokenPipeError:
        if not reader_left():
            raise
        code = 141
    return code


def reader_left() -> bool:
    """Return whether nobody reads what this process prints; then send the rest of its output nowhere."""
    there = select.poll()
    there.register(sys.stdout.fileno(), 0)  # errors alone
    left = any(event & select.POLLERR for _, event in there.poll(0))
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return left


def run(argv: list[str] | None) -> int:
    """Run one command and return its exit code, as `main` does, for a reader that stays."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    is_command = verb in COMMANDS and (verb not in VERBS or on_pictures(verb, rest))
    try:
        check_home()
        if is_command:
            pass
        elif verb in VERBS:
            name, args = checked(verb, as_recipe(verb, rest))
        elif verb in ("-h", "--help", "help"):
            print(USAGE, end="")
        elif verb == "recipes":
            show(rest)
        elif verb == "runs":
            importlib.import_module("gans.commands.runs").main(rest)
        else:
            close = nearest(verb, [*{*VERBS, *COMMANDS}, "recipes", "runs"])
            raise ValueError(f"there is no command {verb}{close}: `gans --help` lists them")
    except ValueError as error:
        print(f"gans: error: {error}", file=sys.stderr)
        return 2
    try:
        if is_command:
            from gans.commands.outcome import finished, quiet

            quiet()
            return finished("gans", lambda: importlib.import_module(f"gans.commands.{COMMANDS[verb]}").main(rest))
        if verb in VERBS:
            end_with_launcher()  # before the seconds that importing torch takes
            from gans.commands import trainer

            return trainer.run(verb, name, args)
    except KeyboardInterrupt:
        if launched_by() is None:
            print("gans: stopped" if is_command else "gans: stopped before it began", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
