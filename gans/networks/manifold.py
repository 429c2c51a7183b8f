"""What a GAN on the manifold of an autoencoder's images is made of: networks on codes, and the codes' moments.

A generator in the latent space of an autoencoder: Achlioptas et al. 2018 (arXiv 1707.02392). Its networks see whitened
codes, whose mean is 0 and whose covariance is 1 for every autoencoder and every data.
"""

from typing import cast

import torch
from torch import Tensor, nn

from gans.networks.mlp import perceptron


class Moments(nn.Module):
    """Running mean and second moment of vectors, over about the last `memory` batches.

    Before the first batch they are those of N(0, 1). They are linear in the vectors, so that means of them over
    processes, or over pieces of a batch, are those of all vectors together.

    Args:
        dim: length of a vector.
        memory: batches after which a contribution has fallen to 1/e.
        least: what is added to every direction's variance, as a share of their mean: far flatter ones stay flat.
    """

    mean: Tensor
    second: Tensor
    batches: Tensor

    def __init__(self, dim: int, memory: int = 100, least: float = 1e-4) -> None:
        super().__init__()
        self.memory, self.least = memory, least
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("second", torch.eye(dim))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, vectors: Tensor, share: float = 1.0, begin: bool = True) -> None:
        """Take a batch `(N, dim)` in, or a piece of one that holds this `share` of its rows, the first to `begin`."""
        vectors = vectors.to(self.mean)
        if begin:
            self.batches += 1
        weight = 1 / self.batches.clamp(max=self.memory).to(self.mean)  # no number that the processor waits for
        moments = (vectors.mean(0), vectors.mT @ vectors / len(vectors))
        for old, new in zip((self.mean, self.second), moments, strict=True):
            old.copy_(old * (1 - weight if begin else 1) + share * weight * new)

    @property
    def covariance(self) -> Tensor:
        """The covariance `(dim, dim)`."""
        return self.second - self.mean.outer(self.mean)

    @property
    def std(self) -> Tensor:
        """The standard deviations `(dim,)`, above 0."""
        return self.covariance.diagonal().clamp(min=1e-12).sqrt()

    @property
    def factor(self) -> Tensor:
        """The lower triangular `(dim, dim)` with `factor @ factor.T` the covariance, with `least` added."""
        covariance = self.covariance
        least = self.least * covariance.diagonal().mean().clamp(min=1e-12)
        return cast(Tensor, torch.linalg.cholesky_ex(covariance + least * torch.eye(len(covariance)).to(covariance))[0])

    def whiten(self, vectors: Tensor) -> Tensor:
        """Return vectors `(N, dim)` with mean 0 and covariance 1, less where flat, if they are like those taken in."""
        with torch.autocast(vectors.device.type, enabled=False):
            centred = (vectors.to(self.mean) - self.mean).mT
            white: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False).mT
        return white

    def colour(self, white: Tensor) -> Tensor:
        """Return the vectors `(N, dim)` of whitened ones: the inverse of `whiten`."""
        with torch.autocast(white.device.type, enabled=False):
            return self.mean + white.to(self.mean) @ self.factor.mT


class Residual(nn.Module):
    """Latents `(N, dim)` to whitened codes `(N, dim)`: z plus a perceptron of z that is 0 at the start.

    So the first codes are those of a Gaussian fitted to the data's, and what is learnt is how they differ from one.

    Args:
        dim: length of a latent and of a code.
        width: of the two hidden layers.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = perceptron([dim, width, width, dim])
        last = cast(nn.Linear, self.layers[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Return whitened codes `(N, dim)` for `z` `(N, dim)`."""
        white: Tensor = z + self.layers(z)
        return white


class Critic(nn.Module):
    """Whitened codes `(N, dim)` to logits `(N,)`.

    Args:
        dim: length of a code.
        width: of the two hidden layers.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = perceptron([dim, width, width, 1])

    def forward(self, white: Tensor) -> Tensor:
        """Return logits, higher for what looks like an encoded image."""
        logits: Tensor = self.layers(white).squeeze(1)
        return logits


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to whitened codes, to codes, to images `(N, C, H, W)`.

    Args:
        latent_dim: length of a latent and of a code.
        decoder: network from codes to images.
        latent: network from latents to whitened codes; None takes latents for them, which makes Gaussian codes.
    """

    def __init__(self, latent_dim: int, decoder: nn.Module, latent: nn.Module | None = None) -> None:
        super().__init__()
        self.decoder = decoder
        self.codes = Moments(latent_dim)
        self.latent = latent or nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Return images in [-1, 1] for `z` `(N, latent_dim)`."""
        images: Tensor = self.decoder(self.codes.colour(self.latent(z)))
        return images

    def baked(self) -> nn.Sequential:
        """Return the same function with the moments, which no longer move, as a linear layer."""
        dim = len(self.codes.mean)
        colour = nn.Linear(dim, dim).to(self.codes.mean)
        with torch.no_grad():
            colour.weight.copy_(self.codes.factor)
            colour.bias.copy_(self.codes.mean)
        return nn.Sequential(self.latent, colour, self.decoder)
