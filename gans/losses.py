"""Adversarial losses on logits: one class per objective, with a `discriminator` and a `generator` method.

Every method takes logits of any shape, real first, and returns their mean loss as a scalar. Logits are raw scores
without a sigmoid, because a sigmoid loses the gradient of a confident discriminator. `Minimax` and `NonSaturating` are
from Goodfellow et al. 2014 (arXiv 1406.2661). The other classes name their own source.
"""

from math import inf, log
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, pad, relu, softplus

Objective = Literal[
    "minimax", "nonsaturating", "least_squares", "hinge", "wasserstein", "relativistic", "relativistic_average"
]


class Loss(Protocol):
    """A two-player objective on logits."""

    @property
    def boundary(self) -> float | None:
        """The optimal discriminator's logit for an image that is equally likely to be real or fake.

        None for objectives that compare logits only: adding a constant to all logits does not change their loss.
        """
        ...

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the scalar that the discriminator minimises, given its logits on real and fake images."""
        ...

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return the scalar that the generator minimises. Only relativistic objectives read `real`."""
        ...

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return booleans: whether each logit is on the correct side of the boundary.

        Objectives without a boundary return one boolean for each pair.
        """
        ...


class Absolute:
    """An objective with a decision boundary: a logit above it means real, a logit below it means fake."""

    @property
    def boundary(self) -> float:
        """The optimal discriminator's logit for an image that is equally likely to be real or fake."""
        return 0.0

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return whether each logit is on the correct side of the boundary, real ones first."""
        return torch.cat([real > self.boundary, fake < self.boundary])


class Compared:
    """An objective on differences of logits. It has no boundary: a constant added to all logits changes nothing."""

    boundary = None

    def right(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return whether the real image of each pair has the higher logit."""
        return real > fake


class Smoothed(Absolute):
    """An objective with one-sided label smoothing: the discriminator's target for real images is `1 - smoothing`.

    The softer target keeps the logits small. The target for fakes stays 0, because a higher one would reward the
    generator for its current samples. Source: Salimans et al. 2016 (arXiv 1606.03498).

    Args:
        smoothing: distance of the target from 1; the paper uses 0.1.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing is {smoothing}; expected a number from 0 to below 1")
        self.smoothing = smoothing


class Minimax(Smoothed):
    """The zero-sum game of the first GAN. The generator's gradient vanishes if the discriminator is confident."""

    @property
    def boundary(self) -> float:
        """`log(t / (2 - t))` for target t: the optimal `D` is `t p / (p + q)` with densities p (real) and q (fake)."""
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
    """Minimax for the discriminator. The generator maximises `log D(G(z))`, whose gradient does not vanish."""

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-log D(G(z))`."""
        return softplus(-fake).mean()


class LeastSquares(Smoothed):
    """Mao et al. 2017 (arXiv 1611.04076): logits regress to 1 on real images and to 0 on fake ones."""

    @property
    def boundary(self) -> float:
        """`t / 2` for target t: the optimal logit is `t p / (p + q)` with densities p (real) and q (fake)."""
        return (1 - self.smoothing) / 2

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `(a - t)^2 / 2 + b^2 / 2` with target t."""
        return ((real - (1 - self.smoothing)).square().mean() + fake.square().mean()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `(b - 1)^2 / 2`."""
        return (fake - 1).square().mean() / 2


class Wasserstein(Compared):
    """Arjovsky et al. 2017 (arXiv 1701.07875). The critic must be kept Lipschitz by weight clipping or a penalty."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `b - a`, the negative of the estimated Wasserstein distance."""
        return fake.mean() - real.mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-b`."""
        return -fake.mean()


class Hinge(Absolute):
    """Lim and Ye 2017 (arXiv 1705.02894): logits beyond a margin of 1 on the correct side have no gradient."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `max(0, 1 - a) + max(0, 1 + b)`."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-b`."""
        return -fake.mean()


class Relativistic(Compared):
    """Paired relativistic GAN (RpGAN), Jolicoeur-Martineau 2018 (arXiv 1807.00734).

    The discriminator estimates whether the real image of each pair is more realistic than the fake one.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `softplus(-(a - b))` over pairs.

        Raises:
            ValueError: if the logits differ in shape, because they would broadcast to all pairs.
        """
        return softplus(margin(fake, real)).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `softplus(-(b - a))` over pairs.

        Raises:
            ValueError: if `real` is None or its shape differs: this objective compares with the logits of real images.
        """
        if real is None:
            raise ValueError("Relativistic.generator compares pairs: give the logits of real images as `real`")
        return softplus(margin(real, fake)).mean()


class RelativisticAverage(Relativistic):
    """Relativistic average GAN (RaGAN) of the same paper, used by ESRGAN.

    The discriminator estimates whether an image is more realistic than the average image of the other kind. The
    averages are over the given logits. Under DDP these are one process's part of the batch, as in BatchNorm.
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
        """Return whether each logit is on the correct side of the other kind's average, real ones first."""
        return torch.cat([real > fake.mean(), fake < real.mean()])


def undecided(loss: Loss) -> float:
    """Return the discriminator's loss if it cannot tell: all logits are at the boundary. It is 0 for `Wasserstein`."""
    logit = torch.tensor([loss.boundary or 0.0])
    return float(loss.discriminator(logit, logit))


def margin(first: Tensor, second: Tensor) -> Tensor:
    """Return `first - second`, pair by pair.

    Raises:
        ValueError: if they differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"logits of shapes {tuple(first.shape)} and {tuple(second.shape)}; pairs need one shape")
    return first - second


def info_nce(queries: Tensor, keys: Tensor, scale: Tensor | float, first: int = 0) -> Tensor:
    """Return the mean cross entropy of classifying the matching key of each query among all keys, a scalar.

    Source: van den Oord et al. 2018 (arXiv 1807.03748).

    Args:
        queries: unit vectors `(n, D)`.
        keys: unit vectors `(N, D)`; query i matches key `first + i`.
        scale: factor of the inner products, 1 / temperature.
        first: index of the first query's key.
    """
    own = torch.arange(first, first + len(queries), device=queries.device)
    return cross_entropy(scale * queries @ keys.T, own)


def invariant_information(first: Tensor, second: Tensor) -> Tensor:
    """Return the mutual information, in nats, between the predicted categories of images and of their augmented copies.

    Its maximum is ln K, for confident and equal predictions and equally frequent categories.
    Source: Ji et al. 2019 (IIC, arXiv 1807.06653), equations 2 and 3.

    Args:
        first: logits `(N, K)` of the images.
        second: logits `(N, K)` of their copies.
    """
    joint = first.softmax(1).T @ second.softmax(1) / len(first)
    joint = ((joint + joint.T) / 2).clamp_min(1e-8)
    rows, columns = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    return (joint * (joint.log() - rows.log() - columns.log())).sum()


# -- classes, by angles between embeddings -----------------------------------------------------------------------------


def conditional_contrastive(embeddings: Tensor, proxies: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the 2C loss: an image attracts its class's proxy and images of its class, and repels other images.

    For image i it is `-log(P / (P + N))`. P sums `exp(cos / temperature)` of its embedding with its proxy and with the
    other images of its class, N with images of other classes.

    Source: Kang and Park 2020 (ContraGAN, arXiv 2006.12681), equation 8.

    Args:
        embeddings: of the images, `(N, D)`, of any length.
        proxies: of the class of each image, `(N, D)`, of any length.
        labels: classes `(N,)`.
        temperature: above 0.

    Returns:
        the mean over images, a scalar; 0 if all images have one class.
    """
    own, others = cosines(embeddings, proxies)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    pairs = torch.cat([own[:, None], others.masked_fill(itself, -inf)], 1) / temperature
    different = pad(labels[:, None] != labels, (1, 0), value=False)
    return (pairs.logsumexp(1) - pairs.masked_fill(different, -inf).logsumexp(1)).mean()


def data_to_data(
    embeddings: Tensor,
    proxies: Tensor,
    labels: Tensor,
    temperature: float = 0.5,
    positive_margin: float = 0.98,
    negative_margin: float = 0.02,
) -> Tensor:
    """Return the data-to-data cross entropy, D2D-CE: an image's proxy against images of other classes.

    For image i it is `-log(p / (p + sum of n_j))` over images j of other classes, with
    `p = exp(min(cos(image, proxy) - positive_margin, 0) / temperature)` and
    `n_j = exp(max(cos(image, j) - negative_margin, 0) / temperature)`.
    So pairs that are beyond their margins have no gradient.

    Source: Kang et al. 2021 (ReACGAN, arXiv 2111.01118). The authors' code divides the n_j, and not p, by a number that
    differs from image to image; the paper does not.

    Args:
        embeddings: of the images, `(N, D)`, of any length.
        proxies: of the class of each image, `(N, D)`, of any length.
        labels: classes `(N,)`.
        temperature: above 0.
        positive_margin: cosine from which image and proxy are near enough.
        negative_margin: cosine up to which images of two classes are far enough; 1 - `positive_margin` in the paper.

    Returns:
        the mean over images, a scalar; 0 if all images have one class.
    """
    own, others = cosines(embeddings, proxies)
    positive = (own - positive_margin).clamp(max=0)
    negatives = relu(others - negative_margin).masked_fill(labels[:, None] == labels, -inf)
    pairs = torch.cat([positive[:, None], negatives], 1) / temperature
    return cross_entropy(pairs, torch.zeros_like(labels, dtype=torch.long))


def cosines(embeddings: Tensor, proxies: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cosines of embeddings `(N, D)` with their proxies, `(N,)`, and with each other, `(N, N)`.

    They are in float32 at least.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        wide = torch.promote_types(embeddings.dtype, torch.float32)
        # An embedding of zeros has no direction. This `eps` bounds its gradient.
        units = normalize(torch.stack([embeddings, proxies]).to(wide), dim=2, eps=1e-6)
        embeddings, proxies = units.unbind()
        return (embeddings * proxies).sum(1), embeddings @ embeddings.T


# -- names -------------------------------------------------------------------------------------------------------------


def objective(name: Objective, smoothing: float = 0.0) -> Loss:
    """Return the loss of this `name`, with the target `1 - smoothing` for real images.

    Raises:
        ValueError: if the name is unknown, or if the objective does not support label smoothing.
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
            f"smoothing is {smoothing}; expected 0, because {name} has no target (only {', '.join(smoothed)} have one)"
        )
    return others[name]
