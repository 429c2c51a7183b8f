"""Layers of style models: their names, mixing, truncation, and directions in W."""

import pytest
import torch
from styled_model import Styled
from torch import nn

from gans.explore import directions
from gans.explore.layers import style_matrices
from gans.explore.pca import pca_of_styles
from gans.explore.sefa import sefa_of_styles
from gans.explore.spaces import space_of
from gans.explore.styles import compact, layers_named, mixed, mixing_sheet, truncated, truncation_sheet


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Styled()


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        ("coarse", 18, range(4)),
        ("middle", 18, range(4, 8)),
        ("fine", 18, range(8, 18)),
        ("coarse", 3, [0]),
        ("middle", 3, [1]),
        ("fine", 3, [1, 2]),
        ("all", 3, range(3)),
        ("0-2", 8, range(3)),
        ("7,2-3,3", 8, [2, 3, 7]),
    ],
)
def test_layers_have_names(text, count, found):
    assert layers_named(text, count) == list(found)


@pytest.mark.parametrize("text", ["8", "0-8", "-1", "low", "", "1-", "3-2", "0,", "99999999999999"])
def test_wrong_layers_are_refused(text):
    with pytest.raises(
        ValueError, match=f"layers is {text}; expected coarse, middle, fine, all, or numbers from 0 to 7"
    ):
        layers_named(text, 8)


def test_layers_are_written_as_they_are_read():
    for layers in ([0], [0, 1, 2], [0, 2, 3, 7]):
        assert layers_named(compact(layers), 8) == layers
    assert compact([0, 2, 3, 7]) == "0,2-3,7"


def test_a_mixture_has_the_layers_of_both(model):
    rows, columns = torch.randn(2, 3, 5), torch.randn(4, 3, 5)
    points = mixed(rows, columns, [1]).view(2, 4, 3, 5)
    for i in range(2):
        for j in range(4):
            assert torch.equal(points[i, j, 1], columns[j, 1])
            assert torch.equal(points[i, j, [0, 2]], rows[i, [0, 2]])


def test_a_sheet_of_mixing_has_its_sources_at_the_edges(model):
    space = space_of(model, "w+")
    rows, columns = (space.from_latents(torch.randn(count, 6)) for count in (2, 3))
    sheet = mixing_sheet(space, rows, columns, [[0], [0, 1, 2]]).view(5, 4, 1, 16, 16)
    assert (sheet[0, 0] == 1).all()
    torch.testing.assert_close(sheet[0, 1:], space(columns))
    for block in (sheet[1:3], sheet[3:5]):
        torch.testing.assert_close(block[:, 0], space(rows))
    torch.testing.assert_close(sheet[3:5, 1:], space(columns).expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(sheet[1:3, 1:].flatten(0, 1), space(mixed(rows, columns, [0])))


def test_a_sheet_of_truncation_goes_from_the_point_to_its_opposite(model):
    space = space_of(model, "w+")
    points = space.from_latents(torch.randn(2, 6))
    sheet = truncation_sheet(space, points, [1, 0.5, 0, -1]).view(2, 4, 1, 16, 16)
    torch.testing.assert_close(sheet[:, 0], space(points))
    torch.testing.assert_close(sheet[:, 2], model.from_w(model.mean_w.expand(2, -1)))
    torch.testing.assert_close(sheet[:, 3], space(-points))
    part = truncated(points, [0.5], cutoff=2)
    torch.testing.assert_close(part[:, :2], points[:, :2] / 2)
    assert torch.equal(part[:, 2], points[:, 2])


def test_the_affine_layers_of_w_are_found(model):
    found = style_matrices(model)
    # Layers 1 and 2 have two maps each, of which that of the image comes first.
    for matrix, layer in zip(found, model.affine, strict=True):
        torch.testing.assert_close(matrix, layer.weight / 2, rtol=1e-3, atol=1e-4)  # which read w / 2
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_sefa_finds_what_the_chosen_layers_answer_to(model):
    axes = torch.linalg.qr(torch.randn(5, 5)).Q
    for i, layer in enumerate(model.affine):  # layer i answers to axis i most
        layer.weight.copy_(torch.randn(8, 1) @ axes[None, i] + 0.1 * torch.randn(8, 5))
    for i in range(3):
        found, strengths = sefa_of_styles(model, [i], 2)
        assert (found[0] @ axes[i]).abs() > 0.95
        assert found.norm(dim=1).tolist() == pytest.approx([1, 1])
        assert strengths[0] > strengths[1]
    both, _ = sefa_of_styles(model, [0, 2], 2)
    assert (both @ axes[[0, 2]].T).square().sum() > 1.8
    with pytest.raises(ValueError, match="count is 6; expected 1 to 5"):
        sefa_of_styles(model, [0], 6)


def test_layers_that_do_not_read_w_linearly_are_refused(model):
    model.affine[1] = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
    model.affine[1].requires_grad_(False)
    found = style_matrices(model)  # of the linear layer before the nonlinearity
    torch.testing.assert_close(found[1], model.affine[1][0].weight / 2, rtol=1e-3, atol=1e-4)
    model.affine[1] = nn.Tanh()
    model.patterns[1] = model.patterns[1][:5]
    with pytest.raises(ValueError, match="layer 1 of Styled does not read w linearly"):
        style_matrices(model)


def test_pca_finds_the_widest_directions_of_w(model):
    points = torch.randn(3000, 5) * torch.tensor([0.5, 3, 1, 0.1, 0.2])
    found, shares = pca_of_styles(points, 3)
    assert found.abs().argmax(1).tolist() == [1, 2, 0]
    assert (found.max(1).values > 0.99).all()
    assert shares.tolist() == pytest.approx([0.874, 0.097, 0.024], abs=0.01)


def test_directions_of_w_change_pictures_more_than_random_ones(model):
    space = space_of(model, "w")
    points = space.layered(space.from_latents(torch.randn(64, 6)))
    model.affine[0].weight[:, 2] *= 6
    found, _ = sefa_of_styles(model, [0], 1)
    chance = directions.random_effect(space, points, place=lambda vector: space.offset(vector, [0]))
    assert directions.effect(space, points, space.offset(found[0], [0])) > 1.3 * chance
