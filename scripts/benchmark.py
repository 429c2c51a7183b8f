"""Measures what training costs, for example: python scripts/benchmark.py step."""

import sys

from gans.benchmarks.main import main

if __name__ == "__main__":
    sys.exit(main())
