"""`gans explore`: what a generator has learnt, seen from its latent space."""

from importlib import import_module

from gans.checks import nearest

USAGE = """\
usage: gans explore interpolate CKPT [flags]    a walk through pictures: a strip, a GIF or an MP4
       gans explore traverse    CKPT [flags]    one axis, code or direction a row
       gans explore directions  CKPT --method M find directions: pca, sefa or classifier
       gans explore arithmetic  CKPT SUM        "0:3 - class:1 + class:7", or with directions
       gans explore invert      CKPT --image F  the latents of pictures: of a file, or of all in a folder
       gans explore neighbours  CKPT [flags]    the real pictures nearest to generated ones
       gans explore path-length CKPT [flags]    how much pictures change on a short way
       gans explore spectrum    CKPT [flags]    the frequencies of real and generated pictures
       gans explore ui          CKPT [flags]    a page in the browser: sliders, and a place to drop pictures

       gans explore interpolate CKPT --points 0 1 2:17 --out walk.gif
       gans explore directions CKPT --method sefa
       gans explore traverse CKPT --direction sefa-1 sefa-2
       gans sample CKPT --direction sefa-1=2.0
       gans explore invert CKPT --image photos
       gans explore interpolate CKPT --points RUN/explore/invert/codes.safetensors

A point is SEED, SEED:NUMBER (picture NUMBER of `gans sample --seed SEED`), or FILE.safetensors[:ROW] of `invert`.
Results go to the folder `explore` of the run unless --out says otherwise. `gans explore VERB --help` lists the flags.
"""

VERBS = {
    "interpolate": ("explore_walks", "interpolate"),
    "traverse": ("explore_walks", "traverse"),
    "directions": ("explore_directions", "find"),
    "arithmetic": ("explore_arithmetic", "arithmetic"),
    "invert": ("explore_invert", "invert"),
    "neighbours": ("explore_compare", "neighbours"),
    "path-length": ("explore_compare", "path_length"),
    "spectrum": ("explore_compare", "spectrum"),
    "ui": ("ui", "ui"),
}


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
        known = ", ".join(VERBS)
        raise ValueError(f"explore was told to {verb}{nearest(verb, list(VERBS))}; expected one of {known}")
    module, name = VERBS[verb]
    code: int | None = getattr(import_module(f"gans.commands.{module}"), name)(rest)
    return code
