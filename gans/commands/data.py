"""`gans data`: what is seen or computed of a data set before a run."""

from importlib import import_module

from gans.checks import nearest

USAGE = """\
usage: gans data look FOLDER                            counts, classes, sizes, broken images, a contact sheet
       gans data encode FOLDER OUT --autoencoder CKPT    codes of all images, for GANs that play on codes
       gans data pack FOLDER OUT --size 256              images in tar shards, shrunk once as in training
       gans data clips PHOTOS OUT --size 64 --num 10     clips by a camera that pans over photographs and zooms

       gans data look photos --out photos.png
       gans data look HuggingFaceDataModule --data.path user/name
       gans data encode photos photos-codes --autoencoder runs/gridautoencoder-folder
       gans fit RECIPE --data CodesDataModule --data.root photos-codes --model.autoencoder CKPT

`gans data VERB --help` lists the flags.
"""

# Each is a file `data_<verb>` of this package, with a function `main`.
VERBS = ("look", "encode", "pack", "clips")


def main(args: list[str]) -> int | None:
    """Run the command and return its exit code; None is 0.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    verb, *rest = args or ["--help"]
    if verb in ("-h", "--help", "help"):
        print(USAGE, end="")
        return None
    if verb not in VERBS:
        raise ValueError(f"there is no gans data {verb}{nearest(verb, list(VERBS))}; expected {', '.join(VERBS)}")
    code: int | None = import_module(f"gans.commands.data_{verb}").main(rest)
    return code
