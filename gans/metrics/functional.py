"""Scores of generated images as pure functions of features, computed in float64.

Features are `(N, D)`, real ones first. Results are float64 scalars. Random functions take a seed or a generator, and do
not use torch's global generator. Each function names its source.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gans.metrics.moments import Gaussian, as_features, as_pair, frechet_of_few, frechet_to
from gans.metrics.neighbours import authentic, neighbour_scores

BLOCK = 2**22  # values of a kernel matrix per block, 32 MB


class PRDC(NamedTuple):
    """Precision, recall, density and coverage."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


class Modes(NamedTuple):
    """Number of classes that occur, and the KL divergence of their frequencies from the expected ones, in nats."""

    modes: int
    kl: Tensor


class ClassFID(NamedTuple):
    """The FID of every class, and their mean."""

    mean: Tensor
    classes: dict[int, Tensor]


def fid(real: Tensor | Gaussian, fake: Tensor) -> Tensor:
    """Return the Frechet distance between Gaussians fitted to `real` `(N, D)` and `fake` `(M, D)`.

    It is exact for fewer samples than features too. `real` may be a `Gaussian`, whose root is then reused.
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
    """Return the FID extrapolated to infinitely many fake samples.

    The FID is nearly linear in 1 / M. A line is fitted to the FIDs of `points` random subsets of M/10 to M fake
    samples. Its intercept is returned, which may be slightly negative. The number of real samples is not extrapolated.
    Source: Chong and Forsyth 2020 (arXiv 1911.07023).

    Raises:
        ValueError: if there are fewer than 20 fake samples or 2 points, or if the features are not valid for `fid`.
    """
    if points < 2:
        raise ValueError(f"points is {points}; a line needs at least 2")
    fake = as_features(fake, "fake features", 20)
    gaussian = real if isinstance(real, Gaussian) else Gaussian.of(as_features(real, "real features", 2))
    generator = _generator(seed)
    sizes = torch.linspace(len(fake) // 10, len(fake), points).round().long()
    subsets = (fake[torch.randperm(len(fake), generator=generator)[:size].to(fake.device)] for size in sizes.tolist())
    distances = torch.stack([fid(gaussian, subset) for subset in subsets])
    inverse = (1 / sizes.double()).to(distances.device)
    centred = inverse - inverse.mean()
    slope = (centred * distances).sum() / centred.square().sum()
    return distances.mean() - slope * inverse.mean()


def kid(real: Tensor, fake: Tensor, *, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> Tensor:
    """Return the unbiased squared maximum mean discrepancy over all samples. It may be negative.

    The kernel is `(gamma x.y + coef)^degree`; the default of `gamma` is 1 / D. The result is not multiplied by 1000.
    Source: Binkowski et al. 2018 (arXiv 1801.01401).

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
    """Return the mean and population standard deviation of the KID of random subsets, as usual in papers.

    Subsets are drawn without replacement. `subset_size` is limited to the number of samples.

    Raises:
        ValueError: if there is no subset, it has fewer than 2 samples, or the features are not valid for `kid`.
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
    """Return the mean and population standard deviation of `exp E KL(p(y|x) || p(y))` over contiguous splits.

    `logits` `(N, K)` are a classifier's logits, not probabilities and not features. They are not shuffled, so shuffle
    samples that are ordered by class. Source: Salimans et al. 2016 (arXiv 1606.03498).

    Raises:
        ValueError: if the logits are not `(N, K)` or not finite, or if there are fewer samples than splits.
    """
    logits = as_features(logits, "logits")
    n = len(logits)
    if not 1 <= splits <= n:
        raise ValueError(f"splits is {splits}; expected 1 to {n}, the number of samples")
    scores = []
    for i in range(splits):
        log_p = logits[i * n // splits : (i + 1) * n // splits].log_softmax(1)
        # Computed with logarithms, so that a class with probability 0 in all samples contributes 0 and not NaN.
        log_q = log_p.logsumexp(0) - math.log(len(log_p))
        scores.append((log_p.exp() * (log_p - log_q)).sum(1).mean().exp())
    values = torch.stack(scores)
    return values.mean(), values.std(correction=0)


def prdc(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Return precision, recall, density and coverage, with open balls around samples up to the k-th neighbour.

    - Precision: share of fake samples that are in the ball of a real sample.
    - Recall: share of real samples that are in the ball of a fake sample.
    - Density: mean number of real balls that a fake sample is in, divided by k. It may exceed 1.
    - Coverage: share of real samples whose ball contains a fake sample.

    Sources: Kynkaanniemi et al. 2019 (arXiv 1904.06991), Naeem et al. 2020 (arXiv 2002.09797).

    Raises:
        ValueError: for fewer than k + 1 samples, or features of other shapes or not finite.
    """
    scores = neighbour_scores(real, fake, k, k)
    return PRDC(*(_scalar(scores[name], real) for name in PRDC._fields))


def authenticity(real: Tensor, fake: Tensor) -> Tensor:
    """Return the percentage of fake samples that are not near-copies of real ones.

    A fake sample counts if its nearest real sample is nearer to another real one than to it. The score is near 0 for
    copies of the real samples, so pass the training data. Source: Alaa et al. 2022 (arXiv 2102.08921).

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    return 100 * authentic(real, fake).double().mean()


def one_nn_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Return the accuracy of a 1-nearest-neighbour classifier of real against fake: 0.5 is ideal.

    It is 1 for separate distributions and near 0 for copies. The first min(N, M) samples of each kind are used. Ties
    count as errors. Sources: Lopez-Paz and Oquab 2017 (arXiv 1610.06545), Xu et al. 2018 (arXiv 1806.07755).

    Raises:
        ValueError: for features of other shapes, not finite, or fewer than 2.
    """
    equal = min(len(real), len(fake))
    return _scalar(neighbour_scores(real[:equal], fake[:equal], 1, 1)["one_nn_accuracy"], real)


def vendi(features: Tensor) -> Tensor:
    """Return the Vendi score, the effective number of different samples, from 1 to N.

    It is the exponential of the entropy of the eigenvalues of their cosine similarities.
    Source: Friedman and Dieng 2022 (arXiv 2210.02410).

    Raises:
        ValueError: if the features are not `(N, D)` or not finite, or if a row is zero.
    """
    features = as_features(features)
    lengths = features.norm(dim=1, keepdim=True)
    if not lengths.all():
        raise ValueError(f"features are all zero at row {int((lengths == 0).nonzero()[0, 0])}; it has no direction")
    unit = features / lengths
    # X X' and X' X have the same eigenvalues except for zeros, which have no entropy.
    gram = unit @ unit.T if len(unit) < unit.shape[1] else unit.T @ unit
    shares = torch.linalg.eigvalsh(gram / len(unit)).clamp(min=0)
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def mode_counts(predictions: Tensor, num_classes: int, reference: Tensor | None = None) -> Modes:
    """Return the number of classes that occur, and the KL divergence of their frequencies from the expected ones.

    The KL divergence is infinite if a class occurs whose expected frequency is 0. Source, for stacked MNIST: Srivastava
    et al. 2017 (arXiv 1705.07761).

    Args:
        predictions: logits `(N, num_classes)`, or integer labels `(N,)`.
        num_classes: number of classes.
        reference: expected counts or frequencies `(num_classes,)`; None means uniform.

    Raises:
        ValueError: if an argument has another shape, is not finite or out of range, or if there are no samples.
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

    Compare only values with the same number of samples per class. Unlike the FID it detects wrong labels.

    Raises:
        ValueError: if a class has fewer than 2 samples on one side, or if labels and features differ in number.
    """
    real, fake = as_pair(real, fake)
    for kind, features, labels in (("real", real, real_labels), ("fake", fake, fake_labels)):
        if labels.shape != (len(features),):
            raise ValueError(f"{kind} labels have shape {tuple(labels.shape)}; expected ({len(features)},)")
    real_labels, fake_labels = real_labels.to(real.device), fake_labels.to(real.device)
    distances = {}
    for label in sorted({*real_labels.tolist(), *fake_labels.tolist()}):
        members = real[real_labels == label], fake[fake_labels == label]
        if min(map(len, members)) < 2:
            counts = f"{len(members[0])} real and {len(members[1])} fake samples"
            raise ValueError(f"class {label} has {counts}; expected at least 2 of each")
        distances[int(label)] = fid(*members)
    return ClassFID(torch.stack(list(distances.values())).mean(), distances)


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def _scalar(value: float, like: Tensor) -> Tensor:
    device = like.device if like.device.type != "mps" else "cpu"
    return torch.tensor(value, dtype=torch.float64, device=device)


def _labels(predictions: Tensor, num_classes: int) -> Tensor:
    """Return labels `(N,)`, given logits or labels."""
    if predictions.ndim == 2 and predictions.shape[1] == num_classes:
        return as_features(predictions, "logits").argmax(1)
    if predictions.ndim != 1 or predictions.is_floating_point() or not len(predictions):
        shape = tuple(predictions.shape)
        raise ValueError(f"predictions have shape {shape}; expected logits (N, {num_classes}) or integers (N,)")
    labels = predictions.detach().long()
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}")
    return labels
