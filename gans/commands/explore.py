"""`gans explore`: what a generator has learnt, seen from its latent space."""

from importlib import import_module

from gans.checks import nearest

USAGE = """\
usage: gans explore interpolate CKPT [flags]    a walk through points: rows of images, a GIF or an MP4
       gans explore traverse    CKPT [flags]    one axis, code or direction a row
       gans explore directions  CKPT --method M find directions: pca, sefa or classifier
       gans explore arithmetic  CKPT SUM        "0:3 - class:1 + class:7", or with directions
       gans explore mixing      CKPT [flags]    style mixing: layers of one image and layers of another
       gans explore truncation  CKPT [flags]    the same points with psi from 1 to -1
       gans explore invert      CKPT --image F  the latents of pictures: of a file, or of all in a folder
       gans explore neighbours  CKPT [flags]    the real images nearest to generated ones
       gans explore path-length CKPT [flags]    the perceptual path length
       gans explore spectrum    CKPT [flags]    the power spectra of real and generated images
       gans explore ui          CKPT [flags]    a page in the browser: sliders, and a place to drop pictures

       gans explore interpolate CKPT --points 0 1 2:17 --out walk.gif
       gans explore directions CKPT --method sefa
       gans explore traverse CKPT --direction sefa-1 sefa-2
       gans sample CKPT --direction sefa-1=2.0
       gans explore invert CKPT --image photos
       gans explore interpolate CKPT --points RUN/explore/invert/codes.safetensors

       gans explore directions STYLES --method sefa --layers coarse
       gans explore invert STYLES --image photos --space w+

STYLES is a checkpoint of a style model, which has the spaces w and w+ besides latent: --space chooses, w is usual.
A point is SEED, SEED:NUMBER (picture NUMBER of `gans sample --seed SEED`), or FILE.safetensors[:ROW] of `invert`.
Results go to the folder `explore` of the run unless --out says otherwise. `gans explore VERB --help` lists the flags.
"""

# Each is a file `explore_<verb>` of this package, with a function `main`.
VERBS = (
    "interpolate",
    "traverse",
    "directions",
    "arithmetic",
    "mixing",
    "truncation",
    "invert",
    "neighbours",
    "path-length",
    "spectrum",
    "ui",
)


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
        raise ValueError(f"there is no gans explore {verb}{nearest(verb, list(VERBS))}; expected one of {known}")
    module = import_module(f"gans.commands.explore_{verb.replace('-', '_')}")
    code: int | None = module.main(rest)
    return code
