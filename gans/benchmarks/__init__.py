"""Benchmarks of training, the code of `scripts/benchmark.py`."""
