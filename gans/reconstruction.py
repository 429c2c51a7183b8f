"""Reconstruction losses: likelihoods, the KL divergence of codes, and distances between features.

Likelihoods are in nats, summed over the D dimensions of an image and averaged over the batch. A mean over dimensions
would weight the KL divergence by a factor of D. The target is the last argument.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d, relu

Padding = Literal["zeros", "reflect"]

VGG19_FILE = "vgg19-dcbb9e9d.pth"
VGG19_URL = f"https://download.pytorch.org/models/{VGG19_FILE}"
VGG19_CONVOLUTIONS = (2, 2, 4, 4, 4)  # per stage, with a pooling between two stages
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours in [0, 1]

# Variance of the rounding error of 8-bit pixels, in steps of 2/255 in [-1, 1]. A smaller variance is meaningless for
# 8-bit images. A batch of constant images would give 0, where the likelihood is infinite.
LEAST_VARIANCE = (2 / 255) ** 2 / 12


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return `KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2` for each dimension. All shapes are `(N, D)`.

    Source: Kingma and Welling 2013 (arXiv 1312.6114), appendix B.
    """
    # expm1 is exact for v close to 1, which unused dimensions have.
    return (mean.square() + torch.expm1(log_variance) - log_variance) / 2


def bernoulli(logits: Tensor, target: Tensor) -> Tensor:
    """Return `-sum_d [t log p + (1 - t) log(1 - p)]` with `p = sigmoid(logits)`, a scalar. Both are `(N, ...)`.

    The values of `target` must be 0 or 1. This is not checked.
    """
    return binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(target)


def gaussian(mean: Tensor, target: Tensor, sigma: float | Tensor = 1.0) -> Tensor:
    """Return `sum_d (t - m)^2 / (2 sigma^2) + D/2 log(2 pi sigma^2)`, a scalar. Both are `(N, ...)`.

    The result is negative if the density exceeds 1.
    """
    variance = torch.as_tensor(sigma, dtype=mean.dtype, device=mean.device).square()
    squares = (target - mean).square().flatten(1).sum(1).mean()
    return squares / (2 * variance) + target[0].numel() / 2 * torch.log(2 * math.pi * variance)


def optimal_variance(mean: Tensor, target: Tensor) -> Tensor:
    """Return the `sigma^2` that minimises `gaussian`: the mean squared error of the batch, a scalar without gradient.

    It is at least `LEAST_VARIANCE`. Source: Rybkin, Daniilidis and Levine 2020 (arXiv 2006.13202).
    """
    return (target - mean).detach().square().mean().clamp(min=LEAST_VARIANCE)


def optimal_gaussian(mean: Tensor, target: Tensor) -> Tensor:
    """Return `min over sigma of gaussian = D/2 [log(2 pi MSE) + 1]`, a scalar. Both are `(N, ...)`.

    The gradient equals that of `D/2 log MSE` although sigma is detached, because the derivative by sigma is 0 at the
    minimum. So each part of a batch can use `gaussian` with the sigma of the whole batch.
    """
    return gaussian(mean, target, optimal_variance(mean, target).sqrt())


# -- features of a network ---------------------------------------------------------------------------------------------


def feature_distance(maps: Sequence[Tensor], target: Sequence[Tensor], weights: Sequence[float] = ()) -> Tensor:
    """Return the distance `(N,)` between feature maps `(N, ...)` and those of the target; 0 means equal.

    It is the mean over maps, or their weighted sum, of `mean |f - t| / mean |t|`. The denominator gives maps of every
    depth and network the same scale. Johnson et al. 2016 (arXiv 1603.08155) use squared differences. No gradient flows
    into the target.
    """
    total = torch.zeros((), device=maps[0].device)
    for weight, map_, goal in zip(weights or [1 / len(maps)] * len(maps), maps, target, strict=False):
        goal = goal.detach().flatten(1)
        scale = goal.abs().mean(1).clamp(min=1e-8)
        total = total + weight * (map_.flatten(1) - goal).abs().mean(1) / scale
    return total


def absolute_distance(maps: Tensor, target: Tensor) -> Tensor:
    """Return `mean |f - t|`, `(N,)`, of feature maps `(N, ...)`; no gradient flows into the target.

    On VGG19's `conv5_4` this is the feature loss of Wang et al. 2018 (ESRGAN, arXiv 1809.00219). The paper's loss
    weights assume the scale of these maps.
    """
    return (maps - target.detach()).abs().flatten(1).mean(1)


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation over the pixels of maps `(N, C, h, w)`, `(N, C, 1, 1)` each."""
    mean = maps.mean((-2, -1), keepdim=True)
    variance = (maps - mean).square().mean((-2, -1), keepdim=True)
    return mean, (variance + 1e-5).sqrt()  # the square root has an infinite gradient at 0


def gram(maps: Tensor) -> Tensor:
    """Return the Gram matrices `F F^T / (h w)`, `(N, C, C)`, of maps `(N, C, h, w)`."""
    rows = maps.flatten(2)
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def moments_distance(maps: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Return the distance `(N,)` between the means and deviations of maps `(N, C, h, w)` and the target's.

    It is the mean over maps of `(|m - m'|^2 + |s - s'|^2) / (|m'|^2 + |s'|^2)`; 0 means equal. The denominator gives
    maps of every depth and network the same scale; Huang and Belongie 2017 (arXiv 1703.06868) omit it. The target may
    have another size. No gradient flows into it.
    """
    found = []
    for map_, goal in zip(maps, target, strict=True):
        ours, theirs = (torch.cat(moments(part), 1).flatten(1) for part in (map_, goal.detach()))
        found.append((ours - theirs).square().sum(1) / theirs.square().sum(1).clamp(min=1e-8))
    return torch.stack(found).mean(0)


def gram_distance(maps: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Return the distance `(N,)` between the Gram matrices of maps `(N, C, h, w)` and the target's; 0 means equal.

    It is the mean over maps of `|G - G'|^2 / |G'|^2`. Gatys, Ecker and Bethge 2016 (arXiv 1508.06576) omit the
    denominator. The target may have another size. No gradient flows into it.
    """
    found = []
    for map_, goal in zip(maps, target, strict=True):
        ours, theirs = gram(map_).flatten(1), gram(goal.detach()).flatten(1)
        found.append((ours - theirs).square().sum(1) / theirs.square().sum(1).clamp(min=1e-8))
    return torch.stack(found).mean(0)


def content_distance(maps: Tensor, target: Tensor) -> Tensor:
    """Return `mean |f - t|`, `(N,)`, of instance-normalised maps `(N, C, h, w)`: a content loss that ignores style.

    0 means equal; unrelated maps have a distance of about 1.1. No gradient flows into the target.
    """
    ours, theirs = ((part - mean) / std for part in (maps, target.detach()) for mean, std in (moments(part),))
    return (ours - theirs).abs().flatten(1).mean(1)


class Features(nn.Module):
    """A frozen network from images `(N, C, H, W)` in [-1, 1] to feature maps for losses and metrics.

    Gradients flow to the images, not to the weights. Training mode and autocast do not change the maps.

    Args:
        name: name of the features in logged curves.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def freeze(self) -> Self:
        """Return this network in eval mode with frozen weights."""
        return super().train(False).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Return this network unchanged: it stays in eval mode when the module that holds it changes mode."""
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps, shallowest first, in the dtype of the weights."""
        with torch.autocast(images.device.type, enabled=False):
            return self.extract(images.to(next(self.parameters())))

    def extract(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images that are already in the dtype of the weights."""
        raise NotImplementedError


class VGG(Features):
    """VGG19 up to its last convolution, Simonyan and Zisserman 2014 (arXiv 1409.1556).

    Layers for which the images are too small are omitted from the result.

    Args:
        weights: file of torchvision's weights, or of those that were normalised for AdaIN; None draws random weights.
            Distances of random features follow structure too (Liu et al. 2021, arXiv 2103.10571). Their name in curves
            is `random`.
        layers: maps to return, in network order: `conv3_4` is before the ReLU, `relu3_4` after it.
        width: channels of the first stage; must be 64 for weights from a file.
        seed: seed of random weights.
        padding: `zeros`, which the weights were trained with, or `reflect`, which avoids visible borders in images
            that are decoded from the maps.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file does not contain VGG19's weights, or if a layer is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights: str | Path | None = None,
        layers: Sequence[str] = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"),
        width: int = 64,
        seed: int = 0,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__("random" if weights is None else "vgg19")
        self.wanted = tuple(layers)
        names = [f"{s}_{i}" for s, count in enumerate(VGG19_CONVOLUTIONS, 1) for i in range(1, count + 1)]
        widths = [width * min(2 ** (int(name[0]) - 1), 8) for name in names]
        unknown = set(layers) - {f"{kind}{name}" for kind in ("conv", "relu") for name in names}
        if unknown or not layers:
            raise ValueError(f"layers is {layers}; expected names such as conv3_4 or relu3_4, up to 5_4")
        with torch.device("meta"):  # draws no numbers
            pairs = zip(names, [3, *widths], widths, strict=False)
            self.layers = nn.ModuleDict(
                {name: nn.Conv2d(a, b, 3, padding=1, padding_mode=padding) for name, a, b in pairs}
            )
        self.layers.to_empty(device="cpu")
        self._draw(seed) if weights is None else self._read(Path(weights).expanduser())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.freeze()

    def _draw(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers.values():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)

    def _read(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is not in {path.parent}: put VGG19's weights there, {VGG19_URL}")
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            found = [held[name] for name in held if name.startswith("features.")]
            if is_normalised(held):
                found = unfolded(list(held.values()))
            for parameter, value in zip(self.layers.parameters(), found, strict=True):
                parameter.data.copy_(value.view_as(parameter))
        except Exception as error:  # unpickling a file of another kind may raise any exception
            raise ValueError(f"{path} does not hold torchvision's weights of VGG19 ({type(error).__name__})") from error

    def extract(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images with 1, 3 or 4 channels; the alpha channel is ignored."""
        colour = images[:, :3].expand(-1, 3, -1, -1)
        maps, found = ((colour + 1) / 2 - self.mean) / self.std, []
        for name, layer in self.layers.items():
            if name.endswith("_1") and name != "1_1":
                if min(maps.shape[-2:]) < 2:
                    break
                maps = max_pool2d(maps, 2)
            maps = layer(maps)
            found += [maps] if f"conv{name}" in self.wanted else []
            maps = relu(maps)
            found += [maps] if f"relu{name}" in self.wanted else []
            if len(found) == len(self.wanted):
                break
        return found


def is_normalised(held: Any) -> bool:
    """Return whether a file's content is the VGG19 that was normalised for AdaIN, whose first layer is of colours."""
    first = held.get("0.weight") if isinstance(held, dict) else None
    return isinstance(first, Tensor) and first.shape == (3, 3, 1, 1)


def unfolded(values: list[Tensor]) -> list[Tensor]:
    """Return the weights and biases of a normalised VGG19 as those of one whose images have ImageNet's statistics.

    Its first layer takes colours in [0, 1] to those that conv1_1 expects. It is made a part of conv1_1 here, after the
    normalisation is undone. With reflected borders the maps are the same.
    """
    colours, shift, weight, bias, *rest = (value.double() for value in values)
    mean, std = torch.tensor(MEAN).double(), torch.tensor(STD).double()
    matrix = colours[:, :, 0, 0]
    bias = bias + torch.einsum("omhw,m->o", weight, shift + matrix @ mean)
    weight = torch.einsum("omhw,mi->oihw", weight, matrix * std)
    return [value.float() for value in (weight, bias, *rest)]


def cached_vgg19() -> Path:
    """Return the path at which torch.hub caches the downloaded weights of VGG19."""
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE
