"""Tiles cover everything, once blended as if there were none, and scale."""

from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate

from gans.networks import translation, unet
from gans.pictures.tiles import pieces, starts, strips, tiled


@pytest.mark.parametrize("side", [1, 7, 16, 17, 30, 100, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 4), (7, 6)])
def test_tiles_cover_a_side_and_overlap(side, tile, overlap):
    found = starts(side, tile, overlap)
    assert found[0] == 0
    assert found[-1] + min(tile, side) == side
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(found))


def test_what_sees_its_own_pixel_does_not_see_tiles():
    picture, mask = torch.rand(1, 3, 50, 37), torch.rand(1, 1, 50, 37)
    whole = tiled(lambda image, other: image * other + 1, (picture, mask), 16, 4)
    assert torch.allclose(whole, picture * mask + 1, atol=1e-6)


def test_seams_are_blended():
    """Tiles that disagree go over into each other in the middle third of what they share, pixel by pixel."""
    seen = []

    def disagree(image):
        seen.append(image.shape)
        return torch.full_like(image, float(len(seen)))

    made = tiled(disagree, (torch.zeros(1, 1, 4, 34),), 20, 6)
    assert seen == [(1, 1, 4, 20)] * 2
    assert made[0, 0, 2].tolist() == pytest.approx([1.0] * 16 + [1.25, 1.75] + [2.0] * 16)


@pytest.mark.parametrize(("side", "tile", "overlap", "multiple"), [(100, 16, 4, 1), (1000, 66, 63, 1), (96, 32, 5, 8)])
def test_weights_of_all_tiles_sum_to_one(side, tile, overlap, multiple):
    """Those of pixels, and those of maps half as large."""
    for step in (1, 2):
        total = torch.zeros(side // step)
        for piece in pieces(side, tile, overlap, max(multiple, step)):
            assert piece.pixels.start % multiple == 0
            total[piece.on(piece.length // step)] += piece.weights(piece.length // step)
        assert torch.allclose(total, torch.ones(side // step), atol=1e-6)


def test_a_filter_shows_no_seam_where_the_overlap_holds_it():
    kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    picture = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(1))

    def filtered(image):
        return conv2d(image, kernel, padding=1)

    errors = [(tiled(filtered, (picture,), 20, overlap) - filtered(picture)).abs().max() for overlap in (0, 3)]
    assert errors[0] > 0.1
    assert errors[1] < 1e-6


def test_a_function_may_enlarge():
    picture = torch.rand(1, 3, 20, 33)
    made = tiled(lambda image: interpolate(image, scale_factor=2, mode="nearest"), (picture,), 8, 2)
    assert torch.allclose(made, interpolate(picture, scale_factor=2, mode="nearest"), atol=1e-6)


def test_strips_come_as_soon_as_they_are_complete():
    """Memory holds the result of a row of tiles, not of the picture; bytes are cut as they are."""
    picture, seen = torch.randint(0, 256, (1, 3, 75, 50), dtype=torch.uint8), []

    def enlarge(image):
        seen.append((image.shape, image.dtype))
        return interpolate(image.float(), scale_factor=2, mode="nearest")

    found, counts = [], []
    for strip in strips(enlarge, (picture,), 16, 4, multiple=4):
        found.append(strip)
        counts.append(len(seen))
    assert torch.equal(torch.cat(found, -2).round(), enlarge(picture))
    assert max(strip.shape[-2] for strip in found) <= 32
    assert counts == [4 * (i + 1) for i in range(len(found))]  # rows of four tiles
    assert all(dtype == torch.uint8 for _, dtype in seen)


@pytest.mark.parametrize("side", [52, 27, 16])
def test_tiles_are_computed_in_batches(side):
    picture, seen = torch.rand(1, 3, 60, side), []
    rows = list(strips(lambda part: seen.append(len(part)) or 2 * part, (picture,), 16, 4, batch=3))
    assert torch.allclose(torch.cat(rows, -2), 2 * picture, atol=1e-6)
    assert max(seen) == min(3, len(pieces(side, 16, 4)))


def test_small_pictures_are_one_tile():
    assert [[piece.pixels for piece in pieces(side, 16, 4)] for side in (5, 9)] == [[slice(0, 5)], [slice(0, 9)]]


# -- layers that depend on the whole picture ---------------------------------------------------------------------------


def scattered(network):
    """A network whose maps differ from place to place and whose norms, if they are affine, do something."""
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return network.eval()


def uneven(*shape):
    """Pictures that are brighter, and more contrasted, to the right."""
    slope = torch.linspace(0, 1, shape[-1])
    return torch.randn(*shape) * slope + 2 * slope - 1


NETWORKS = {
    "unet": lambda: unet.Generator(64, 3, 2, width=4),
    "unet, two halvings": lambda: unet.Generator(4, 3, 2, width=4),
    "unet without norm": lambda: unet.Generator(64, 3, 2, width=4, norm="none"),
    "unet with batch norm": lambda: unet.Generator(64, 3, 2, width=4, norm="batch"),
    "residual": lambda: translation.Generator(32, 3, 2, width=4, blocks=2),
    "affine, of a user": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.ReLU(),
        nn.Conv2d(4, 4, 3, 2, 1), nn.InstanceNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2),
    ),
}  # fmt: skip


SOME = ("unet", "residual", "affine, of a user")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SOME else pytest.mark.slow) for name in NETWORKS]
)
@torch.no_grad()
def test_tiles_give_what_the_whole_picture_gives(name):
    torch.manual_seed(0)
    network = scattered(NETWORKS[name]())
    pictures, multiple = uneven(2, 3, 150, 132), getattr(network, "multiple", 2)
    whole = torch.cat([network(picture) for picture in pictures.split(1)])
    seen, count = [], len([part for part in network.modules() if isinstance(part, nn.InstanceNorm2d)])
    made = tiled(lambda part: seen.append(part.shape) or network(part), (pictures,), 64, 48, "cpu", network, multiple)
    assert (made - whole).abs().max() < 1e-3  # an eighth of a level of 255: rounding, of networks whose maps are large
    assert max(max(shape[-2:]) for shape in seen) == 64
    batches = torch.cat(list(strips(network, (pictures[:1],), 64, 48, "cpu", network, multiple, batch=4)), -2)
    assert (batches - whole[:1]).abs().max() < 1e-3
    assert torch.equal(network(pictures[:1]), whole[:1])  # nothing is left behind
    passes = len(seen) / len(set(product(range(2), starts(192, 64, 48, 8), starts(192, 64, 48, 8))))
    assert passes <= count + 2
    alone = torch.cat([tiled(network, (picture,), 64, 48) for picture in pictures.split(1)])
    assert (alone - whole).abs().max() > 0.01 or name == "unet with batch norm"


class Small(translation.Generator):
    """A network on a device whose memory is too small for the maps of more than a tile."""

    def inner(self, maps):
        if maps.shape[-1] > 32:
            raise torch.OutOfMemoryError
        return super().inner(maps)


@pytest.mark.parametrize("kind", [translation.Generator, Small])
@torch.no_grad()
def test_inner_layers_work_in_tiles_where_their_maps_are_too_large(monkeypatch, kind):
    """The norms have the whole picture's statistics all the same, and there is a pass for each."""
    torch.manual_seed(0)
    network = scattered(kind(32, 3, 2, width=4, blocks=1))
    picture, seen = uneven(1, 3, 160, 160), []
    if kind is not Small:
        monkeypatch.setattr("gans.pictures.tiles.INNER_BYTES", 0)

    def function(part):
        seen.append(part.shape)
        return network(part)

    made = tiled(function, (picture,), 128, 96, "cpu", network, 4)
    assert len(seen) >= 4 * 8
    network.__class__ = translation.Generator
    assert (made - network(picture)).abs().max() < 1e-4


@torch.no_grad()
def test_a_layer_that_is_called_twice_has_statistics_for_each():
    norm, picture = nn.InstanceNorm2d(3).eval(), uneven(1, 3, 40, 40)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, maps):
            return self.norm(self.norm(maps).abs())

    network = Twice()
    assert torch.allclose(tiled(network, (picture,), 16, 4, "cpu", network), network(picture), atol=1e-5)


def test_norms_work_as_before_after_an_error():
    norm = nn.InstanceNorm2d(3)

    def fail(part):
        raise KeyError

    with pytest.raises(KeyError):
        tiled(fail, (torch.rand(1, 3, 40, 40),), 16, 4, "cpu", norm)
    assert "forward" not in vars(norm)


@pytest.mark.parametrize(("tile", "overlap", "says"), [(8, 8, "overlap is 8"), (0, 0, "tile is 0"), (8, -1, "overlap")])
def test_what_makes_no_tiles_is_refused(tile, overlap, says):
    with pytest.raises(ValueError, match=says):
        starts(100, tile, overlap)
