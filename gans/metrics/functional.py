"""Scores of generated images as pure functions of features, in float64 whatever comes in.

Features are `(N, D)`, real ones first. Results are scalars in float64. What is random draws from a seed or a generator
that the caller gives; torch's global generator is never touched. Sources stand at the functions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gans.metrics.moments import Gaussian, as_features, as_pair, frechet_of_few, frechet_to
from gans.metrics.neighbours import authentic, neighbour_scores

BLOCK = 2**22  # values of a kernel held at a time, 32 MB


class PRDC(NamedTuple):
    """Precision, recall, density and coverage."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


class Modes(NamedTuple):
    """How many classes occur, and how far their frequencies are from those expected, in nats."""

    modes: int
    kl: Tensor


class ClassFID(NamedTuple):
    """The mean of the FIDs of every class, and each of them."""

    mean: Tensor
    classes: dict[int, Tensor]


def fid(real: Tensor | Gaussian, fake: Tensor) -> Tensor:
    """Return the Frechet distance between Gaussians fitted to `real` `(N, D)` and `fake` `(M, D)`.

    Exact for fewer samples than features too. `real` may be a `Gaussian` that is kept, with its root.
    Source: Heusel et al. 2017 (arXiv 1706.08500).

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    if isinstance(real, Gaussian):
        return frechet_to(real, fake)
    real, fake = as_pair(real, fake)
    if max(len(real), len(fake)) <= real.shape[1]:
        return frechet_of_few(real, fake)
    fewer, more = sorted((real, fake), key=len)  # the distance is symmetric
    return frechet_to(Gaussian.of(more), fewer)


def fid_infinity(real: Tensor | Gaussian, fake: Tensor, points: int = 15, seed: int | torch.Generator = 0) -> Tensor:
    """Return the FID that infinitely many fakes would have: it is nearly linear in 1 / M, and this is the intercept.

    The line is fitted to the FIDs of `points` random subsets of M/10 to M fakes. Only the fakes are extrapolated; the
    distance may come out slightly negative. Source: Chong and Forsyth 2020 (arXiv 1911.07023).

    Raises:
        ValueError: if there are fewer than 20 fakes or 2 points, or for features that `fid` refuses.
    """
    if points < 2:
        raise ValueError(f"points is {points}; a line needs at least 2")
    fake = as_features(fake, "features of the fakes", 20)
    gaussian = real if isinstance(real, Gaussian) else Gaussian.of(as_features(real, "features of the reals", 2))
    generator = _generator(seed)
    sizes = torch.linspace(len(fake) // 10, len(fake), points).round().long()
    subsets = (fake[torch.randperm(len(fake), generator=generator)[:size].to(fake.device)] for size in sizes.tolist())
    distances = torch.stack([fid(gaussian, subset) for subset in subsets])
    inverse = (1 / sizes.double()).to(distances.device)
    centred = inverse - inverse.mean()
    slope = (centred * distances).sum() / centred.square().sum()
    return distances.mean() - slope * inverse.mean()


def kid(real: Tensor, fake: Tensor, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> Tensor:
    """Return the squared maximum mean discrepancy over all samples, not scaled by 1000; unbiased, so perhaps negative.

    The kernel is `(gamma x.y + coef)^degree`, with `gamma` 1 / D unless given. Source: Binkowski et al. 2018
    (arXiv 1801.01401).

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    real, fake = as_pair(real, fake)
    scale = 1 / real.shape[1] if gamma is None else gamma
    constant = real.new_tensor([coef])

    def total(rows: Tensor, columns: Tensor) -> Tensor:
        parts = torch.split(rows, max(1, BLOCK // len(columns)))
        return torch.stack(
            [torch.addmm(constant, part, columns.T, alpha=scale).pow_(degree).sum() for part in parts]
        ).sum()

    def within(points: Tensor) -> Tensor:
        alone = points.square().sum(1).mul(scale).add(coef).pow(degree).sum()
        return (total(points, points) - alone) / (len(points) * (len(points) - 1))

    return within(real) + within(fake) - 2 * total(real, fake) / (len(real) * len(fake))


def kid_subsets(
    real: Tensor,
    fake: Tensor,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int | torch.Generator = 0,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return mean and (population) standard deviation of the KID of random subsets, as papers report it.

    Subsets are drawn without replacement; `subset_size` is at most the number of samples.

    Raises:
        ValueError: for fewer than 1 subset of 2, or features that `kid` refuses.
    """
    if subsets < 1 or subset_size < 2:
        raise ValueError(f"subsets are {subsets} of {subset_size}; expected at least 1 of 2")
    real, fake = as_pair(real, fake)
    size = min(subset_size, len(real), len(fake))
    generator = _generator(seed)

    def pick(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size].to(features.device)]

    scores = [kid(pick(real), pick(fake), degree=degree, gamma=gamma, coef=coef) for _ in range(subsets)]
    values = torch.stack(scores)
    return values.mean(), values.std(correction=0)


def inception_score(logits: Tensor, splits: int = 10) -> tuple[Tensor, Tensor]:
    """Return mean and (population) standard deviation of `exp E KL(p(y|x) || p(y))` over contiguous splits.

    `logits` `(N, K)` are a classifier's raw scores, not probabilities and not features. They are not shuffled: shuffle
    samples that come class by class. Source: Salimans et al. 2016 (arXiv 1606.03498).

    Raises:
        ValueError: if they are no `(N, K)` or not finite, or if there are fewer of them than splits.
    """
    logits = as_features(logits, "logits")
    n = len(logits)
    if not 1 <= splits <= n:
        raise ValueError(f"splits is {splits}; expected 1 to {n}, the number of samples")
    scores = []
    for i in range(splits):
        log_p = logits[i * n // splits : (i + 1) * n // splits].log_softmax(1)
        # In logarithms, so that a class of probability 0 everywhere counts 0 and not NaN.
        log_q = log_p.logsumexp(0) - math.log(len(log_p))
        scores.append((log_p.exp() * (log_p - log_q)).sum(1).mean().exp())
    values = torch.stack(scores)
    return values.mean(), values.std(correction=0)


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Return precision, recall, density and coverage with balls up to the k-th neighbour, "inside" meant strictly.

    Precision: share of fakes in the ball of some real. Recall: share of reals in the ball of some fake. Density: mean
    number of balls of reals that a fake is in, divided by k; above 1 where fakes crowd. Coverage: share of reals whose
    ball holds a fake. Sources: Kynkaanniemi et al. 2019 (arXiv 1904.06991), Naeem et al. 2020 (arXiv 2002.09797).

    Raises:
        ValueError: for fewer than k + 1 samples, or features of other shapes or not finite.
    """
    scores = neighbour_scores(real, fake, k, k)
    return PRDC(*(_scalar(scores[name], real) for name in PRDC._fields))


def authenticity(real: Tensor, fake: Tensor) -> Tensor:
    """Return the percentage of fakes that lie farther from their nearest real than that real from its nearest other.

    Near 0 for copies of the reals (give those that were trained on). Source: Alaa et al. 2022 (arXiv 2102.08921).

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    return 100 * authentic(real, fake).double().mean()


def one_nn_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Return how often the nearest other sample tells real from fake: 0.5 ideal, 1 far apart, near 0 for copies.

    Equally many are compared: the first min(N, M) of each. A tie counts as an error. Sources: Lopez-Paz and Oquab 2017
    (arXiv 1610.06545), Xu et al. 2018 (arXiv 1806.07755).

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    equal = min(len(real), len(fake))
    return _scalar(neighbour_scores(real[:equal], fake[:equal], 1, 1)["one_nn_accuracy"], real)


def vendi(features: Tensor) -> Tensor:
    """Return the effective number of different samples, 1 to N: the exponential entropy of their cosine similarities.

    Source: Friedman and Dieng 2022 (arXiv 2210.02410).

    Raises:
        ValueError: if they are no `(N, D)`, not finite, or one of them is zero.
    """
    features = as_features(features)
    lengths = features.norm(dim=1, keepdim=True)
    if not lengths.all():
        raise ValueError(f"features are all zero at row {int((lengths == 0).nonzero()[0, 0])}; it has no direction")
    unit = features / lengths
    # X X' and X' X have the same eigenvalues but for zeros, which do not count.
    gram = unit @ unit.T if len(unit) < unit.shape[1] else unit.T @ unit
    shares = torch.linalg.eigvalsh(gram / len(unit)).clamp(min=0)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def mode_counts(predictions: Tensor, num_classes: int, reference: Tensor | None = None) -> Modes:
    """Return how many classes occur, and KL(their frequencies || those of `reference`, or uniform).

    The KL is infinite if a class occurs that `reference` lacks. For stacked MNIST: Srivastava et al. 2017
    (arXiv 1705.07761).

    Args:
        predictions: logits `(N, num_classes)`, or integer labels `(N,)`.
        num_classes: K.
        reference: counts or frequencies `(K,)`, not negative.

    Raises:
        ValueError: if one of them has another shape, is not finite or out of range, or there are no samples.
    """
    labels = _labels(predictions, num_classes)
    expected = torch.ones(num_classes) if reference is None else reference
    if expected.shape != (num_classes,) or not ((expected >= 0).all() and 0 < expected.sum() < torch.inf):
        raise ValueError(f"reference has shape {tuple(expected.shape)} or bad values; expected {num_classes} counts")
    p = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    q = expected.detach().to(p) / expected.detach().to(p).sum()
    return Modes(int(p.count_nonzero()), (torch.xlogy(p, p) - torch.xlogy(p, q)).sum())


def class_fid(real: Tensor, real_labels: Tensor, fake: Tensor, fake_labels: Tensor) -> ClassFID:
    """Return the FID within each class and their mean, for features `(N, D)` with integer labels `(N,)`.

    Comparable only at equal numbers per class. It sees mixed-up labels, which the FID over all does not.

    Raises:
        ValueError: if a class has fewer than 2 samples on one side, or labels and features differ in number.
    """
    real, fake = as_pair(real, fake)
    for kind, features, labels in (("reals", real, real_labels), ("fakes", fake, fake_labels)):
        if labels.shape != (len(features),):
            raise ValueError(f"labels of the {kind} have shape {tuple(labels.shape)}; expected ({len(features)},)")
    real_labels, fake_labels = real_labels.to(real.device), fake_labels.to(real.device)
    distances = {}
    for label in sorted({*real_labels.tolist(), *fake_labels.tolist()}):
        members = real[real_labels == label], fake[fake_labels == label]
        if min(map(len, members)) < 2:
            counts = f"{len(members[0])} reals and {len(members[1])} fakes"
            raise ValueError(f"class {label} has {counts}; expected at least 2 of each")
        distances[int(label)] = fid(*members)
    return ClassFID(torch.stack(list(distances.values())).mean(), distances)


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def _scalar(value: float, like: Tensor) -> Tensor:
    device = like.device if like.device.type != "mps" else "cpu"
    return torch.tensor(value, dtype=torch.float64, device=device)


def _labels(predictions: Tensor, num_classes: int) -> Tensor:
    """Return the labels `(N,)` that logits or labels stand for."""
    if predictions.ndim == 2 and predictions.shape[1] == num_classes:
        return as_features(predictions, "logits").argmax(1)
    if predictions.ndim != 1 or predictions.is_floating_point() or not len(predictions):
        shape = tuple(predictions.shape)
        raise ValueError(f"predictions have shape {shape}; expected logits (N, {num_classes}) or integers (N,)")
    labels = predictions.detach().long()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}")
    return labels
