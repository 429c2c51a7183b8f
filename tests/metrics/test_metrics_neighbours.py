"""Neighbour scores against definitions written out on whole matrices, and against torch-fidelity."""

import pytest
import torch

from gans.metrics import neighbours
from gans.metrics.functional import authenticity, one_nn_accuracy, prdc
from gans.metrics.neighbours import nearest, neighbour_scores

NAMES = ["precision", "recall", "density", "coverage", "authenticity", "one_nn_accuracy"]


def normal(n, d=6, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def distances(x, y):
    return (x[:, None] - y[None]).square().sum(-1)


def written_out(real, fake, k_manifold, k_density):
    """Every score as its paper defines it; distances stay squared, which keeps their order."""
    within_real, within_fake, across = distances(real, real), distances(fake, fake), distances(real, fake)
    # The 0 to itself is the first of the ascending distances.
    real_ascending, fake_ascending = within_real.sort(1).values, within_fake.sort(1).values
    manifold, balls = real_ascending[:, k_manifold, None], real_ascending[:, k_density, None]
    closest = across.argmin(0)
    both = torch.cat([torch.cat([within_real, across], 1), torch.cat([across.T, within_fake], 1)])
    both.fill_diagonal_(torch.inf)
    is_real = torch.arange(len(both)) < len(real)
    return {
        "precision": (across < manifold).any(0).double().mean(),
        "recall": (across < fake_ascending[:, k_manifold]).any(1).double().mean(),
        "density": (across < balls).double().sum() / (k_density * len(fake)),
        "coverage": (across.min(1, keepdim=True).values < balls).double().mean(),
        "authenticity": 100 * (across[closest, range(len(fake))] > real_ascending[closest, 1]).double().mean(),
        "one_nn_accuracy": (is_real[both.argmin(1)] == is_real).double().mean(),
    }


@pytest.fixture(params=[2**20, 700])
def block(request, monkeypatch):
    """Everything at once, or a few rows at a time with a last block that is not full."""
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(("offset", "dtype"), [(0, torch.float64), (100, torch.float32), (1e5, torch.float64)])
def test_scores_are_their_definitions(offset, dtype):
    real, fake = (normal(203) + offset).to(dtype), (normal(203, seed=1) * 0.7 + 0.3 + offset).to(dtype)
    expected = written_out(real.double(), fake.double(), 3, 5)
    scores = neighbour_scores(real, fake)
    assert list(scores) == NAMES
    assert scores == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-12)
    assert 0.2 < scores["recall"] < scores["precision"] < 1  # none of them is trivial here
    assert neighbour_scores(real, fake, real_neighbours=nearest(real, 5)) == scores


@pytest.mark.usefixtures("block")
def test_unequal_numbers_are_compared_as_they_are_except_by_one_nn():
    real, fake = normal(150), normal(97, seed=1) + 0.2
    expected = written_out(real, fake, 2, 4)
    expected["one_nn_accuracy"] = written_out(real[:97], fake, 2, 4)["one_nn_accuracy"]
    scores = neighbour_scores(real, fake, 2, 4)
    assert scores == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-12)
    assert one_nn_accuracy(real, fake).item() == scores["one_nn_accuracy"]
    assert one_nn_accuracy(fake, real).item() == scores["one_nn_accuracy"]
    assert authenticity(real, fake).item() == pytest.approx(scores["authenticity"], abs=1e-12)
    swapped = written_out(fake, real, 1, 1)["authenticity"].item()
    assert authenticity(fake, real).item() == pytest.approx(swapped, abs=1e-12)


def test_the_functions_share_the_scores():
    real, fake = normal(120), normal(120, seed=1) * 0.8
    scores = neighbour_scores(real, fake, 4, 4)
    assert prdc(real, fake, 4)._asdict() == {name: scores[name] for name in NAMES[:4]}
    assert authenticity(real, fake).item() == pytest.approx(scores["authenticity"], abs=1e-12)
    assert prdc(real, fake).density.dtype == torch.float64


def test_torch_fidelity_agrees():
    fidelity = pytest.importorskip(
        "torch_fidelity.metric_prc", reason="torch_fidelity is not installed: the extra inception"
    )
    real, fake = normal(400), normal(300, seed=1) * 0.8
    for k in (3, 5):
        theirs = fidelity.prc_features_to_metric(fake, real, prc_neighborhood=k, verbose=False)
        assert prdc(real, fake, k).precision.item() == pytest.approx(theirs["precision"], abs=1e-6)
        assert prdc(real, fake, k).recall.item() == pytest.approx(theirs["recall"], abs=1e-6)


def test_points_on_a_line_by_hand():
    # Neighbour distances of the reals are 1 1 2 4, of the fakes 2.5 2.5 3.5. Fakes are at 0.5 3 6.5.
    real, fake = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [3.0], [6.5]])
    scores = neighbour_scores(real, fake, 1, 1)
    assert scores["precision"] == 1  # 0.5 near 0 and 1, 3 near 3, 6.5 near 7
    assert scores["recall"] == 1  # 0 and 1 near 0.5, 3 near 3, 7 near 6.5
    assert scores["density"] == pytest.approx(
        4 / 3
    )  # balls that hold 0.5, 3, 6.5: two, one (7 - 3 is no less than 4), one
    assert scores["coverage"] == 1
    assert scores["authenticity"] == 0


def test_on_the_rim_is_outside():
    """Ties are exact on a grid, off its origin too; "inside" is strict."""
    for offset in (0, 1000):
        real = torch.tensor([[0.0], [2.0], [4.0]]) + offset
        fake = torch.tensor([[-4.0], [-2.0], [6.0], [8.0]]) + offset  # 2 apart, like the reals, and 2 from them
        assert prdc(real, fake, 1) == (0, 0, 0, 0)
        nearer = fake.where(fake != offset - 2, offset - 1.5)
        assert prdc(real, nearer, 1) == (0.25, 1 / 3, 0.25, 1 / 3)


def test_copies_and_collapse_are_caught():
    """What each score is there for: copies of training data, and few distinct images."""
    train, held_out = normal(1000, 16, dtype=torch.float32), normal(1000, 16, 1, dtype=torch.float32)
    copied = neighbour_scores(train, train)
    assert [copied[name] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert 0.95 <= copied["density"] <= 1.05
    assert (copied["authenticity"], copied["one_nn_accuracy"]) == (0, 0)
    fresh = neighbour_scores(train, held_out)
    assert fresh["authenticity"] > 40
    assert 0.4 < fresh["one_nn_accuracy"] < 0.6
    collapsed = neighbour_scores(train, 0.5 * held_out[:100].repeat(10, 1) + normal(1000, 16, 2) / 1000)
    assert collapsed["recall"] < 0.2
    assert collapsed["precision"] > 0.9
    assert collapsed["coverage"] < fresh["coverage"] - 0.1
    assert neighbour_scores(train, held_out + 20)["one_nn_accuracy"] == 1


def test_copies_of_duplicates_are_at_no_distance():
    """Balls around points that occur often have no inside, however distances are rounded."""
    real = normal(30, 64).repeat_interleave(3, 0) + 7
    scores = neighbour_scores(real, real[torch.randperm(90, generator=torch.Generator().manual_seed(0))], 2, 2)
    assert scores == dict.fromkeys(NAMES, 0)
    assert (nearest(real, 3)[:, :2] == 0).all()
    assert (nearest(real, 3)[:, 2] > 1).all()


def test_bad_features_are_refused():
    good = normal(10)
    for bad, sentence in [
        (normal(5), "fake samples are 5; 5 nearest neighbours need at least 6"),
        (normal(10, 3), "real features have 6 columns and fake features 3"),
        (normal(10)[0], r"fake features have shape \(6,\); expected \(N, D\)"),
        (normal(10).index_fill(0, torch.tensor(3), torch.nan), "fake features contain NaN or infinity at row 3"),
        (normal(1), "fake features have 1 rows; expected at least 2"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            prdc(good, bad)
    with pytest.raises(ValueError, match="real samples are 5"):
        prdc(normal(5), good)
    with pytest.raises(ValueError, match="k is 0"):
        prdc(good, good, 0)
    with pytest.raises(ValueError, match=r"real_neighbours have shape \(10, 4\); expected \(10, 5\)"):
        neighbour_scores(good, good, real_neighbours=nearest(good, 4))
