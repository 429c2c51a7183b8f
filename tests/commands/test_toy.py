"""Gaussians in the plane: what counts as covered, and that every objective learns them on this engine."""

import errno
import math
import re

import pytest
import torch
from PIL import Image

from gans.commands.toy import (
    MIXTURES,
    PENALTIES,
    Mixture,
    PlanarGAN,
    Stream,
    coverage,
    histogram,
    main,
    panel,
    ring,
    square,
    trained,
)
from gans.losses import Objective
from gans.penalties import one_centered, zero_centered


@pytest.mark.parametrize(("make", "modes", "deviation"), [(ring, 8, 0.1), (square, 25, 0.05)])
def test_mixtures_are_what_they_say(make, modes, deviation):
    mixture = make()
    points = mixture.draw(50_000, 0)
    assert mixture.centres.shape == (modes, 2)
    found = coverage(points, mixture)
    assert found.modes == modes
    assert found.share == pytest.approx(1 - math.exp(-4.5), abs=3e-3)  # of a normal in the plane within 3 sigma
    distances, nearest = torch.cdist(points, mixture.centres).min(1)
    assert distances.square().mean().sqrt() == pytest.approx(deviation * 2**0.5, rel=0.02)
    assert torch.bincount(nearest).float() / 50_000 == pytest.approx(torch.full((modes,), 1 / modes), rel=0.1)
    assert torch.equal(points, mixture.draw(50_000, 0))
    assert not torch.equal(points, mixture.draw(50_000, 1))


def test_centres_lie_where_they_should():
    assert ring().centres.norm(dim=1) == pytest.approx(torch.full((8,), 2.0))
    assert torch.cdist(ring().centres, ring().centres).fill_diagonal_(9).min() == pytest.approx(
        4 * math.sin(math.pi / 8), abs=1e-4
    )
    assert {tuple(centre) for centre in square().centres.tolist()} == {
        (x, y) for x in range(-2, 3) for y in range(-2, 3)
    }


def test_a_stray_point_covers_nothing():
    mixture = Mixture(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), 0.1)
    near, far = torch.tensor([[0.29, 0.0]]), torch.tensor([[0.31, 0.0]])
    one, other = mixture.centres.split(1)
    assert coverage(torch.cat([near, far]), mixture) == (1, 0.5)
    assert coverage(torch.cat([one.repeat(96, 1), other.repeat(4, 1)]), mixture) == (1, 1.0)
    assert coverage(torch.cat([one.repeat(95, 1), other.repeat(5, 1)]), mixture) == (2, 1.0)


def test_batches_depend_on_seed_and_step():
    batches = [points for (points,) in Stream(ring(), 3, 0)]
    assert [points.shape for points in batches] == [(256, 2)] * 3
    assert not torch.equal(batches[0], batches[1])
    assert torch.equal(next(iter(Stream(ring(), 1, 0)))[0], batches[0])
    assert not torch.equal(next(iter(Stream(ring(), 1, 1)))[0], batches[0])


def test_penalties_are_those_of_their_names():
    model = PlanarGAN("hinge", {"r1": 2.0, "r2": 3.0}, 10)
    real, fake = torch.randn(2, 5, 2)
    expected = 2 * zero_centered(model.discriminator, real) + 3 * zero_centered(model.discriminator, fake)
    torch.testing.assert_close(model.penalty(real, fake), expected)
    model.penalties = {"between": 4.0}
    model.uniform = lambda n: torch.full((n,), 0.25)
    expected = 4 * one_centered(model.discriminator, real, fake, torch.full((5,), 0.25))
    torch.testing.assert_close(model.penalty(real, fake), expected)
    model.penalties = {}
    assert model.penalty(real, fake) == 0
    assert set(PENALTIES) == set(Objective.__args__)


def test_the_picture_is_upright():
    corner = torch.tensor([[2.99, 2.99]] * 4 + [[-2.99, -2.99], [0.0, 5.0]])
    counts = histogram(corner)
    assert (counts[0, -1], counts[-1, 0], counts.sum()) == (4, 1, 5)
    shades = panel(corner, 4)
    assert (shades[0, 0, -1], shades[0, -1, 0], shades[0, 5, 5]) == (-1, 0, 1)


@pytest.mark.slow
def test_one_objective_learns_and_repeats_itself():
    three = Mixture(torch.tensor([[-2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]), 0.3)
    before = torch.get_rng_state()
    start, found, again = (trained(three, "minimax", 0, steps) for steps in (1, 300, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(start.points, again.points)
    assert start.coverage == (0, 0)
    assert found.coverage.modes == 3
    assert found.coverage.share > 0.4


def test_the_command_counts_and_paints(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    code = main(["grid", "--objective", "hinge", "relativistic", "--seeds", "3", "4", "--steps", "3"])
    out, err = capfd.readouterr()
    assert code == 0, err
    assert len(re.findall(r"^(?:hinge|relativistic) +[34] +\d+/25 +0\.\d{3} +\d+\.\d$", out, re.MULTILINE)) == 4
    assert out.splitlines()[-1].endswith("grid.png (real, hinge, relativistic; a row for each seed)")
    with Image.open("grid.png") as picture:
        assert picture.size == (3 * 98 + 2, 2 * 98 + 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("square", "invalid choice: 'square'"),
        ("ring --objective hing", "invalid choice: 'hing'"),
        ("ring --steps 0", "0 is no integer of at least 1"),
        ("ring --out a.jpg", "--out is a.jpg; expected a file such as a.png"),
    ],
)
def test_bad_input_is_one_sentence(line, message, capfd):
    assert main(line.split()) == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.startswith("toy: error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PENALTIES)
def test_every_objective_covers_the_ring(name, seed):
    found = trained(MIXTURES["ring"](), name, seed, 2500).coverage
    assert found.modes == 8
    assert found.share > 0.5


def test_a_full_disk_is_no_bad_input(monkeypatch, capfd):
    def full(options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gans.commands.toy.run", full)
    assert main([]) == 1
    assert capfd.readouterr().err == "toy: error: [Errno 28] No space left on device\n"
