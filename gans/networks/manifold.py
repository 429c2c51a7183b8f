"""Networks of a GAN in the latent space of an autoencoder, Achlioptas et al. 2018 (arXiv 1707.02392).

The networks work on whitened codes, which have mean 0 and covariance 1 for every autoencoder and data set.
"""

from typing import cast

import torch
from torch import Tensor, nn

from gans.networks.mlp import perceptron


class Moments(nn.Module):
    """Running mean and second moment of vectors, an exponential average over about `memory` batches.

    Before the first batch they are those of N(0, 1). The second moment is stored instead of the covariance: its mean
    over processes, or over the parts of a batch, equals that of all vectors.

    Args:
        dim: length of a vector.
        memory: number of batches after which the weight of a batch has decayed to 1/e.
        least: regularisation of the covariance: this share of the mean variance is added to its diagonal.
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
        """Update the moments with a batch `(N, dim)`, or with a part of one.

        Args:
            vectors: the batch, or a part of it.
            share: share of the batch's rows that this part contains.
            begin: whether this is the first part of a batch.
        """
        vectors = vectors.to(self.mean)
        if begin:
            self.batches += 1
        weight = 1 / self.batches.clamp(max=self.memory).to(self.mean)  # a tensor, so that the CPU does not wait
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
        """The Cholesky factor `(dim, dim)` of the regularised covariance, lower triangular."""
        covariance = self.covariance
        least = self.least * covariance.diagonal().mean().clamp(min=1e-12)
        return cast(Tensor, torch.linalg.cholesky_ex(covariance + least * torch.eye(len(covariance)).to(covariance))[0])

    def whiten(self, vectors: Tensor) -> Tensor:
        """Return whitened vectors `(N, dim)`: mean 0, covariance 1, or less in directions of very small variance."""
        with torch.autocast(vectors.device.type, enabled=False):
            centred = (vectors.to(self.mean) - self.mean).mT
            white: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False).mT
        return white

    def colour(self, white: Tensor) -> Tensor:
        """Return the vectors `(N, dim)` for whitened ones. It is the inverse of `whiten`."""
        with torch.autocast(white.device.type, enabled=False):
            return self.mean + white.to(self.mean) @ self.factor.mT


class Residual(nn.Module):
    """Latents z `(N, dim)` to whitened codes `(N, dim)`: z plus a perceptron of z that is 0 at initialisation.

    So training starts from a Gaussian fitted to the codes and learns the difference.

    Args:
        dim: length of a latent and of a code.
        width: units of each of the two hidden layers.
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
        width: units of each of the two hidden layers.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.layers = perceptron([dim, width, width, 1])

    def forward(self, white: Tensor) -> Tensor:
        """Return logits `(N,)`, higher for realistic codes."""
        logits: Tensor = self.layers(white).squeeze(1)
        return logits


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, C, H, W)`, by way of whitened codes and codes.

    Args:
        latent_dim: length of a latent and of a code.
        decoder: network from codes to images.
        latent: network from latents to whitened codes; None is the identity, which gives Gaussian codes.
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
        """Return the same function as a plain `nn.Sequential`, with the current moments as a linear layer."""
        dim = len(self.codes.mean)
        colour = nn.Linear(dim, dim).to(self.codes.mean)
        with torch.no_grad():
            colour.weight.copy_(self.codes.factor)
            colour.bias.copy_(self.codes.mean)
        return nn.Sequential(self.latent, colour, self.decoder)
