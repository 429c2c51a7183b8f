"""Layers for class-conditional networks: conditional BatchNorm and the discriminator's output layers (heads)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.networks.spectral import xavier

Head = Literal["projection", "auxiliary", "embedding"]


class Classified(NamedTuple):
    """Output of a discriminator that also classifies.

    Args:
        logits: `(N,)`, higher for realistic images.
        guesses: class logits `(N, num_classes)`.
    """

    logits: Tensor
    guesses: Tensor


class Embedded(NamedTuple):
    """Output of a discriminator that embeds images and their classes in one space. Only directions have a meaning.

    Args:
        logits: `(N,)`, higher for realistic images.
        embeddings: of the images, `(N, embedding_dim)`.
        proxies: of the classes of these images, `(N, embedding_dim)`.
    """

    logits: Tensor
    embeddings: Tensor
    proxies: Tensor


def check_labels(labels: Tensor | None, count: int, num_classes: int) -> None:
    """Check that `labels` are `count` classes from 0 to `num_classes - 1`, or None for a network without classes.

    The range is checked on the CPU only, because reading labels from a GPU would synchronise with it. There the
    embedding raises a device-side assertion.

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
        return  # an exported graph accepts any number of labels and cannot branch on their values
    if labels.dtype not in (torch.int64, torch.int32) or labels.shape != (count,):
        given = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"labels are {given}; expected integers (int64 or int32) of shape ({count},)")
    if torch.compiler.is_compiling():
        return  # a compiled graph cannot branch on values either; its embedding raises the error
    if labels.device.type == "cpu" and count and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"labels are {labels.min()} to {labels.max()}; expected classes from 0 to {num_classes - 1}")


class ConditionalBatchNorm2d(nn.Module):
    """BatchNorm with a gain and a bias for each class, de Vries et al. 2017 (arXiv 1707.00683).

    The statistics are computed over all classes in the batch. Gains are initialised from N(1, 0.02), biases with 0.

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
    """Real/fake logits of an unconditional discriminator.

    Args:
        num_features: length of a feature vector.
        spectral_norm: use spectral normalisation in the linear layer.
    """

    def __init__(self, num_features: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)` for features `(N, C)`.

        Raises:
            ValueError: if there are labels.
        """
        check_labels(labels, len(features), 0)
        logits: Tensor = self.linear(features).squeeze(1)
        return logits


class ProjectionHead(nn.Module):
    """Projection logits `w h + b + <embedding(y), h>`, Miyato and Koyama 2018 (arXiv 1802.05637).

    Args:
        num_features: length of a feature vector `h`.
        num_classes: number of classes.
        spectral_norm: use spectral normalisation in the linear layer and the embedding.
    """

    def __init__(self, num_features: int, num_classes: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)
        self.embedding = xavier(nn.Embedding(num_classes, num_features), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Return logits `(N,)` for features `(N, C)` and their classes `(N,)`.

        Raises:
            ValueError: if `labels` are None or not valid classes.
        """
        check_labels(labels, len(features), self.embedding.num_embeddings)
        logits: Tensor = self.linear(features).squeeze(1) + (self.embedding(labels) * features).sum(1)
        return logits


class AuxiliaryHead(nn.Module):
    """Real/fake logits and class logits from two linear layers, Odena et al. 2017 (ACGAN, arXiv 1610.09585).

    Args:
        num_features: length of a feature vector.
        num_classes: number of classes.
        spectral_norm: use spectral normalisation in both linear layers.
    """

    def __init__(self, num_features: int, num_classes: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)
        self.classifier = xavier(nn.Linear(num_features, num_classes), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Classified:
        """Return logits `(N,)` and class logits `(N, num_classes)` for features `(N, C)`. Labels are ignored."""
        return Classified(self.linear(features).squeeze(1), self.classifier(features))


class EmbeddingHead(nn.Module):
    """Real/fake logits that do not depend on the class, and embeddings of the image and of its class.

    The embedding of a class is its proxy. ContraGAN (Kang and Park 2020, arXiv 2006.12681) and ReACGAN (Kang et al.
    2021, arXiv 2111.01118) train both by losses on angles, see `gans.losses.conditional_contrastive`.

    Args:
        num_features: length of a feature vector.
        num_classes: number of classes.
        embedding_dim: length of an embedding.
        spectral_norm: use spectral normalisation in both linear layers and in the proxies.
    """

    def __init__(
        self, num_features: int, num_classes: int, embedding_dim: int = 512, spectral_norm: bool = False
    ) -> None:
        super().__init__()
        self.linear = xavier(nn.Linear(num_features, 1), spectral_norm=spectral_norm)
        self.embed = xavier(nn.Linear(num_features, embedding_dim), spectral_norm=spectral_norm)
        self.proxies = xavier(nn.Embedding(num_classes, embedding_dim), spectral_norm=spectral_norm)

    def forward(self, features: Tensor, labels: Tensor | None) -> Embedded:
        """Return logits `(N,)`, embeddings and proxies `(N, embedding_dim)` for features `(N, C)` of classes `(N,)`.

        Raises:
            ValueError: if `labels` are None or not valid classes.
        """
        check_labels(labels, len(features), self.proxies.num_embeddings)
        return Embedded(self.linear(features).squeeze(1), self.embed(features), self.proxies(labels))


def make_head(
    num_features: int, num_classes: int, kind: Head, spectral_norm: bool, embedding_dim: int = 512
) -> nn.Module:
    """Return the head of this `kind`, or `PlainHead` if there are no classes. `embedding` reads `embedding_dim`.

    Raises:
        ValueError: if `kind` is unknown, or `embedding_dim` is not positive.
    """
    at_least(1, embedding_dim=embedding_dim)
    if kind not in ("projection", "auxiliary", "embedding"):
        raise ValueError(f"head is {kind!r}; expected projection, auxiliary or embedding")
    if num_classes == 0:
        return PlainHead(num_features, spectral_norm)
    if kind == "embedding":
        return EmbeddingHead(num_features, num_classes, embedding_dim, spectral_norm)
    head = ProjectionHead if kind == "projection" else AuxiliaryHead
    return head(num_features, num_classes, spectral_norm)
