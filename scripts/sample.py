"""Draws pictures of a checkpoint: python scripts/sample.py CKPT [flags], as `gans sample`."""

import sys

from gans.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
