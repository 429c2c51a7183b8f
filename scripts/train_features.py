"""Trains a small extractor for metrics on a data set: python scripts/train_features.py --data FOLDER --out FILE."""

import sys

from gans.commands.train_features import main

if __name__ == "__main__":
    sys.exit(main())
