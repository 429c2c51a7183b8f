"""Trains every objective on Gaussians in the plane: python scripts/toy.py [ring|grid] [flags]."""

import sys

from gans.commands.toy import main

if __name__ == "__main__":
    sys.exit(main())
