"""Moments against NumPy's, whitening against its definition, and generators that begin as Gaussians."""

import numpy as np
import torch
from torch import nn

from gans.networks.manifold import Critic, Generator, Moments, Residual


def correlated(n, dim=5):
    torch.manual_seed(0)
    return torch.randn(n, dim, dtype=torch.float64) @ torch.randn(dim, dim).double() + 3 * torch.arange(dim)


def taken(batches, memory=100):
    moments = Moments(batches[0].shape[1], memory).double()
    for batch in batches:
        moments.update(batch)
    return moments


def test_moments_of_few_batches_are_those_of_all_vectors():
    vectors = correlated(400)
    moments = taken(vectors.split(40))
    assert np.allclose(moments.mean, vectors.mean(0))
    assert np.allclose(moments.covariance, np.cov(vectors.T, bias=True))
    assert np.allclose(moments.std, vectors.numpy().std(0))


def test_old_batches_are_forgotten():
    moments = taken([torch.full((4, 1), 7.0)] * 50 + [torch.full((4, 1), 2.0)] * 40, memory=10)
    assert abs(float(moments.mean) - 2 - 5 * 0.9**40) < 1e-6


def test_pieces_of_a_batch_are_the_batch():
    vectors = correlated(90)
    whole, cut = taken([vectors[:30], vectors[30:]]), taken([vectors[:30]])
    for start, end in ((30, 70), (70, 90)):
        cut.update(vectors[start:end], (end - start) / 60, begin=start == 30)
    assert whole.batches == cut.batches == 2
    assert np.allclose(whole.mean, cut.mean)
    assert np.allclose(whole.second, cut.second)


def test_whitened_vectors_have_mean_0_and_covariance_1():
    vectors = correlated(1000)
    moments = taken([vectors])
    white = moments.whiten(vectors)
    assert white.mean(0).abs().max() < 1e-9
    assert np.allclose(np.cov(white.T, bias=True), np.eye(5), atol=1e-2)  # the flattest direction is not blown up
    assert np.allclose(moments.colour(white), vectors)


def test_directions_that_are_flat_stay_so():
    vectors = correlated(1000)
    moments = Moments(5, least=0.1).double()
    moments.update(vectors)
    spread = torch.linalg.eigvalsh(moments.covariance)
    white = torch.linalg.eigvalsh(torch.cov(moments.whiten(vectors).mT, correction=0))
    assert np.allclose(white, spread / (spread + 0.1 * spread.mean()))
    assert white[0] < 0.5 * white[-1]
    assert np.allclose(moments.colour(moments.whiten(vectors)), vectors)


def test_a_number_that_never_changes_stays_finite():
    vectors = torch.cat([torch.randn(200, 2), torch.ones(200, 1)], 1)
    moments = Moments(3)
    moments.update(vectors)
    assert moments.whiten(vectors).abs().max() < 10
    moments.update(torch.ones(200, 3))
    assert moments.factor.isfinite().all()


def test_nothing_is_known_before_the_first_batch():
    white = torch.randn(3, 4)
    assert torch.allclose(Moments(4).colour(white), white, atol=1e-3)


def test_half_precision_around_it_changes_nothing():
    vectors = correlated(1000).float()
    moments = Moments(5)
    moments.update(vectors)
    exact = moments.whiten(vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(moments.whiten(vectors), exact)
        assert torch.equal(moments.colour(exact), moments.colour(exact.float()))
        assert moments.colour(exact).dtype == torch.float32


def test_a_generator_begins_as_the_gaussian_of_the_codes():
    codes = correlated(2000).float()
    latent = Residual(5, 8)
    gaussian, begun = Generator(5, nn.Identity()), Generator(5, nn.Identity(), latent)
    for generator in (gaussian, begun):
        generator.codes.update(codes)
    z = torch.randn(20_000, 5)
    assert torch.equal(gaussian(z), begun(z))
    assert np.allclose(np.cov(begun(z).detach().T), np.cov(codes.T), atol=0.5)
    assert np.allclose(begun(z).detach().mean(0), codes.mean(0), atol=0.1)
    begun(z).square().sum().backward()
    assert latent.layers[-1].weight.grad.abs().sum() > 0  # zero layers can learn


def test_a_critic_gives_a_logit_for_each_code():
    assert Critic(5, 8)(torch.randn(3, 5)).shape == (3,)
