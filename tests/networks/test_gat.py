"""GAT's networks against their equations, the noise of their levels, and what they refuse."""

import re

import pytest
import torch

from gans.networks import gat

torch.set_num_threads(1)

TINY = {"width": 16, "depth": 4, "heads": 2, "patch": 2}


def players(size=8, channels=4, num_classes=0, **options):
    torch.manual_seed(0)
    plan = {**TINY, **options}
    generator = gat.Generator(6, size, channels, num_classes, **plan)
    return generator, gat.Discriminator(size, channels, num_classes, **plan, embed_dim=12, projector_width=12)


@pytest.mark.parametrize("size", [8, (4, 10)])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes(size, classes):
    generator, discriminator = players(size, 3, classes)
    labels = (torch.tensor([2, 0]),) if classes else ()
    z = torch.randn(2, 6)
    levels = generator.levels(generator.mapping(z, *labels))
    sides = size if isinstance(size, tuple) else (size, size)
    assert [level.shape for level in levels] == [(2, 3, *sides)] * 4
    assert torch.equal(generator(z, *labels), levels[-1])
    assert discriminator(torch.cat(levels, 1), *labels).shape == (2,)
    assert generator.mean_w.shape == (max(classes, 1), 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, "patch is 3; expected a divisor of both sides of 8x8"),
        ({"patch": 0}, "patch is 0; expected a divisor of both sides of 8x8"),
        ({"heads": 3}, "heads is 3; expected a divisor of width, which is 16"),
        ({"heads": 8}, "width is 16 with 8 heads; expected heads of a multiple of 4 channels"),
        ({"depth": 0}, "depth is 0; expected"),
        ({"num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"channels": 0}, "channels is 0; expected at least 1"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(options, message):
    numbers = {"size": 8, "channels": 4, **TINY, **options}
    for make in (lambda: gat.Generator(6, **numbers), lambda: gat.Discriminator(**numbers)):
        with pytest.raises(ValueError, match=re.escape(message)):
            make()


def test_depth_that_levels_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="depth is 6; expected a multiple of 4, the number of output layers"):
        gat.Generator(6, 8, 4, width=16, depth=6, heads=2)
