"""Mixture of Gaussians: latents give its distribution, it finds that of vectors, and pieces of the code that use it."""

import pytest
import torch
from scipy.special import ndtri

from gans.networks.mixture import Mixture, quantile


def clusters(n: int) -> torch.Tensor:
    """Three quarters of the vectors about (2, 0, 0), narrow in the second number, the others about (-2, 0, 0)."""
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(n, 3, generator=draw) * torch.tensor([0.3, 0.2, 0.5])
    vectors[:, 0] += 4 * (torch.arange(n) % 4 > 0) - 2
    return vectors


def test_it_finds_clusters_and_samples_them() -> None:
    vectors, mixture = clusters(2000), Mixture(3, 2)
    mixture.fit(vectors, steps=200)
    assert torch.allclose(mixture.shares.sort().values, torch.tensor([0.25, 0.75]), atol=0.01)
    made = mixture(torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)))
    assert abs(float((made[:, 0] > 0).float().mean()) - 0.75) < 0.03
    right = made[made[:, 0] > 0]
    assert torch.allclose(right.mean(0), torch.tensor([2.0, 0.0, 0.0]), atol=0.05)
    assert torch.allclose(right.std(0), torch.tensor([0.3, 0.2, 0.5]), atol=0.03)
    # The first number, which also chooses, is no less normal than the others.
    assert abs(float(((right[:, 0] - 2) / 0.3).pow(4).mean()) - 3) < 0.5


def test_one_gaussian_has_the_moments_of_the_vectors() -> None:
    vectors, mixture = clusters(1000), Mixture(3, 1, least=0)
    mixture.fit(vectors)
    factor = torch.linalg.cholesky(vectors.T.cov(correction=0))
    z = torch.randn(5, 3)
    assert torch.allclose(mixture(z), vectors.mean(0) + z @ factor.T, atol=1e-4)


def test_batches_find_what_all_vectors_find() -> None:
    vectors, mixture = clusters(4000), Mixture(3, 2)
    for batch in vectors[torch.randperm(4000, generator=torch.Generator().manual_seed(0))].split(20):
        mixture.update(batch)
    assert torch.allclose(mixture.shares.sort().values, torch.tensor([0.25, 0.75]), atol=0.05)
    assert int(mixture.batches) == 200


def test_the_mean_over_halves_of_a_batch_is_that_of_the_batch() -> None:
    whole, *halves = (Mixture(3, 4) for _ in range(3))
    whole.update(clusters(64))
    for half, vectors in zip(halves, clusters(64).chunk(2), strict=True):
        half.update(vectors)
    for name in ("weights", "first", "second"):
        mean = torch.stack([half.get_buffer(name) for half in halves]).mean(0)
        assert torch.allclose(whole.get_buffer(name), mean, atol=1e-6)


def test_vectors_have_latents() -> None:
    mixture = Mixture(3, 4)
    mixture.fit(clusters(500), steps=50)
    z = mixture.inverse(clusters(100))
    assert torch.allclose(mixture(z), clusters(100), atol=1e-2)
    assert z.abs().max() < 7


def test_densities_are_those_of_gaussians() -> None:
    mixture = Mixture(3, 2)
    mixture.fit(clusters(500), steps=50)
    both = [
        torch.distributions.MultivariateNormal(mean, scale_tril=factor).log_prob(clusters(9)) + share.log()
        for mean, factor, share in zip(mixture.means, mixture.factors, mixture.shares, strict=True)
    ]
    assert torch.allclose(mixture.logits(clusters(9)), torch.stack(both, 1), atol=1e-3)


def test_quantiles() -> None:
    shares = torch.tensor([1e-9, 1e-4, 0.3, 0.5, 0.9, 0.99999], dtype=torch.float64)
    assert torch.allclose(quantile(shares), torch.from_numpy(ndtri(shares.numpy())), atol=1e-9)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^components is 0; expected at least 1$"):
        Mixture(3, 0)
