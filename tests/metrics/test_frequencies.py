"""How often classes are expected: from few real images, with many classes, and what a divergence from that says."""

from types import SimpleNamespace

import pytest
import torch

from gans.metrics.features import Features
from gans.metrics.suite import frequencies, of_classes


def drawn(weights, count, seed=0):
    return torch.multinomial(weights, count, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_frequencies_are_shrunk_by_the_formula_of_the_paper():
    labels, n, k = torch.tensor([0, 0, 0, 0, 1, 1, 2, 0]), 8, 4
    seen = [5 / n, 2 / n, 1 / n, 0.0]
    share = (1 - sum(p * p for p in seen)) / ((n - 1) * sum((1 / k - p) ** 2 for p in seen))
    expected = torch.tensor([share / k + (1 - share) * p for p in seen], dtype=torch.float64)
    torch.testing.assert_close(frequencies(labels, k), expected)
    assert 0 < share < 1


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([2], [1 / 3] * 3), ([0, 1, 2], [1 / 3] * 3), ([1] * 9, [0, 1, 0])],
    ids=["one image", "equal", "one class"],
)
def test_ends(labels, expected):
    torch.testing.assert_close(frequencies(torch.tensor(labels), 3), torch.tensor(expected, dtype=torch.float64))
    assert frequencies(torch.tensor([0, 0]), 1).tolist() == [1.0]


def test_many_images_decide_alone():
    weights = torch.tensor([0.5, 0.3, 0.2])
    seen = torch.bincount(drawn(weights, 100_000)) / 100_000
    torch.testing.assert_close(frequencies(drawn(weights, 100_000), 3).float(), seen, atol=1e-4, rtol=0)


def classes_of(count, weights, seed):
    labels = drawn(weights, count, seed)
    return Features(torch.zeros(count, 1), torch.eye(len(weights))[labels])


def test_a_thousand_classes_in_five_thousand_images():
    """Counts alone would leave classes empty: their divergence is infinite, or 0.1 more than there is."""
    digit = torch.tensor([0.099, 0.112, 0.099, 0.102, 0.097, 0.090, 0.099, 0.104, 0.098, 0.099])
    weights = torch.einsum("i,j,k->ijk", digit, digit, digit).flatten()
    real = SimpleNamespace(features=classes_of(5000, weights, 1))
    assert len(real.features.logits.argmax(1).unique()) < 1000
    found = of_classes(real, classes_of(26_000, weights, 2), {"modes", "mode_kl"})
    assert found["modes"].value == 1000
    assert found["mode_kl"].value == pytest.approx(1000 / 2 / 26_000, abs=0.01)  # that of chance
    half = torch.where(torch.arange(1000) < 500, weights, torch.zeros(()))
    worse = of_classes(real, classes_of(5000, half, 3), {"modes", "mode_kl"})
    assert worse["modes"].value == 500
    assert worse["mode_kl"].value == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=0.07)
