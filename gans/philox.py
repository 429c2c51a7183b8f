"""Random bits that are functions of a key and a counter: Philox4x64-10.

Ten rounds of multiplications turn a counter of 256 bits and a key of 128 bits into a block of 256 random bits, as in
Salmon et al. 2011 (doi 10.1145/2063384.2063405). Any range of blocks can be computed alone, on any device.
"""

import numpy as np
import torch
from torch import Tensor

NUMBERS = 8  # of 32 bits, in a block
LARGE = 2**14  # blocks, from which a GPU computes them faster than a CPU: 130,000 numbers, 1 ms
MULTIPLIERS = 0xCA5A826395121157, 0xD2E7470EE14C6C93  # of the third and the first word of a counter
INCREMENTS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # of the key between rounds
ROUNDS = 10
LOW = 0xFFFFFFFF


def bits(key: int, first: int, blocks: int, device: torch.device) -> Tensor:
    """Return the blocks `first`, `first + 1`, ... of a key as int32 `(blocks, 8)`.

    They are equal on every device. A few are computed on the CPU and stay there. Many are computed on `device` if it is
    a GPU, because copying them would take longer.

    Args:
        key: the low 128 bits are used.
        first: number of the first block, below 2^63.
        blocks: number of blocks.
        device: where the numbers are needed.
    """
    if device.type == "cuda" and blocks >= LARGE:
        return by_tensors(key, first, blocks, device)
    return by_numpy(key, first, blocks)


def by_numpy(key: int, first: int, blocks: int) -> Tensor:
    """Return `bits` on the CPU. NumPy increments its counter before the first block, so block 0 has the counter 1."""
    words = np.random.Philox(key=key % 2**128, counter=first).random_raw(4 * blocks)
    return torch.from_numpy(words.view(np.int32)).view(blocks, NUMBERS)


def by_tensors(key: int, first: int, blocks: int, device: torch.device) -> Tensor:
    """Return `bits` on `device`, computed there in about 220 integer operations."""
    counter = torch.zeros(4, blocks, dtype=torch.int64, device=device)
    torch.arange(first + 1, first + 1 + blocks, out=counter[0])
    return philox((key % 2**64, key >> 64), counter).t().contiguous().view(torch.int32)


def philox(key: tuple[int, int], counter: Tensor) -> Tensor:
    """Return the random words `(4, N)` of counters `(4, N)`; int64 holds the bits of unsigned 64-bit words."""
    keys = [[(k + i * step) % 2**64 for k, step in zip(key, INCREMENTS, strict=True)] for i in range(ROUNDS)]
    factors = [m & LOW for m in MULTIPLIERS], [m >> 32 for m in MULTIPLIERS], MULTIPLIERS
    # One table, so that one copy brings them all to the device.
    table = torch.from_numpy(np.array([*keys, *factors], dtype=np.uint64).view(np.int64)).unsqueeze(-1)
    *round_keys, low, high, whole = placed(table, counter.device)
    even, odd = counter[::2], counter[1::2]
    for round_key in round_keys:
        words = even.flip(0)
        even = high_product(words, low, high) ^ odd ^ round_key
        odd = words * whole
    return torch.stack((even[0], odd[0], even[1], odd[1]))


def high_product(words: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the high 64 bits of the products of `words` with `high * 2^32 + low`, all unsigned."""
    # Halves of 32 bits. The mask removes the sign, which a right shift of int64 repeats. No sum reaches 2^64.
    first, second = words & LOW, (words >> 32) & LOW
    middle = second * low + ((first * low >> 32) & LOW)
    other = first * high + (middle & LOW)
    return second * high + ((middle >> 32) & LOW) + ((other >> 32) & LOW)


def placed(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`; a copy from the CPU to a GPU does not wait for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
