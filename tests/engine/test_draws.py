"""Random numbers of a step: those of a row are the same on every process and in every piece."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gans.engine.draws import Draws

LIKE = torch.empty(0)


def drawn(rank, rows, prior="normal", shape=(3, 5)):
    draws = Draws()
    draws.begin(4, "train", 9)
    return [draws.draw(rows, shape, prior, rank, LIKE) for _ in range(2)]


def test_rows_are_those_of_the_global_batch_on_any_number_of_processes():
    whole = drawn(0, 64)
    assert not torch.equal(*whole)
    for world in (2, 64):
        for rank in (0, 1, world - 1):
            rows = slice(rank * 64 // world, (rank + 1) * 64 // world)
            for part, global_batch in zip(drawn(rank, 64 // world), whole, strict=True):
                assert torch.equal(part, global_batch[rows])


def test_draws_depend_on_each_word():
    found = []
    for words in ((4, "train", 9), (5, "train", 9), (4, "validate", 9), (4, "train", 10)):
        draws = Draws()
        draws.begin(*words)
        found.append(draws.draw(2, (3,), "normal", 0, LIKE))
    assert not any(torch.equal(one, other) for i, one in enumerate(found) for other in found[:i])


def test_pieces_are_rows_of_the_batch():
    whole = drawn(1, 6)
    draws = Draws()
    for offset in (0, 2, 4):
        draws.begin(4, "train", 9)
        draws.rows, draws.offset, draws.piece = 6, offset, 2
        for global_batch in whole:
            assert torch.equal(draws.draw(2, (3, 5), "normal", 1, LIKE), global_batch[offset : offset + 2])
        both = draws.draw(4, (3, 5), "normal", 1, LIKE)  # two draws, the third and the fourth of the step
        assert both.shape == (4, 3, 5)
        assert not torch.equal(both[:2], both[2:])


def test_blocks_repeat_the_numbers_of_others_and_change_no_draw():
    plain, draws = drawn(1, 6), Draws()
    for in_pieces in (False, True):
        draws.begin(4, "train", 9)
        draws.rows, draws.offset, draws.piece = (6, 0, 6) if in_pieces else (None, 0, 0)
        with draws.repeating([0, 1, 0, 1, 1]):
            first, second, *rest = draws.draw(30, (3, 5), "normal", 1, LIKE).split(6)
        for block, source in zip(rest, (first, second, second), strict=True):
            assert torch.equal(block, source)
        assert torch.equal(first, plain[0])
        assert torch.equal(second, plain[1])
        assert draws.count == 2


def test_draws_begin_again_and_then_go_on():
    draws = Draws()
    draws.begin(4, "train", 9)
    one, two = (draws.draw(2, (3,), "normal", 0, LIKE) for _ in range(2))
    with draws.again(1):
        assert torch.equal(draws.draw(2, (3,), "normal", 0, LIKE), two)
    three = draws.draw(2, (3,), "normal", 0, LIKE)
    assert not any(torch.equal(three, other) for other in (one, two))


class Work(TorchDispatchMode):
    """Counts the numbers that operations return, and the operations that compute some."""

    def __init__(self):
        super().__init__()
        self.numbers = self.operations = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **kwargs or {})
        if isinstance(made, torch.Tensor) and not operation.is_view:
            self.operations += 1
            self.numbers += made.numel()
        return made


def test_the_last_of_many_processes_works_as_much_as_a_single_one():
    counts = []
    for rank in (0, 1, 4095):
        with Work() as work:
            [first, _] = drawn(rank, 8, shape=(3, 16, 16))
        assert first.untyped_storage().nbytes() == 4 * 8 * 3 * 16 * 16
        counts.append((work.numbers, work.operations))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0][1] <= 2 * 12
