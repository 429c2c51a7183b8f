"""torchmetrics' FID, Inception Score and KID with the deterministic float64 computation of this project.

They are drop-in replacements, with the same arguments, methods, states and synchronisation. The differences are:

- `compute()` returns float64, and the same value on every rank, also on one without data or after a checkpoint was
  loaded. States keep their precision if a module is cast to half.
- Ranks may have different numbers of batches, or none. States are concatenated in the order of ranks. Only the standard
  deviation of the Inception Score, and its mean over several splits, depend on the order.
- The extractor is frozen, in eval mode and outside autocast. It is not part of `parameters()` or `state_dict()`.
- Images are uint8, floats in [0, 1] with `normalize=True`, or floats of another range with `value_range`. The models of
  this project use (-1, 1). Floats are rounded and clipped. Images that cannot have this range raise an error. Images
  that probably have another range cause one warning.
- An extractor is a module, or the name or file of one, see `gans.metrics.extractors.extractor`. Its input is uint8
  images; `(N, D)` input is passed unchanged. It may return features, or a tuple of features and logits. FID and KID use
  the first element, the Inception Score the last.
- The built-in Inception resizes like the one of published scores, unless FID has `antialias=True`.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

# `torchmetrics.image` exports these names only if torch-fidelity is installed.
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

LAYER = "logits_unbiased"  # the only layer of the built-in Inception with a name instead of a number


class Frozen(nn.Module):
    """A frozen extractor that is not a submodule, so its owner does not train, move, cast or save it.

    Args:
        extractor: images to `(N, D)`, or to a tuple of such tensors; it is frozen in place.
        which: index of the element of the tuple that is used.
    """

    num_features: int

    def __init__(self, extractor: nn.Module, which: Literal[0, -1]) -> None:
        super().__init__()
        self.held = (extractor.requires_grad_(False).eval(),)
        self.which = which

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return features `(N, D)` in float32, or in float64 if the extractor returns that."""
        extractor = self.held[0].to(images.device).eval()  # it may also be a child of a module in training mode
        with torch.autocast(images.device.type, enabled=False):
            output = extractor(images)
        features: Tensor = output[self.which] if isinstance(output, tuple | list) else output
        features = features.unsqueeze(0) if features.ndim == 1 else features.flatten(1)
        return features if features.dtype == torch.float64 else features.float()

    def width(self, shape: tuple[int, int, int]) -> int:
        """Return D: the extractor's `num_features`, or else its output length for a black image of `shape`."""
        known = getattr(self.held[0], "num_features", None)
        if known is None:
            return len(self.forward(torch.zeros(1, *shape, dtype=torch.uint8))[0])
        return int(known)


class _Features(Metric):
    """Base of the three metrics: extractor, conversion of images to features, and synchronisation of states."""

    inception: Any  # a module with attributes of its own
    normalize: bool
    value_range: Range | None
    complained: bool
    which: Literal[0, -1] = 0

    def _frozen(self, feature: str | int | Path | nn.Module, value_range: Range | None, normalize: bool) -> Any:
        """Return the frozen extractor for a module or name, or unchanged the layer of the built-in Inception.

        Raises:
            ValueError: if the name is unknown, the extractor has no logits, or there are two ranges.
        """
        if value_range is not None and (normalize or len(value_range) != 2 or not value_range[0] < value_range[1]):
            given = f"value_range is {value_range}" + (", normalize is True" if normalize else "")
            raise ValueError(f"{given}; expected (least, greatest) such as (-1, 1), or one of the two")
        if isinstance(feature, str | Path) and feature != LAYER:
            feature = extractor(feature)
        if isinstance(feature, Extractor) and self.which == -1 and feature.num_classes is None:
            raise ValueError(f"feature is {feature.name}, which has no logits; expected a classifier")
        return Frozen(feature, self.which) if isinstance(feature, nn.Module) else feature

    def _set_range(self, value_range: Range | None) -> None:
        """Set the range of images; None means uint8."""
        self.value_range = (0.0, 1.0) if self.normalize else value_range
        self.complained = False

    def _detach_inception(self, antialias: bool = False) -> None:
        """Remove a built-in Inception from the parameters and checkpoints of the module that owns this metric."""
        if not isinstance(self.inception, Frozen):
            self.inception.use_antialias = antialias
            self.inception = Frozen(self.inception, self.which)

    def _extract(self, images: Tensor) -> Tensor:
        """Return features `(N, D)` of images on the device of the states.

        Raises:
            ValueError: if images do not have the expected dtype or range.
        """
        features: Tensor = self.inception(images if images.ndim < 3 else self._bytes(images))
        return features.to(self.device)

    def _bytes(self, images: Tensor) -> Tensor:
        """Return images as uint8, after checks of their dtype and range."""
        expected, by = self.value_range, "normalize=True" if self.normalize else f"value_range={self.value_range}"
        if (expected is None) != (images.dtype == torch.uint8) or not (expected is None or images.is_floating_point()):
            ways = "uint8, or floats with normalize=True for [0, 1] or value_range=(-1, 1)"
            raise ValueError(
                f"images are {images.dtype}; " + (f"expected {ways}" if expected is None else f"{by} expects floats")
            )
        odd = check_range(images, expected or BYTES, "uint8" if expected is None else by)
        if odd and not self.complained:
            self.complained = True
            warnings.warn(odd, stacklevel=5)  # the caller of `update`, through torchmetrics' wrappers
        return images if expected is None else quantised(images, expected)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Move the states to another device, but keep their precision: sums in half precision are too inaccurate."""
        return super()._apply(lambda state: state.to(fn(state.new_empty(0)).device), exclude_state)

    def _sync_dist(
        self, dist_sync_fn: Callable[..., list[Tensor]] = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        """Synchronise states, after ranks without data got empty states of the same width and dtype as the others."""
        group = process_group or self.process_group
        for name, default in self._defaults.items():
            if isinstance(default, list):
                rows = dim_zero_cat(getattr(self, name)) if getattr(self, name) else torch.empty(0, 1)
                header = torch.tensor([rows.shape[1], rows.dtype == torch.float64], device=self.device)
                width, double = torch.stack(dist_sync_fn(header, group=group)).amax(0).tolist()
                dtype = torch.float64 if double else torch.float32
                setattr(self, name, [rows.to(self.device, dtype) if len(rows) else self._empty(width, dtype)])
        super()._sync_dist(dist_sync_fn, process_group=process_group)

    def _empty(self, width: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(0, width, dtype=dtype, device=self.device)


class FID(_Features, FrechetInceptionDistance):
    """Frechet inception distance, from torchmetrics' sums with the distance of `gans.metrics.moments`.

    Args:
        feature: layer of the built-in Inception (64, 192, 768 or 2048), or an extractor or its name, such as `mnist`.
        reset_real_features: whether `reset` also clears the real features.
        normalize: images are floats in [0, 1] instead of uint8.
        value_range: minimum and maximum of float images, instead of `normalize`.
        input_img_size: shape of images for an extractor without `num_features`.
        feature_extractor_weights_path: weights of the built-in Inception.
        antialias: resize with antialiasing. The scores then differ from published ones.
        kwargs: further arguments of torchmetrics.
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
        frozen = self._frozen(feature, value_range, normalize)
        if isinstance(frozen, Frozen):
            frozen.num_features = frozen.width(input_img_size)
        path = feature_extractor_weights_path
        super().__init__(frozen, reset_real_features, normalize, input_img_size, path, antialias, **kwargs)
        self._detach_inception(antialias)
        self._set_range(value_range)

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add images `(N, C, H, W)` to the real or fake side."""
        if not len(imgs):
            return
        features = self._extract(imgs).double()
        side = "real" if real else "fake"
        moments = {"sum": features.sum(0), "cov_sum": features.T @ features, "num_samples": len(features)}
        for name, value in moments.items():  # not in place, which fails for states created in inference mode
            setattr(self, f"{side}_features_{name}", getattr(self, f"{side}_features_{name}") + value)

    def compute(self) -> Tensor:
        """Return the distance, a float64 scalar.

        Raises:
            ValueError: if a side has fewer than 2 samples, or if features were not finite.
        """
        real = _gaussian(self.real_features_sum, self.real_features_cov_sum, self.real_features_num_samples)
        fake = _gaussian(self.fake_features_sum, self.fake_features_cov_sum, self.fake_features_num_samples)
        return frechet(real, fake)


class KID(_Features, KernelInceptionDistance):
    """Kernel inception distance over all samples, and its standard deviation over random subsets with a fixed seed.

    Args:
        feature: layer of the built-in Inception ("logits_unbiased", 64, 192, 768 or 2048), or an extractor or its name.
        subsets: number of subsets. None computes the score from all samples, and the deviation from 100 subsets.
        subset_size: samples per subset, limited to the number of samples.
        degree: degree of the polynomial kernel.
        gamma: scale of the kernel; None means 1 / D.
        coef: constant of the kernel.
        reset_real_features: whether `reset` also clears the real features.
        normalize: images are floats in [0, 1] instead of uint8.
        value_range: minimum and maximum of float images, instead of `normalize`.
        kwargs: further arguments of torchmetrics.
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
        frozen = self._frozen(feature, value_range, normalize)
        super().__init__(frozen, *options, reset_real_features, normalize, **kwargs)
        self.over_all = subsets is None
        self._detach_inception()
        self._set_range(value_range)
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add images `(N, C, H, W)` to the real or fake side."""
        if len(imgs):
            (self.real_features if real else self.fake_features).append(self._extract(imgs))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the KID and its standard deviation over subsets.

        The KID is computed from all samples, or with `subsets` it is the mean over subsets.

        Raises:
            ValueError: if a side has fewer than 2 samples, or features are not finite.
        """
        real, fake = _joined(self.real_features), _joined(self.fake_features)
        kernel: dict[str, Any] = {"degree": self.degree, "gamma": self.gamma, "coef": self.coef}
        mean, spread = kid_subsets(real, fake, self.subsets, self.subset_size, **kernel)
        return (kid(real, fake, **kernel) if self.over_all else mean), spread


class InceptionScore(_Features, BaseInceptionScore):
    """Inception Score without shuffling: mean and population standard deviation over contiguous splits.

    Args:
        feature: layer of the built-in Inception, or a classifier or its name, which returns logits or (features,
            logits).
        splits: number of splits.
        normalize: images are floats in [0, 1] instead of uint8.
        value_range: minimum and maximum of float images, instead of `normalize`.
        kwargs: further arguments of torchmetrics.
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
        super().__init__(self._frozen(feature, value_range, normalize), splits, normalize, **kwargs)
        self._detach_inception()
        self._set_range(value_range)
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, imgs: Tensor) -> None:
        """Add images `(N, C, H, W)`."""
        if len(imgs):
            self.features.append(self._extract(imgs))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation over the splits.

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
    """Return the Gaussian, given the sum `(D,)` of n features and the sum `(D, D)` of their outer products."""
    count = int(n)
    mean = total / max(count, 1)
    return Gaussian(count, mean, (products - count * torch.outer(mean, mean)) / max(count - 1, 1))
