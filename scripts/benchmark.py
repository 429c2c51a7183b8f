"""Measures what a training step costs against a bare PyTorch loop: python scripts/benchmark.py step."""

from gans.commands.benchmark import main

if __name__ == "__main__":
    main()
