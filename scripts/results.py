"""Runs a list of recipes and writes their results: python scripts/results.py run LIST.yaml, as `gans results`."""

import sys

from gans.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["results", *sys.argv[1:]]))
