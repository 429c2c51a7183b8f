"""The order of images: the same for any number of processes, every image once a pass, nothing global touched."""

import pytest
import torch

from datamodules.order import ShareSampler, StreamSampler, batches, even_batch_size, mix, shuffled

ROWS = list(range(101))


def stream(replicas, epoch=0, rows=ROWS, total=24, **options):
    """The keys of one epoch, a list per global batch, put together from all replicas."""
    samplers = [
        StreamSampler(rows, total // replicas, num_replicas=replicas, rank=rank, **options) for rank in range(replicas)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [torch.tensor(list(sampler)).view(sampler.batches, total // replicas, 2) for sampler in samplers]
    return torch.cat(shares, dim=1)


@pytest.mark.parametrize("infinite", [False, True])
@pytest.mark.parametrize("epoch", [0, 3])
def test_the_global_batches_do_not_depend_on_the_number_of_processes(infinite, epoch):
    one = stream(1, epoch, seed=5, infinite=infinite)
    for replicas in (2, 3):
        assert torch.equal(stream(replicas, epoch, seed=5, infinite=infinite), one)


def test_batches_cut_one_permutation_of_the_epoch():
    sampler = StreamSampler(ROWS, 24, seed=5)
    sampler.set_epoch(2)
    rows = [row for row, _ in sampler]
    assert rows == shuffled(101, 5, 2, 0).tolist()[:96]
    assert len(set(rows)) == len(rows) == len(sampler) == 96


def test_epochs_and_seeds_have_different_orders_and_keys():
    parts = [stream(1, 0), stream(1, 1), stream(1, 0, seed=1)]
    for i in range(3):
        other = parts[i - 1]
        assert not torch.equal(parts[i][..., 0], other[..., 0])
        assert not set(parts[i][..., 1].flatten().tolist()) & set(other[..., 1].flatten().tolist())


def test_order_neither_reads_nor_moves_the_global_random_state():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = stream(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(stream(1), first)


def test_infinite_repeats_a_small_set_with_a_new_order_each_pass():
    keys = stream(1, rows=range(50), total=64, infinite=True)
    assert keys.shape == (100, 64, 2)
    passes = keys[..., 0].flatten().split(50)
    for one in passes:
        assert len(set(one.tolist())) == 50
    assert not torch.equal(passes[0], passes[1])
    assert len(set(keys[..., 1].flatten().tolist())) == 6400, "repeats of an image have different transforms"


def test_infinite_changes_nothing_where_the_set_is_large():
    rows = range(1000)
    assert torch.equal(stream(1, rows=rows, total=10, infinite=True), stream(1, rows=rows, total=10))


def test_too_few_images_for_one_batch_is_an_error_that_names_the_way_out():
    with pytest.raises(ValueError, match=r"batch_size=32 on 2 process.* 64 training images .* 50: .*infinite"):
        StreamSampler(range(50), 32, num_replicas=2)


def test_progress_says_where_iteration_starts_and_the_length_stays():
    whole = stream(1, 0).flatten(0, 1).tolist() + stream(1, 1).flatten(0, 1).tolist()
    sampler = StreamSampler(ROWS, 24, progress=lambda: 3)
    sampler.set_epoch(7)  # what Lightning says does not matter then
    assert [list(key) for key in sampler] == whole[3 * 24 : 7 * 24]
    assert len(sampler) == 96


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_shares_are_a_partition_in_order(replicas):
    shares = [list(ShareSampler(range(10), replicas, rank)) for rank in range(replicas)]
    assert sorted(row for share in shares for row in share) == list(range(10))
    assert all(share == sorted(share) for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [len(ShareSampler(range(10), replicas, rank)) for rank in range(replicas)] == [*map(len, shares)]


def test_all_shares_have_equally_many_batches():
    for replicas in (1, 2, 3, 8):
        for count in range(replicas, 70):
            for batch_size in (1, 2, 3, 12, 16):
                size = even_batch_size(count, batch_size, replicas)
                lengths = {batches(len(range(rank, count, replicas)), size) for rank in range(replicas)}
                assert len(lengths) == 1
                if replicas == 1:
                    assert size == batch_size
    assert even_batch_size(25, 12, 2) == 11
    with pytest.raises(ValueError, match=r"2 processes cannot share 1 image.*val_size"):
        even_batch_size(1, 4, 2)


def test_mix_is_splitmix64_and_depends_on_the_order_of_the_words():
    assert mix(0) == 0xE220A8397B1DCDAF >> 1  # the generator's published first output for seed 0
    assert mix(1, 2) != mix(2, 1)
    assert 0 <= mix(-1) < 2**63
    ones = sum(bin(mix(i)).count("1") for i in range(1000)) / 63_000
    assert abs(ones - 0.5) < 0.01
