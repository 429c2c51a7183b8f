"""What each player minimises, on logits: one class an objective, with a `discriminator` and a `generator` side.

Every method takes logits of any shape, real first, and returns the mean over all of them as a scalar. Logits are raw
scores: no sigmoid, which would lose the gradient of a confident discriminator. `Minimax` and `NonSaturating` are from
Goodfellow et al. 2014 (arXiv 1406.2661); the other sources stand at their classes.
"""

from math import log
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu, softplus

Objective = Literal[
    "minimax", "nonsaturating", "least_squares", "hinge", "wasserstein", "relativistic", "relativistic_average"
]


class Loss(Protocol):
    """A two-player objective on logits."""

    @property
    def boundary(self) -> float | None:
        """The best discriminator's logit of an image that is real as likely as fake.

        None where logits mean nothing by themselves: a constant may be added to all of them.
        """
        ...

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the scalar that the discriminator minimises, given its logits on real and fake images."""
        ...

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return the scalar that the generator minimises; `real` is read by relativistic objectives only."""
        ...

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return whether each logit, or each pair where there is no boundary, is on the right side, as booleans."""
        ...


class Absolute:
    """An objective whose logits say by themselves what is real: above the boundary is real, below it is fake."""

    @property
    def boundary(self) -> float:
        """The best discriminator's logit of an image that is real as likely as fake."""
        return 0.0

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return whether each logit is on the right side of the boundary, real ones first."""
        return torch.cat([real > self.boundary, fake < self.boundary])


class Compared:
    """An objective of differences of logits: a constant may be added to all of them, so there is no boundary."""

    boundary = None

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return whether the real image of each pair has the higher logit."""
        return real > fake


class Smoothed(Absolute):
    """An objective whose discriminator has a target for real images, 1 or somewhat less.

    One-sided label smoothing, Salimans et al. 2016 (arXiv 1606.03498): a discriminator that is never to be sure of real
    images keeps small logits. The target of fakes stays 0: where there are fakes only, it would reward them.

    Args:
        smoothing: what the target lacks of 1; the paper takes 0.1.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing is {smoothing}; expected a number from 0 to below 1")
        self.smoothing = smoothing


class Minimax(Smoothed):
    """The zero-sum game of the first GAN; its generator loss saturates when the discriminator wins."""

    @property
    def boundary(self) -> float:
        """`log(t / (2 - t))` with target t: the best `D` is `t p / (p + q)` at densities p of real and q of fake."""
        return log((1 - self.smoothing) / (1 + self.smoothing))

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `-t log D(x) - (1 - t) log(1 - D(x)) - log(1 - D(G(z)))` with `D = sigmoid(logit)` and target t."""
        loss = softplus(-real).mean() + softplus(fake).mean()
        # softplus(a) = softplus(-a) + a
        return loss + self.smoothing * real.mean() if self.smoothing else loss

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `log(1 - D(G(z)))`."""
        return -softplus(fake).mean()


class NonSaturating(Minimax):
    """Minimax for the discriminator; the generator maximises `log D(G(z))`, whose gradient does not vanish."""

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-log D(G(z))`."""
        return softplus(-fake).mean()


class LeastSquares(Smoothed):
    """Mao et al. 2017 (arXiv 1611.04076): logits regress to 1 on real and 0 on fake."""

    @property
    def boundary(self) -> float:
        """`t / 2` with target t: the best logit is `t p / (p + q)` at densities p of real and q of fake."""
        return (1 - self.smoothing) / 2

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `(a - t)^2 / 2 + b^2 / 2` with target t."""
        return ((real - (1 - self.smoothing)).square().mean() + fake.square().mean()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `(b - 1)^2 / 2`."""
        return (fake - 1).square().mean() / 2


class Wasserstein(Compared):
    """Arjovsky et al. 2017 (arXiv 1701.07875): a critic that must be kept Lipschitz by clipping or a penalty."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `b - a`, the negative of the estimated distance."""
        return fake.mean() - real.mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-b`."""
        return -fake.mean()


class Hinge(Absolute):
    """Lim and Ye 2017 (arXiv 1705.02894): the Wasserstein critic that stops at a margin of 1 on either side of 0."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `max(0, 1 - a) + max(0, 1 + b)`."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-b`."""
        return -fake.mean()


class Relativistic(Compared):
    """Jolicoeur-Martineau 2018 (arXiv 1807.00734), paired (RpGAN): is this real image more real than that fake one?"""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `softplus(-(a - b))` over pairs.

        Raises:
            ValueError: if the logits differ in shape: they would broadcast to pairs of everything with everything.
        """
        return softplus(margin(fake, real)).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `softplus(-(b - a))` over pairs.

        Raises:
            ValueError: if `real` is None: this objective compares with the logits of real images; or another shape.
        """
        if real is None:
            raise ValueError("Relativistic.generator compares pairs: give the logits of real images as `real`")
        return softplus(margin(real, fake)).mean()


class RelativisticAverage(Relativistic):
    """The average form of the same paper (RaGAN), ESRGAN's: is this image more real than the other side on average?

    The averages are over the logits at hand: like BatchNorm's, they are of a process's share of the batch.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `[softplus(-(a - mean b)) + softplus(b - mean a)] / 2`."""
        return (softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `[softplus(a - mean b) + softplus(-(b - mean a))] / 2`.

        Raises:
            ValueError: if `real` is None: this objective compares with the logits of real images.
        """
        if real is None:
            raise ValueError("RelativisticAverage.generator compares: give the logits of real images as `real`")
        return self.discriminator(fake, real)

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return whether each logit is on the right side of the other side's average, real ones first."""
        return torch.cat([real > fake.mean(), fake < real.mean()])


def margin(first: Tensor, second: Tensor) -> Tensor:
    """Return `first - second`, pair by pair.

    Raises:
        ValueError: if they differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"logits of shapes {tuple(first.shape)} and {tuple(second.shape)}; pairs need one shape")
    return first - second


def info_nce(queries: Tensor, keys: Tensor, scale: Tensor | float, first: int = 0) -> Tensor:
    """Return the mean cross entropy of finding each query's own key among all, van den Oord et al. 2018 (1807.03748).

    Args:
        queries: unit vectors `(n, D)`.
        keys: unit vectors `(N, D)`; query i belongs to key `first + i`.
        scale: what inner products are multiplied by, one over the temperature.
        first: number of the first query's key.
    """
    own = torch.arange(first, first + len(queries), device=queries.device)
    return cross_entropy(scale * queries @ keys.T, own)


def objective(name: Objective, smoothing: float = 0.0) -> Loss:
    """Return the loss that a recipe calls `name`, whose target for real images is 1 - `smoothing`.

    Raises:
        ValueError: if there is none of that name, or it has no such target.
    """
    smoothed: dict[str, type[Minimax | LeastSquares]] = {
        "minimax": Minimax,
        "nonsaturating": NonSaturating,
        "least_squares": LeastSquares,
    }
    others: dict[str, Loss] = {
        "hinge": Hinge(),
        "wasserstein": Wasserstein(),
        "relativistic": Relativistic(),
        "relativistic_average": RelativisticAverage(),
    }
    if name in smoothed:
        return smoothed[name](smoothing)
    if name not in others:
        raise ValueError(f"objective is {name!r}; expected one of {', '.join([*smoothed, *others])}")
    if smoothing:
        raise ValueError(
            f"smoothing is {smoothing}; expected 0, as {name} has no target (but {', '.join(smoothed)} have)"
        )
    return others[name]
