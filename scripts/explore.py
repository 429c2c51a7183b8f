"""Explores a checkpoint's latent space: python scripts/explore.py VERB CKPT [flags], as `gans explore`."""

import sys

from gans.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["explore", *sys.argv[1:]]))
