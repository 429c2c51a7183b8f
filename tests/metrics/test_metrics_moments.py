"""Streamed moments against torch.cov, and the Frechet distance against closed forms and other implementations."""

import pytest
import torch

from gans.metrics.functional import fid
from gans.metrics.moments import Gaussian, Moments, frechet, frechet_to


def normal(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed)).Q


def gaussian(mean, spectrum, basis):
    return Gaussian(100, mean, basis @ torch.diag(spectrum) @ basis.T)


def nuclear(real, fake):
    """The distance from the singular values of the N x M matrix of products, which no covariance enters."""
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (real, fake))
    shift = (real.mean(0) - fake.mean(0)).square().sum()
    return (shift + a.square().sum() + b.square().sum() - 2 * torch.linalg.matrix_norm(a @ b.T, "nuc")).item()


# -- moments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1e3])
def test_batches_and_merges_equal_the_whole(offset):
    features = normal(1003, 17) @ normal(17, 17, 1) / 4 + offset
    mean, covariance = features.mean(0), torch.cov(features.T)
    streamed = Moments(17)
    for batch in features.chunk(27):
        streamed.update(batch)
    parts = []
    for batch in features.split([5, 0, 998]):
        parts.append(Moments(17))
        parts[-1].update(batch)
    merged = Moments(17)
    for part in parts:
        merged.merge(part)
    for moments in (streamed, merged):
        assert moments.n == 1003
        assert (moments.mean - mean).abs().max() < 1e-12
        assert (moments.covariance - covariance).abs().max() < 1e-12
    assert [part.n for part in parts] == [5, 0, 998]


def test_batches_larger_than_a_part_are_counted_once():
    features = normal(9000, 3)
    moments = Moments(3)
    moments.update(features)
    torch.testing.assert_close(moments.covariance, torch.cov(features.T), rtol=0, atol=1e-13)


def test_precision_is_float64_whatever_comes():
    features = normal(500, 4, dtype=torch.float32) + 1e4
    gaussian = Gaussian.of(features)
    assert (gaussian.mean.dtype, gaussian.covariance.dtype, gaussian.root.dtype) == (torch.float64,) * 3
    torch.testing.assert_close(gaussian.covariance, torch.cov(features.double().T), rtol=1e-10, atol=1e-10)


def test_the_root_is_symmetric_and_squares_to_the_covariance():
    whole = Gaussian.of(normal(300, 9))
    torch.testing.assert_close(whole.root @ whole.root, whole.covariance)
    torch.testing.assert_close(whole.root, whole.root.T)
    singular = Gaussian.of(normal(5, 9))
    torch.testing.assert_close(singular.root @ singular.root, singular.covariance)
    kept = Gaussian(5, singular.mean, singular.covariance, root=singular.root)
    assert kept.root is singular.root


def test_a_given_root_is_not_computed_again(monkeypatch):
    whole = Gaussian.of(normal(300, 9))
    kept = Gaussian(whole.n, whole.mean, whole.covariance, root=whole.root.clone())
    monkeypatch.setattr(torch.linalg, "eigh", None)
    assert fid(kept, normal(200, 9, 1)) > 0


def test_bad_moments_are_refused():
    moments = Moments(3)
    with pytest.raises(ValueError, match="samples seen are 0; a covariance needs at least 2"):
        _ = moments.covariance
    with pytest.raises(ValueError, match="3 columns and fake features 2"):
        moments.update(normal(4, 2))
    with pytest.raises(ValueError, match=r"features have shape \(4,\); expected \(N, D\)"):
        moments.update(torch.zeros(4))
    with pytest.raises(ValueError, match="features contain NaN or infinity at row 1"):
        moments.update(torch.tensor([[0.0, 0, 0], [0, torch.inf, 0]]))
    assert moments.n == 0
    with pytest.raises(ValueError, match="samples are 1; a Gaussian needs at least 2"):
        Gaussian(1, torch.zeros(2), torch.eye(2))
    with pytest.raises(ValueError, match="moments of the features contain NaN"):
        Gaussian(9, torch.zeros(2), torch.eye(2) * torch.nan)


# -- the distance ------------------------------------------------------------------------------------------------------


def test_commuting_gaussians_have_a_closed_form():
    basis, spectra = rotation(12), normal(2, 12, 1).square() + 0.01
    means = normal(2, 12, 2)
    real, fake = (gaussian(mean, spectrum, basis) for mean, spectrum in zip(means, spectra, strict=True))
    expected = (means[0] - means[1]).square().sum() + (spectra[0].sqrt() - spectra[1].sqrt()).square().sum()
    assert frechet(real, fake).item() == pytest.approx(expected.item(), rel=1e-10)
    assert frechet(fake, real).item() == pytest.approx(expected.item(), rel=1e-10)


def test_one_dimension_is_by_hand():
    # Means 2 and 5, variances 2 and 18: 9 + (sqrt 2 - sqrt 18)^2 = 9 + 8.
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [8.0]])
    assert fid(real, fake).item() == pytest.approx(17, rel=1e-12)


def test_a_shift_and_a_scale():
    features = normal(400, 10)
    assert fid(features, features + 3).item() == pytest.approx(90, rel=1e-10)
    centred = features - features.mean(0)
    assert fid(centred, 3 * centred).item() == pytest.approx(4 * torch.cov(features.T).trace().item(), rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (40, 40), (200, 20), (20, 200), (200, 40), (41, 41)])
def test_few_samples_are_exact(n, m):
    """40 features: some of the covariances, or both, are singular."""
    mix = normal(40, 40, 1) / 6
    real, fake = normal(n, 40, 2) @ mix, normal(m, 40, 3) @ mix * 1.2 + 0.1
    expected = nuclear(real, fake)
    assert fid(real, fake).item() == pytest.approx(expected, rel=1e-6)
    assert fid(Gaussian.of(real), fake).item() == pytest.approx(expected, rel=1e-6)
    assert frechet_to(Gaussian.of(fake), real).item() == pytest.approx(expected, rel=1e-6)
    assert frechet(Gaussian.of(real), Gaussian.of(fake)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [20, 400])
def test_a_set_is_at_no_distance_from_itself(n):
    features = normal(n, 64).relu() * torch.logspace(0, -4, 64)
    features[:, 50:] = 0.5  # dead units
    trace = torch.cov(features.T).trace().item()
    for value in (fid(features, features), fid(Gaussian.of(features), features)):
        assert 0 <= value.item() < 1e-6 * trace


def test_other_implementations_agree_where_they_are_right():
    real, fake = normal(900, 64).relu() + 0.2, (normal(800, 64, 1) * 1.1).relu()
    value = fid(real.float(), fake.float()).item()
    torchmetrics = pytest.importorskip("torchmetrics.image.fid")
    theirs = torchmetrics.FrechetInceptionDistance(feature=Identity(64))
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert value == pytest.approx(theirs.compute().item(), rel=1e-6)
    fidelity = pytest.importorskip(
        "torch_fidelity.metric_fid", reason="torch_fidelity is not installed: the extra inception"
    )
    statistics = [fidelity.fid_features_to_statistics(side) for side in (fake, real)]
    theirs = fidelity.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert value == pytest.approx(theirs, rel=1e-5)


class Identity(torch.nn.Identity):
    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features
