"""Philox: the published outputs, NumPy's, and any range of blocks."""

import numpy as np
import pytest
import torch

from gans import philox

CPU = torch.device("cpu")
# Counter, key and output of `philox4x64 10` in `kat_vectors` of Random123, the authors' library.
PUBLISHED = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (2**64 - 1,) * 4,
        (2**64 - 1,) * 2,
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def signed(words):
    return torch.from_numpy(np.array(words, dtype=np.uint64).view(np.int64))


def test_the_published_outputs():
    for counter, key, expected in PUBLISHED:
        assert torch.equal(philox.philox(key, signed(counter)[:, None]), signed(expected)[:, None])


def test_counters_do_not_touch_each_other():
    key = PUBLISHED[2][1]
    counters = torch.stack([signed(counter) for counter, _, _ in PUBLISHED], 1)
    alone = [philox.philox(key, column[:, None]) for column in counters.T]
    assert torch.equal(philox.philox(key, counters), torch.cat(alone, 1))


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, 2**64 + 5, 2**127 + 2**63, -1])
@pytest.mark.parametrize("first", [0, 1, 2**32 - 2, 2**40])
def test_both_ways_give_the_same_bits(key, first):
    assert torch.equal(philox.by_tensors(key, first, 5, CPU), philox.by_numpy(key, first, 5))


def test_any_range_of_blocks():
    whole = philox.bits(3, 0, 40, CPU)
    assert (whole.dtype, whole.shape) == (torch.int32, (40, philox.NUMBERS))
    for first, count in [(0, 1), (7, 0), (7, 9), (39, 1)]:
        assert torch.equal(philox.bits(3, first, count, CPU), whole[first : first + count])
        assert torch.equal(philox.by_tensors(3, first, count, CPU), whole[first : first + count])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_the_same_bits():
    many = philox.bits(2**100 + 3, 2**33, philox.LARGE, torch.device("cuda"))
    assert many.device.type == "cuda"
    assert torch.equal(many.cpu(), philox.by_numpy(2**100 + 3, 2**33, philox.LARGE))
