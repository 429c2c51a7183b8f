"""The bytes of image files in memory that all workers share, for images in sizes of their own.

Decoded photographs take about ten times the memory of their files. With several windows of a decoded image, decoding
is a small part of the work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class EncodedFiles:
    """The bytes of files, kept when they are read for the first time.

    Args:
        sizes: Sizes of the files in bytes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.ends = torch.tensor(sizes, dtype=torch.int64).cumsum(0)
        self.bytes: Tensor = torch.empty(sum(sizes), dtype=torch.uint8)

    def part(self, index: int) -> Tensor:
        """Return the memory of a file, uint8 `(n,)`."""
        return self.bytes[int(self.ends[index - 1]) if index else 0 : int(self.ends[index])]

    def get(self, index: int) -> bytes:
        """Return the bytes of a file that has been put."""
        return self.part(index).numpy().tobytes()

    def put(self, index: int, data: bytes) -> bool:
        """Keep the bytes of a file and return True, or return False if its size has changed."""
        part = self.part(index)
        if len(part) != len(data):
            return False
        part.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        return True
