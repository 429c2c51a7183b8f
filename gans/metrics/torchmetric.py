"""torchmetrics' FID, Inception Score and KID with this project's float64, deterministic computation.

Drop-in: the same constructor arguments, `update(images, real)`, `compute()`, `reset()`, states and synchronisation.
What differs, and why:

- `compute()` returns float64, the same on every rank, also on one that saw no data or was restored from a checkpoint;
  states keep their precision when a module is cast to half.
- Ranks may have seen different numbers of batches, or none. States are joined in the order of ranks; only the
  standard deviation of the Inception Score, and its mean over several splits, depend on that order.
- The extractor is frozen, in evaluation mode, outside autocast, and no part of `parameters()` or `state_dict()`.
- Images are uint8, floats in [0, 1] with `normalize=True`, or floats of another range with `value_range`, such as the
  (-1, 1) of the models here. Floats are rounded and clipped, not truncated and wrapped. Images that cannot be of the
  range are refused; a warning says once if they look like another.
- An extractor is a module, or the name or file of one, as in `gans.metrics.extractors.extractor`. It gets uint8 images;
  what is no image, but `(N, D)`, is passed on as it is. It may return features, or a tuple of features and logits: FID
  and KID take the first, the Inception Score the last.
- The built-in Inception resizes as the one of the published scores does, unless `antialias=True` is given to FID.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

# `torchmetrics.image` itself has these names only beside torch-fidelity.
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as BaseInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from gans.metrics.extractors import extractor
from gans.metrics.functional import inception_score, kid, kid_subsets
from gans.metrics.interface import Extractor
from gans.metrics.moments import Gaussian, frechet
from gans.metrics.ranges import BYTES, Range, check_range, quantised

LAYER = "logits_unbiased"  # of the built-in Inception: the only one that torchmetrics has a word for


class Frozen(nn.Module):
    """An extractor that its owner neither trains, moves, casts nor saves: it is held, but not as a submodule.

    Args:
        extractor: images to `(N, D)`, or to a tuple of them; it is frozen in place.
        which: the element of the tuple to take.
    """

    num_features: int

    def __init__(self, extractor: nn.Module, which: Literal[0, -1]) -> None:
        super().__init__()
        self.held = (extractor.requires_grad_(False).eval(),)
        self.which = which

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return `(N, D)` in float32, or in float64 if the extractor does."""
        extractor = self.held[0].to(images.device).eval()  # it may be a child of a module in training
        with torch.autocast(images.device.type, enabled=False):
            output = extractor(images)
        features: Tensor = output[self.which] if isinstance(output, tuple | list) else output
        features = features.unsqueeze(0) if features.ndim == 1 else features.flatten(1)
        return features if features.dtype == torch.float64 else features.float()

    def width(self, shape: tuple[int, int, int]) -> int:
        """Return D, asking the extractor for its `num_features` or else trying a black image of `shape`."""
        known = getattr(self.held[0], "num_features", None)
        if known is None:
            return len(self.forward(torch.zeros(1, *shape, dtype=torch.uint8))[0])
        return int(known)


class _Features(Metric):
    """What the three metrics share: the held extractor, images to features, states that stay and synchronise."""

    inception: Any  # a module with attributes of its own
    normalize: bool
    value_range: Range | None
    complained: bool
    which: Literal[0, -1] = 0

    def _hold(self, feature: str | int | Path | nn.Module, value_range: Range | None, normalize: bool) -> Any:
        """Return a module, or the extractor of a name, frozen; what names a layer of the built-in Inception as it is.

        Raises:
            ValueError: for another name, for an extractor that lacks what is measured, or two ranges.
        """
        if value_range is not None and (normalize or len(value_range) != 2 or not value_range[0] < value_range[1]):
            given = f"value_range is {value_range}" + (", normalize is True" if normalize else "")
            raise ValueError(f"{given}; expected (least, greatest) such as (-1, 1), or one of the two")
        if isinstance(feature, str | Path) and feature != LAYER:
            feature = extractor(feature)
        if isinstance(feature, Extractor) and self.which == -1 and feature.num_classes is None:
            raise ValueError(f"feature is {feature.name}, which has no logits; expected a classifier")
        return Frozen(feature, self.which) if isinstance(feature, nn.Module) else feature

    def _tell(self, value_range: Range | None) -> None:
        """Note the range of images: None for bytes."""
        self.value_range = (0.0, 1.0) if self.normalize else value_range
        self.complained = False

    def _release(self, antialias: bool = False) -> None:
        """Take a built-in Inception out of the parameters and checkpoints of the module that owns this metric."""
        if not isinstance(self.inception, Frozen):
            self.inception.use_antialias = antialias
            self.inception = Frozen(self.inception, self.which)

    def _extract(self, images: Tensor) -> Tensor:
        """Return features `(N, D)` of images on the device of the states.

        Raises:
            ValueError: if images are of another type than was told, or cannot be of the range.
        """
        features: Tensor = self.inception(images if images.ndim < 3 else self._bytes(images))
        return features.to(self.device)

    def _bytes(self, images: Tensor) -> Tensor:
        """Return images of the range that was told as uint8."""
        told, by = self.value_range, "normalize=True" if self.normalize else f"value_range={self.value_range}"
        if (told is None) != (images.dtype == torch.uint8) or not (told is None or images.is_floating_point()):
            ways = "uint8, or floats with normalize=True for [0, 1] or value_range=(-1, 1)"
            raise ValueError(
                f"images are {images.dtype}; " + (f"expected {ways}" if told is None else f"{by} expects floats")
            )
        odd = check_range(images, told or BYTES, "uint8" if told is None else by)
        if odd and not self.complained:
            self.complained = True
            warnings.warn(odd, stacklevel=5)  # where `update` was called, through torchmetrics
        return images if told is None else quantised(images, told)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Follow a module to another device but not to another precision: half-precision sums would be worthless."""
        return super()._apply(lambda state: state.to(fn(state.new_empty(0)).device), exclude_state)

    def _sync_dist(
        self, dist_sync_fn: Callable[..., list[Tensor]] = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        """Give ranks without data an empty state of the width and type that the others have, then synchronise."""
        group = process_group or self.process_group
        for name, default in self._defaults.items():
            if isinstance(default, list):
                rows = dim_zero_cat(getattr(self, name)) if getattr(self, name) else torch.empty(0, 1)
                header = torch.tensor([rows.shape[1], rows.dtype == torch.float64], device=self.device)
                width, double = torch.stack(dist_sync_fn(header, group=group)).amax(0).tolist()
                dtype = torch.float64 if double else torch.float32
                setattr(self, name, [rows.to(self.device, dtype) if len(rows) else self._none(width, dtype)])
        super()._sync_dist(dist_sync_fn, process_group=process_group)

    def _none(self, width: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(0, width, dtype=dtype, device=self.device)


class FID(_Features, FrechetInceptionDistance):
    """Frechet inception distance: torchmetrics' sums, the Frechet distance of `gans.metrics.moments`.

    Args:
        feature: layer of the built-in Inception (64, 192, 768 or 2048), or an extractor or its name, such as `mnist`.
        reset_real_features: whether `reset` forgets the real side too.
        normalize: images are floats in [0, 1] rather than uint8.
        value_range: least and greatest value of float images, in place of `normalize`.
        input_img_size: of an extractor that has no `num_features`.
        feature_extractor_weights_path: weights of the built-in Inception.
        antialias: resize with antialiasing, which gives other scores than those published.
        kwargs: torchmetrics' own.
    """

    def __init__(
        self,
        feature: int | str | Path | nn.Module = 2048,
        reset_real_features: bool = True,
        normalize: bool = False,
        input_img_size: tuple[int, int, int] = (3, 299, 299),
        feature_extractor_weights_path: str | None = None,
        antialias: bool = False,
        value_range: Range | None = None,
        **kwargs: Any,
    ) -> None:
        held = self._hold(feature, value_range, normalize)
        if isinstance(held, Frozen):
            held.num_features = held.width(input_img_size)
        path = feature_extractor_weights_path
        super().__init__(held, reset_real_features, normalize, input_img_size, path, antialias, **kwargs)
        self._release(antialias)
        self._tell(value_range)

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add images `(N, C, H, W)` to the real or the fake side."""
        if not len(imgs):
            return
        features = self._extract(imgs).double()
        side = "real" if real else "fake"
        moments = {"sum": features.sum(0), "cov_sum": features.T @ features, "num_samples": len(features)}
        for name, value in moments.items():  # not in place: a state made under inference_mode refuses that
            setattr(self, f"{side}_features_{name}", getattr(self, f"{side}_features_{name}") + value)

    def compute(self) -> Tensor:
        """Return the distance, a float64 scalar.

        Raises:
            ValueError: if a side has fewer than 2 samples, or features were not finite.
        """
        real = _gaussian(self.real_features_sum, self.real_features_cov_sum, self.real_features_num_samples)
        fake = _gaussian(self.fake_features_sum, self.fake_features_cov_sum, self.fake_features_num_samples)
        return frechet(real, fake)


class KID(_Features, KernelInceptionDistance):
    """Kernel inception distance over all samples, and its spread over random subsets drawn from a fixed seed.

    Args:
        feature: layer of the built-in Inception ("logits_unbiased", 64, 192, 768 or 2048), or an extractor or its name.
        subsets: number of subsets; None takes 100 for the spread and all samples at once for the score itself.
        subset_size: samples of each, at most as many as there are.
        degree: of the polynomial kernel.
        gamma: its scale; None for 1 / D.
        coef: its constant.
        reset_real_features: whether `reset` forgets the real side too.
        normalize: images are floats in [0, 1] rather than uint8.
        value_range: least and greatest value of float images, in place of `normalize`.
        kwargs: torchmetrics' own.
    """

    def __init__(
        self,
        feature: str | int | Path | nn.Module = 2048,
        subsets: int | None = None,
        subset_size: int = 1000,
        degree: int = 3,
        gamma: float | None = None,
        coef: float = 1.0,
        reset_real_features: bool = True,
        normalize: bool = False,
        value_range: Range | None = None,
        **kwargs: Any,
    ) -> None:
        options = (100 if subsets is None else subsets, subset_size, degree, gamma, coef)
        held = self._hold(feature, value_range, normalize)
        super().__init__(held, *options, reset_real_features, normalize, **kwargs)
        self.over_all = subsets is None
        self._release()
        self._tell(value_range)
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add images `(N, C, H, W)` to the real or the fake side."""
        if len(imgs):
            (self.real_features if real else self.fake_features).append(self._extract(imgs))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the KID over all samples (of the mean subset if `subsets` was given) and the deviation over subsets.

        Raises:
            ValueError: if a side has fewer than 2 samples, or features are not finite.
        """
        real, fake = _joined(self.real_features), _joined(self.fake_features)
        kernel: dict[str, Any] = {"degree": self.degree, "gamma": self.gamma, "coef": self.coef}
        mean, spread = kid_subsets(real, fake, self.subsets, self.subset_size, **kernel)
        return (kid(real, fake, **kernel) if self.over_all else mean), spread


class InceptionScore(_Features, BaseInceptionScore):
    """Inception Score without shuffling: mean and population deviation over contiguous splits.

    Args:
        feature: layer of the built-in Inception, a classifier, or its name; it returns logits, perhaps after features.
        splits: number of splits.
        normalize: images are floats in [0, 1] rather than uint8.
        value_range: least and greatest value of float images, in place of `normalize`.
        kwargs: torchmetrics' own.
    """

    which = -1

    def __init__(
        self,
        feature: str | int | Path | nn.Module = "logits_unbiased",
        splits: int = 10,
        normalize: bool = False,
        value_range: Range | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(self._hold(feature, value_range, normalize), splits, normalize, **kwargs)
        self._release()
        self._tell(value_range)
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, imgs: Tensor) -> None:
        """Add images `(N, C, H, W)`."""
        if len(imgs):
            self.features.append(self._extract(imgs))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return mean and deviation over the splits.

        Raises:
            ValueError: if there are fewer samples than splits, or logits are not finite.
        """
        return inception_score(_joined(self.features), self.splits)


def _joined(rows: Tensor | list[Tensor]) -> Tensor:
    if isinstance(rows, list) and not rows:
        return torch.empty(0, 1)
    joined: Tensor = dim_zero_cat(rows)
    return joined


def _gaussian(total: Tensor, products: Tensor, n: Tensor) -> Gaussian:
    """Return the Gaussian of raw sums: of n features, `(D,)`, and of their outer products, `(D, D)`."""
    count = int(n)
    mean = total / max(count, 1)
    return Gaussian(count, mean, (products - count * torch.outer(mean, mean)) / max(count - 1, 1))
