"""The `gans` command as a script, for launchers that want a file: python scripts/train.py fit RECIPE [flags]."""

import sys

from gans.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
