"""MNIST's files of a few images, as torchvision stores them, for tests without a download."""

import struct

import numpy as np


def write_mnist(root, train, test):
    """Write the images and labels, both uint8, of the training set and of the test set."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, pair in (("train", train), ("t10k", test)):
        for kind, values in zip(("images-idx3", "labels-idx1"), pair, strict=True):
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + values.tobytes())


def random_mnist(root, train=64, test=16):
    """Write random images and labels, and return (images, labels) of both sets."""
    random = np.random.default_rng(0)
    sets = [
        (random.integers(0, 256, (count, 28, 28), dtype=np.uint8), random.integers(0, 10, count, dtype=np.uint8))
        for count in (train, test)
    ]
    write_mnist(root, *sets)
    return sets
