"""The spaces of a style model: points, their files and their images."""

from contextlib import contextmanager

import pytest
import torch
from latent_models import MODELS, awake
from styled_model import Styled

from gans.explore import codes, directions, walks
from gans.explore.generators import images
from gans.explore.spaces import space_of, spaces, usual_space


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Styled()


def latents(count=7):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def test_a_style_model_has_three_spaces_and_others_have_theirs(model):
    assert list(spaces(model)) == ["latent", "w", "w+"]
    assert usual_space(model) == usual_space(model, moved=True) == "w"
    assert list(spaces(MODELS["dcgan"]())) == ["latent"]
    manifold = MODELS["manifold"]()
    assert list(spaces(manifold)) == ["latent", "codes"]
    assert (usual_space(manifold), usual_space(manifold, moved=True)) == ("codes", "latent")
    with pytest.raises(ValueError, match=r"space is w; expected latent, as DCGAN has"):
        space_of(MODELS["dcgan"](), "w")
    with pytest.raises(ValueError, match=r"space is z; expected latent or w or w\+, as Styled has"):
        space_of(model, "z")


def test_all_spaces_make_the_image_of_a_latent(model):
    z = latents()
    for name, shape in (("latent", (6,)), ("w", (5,)), ("w+", (3, 5))):
        space = space_of(model, name)
        points = space.from_latents(z)
        assert space.shape == points.shape[1:] == shape
        torch.testing.assert_close(space(points), model(z))
        torch.testing.assert_close(images(space, points), model(z))
        assert space.accepted(space.stored(points), name).sub(points).abs().max() < 1e-5


def test_points_of_w_have_the_mean_0_and_the_deviation_1(model):
    points = space_of(model, "w").from_latents(latents(4000))
    assert points.mean(0).abs().max() < 0.1
    assert points.square().mean().sqrt() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["latent", "w", "w+"])
def test_truncation_is_towards_the_mean_in_every_space(model, name):
    z = latents()
    for psi in (0.0, 0.5, -1.0):
        space = space_of(model, name, truncation=psi)
        wanted = model.from_w(model.mean_w + psi * (model.to_w(z) - model.mean_w))
        torch.testing.assert_close(space(space.from_latents(z)), wanted)


def test_truncated_latents_have_the_statistics_of_a_model(monkeypatch):
    model, seen = awake(MODELS["dcgan"]), []

    @contextmanager
    def standing(truncation):
        seen.append(truncation)
        yield

    monkeypatch.setattr(model, "standing", standing, raising=False)
    space_of(model, "latent", truncation=0.5)(latents())
    assert seen == [0.5]


def test_classes_belong_to_points_of_w():
    torch.manual_seed(0)
    model, z = Styled(num_classes=3), latents(6)
    for name in ("latent", "w", "w+"):
        space = space_of(model, name)
        torch.testing.assert_close(space(space.from_latents(z)), model(z, torch.tensor([0, 1, 2, 0, 1, 2])))
        second = space.at(2, None)
        torch.testing.assert_close(second(second.from_latents(z)), model(z, torch.full((6,), 2)))
        each = space.at(torch.tensor([2, 2, 1, 1, 0, 0]), None)
        torch.testing.assert_close(each(each.from_latents(z)), model(z, torch.tensor([2, 2, 1, 1, 0, 0])))
    w = space_of(model, "w", 1).from_latents(z)
    torch.testing.assert_close(space_of(model, "w", 2)(w), model(z, torch.ones(6, dtype=torch.long)))


def test_points_of_other_spaces_are_accepted_where_they_have_an_image(model):
    z = latents()
    w, wide = space_of(model, "w"), space_of(model, "w+")
    own = model.to_w(z)
    torch.testing.assert_close(w.stored(w.accepted(z, "latent")), own)
    torch.testing.assert_close(wide.stored(wide.accepted(z, "latent")), own[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(wide.stored(wide.accepted(own, "w")), own[:, None].expand(-1, 3, -1))
    for space, stored, name, told in (
        (w, own[:, :4], "w", r"4 numbers of the space w; expected 5 of the space w"),
        (w, own[:, None].expand(-1, 3, -1), "w+", r"3 x 5 numbers of the space w\+; .* give --space w\+"),
        (wide, own[:, None].expand(-1, 4, -1), "w+", r"4 x 5 numbers of the space w\+; expected 3 x 5"),
        (space_of(model, "latent"), own, "w", "5 numbers of the space w; expected 6 of the space latent"),
        (w, z, "codes", "of the space codes"),
    ):
        with pytest.raises(ValueError, match=told):
            space.accepted(stored, name)


def test_a_direction_moves_its_layers_and_no_others(model, tmp_path):
    w, wide = space_of(model, "w"), space_of(model, "w+")
    step = torch.randn(5)
    directions.save(tmp_path / "a", {"some": step}, {"space": "w", "layers": "1-2"})
    directions.save(tmp_path / "a", {"all": step}, {"space": "w"})
    directions.save(tmp_path / "a", {"other": torch.randn(6)})
    points = w.from_latents(latents())
    for space, start in ((w, points), (wide, wide.from_latents(latents()))):
        found = directions.fitting(tmp_path / "a", space)
        assert list(found) == ["some", "all"]
        moved = walks.along(space.layered(start)[0], torch.stack(list(found.values())), torch.tensor([0.0, 2.0]))
        own = model.to_w(latents())[0]
        wanted = own.expand(4, 3, -1).clone()
        wanted[1, 1:] += 2 * step
        wanted[3] += 2 * step
        torch.testing.assert_close(space.stored(moved), wanted)
        torch.testing.assert_close(space(moved), model.from_w(wanted))
    assert directions.common_space(tmp_path / "a", ["some", "all"]) == "w"
    assert directions.common_space(tmp_path / "a", ["other"]) == "latent"


def test_directions_that_do_not_fit_are_refused(model, tmp_path):
    path = directions.save(tmp_path / "a", {"flat": torch.randn(6), "none": torch.randn(6)})
    directions.save(path, {"style": torch.randn(5), "high": torch.randn(5)}, {"space": "w", "layers": "3"})
    latent, w = space_of(model, "latent"), space_of(model, "w")
    for space, name, told in (
        (latent, "style", "the direction style of .* is of the space w; expected latent: give --space w"),
        (w, "flat", "the direction flat of .* is of the space latent; expected w: give --space latent"),
        (w, "high", "layers is 3; expected coarse, middle, fine, all, or numbers from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=told):
            directions.fitting(path, space, [name])
    with pytest.raises(ValueError, match="directions are flat of latent, style of w; expected one space"):
        directions.common_space(path, ["flat", "style"])
    with pytest.raises(ValueError, match="directions have 4 and 5 numbers"):
        directions.save(path, {"short": torch.randn(4)}, {"space": "w"})
    with pytest.raises(ValueError, match="has no layers"):
        latent.offset(torch.randn(6), [0])
    with pytest.raises(ValueError, match="layer is 3; expected 0 to 2"):
        w.offset(torch.randn(5), [3])


def test_the_effect_of_a_direction_is_that_of_its_layers(model):
    w = space_of(model, "w")
    points, step = w.layered(w.from_latents(latents())), torch.randn(5)
    whole = directions.effect(w, points, w.offset(step))
    parts = [directions.effect(w, points, w.offset(step, [i])) for i in range(3)]
    assert max(parts) < whole < 2 * sum(parts)
    flat = directions.effect(w, points[:, 0], step)
    assert whole == pytest.approx(flat, rel=1e-4)
    chance = directions.random_effect(w, points, place=lambda vector: w.offset(vector, [0]))
    assert chance < directions.random_effect(w, points, place=w.offset)


def test_walks_keep_the_shape_of_points():
    points = torch.randn(3, 3, 5)
    walk = walks.through(points, 4, "lerp")
    assert walk.shape == (7, 3, 5)
    torch.testing.assert_close(walk[3], points[1])
    rows = walks.traversal(points[0], [2, 4], torch.tensor([-1.0, 1]), [1]).view(2, 2, 3, 5)
    assert rows[0, :, 1, 2].tolist() == rows[1, :, 1, 4].tolist() == [-1, 1]
    rows[0, :, 1, 2], rows[1, :, 1, 4] = points[0, 1, 2], points[0, 1, 4]
    torch.testing.assert_close(rows, points[0].expand(2, 2, 3, 5))
    rows = walks.traversal(points[0], [2], torch.tensor([-1.0, 1]))
    assert rows[:, :, 2].tolist() == [[-1] * 3, [1] * 3]


def test_codes_travel_with_their_noise(tmp_path):
    rows, noise = torch.randn(2, 3, 5), torch.randn(2, 336)
    found = codes.read(codes.save(tmp_path / "a", rows, ["a", "b"], "w+", noise))
    assert torch.equal(found.codes, rows)
    assert torch.equal(found.noise, noise)
    assert found.space == "w+"
    assert codes.read(codes.save(tmp_path / "b", rows, ["a", "b"], "w+")).noise is None


def test_an_autoencoder_keeps_its_codes():
    model = awake(MODELS["manifold"])
    z = latents(3)
    code, latent = space_of(model, "codes"), space_of(model, "latent")
    torch.testing.assert_close(code(code.accepted(z, "latent")), latent(z))
