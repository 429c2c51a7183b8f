"""How classes enter the two networks: BatchNorm with a gain and bias for each class, and heads that know classes."""

from typing import Literal

import torch
from torch import Tensor, nn

from gans.networks.spectral import xavier

Head = Literal["projection", "auxiliary"]


def check_labels(labels: Tensor | None, count: int, num_classes: int) -> None:
    """Check that `labels` are `count` classes from 0 to `num_classes - 1`, or None for a network without classes.

    The range is checked on the CPU only: looking at the labels would make the host wait for a GPU, where the embedding
    stops the run with a device-side assertion instead.

    Raises:
        ValueError: if they are not.
    """
    if num_classes == 0:
        if labels is not None:
            raise ValueError("labels were given to a network without classes; expected None")
        return
    if labels is None:
        raise ValueError(f"labels are missing; expected a class from 0 to {num_classes - 1} for each sample")
    if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return  # a captured graph holds for any number of labels and cannot look at them
    if labels.dtype not in (torch.int64, torch.int32) or labels.shape != (count,):
        given = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"labels are {given}; expected integers (int64 or int32) of shape ({count},)")
    if labels.device.type == "cpu" and count and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"labels are {labels.min()} to {labels.max()}; expected classes from 0 to {num_classes - 1}")


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm with a gain and a bias for each class, de Vries et al. 2017 (arXiv 1707.00683).

    The statistics are those of the whole batch, of all classes. Gains start at N(1, .02), biases at 0.

    Args:
        num_features: channels of the feature map.
        num_classes: number of classes.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_features, affine=False)
        self.gain = nn.Embedding(num_classes, num_features)
        self.bias = nn.Embedding(num_classes, num_features)
        nn.init.normal_(self.gain.weight, 1, 0.02)
        nn.init.zeros_(self.bias.weight)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return `(N, C, H, W)` normalised, then scaled and shifted by the class of each sample, `labels` `(N,)`."""
        normed: Tensor = self.norm(features)
        gain, bias = (table(labels)[:, :, None, None].to(normed.dtype) for table in (self.gain, self.bias))
        return torch.addcmul(bias, gain, normed)


class PlainHead(nn.Module):
    """Logits of reality, without classes.

    Args:
        num_features: length of a feature vector.
        spectral_norm: normalise the linear layer.
    """

    def __init__(self, num_features: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)` for features `(N, C)`; labels are refused by a ValueError."""
        check_labels(labels, len(features), 0)
        logits: Tensor = self.linear(features).squeeze(1)
        return logits


class ProjectionHead(nn.Module):
    """Logits of image and class, `w h + b + <embedding(y), h>`: Miyato and Koyama 2018 (arXiv 1802.05637).

    Args:
        num_features: length of a feature vector `h`.
        num_classes: number of classes.
        spectral_norm: normalise the linear layer and the embedding.
    """

    def __init__(self, num_features: int, num_classes: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)
        self.embedding = xavier(nn.Embedding(num_classes, num_features), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Return logits `(N,)` for features `(N, C)` and their classes `(N,)`.

        Raises:
            ValueError: if `labels` are None or no classes.
        """
        check_labels(labels, len(features), self.embedding.num_embeddings)
        logits: Tensor = self.linear(features).squeeze(1) + (self.embedding(labels) * features).sum(1)
        return logits


class AuxiliaryHead(nn.Module):
    """Logits of reality and, beside them, of the class: Odena et al. 2017 (ACGAN, arXiv 1610.09585).

    Args:
        num_features: length of a feature vector.
        num_classes: number of classes.
        spectral_norm: normalise both linear layers.
    """

    def __init__(self, num_features: int, num_classes: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)
        self.classifier = xavier(nn.Linear(num_features, num_classes), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits `(N,)` and class logits `(N, num_classes)` for features `(N, C)`; labels are not read."""
        return self.linear(features).squeeze(1), self.classifier(features)


def make_head(num_features: int, num_classes: int, kind: Head, spectral_norm: bool) -> nn.Module:
    """Return the head called `kind`, or a plain one if there are no classes.

    Raises:
        ValueError: if there is none of that name.
    """
    if kind not in ("projection", "auxiliary"):
        raise ValueError(f"head is {kind!r}; expected projection or auxiliary")
    if num_classes == 0:
        return PlainHead(num_features, spectral_norm)
    head = ProjectionHead if kind == "projection" else AuxiliaryHead
    return head(num_features, num_classes, spectral_norm)
