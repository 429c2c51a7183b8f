"""Differentiable augmentation of the discriminator's input: DiffAugment, also of codes, and ADA.

With few training images the discriminator overfits. All classes augment all its inputs, real and fake, in both
players' steps. Gradients pass through the augmentation, so the generator still learns the distribution of the images
without augmentation.

- The caller supplies the random numbers: `augment(images, uniform)` is a pure function of images `(N, C, H, W)`,
  numbers `(N, augment.numbers(C, H, W))` in [0, 1), and the current probability of `ADA`.
- All are twice differentiable. A gradient penalty is taken with respect to the images before augmentation: its
  critic is `lambda x: discriminator(augment(x, uniform))`.
- No operation synchronises with the device.
- On a GPU the gradients of `pick` and of ADA's padding are summed in a nondeterministic order. So runs with ADA or
  translation are reproducible bit for bit on a CPU only.
"""

import inspect
from collections.abc import Callable, Iterable
from math import inf, tau
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Augmentation(nn.Module):
    """Base class of augmentations. An adaptive one also overrides `observe`, `statistics` and `adjust`."""

    draws: int = 0  # random numbers per image, without those of its pixels
    interval = 1  # batches between two calls of `adjust`, counted by the caller
    leads = False  # whether pictures can follow it, see `followed`

    def numbers(self, channels: int, height: int, width: int) -> int:
        """Return how many random numbers an image of this shape needs."""
        return self.draws

    def forward(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Return augmented `images` `(N, C, H, W)`, in the same dtype, given random numbers `uniform`.

        The input is in [-1, 1]. The result may leave this range: clipping would stop gradients.

        Raises:
            ValueError: if `images` or `uniform` have another shape.
        """
        if images.ndim != 4 or not self.accepts(images.shape[1]):
            raise ValueError(f"images have the shape {tuple(images.shape)}; expected (N, C, H, W) with C 1, 3 or 4")
        numbers = self.numbers(*images.shape[1:])
        if uniform.shape != (len(images), numbers):
            raise ValueError(f"uniform has the shape {tuple(uniform.shape)}; expected ({len(images)}, {numbers})")
        full = torch.float64 if images.dtype == torch.float64 else torch.float32
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 rounds the index 257 to 256
            # The normal quantiles of 0 and 1 are infinite, and numbers drawn in half precision can be 1.
            inner = uniform.detach().to(full).clamp(2**-25, 1 - 2**-24)
            return self.change(images.to(full), inner).to(images.dtype)

    def of_levels(self, levels: Tensor, uniform: Tensor) -> Tensor:
        """Return `levels` `(N, L, C, H, W)`, L images that belong together, all changed by the same random numbers."""
        changed = self(levels.flatten(0, 1), uniform.repeat_interleave(levels.shape[1], 0))
        return cast(Tensor, changed.unflatten(0, levels.shape[:2]))

    def accepts(self, channels: int) -> bool:
        """Return whether images may have so many channels: those of grey, RGB and RGBA images."""
        return channels in (1, 3, 4)

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return the augmented images. Both arguments are at least float32, and `u` is in (0, 1)."""
        raise NotImplementedError

    def followed(self, pictures: Tensor, uniform: Tensor, scale: int) -> Tensor:
        """Return pictures shifted and mirrored as `forward` does with codes of them, without its other changes.

        Args:
            pictures: `(N, C, scale H, scale W)`.
            uniform: random numbers with which codes `(N, c, H, W)` were augmented.
            scale: pixels along a side of a picture for one place of a code.
        """
        raise NotImplementedError

    def check_objective(self, name: str, boundary: float | None) -> None:
        """Check that the augmentation supports an objective.

        Args:
            name: name of the objective.
            boundary: `boundary` of its loss.

        Raises:
            ValueError: if the augmentation cannot adapt to the objective's logits.
        """

    def observe(self, real_logits: Tensor, boundary: float | None = 0.0, processes: int = 1) -> None:
        """Accumulate statistics of the logits on augmented real images, this process's part of the batch."""

    def statistics(self) -> list[Tensor]:
        """Return tensors that the caller averages over processes, in place, before `adjust`."""
        return []

    def adjust(self) -> None:
        """Adapt to the statistics since the last call."""


def chosen(policy: str, known: Iterable[str], alone: Iterable[str] = ()) -> list[str]:
    """Return the names in `policy`, a comma-separated list.

    Args:
        policy: the list.
        known: names that it may hold.
        alone: names of whole policies, for the error.

    Raises:
        ValueError: if a name is unknown.
    """
    names, known = [name.strip() for name in policy.split(",")], list(dict.fromkeys(known))
    if not set(names) <= set(known):
        told = f"expected one or more of {','.join(known)}, separated by commas"
        raise ValueError(f"policy is {policy!r}; {' or '.join([told, *alone])}")
    return names


def pick(images: Tensor, index: Tensor) -> Tensor:
    """Return the pixels `(N, C, M)` of `images` `(N, C, H, W)` at the flat positions `index` `(N, M)`."""
    # Not `grid_sample`: some supported versions of torch cannot differentiate it twice.
    return images.flatten(2).gather(2, index.unsqueeze(1).expand(-1, images.shape[1], -1))


def color(images: Tensor, u: Tensor) -> Tensor:
    """Return images with brightness plus U(-0.5, 0.5), saturation times U(0, 2) and contrast times U(0.5, 1.5)."""
    light, saturation, contrast = u.view(len(u), -1, 1, 1, 1).unbind(1)
    rgb = images[:, :3] + (light - 0.5)
    rgb = torch.lerp(rgb.mean(1, keepdim=True), rgb, 2 * saturation)
    rgb = torch.lerp(rgb.mean((1, 2, 3), keepdim=True), rgb, contrast + 0.5)
    return with_alpha(rgb, images)


def translation(images: Tensor, u: Tensor, scale: int = 1) -> Tensor:
    """Return images shifted by whole pixels, up to an eighth of each side, and padded with zeros.

    With a `scale`, images are shifted as images of so many times shorter sides would be, by so many times more pixels.
    """
    height, width = images.shape[2:]
    down, right = ((side // scale + 4) // 8 for side in (height, width))  # the most
    padded = F.pad(images, [scale * most for most in (right, right, down, down)])
    rows, columns = (
        torch.arange(2 * scale * most, 2 * scale * most + side, device=u.device).sub(
            ((2 * most + 1) * v).floor().long().unsqueeze(1), alpha=scale
        )
        for side, most, v in zip((height, width), (down, right), u.unbind(1), strict=True)
    )
    index = torch.add(columns.unsqueeze(1), rows.unsqueeze(2), alpha=padded.shape[3])
    return pick(padded, index.flatten(1)).view_as(images)


def cutout(images: Tensor, u: Tensor) -> Tensor:
    """Return images with a zeroed rectangle of half of each side, centred at a random pixel."""
    inside = []
    for side, v in zip(images.shape[2:], u.unbind(1), strict=True):
        cut = (side + 1) // 2
        # Places relative to the middle of a rectangle that is centred at pixel 0.
        place = torch.arange(side, device=u.device) + (cut // 2 - (cut - 1) / 2)
        inside.append((place - ((side + 1 - cut % 2) * v).floor().unsqueeze(1)).abs() < cut / 2)
    return images.masked_fill(crossed(*inside), 0)


def crossed(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the mask `(N, 1, H, W)` of the pixels in chosen `rows` `(N, H)` and `columns` `(N, W)`."""
    return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)


def with_alpha(rgb: Tensor, images: Tensor) -> Tensor:
    """Return `rgb` `(N, 1 or 3, H, W)` with the alpha channel of `images`, if they have one."""
    return torch.cat([rgb, images[:, 3:]], 1) if images.shape[1] == 4 else rgb


class DiffAugment(Augmentation):
    """Zhao et al. 2020 (arXiv 2006.10738): a few strong transforms, applied to every image.

    Args:
        policy: comma-separated list of color, translation and cutout, in the order of their application. Saturation
            does not change grey images, and color does not change the alpha channel.
    """

    changes: ClassVar[dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]]] = {
        "color": (color, 3),
        "translation": (translation, 2),
        "cutout": (cutout, 2),
    }

    def __init__(self, policy: str = "color,translation,cutout") -> None:
        super().__init__()
        self.names = chosen(policy, self.changes)
        self.counts = [self.changes[name][1] for name in self.names]
        self.draws = sum(self.counts)

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return the images after all transforms of the policy."""
        for name, columns in zip(self.names, torch.split(u, self.counts, 1), strict=True):
            images = self.changes[name][0](images, columns)
        return images


class CodeAugment(Augmentation):
    """DiffAugment for codes with any number of channels, as GAT's authors use it (Hyun et al. 2025, arXiv 2509.24935).

    Brightness, saturation and contrast of a random half of the codes change, those of all channels alike. 40 % of the
    codes are mirrored. Translation and cutout are those of `DiffAugment`. Codes of several levels have the saturation
    and contrast of all levels changed around the means of the last one.

    Args:
        policy: comma-separated list of color, translation, cutout and flip, in the order of their application.
    """

    leads = True
    numbers_of: ClassVar[dict[str, int]] = {"color": 4, "translation": 2, "cutout": 2, "flip": 1}

    def __init__(self, policy: str = "color,translation,cutout,flip") -> None:
        super().__init__()
        self.names = chosen(policy, self.numbers_of)
        self.counts = [self.numbers_of[name] for name in self.names]
        self.draws = sum(self.counts)

    def accepts(self, channels: int) -> bool:
        """Return whether codes may have so many channels: any number."""
        return channels > 0

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return codes `(N, C, H, W)` after all transforms of the policy."""
        return self.changed(images.unsqueeze(1), u).squeeze(1)

    def of_levels(self, levels: Tensor, uniform: Tensor) -> Tensor:
        """Return `levels` `(N, L, C, H, W)` of codes, all changed by the same random numbers."""
        full = torch.promote_types(levels.dtype, torch.float32)
        with torch.autocast(levels.device.type, enabled=False):
            inner = uniform.detach().to(full).clamp(2**-25, 1 - 2**-24)
            return self.changed(levels.to(full), inner).to(levels.dtype)

    def changed(self, levels: Tensor, u: Tensor) -> Tensor:
        """Return `levels` `(N, L, C, H, W)` after all transforms of the policy."""
        for name, columns in zip(self.names, torch.split(u, self.counts, 1), strict=True):
            if name == "color":
                levels = torch.where(columns[:, 3].view(-1, 1, 1, 1, 1) < 0.5, color_of_codes(levels, columns), levels)
            elif name == "flip":
                levels = torch.where(columns.view(-1, 1, 1, 1, 1) < 0.4, levels.flip(-1), levels)
            else:
                levels = DiffAugment.changes[name][0](levels.flatten(1, 2), columns).view_as(levels)
        return levels

    def followed(self, pictures: Tensor, uniform: Tensor, scale: int) -> Tensor:
        """Return pictures shifted and mirrored as their codes are, and not changed in another way."""
        inner = uniform.clamp(2**-25, 1 - 2**-24)
        for name, columns in zip(self.names, torch.split(inner, self.counts, 1), strict=True):
            if name == "translation":
                pictures = translation(pictures, columns, scale)
            elif name == "flip":
                pictures = torch.where(columns.view(-1, 1, 1, 1) < 0.4, pictures.flip(-1), pictures)
        return pictures


def color_of_codes(levels: Tensor, u: Tensor) -> Tensor:
    """Return `levels` `(N, L, C, H, W)` of codes with brightness, saturation and contrast changed.

    The means of saturation and of contrast are those of the last level, before its brightness changes.
    """
    light, saturation, contrast = u[:, :3].view(len(u), 3, 1, 1, 1, 1).unbind(1)
    last = levels[:, -1:]
    levels = torch.lerp(last.mean(2, keepdim=True), levels + (light - 0.5), 2 * saturation)
    return torch.lerp(last.mean((2, 3, 4), keepdim=True), levels, contrast + 0.5)


# -- ADA ---------------------------------------------------------------------------------------------------------------


# Operations in the order of their random numbers: name, and the values of these numbers that change nothing. A number
# before them decides whether the operation is applied.
Operation = tuple[str, tuple[float, ...]]
BANDS = ("imgfilter",) * 4  # of frequencies, from low to high
GROUPS: dict[str, list[Operation]] = {
    "blit": [("xflip", (0.75,)), ("rotate90", (0.0,)), ("xint", (0.5, 0.5))],
    "geometry": [
        ("scale", (0.5,)),
        ("rotate", (0.0,)),
        ("aniso", (0.5,)),
        ("rotate", (0.0,)),  # twice, so that the anisotropic scaling has any direction
        ("xfrac", (0.5, 0.5)),
    ],
    "color": [
        ("brightness", (0.5,)),
        ("contrast", (0.5,)),
        ("lumaflip", (0.75,)),
        ("hue", (0.0,)),
        ("saturation", (0.5,)),
    ],
    "filter": [(band, (0.5,)) for band in BANDS],
    "noise": [("noise", (0.5,))],
    "cutout": [("cutout", (2.0, 2.0))],  # centred outside the image
}
# The paper's names of several groups.
POLICIES = {
    "bg": "blit,geometry",
    "bgc": "blit,geometry,color",
    "bgcf": "blit,geometry,color,filter",
    "bgcfn": "blit,geometry,color,filter,noise",
    "bgcfnc": "blit,geometry,color,filter,noise,cutout",
}
# The same numbers, ordered by what is computed of them, so that one call computes it for all operations.
COLUMNS = {
    "steps": ("xflip", "rotate90", "lumaflip"),
    "shifts": ("xint", "xint"),
    "turns": ("rotate", "rotate", "hue"),
    "normals": ("scale", "aniso", "contrast", "saturation", *BANDS, "brightness", "xfrac", "xfrac", "noise"),
    "centre": ("cutout", "cutout"),
}
# Of the normals, in fifths. Those of xfrac are in eighths of a side, and negative: an image that moves to the right has
# its pixels from the left.
SIGMAS = (1.0, 1.0, 2.5, 5.0, 5.0, 5.0, 5.0, 5.0, 1.0, -5.0, -5.0, 0.5)
# Of the bands of a natural image, in thirteenths of its power.
POWER = (10.0, 1.0, 1.0, 1.0)


def symmetries() -> Tensor:
    """Return the matrices `(16, 2, 2)` of mirroring and quarter turns, whose entries are whole numbers.

    Row 4 m + k turns k times by a quarter counterclockwise, and then mirrors for m of 0 and 1, but not for 2 and 3.
    """
    turns = torch.tensor([[[1.0, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]])
    mirrored = torch.tensor([[-1.0, 0], [0, 1]]) @ turns
    return torch.cat([mirrored, mirrored, turns, turns])


def product(first: Tensor, second: Tensor) -> Tensor:
    """Return the products of matrices `(N, n, k)` and `(N, k, m)` in full precision; `@` may compute in TF32."""
    return (first.unsqueeze(3) * second.unsqueeze(1)).sum(2)


class Midpoints(torch.autograd.Function):
    """Values between pixels: those of the polynomial through the six nearest (Deslauriers and Dubuc 1989).

    The filter is symmetric, so its gradient is the same filter on a gradient padded with zeros. Autograd would
    accumulate the gradients of six slices.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, axis: int) -> Tensor:
        """Return n - 5 midpoints of n pixels along `axis`."""
        ctx.axis = axis
        return interpolated(pixels, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient with respect to the pixels. It can be differentiated again."""
        (gradient,) = gradients
        padding = [0, 0] * (gradient.ndim - 1 - ctx.axis) + [5, 5]
        return midpoints(F.pad(gradient, padding), ctx.axis), None


def midpoints(pixels: Tensor, axis: int) -> Tensor:
    """Return n - 5 values between n `pixels` along `axis`."""
    if torch.compiler.is_compiling():  # it joins the slices' gradients itself, and PyTorch 2.11 mixes up two `apply`
        return interpolated(pixels, axis)
    between: Tensor = Midpoints.apply(pixels, axis)
    return between


def interpolated(pixels: Tensor, axis: int) -> Tensor:
    """Return n - 5 values between n `pixels` along `axis`, differentiated slice by slice."""
    part = [pixels.narrow(axis, k, pixels.shape[axis] - 5) for k in range(6)]
    middle = (part[2] + part[3]).mul_(150 / 256)
    return middle.sub_(part[1] + part[4], alpha=25 / 256).add_(part[0] + part[5], alpha=3 / 256)


def finer(images: Tensor, axis: int) -> Tensor:
    """Return 2n + 2 values of n pixels along `axis`: the midpoint before each pixel, the pixel, and so on.

    The image is padded by reflection: the last two values are the midpoint after the last pixel, and that pixel again.
    """
    n = images.shape[axis]
    place = torch.arange(-3, n + 3, device=images.device).remainder(2 * n)
    padded = images.index_select(axis, torch.minimum(place, 2 * n - 1 - place))
    pairs = [midpoints(padded, axis), padded.narrow(axis, 3, n + 1)]
    return torch.stack(pairs, axis + 1).flatten(axis, axis + 1)


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Return `images` `(N, C, H, W)` resampled at the places that `matrix` `(N, 2, 3)` maps the pixels to.

    It maps (x, y, 1) to (x, y), in half pixels from the centre.
    """
    height, width = images.shape[2:]
    x = torch.arange(1 - width, width, 2, dtype=matrix.dtype, device=matrix.device)
    y = torch.arange(1 - height, height, 2, dtype=matrix.dtype, device=matrix.device).unsqueeze(1)
    sides = torch.linspace(width, height, 2, dtype=matrix.dtype, device=matrix.device).view(2, 1, 1)
    by_x, by_y, shift = matrix.unsqueeze(3).unsqueeze(4).unbind(2)  # each (N, 2, 1, 1)
    # From the edge, (N, 2, H, W). The image with its reflection has a period of two sides.
    period = 4 * sides
    place = torch.addcmul(torch.addcmul(shift + sides, by_x, x), by_y, y)
    place = torch.addcmul(place, (place / period).round(), period, value=-1).abs()
    before, after = place.long(), place.frac()  # index into the result of `finer`, and weight of the value after it
    corner, row = torch.arange(2, device=matrix.device), 2 * width + 2
    corners = torch.add(corner, corner.unsqueeze(1), alpha=row).view(4, 1, 1)
    index = torch.add(before[:, 0], before[:, 1], alpha=row).unsqueeze(1) + corners  # (N, 4, H, W)
    along, down = torch.stack([1 - after, after], 1).unbind(2)  # each (N, 2, H, W)
    weights = (down.unsqueeze(2) * along.unsqueeze(1)).flatten(1, 2).unsqueeze(1)
    values = pick(finer(finer(images, 2), 3), index.flatten(1))
    return (values.view(*images.shape[:2], 4, height, width) * weights).sum(2)


def bands() -> Tensor:
    """Return four filters of 43 taps, the bands of an image from low to high frequencies; their sum changes nothing.

    An image is split in two by half-band filters, the low-pass and high-pass autocorrelations of Daubechies' wavelet of
    four taps. The low part is split again, at half of the frequency. Source: Karras et al. 2020 (arXiv 2006.06676),
    appendix B.
    """
    low = torch.tensor([-1.0, 0, 9, 16, 9, 0, -1], dtype=torch.float64) / 32
    high = torch.tensor([1.0, 0, -9, 16, -9, 0, 1], dtype=torch.float64) / 32
    found, passed = [], torch.ones(1, dtype=torch.float64)  # `passed` is what lies below the bands so far
    for octave in range(3):
        step = 2**octave

        def spread(taps: Tensor, step: int = step) -> Tensor:
            apart = torch.zeros(6 * step + 1, dtype=torch.float64)
            apart[::step] = taps
            return apart

        def through(taps: Tensor, other: Tensor = passed) -> Tensor:
            return F.conv1d(F.pad(other, [len(taps) - 1] * 2).view(1, 1, -1), taps.view(1, 1, -1)).flatten()

        found.append(through(spread(high)))
        passed = through(spread(low))
    return torch.stack([F.pad(taps, [(43 - len(taps)) // 2] * 2) for taps in [passed, *reversed(found)]])


def filters(gains: Tensor, side: int, taps: Tensor) -> Tensor:
    """Return matrices `(N, side, side)` that filter lines of `side` pixels, which are padded by reflection.

    Args:
        gains: of each band, `(N, 4)`.
        side: pixels of a line.
        taps: of each band, float64 `(4, 43)`.
    """
    period = max(1, 2 * (side - 1))  # the pixels at the edge are not repeated
    place = torch.arange(side, device=taps.device).unsqueeze(1) + torch.arange(-21, 22, device=taps.device)
    place = place.remainder(period)
    place = torch.minimum(place, (period - place).abs())
    # In float64, so that the order of a sum on a GPU, which is not deterministic, does not show in float32.
    matrices = torch.zeros(4, side, side, dtype=taps.dtype, device=taps.device)
    matrices = matrices.scatter_add(2, place.expand(4, -1, -1), taps.unsqueeze(1).expand(-1, side, -1))
    return (gains @ matrices.flatten(1).to(gains)).view(-1, side, side)


def filtered(images: Tensor, gains: Tensor, taps: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` with their bands of frequencies multiplied by `gains` `(N, 4)`, along both axes."""
    down, across = (filters(gains, side, taps).unsqueeze(1) for side in images.shape[2:])
    rgb = down @ images[:, :3] @ across.transpose(2, 3)
    return with_alpha(rgb, images)


def tinted(images: Tensor, gain: Tensor, chroma: Tensor, cosine: Tensor, sine: Tensor, light: Tensor) -> Tensor:
    """Return images after all operations on colours; those on grey and those on the rest do not mix.

    Args:
        images: `(N, C, H, W)`. An alpha channel does not change.
        gain: factor `(N,)` of grey, the mean of red, green and blue.
        chroma: factor `(N,)` of the difference from grey.
        cosine: of the angle `(N,)` by which this difference is turned about the axis of grey.
        sine: of the same angle.
        light: what is added to red, green and blue before, `(N,)`.
    """
    added = (light * gain).view(-1, 1, 1, 1)
    if images.shape[1] == 1:
        return torch.addcmul(added, images, gain.view(-1, 1, 1, 1))
    own = chroma * cosine
    third, cross = (gain - own) / 3, chroma * sine / 3**0.5
    same, after, before = own + third, third - cross, third + cross  # factors of a channel itself and its neighbours
    rows = torch.stack([same, after, before, before, same, after, after, before, same], 1).view(-1, 3, 3, 1, 1)
    # Not a matrix product, which may compute in TF32 on a GPU.
    return with_alpha((rows * images[:, :3].unsqueeze(1)).sum(2) + added, images)


class ADA(Augmentation):
    """Adaptive discriminator augmentation, Karras et al. 2020 (arXiv 2006.06676).

    Each operation is applied to each image with a probability that follows the overfitting of the discriminator. An
    image to which no operation is applied stays unchanged bit for bit.

    All geometric operations of an image are one matrix, so the image is resampled once. It is padded by reflection,
    upsampled by 2 and interpolated linearly. Flips, quarter turns and shifts by whole pixels copy pixels exactly. The
    paper uses longer (wavelet) filters and downsamples its result by 2, against aliasing in images that are scaled
    down. That costs four times as much, and few images are scaled below two thirds.

    Grey images get brightness, contrast and lumaflip from the color group. Color operations do not change the alpha
    channel, and neither do `filter` and `noise`. `filter` amplifies bands of frequencies and keeps the power of a
    natural image, `noise` adds noise to each pixel, and `cutout` zeroes a rectangle of half of each side.

    After each discriminator step, call `observe` with the logits on real images. Every `interval` batches, average
    `statistics()` over processes, if there are several, and call `adjust`.

    Args:
        policy: the paper's bg, bgc, bgcf, bgcfn or bgcfnc, or a comma-separated list of operations or of the groups
            blit, geometry, color, filter, noise and cutout. Omit operations that change the meaning of an image, such
            as flips of digits.
        target: target for the mean sign of logits on real images; None keeps the probability constant.
        images: number of real images in which the probability can change from 0 to 1.
        interval: batches between adjustments.
        probability: initial probability.
        multipliers: factors of the probability, from 0 to 1, by operation or group. R3GAN uses 0.5 for color.

    Raises:
        ValueError: if an argument is out of range or an operation is unknown.
    """

    probability: Tensor
    observed: Tensor

    def __init__(
        self,
        policy: str = "blit,geometry,color",
        target: float | None = 0.6,
        images: int = 500_000,
        interval: int = 4,
        probability: float = 0.0,
        multipliers: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        bounds = [(target or 0.0, -1, 1), (images, 1, inf), (interval, 1, inf), (probability, 0, 1)]
        for option, (value, least, most) in zip(("target", "images", "interval", "probability"), bounds, strict=True):
            if not least <= value <= most:
                raise ValueError(f"{option} is {value}; expected a number from {least} to {most}")
        known = list(dict.fromkeys([*GROUPS, *(name for group in GROUPS.values() for name, _ in group)]))
        policy = POLICIES.get(policy, policy)
        names, multipliers = set(chosen(policy, known, POLICIES)), dict(multipliers or {})
        for name, factor in multipliers.items():
            if name not in known or not 0 <= factor <= 1:
                given = f"multipliers has {name}: {factor}"
                raise ValueError(f"{given}; expected numbers from 0 to 1 for some of {','.join(known)}")
        self.arrange(names, multipliers)
        self.target, self.images, self.interval = target, images, interval
        self.register_buffer("probability", torch.tensor(float(probability)))
        self.register_buffer("observed", torch.zeros(2))  # sum of signs and number of images, over all processes

    def arrange(self, names: set[str], multipliers: dict[str, float]) -> None:
        """Count the numbers drawn, and note constants of every number in `COLUMNS`.

        `gates` and `sources` are its columns in the numbers drawn: the one that decides whether it counts, and its own.
        `idle` is the value that changes nothing, `factors` those of the probability, and `twice` is true for rotations.
        """
        found: dict[str, list[tuple[int, int, float, float]]] = {}
        self.draws, self.groups = 0, set[str]()  # groups of which the policy names an operation
        for group, operations in GROUPS.items():
            for name, idle in operations:
                # An operation that the policy does not name reads any number, and is never applied.
                gate, factor, sources = 0, 0.0, [0] * len(idle)
                if {group, name} & names:
                    self.groups.add(group)
                    gate, factor = self.draws, multipliers.get(name, multipliers.get(group, 1.0))
                    sources = [gate + 1 + i for i in range(len(idle))]
                    self.draws += 1 + len(idle)
                rows = [(gate, source, factor, value) for source, value in zip(sources, idle, strict=True)]
                found.setdefault(name, []).extend(rows)
        order = [name for columns in COLUMNS.values() for name in columns]
        rows = [found[name].pop(0) for name in order]
        self.gates, self.sources, self.factors, self.idle = map(torch.tensor, zip(*rows, strict=True))
        self.twice = torch.tensor([name == "rotate" for name in order])
        self.sigmas, self.symmetries, self.power = torch.tensor(SIGMAS), symmetries(), torch.tensor(POWER)
        self.taps = bands()

    def numbers(self, channels: int, height: int, width: int) -> int:
        """Return how many random numbers an image of this shape needs: with `noise`, one more for each colour."""
        return self.draws + ("noise" in self.groups) * min(channels, 3) * height * width

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move constants too, and keep buffers in float32: half precision rounds small steps of the probability to 0.

        The constants are no buffers: those of a model are averaged over processes.
        """

        def kept(tensor: Tensor) -> Tensor:
            return fn(tensor).float() if tensor.is_floating_point() else fn(tensor)

        super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        for name in ("gates", "sources", "factors", "idle", "twice", "sigmas", "symmetries", "power"):
            setattr(self, name, kept(getattr(self, name)))
        self.taps = self.taps.to(self.gates.device)
        return self

    def limits(self) -> Tensor:
        """Return the probability of the operation of every number in `COLUMNS`, `(22,)`."""
        limits = self.probability * self.factors
        # There are two rotations: the probability that at least one is applied equals that of the other operations.
        return torch.where(self.twice, 1 - (1 - limits).sqrt(), limits)

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return the images after the operations that `u` selects for each."""
        active, pixels = u[:, self.gates] < self.limits(), u[:, self.draws :]
        u = torch.where(active, u[:, self.sources], self.idle)
        steps, shifts, turns, normals, centre = torch.split(u, [len(names) for names in COLUMNS.values()], 1)
        steps, angles = (4 * steps).floor(), tau * turns
        cosines, sines = angles.cos(), angles.sin()
        normals = torch.special.ndtri(normals) * self.sigmas * 0.2
        powers = normals[:, :8].exp2()
        changed = images
        if self.groups & {"blit", "geometry"}:
            # Every matrix is the inverse of its operation: it maps places in the result to places in the image.
            symmetry = self.symmetries[torch.add(steps[:, 1], steps[:, 0], alpha=4).long()]
            turned = torch.stack([cosines, -sines, sines, cosines], 2).view(-1, 3, 2, 2)
            scale, aniso = powers[:, :2].unbind(1)
            stretch = torch.stack([1 / aniso, aniso], 1) / scale.unsqueeze(1)
            linear = product(turned[:, 0] * stretch.unsqueeze(1), turned[:, 1])
            # The shifts are in half pixels, and an eighth of a side is a quarter of it in half pixels.
            quarter = torch.linspace(images.shape[3] / 4, images.shape[2] / 4, 2, dtype=u.dtype, device=u.device)
            whole = ((0.5 - shifts) * quarter).round() * 2
            shift = (linear * (normals[:, 9:11] * quarter).unsqueeze(1)).sum(2) + whole
            changed = warp(changed, product(symmetry, torch.cat([linear, shift.unsqueeze(2)], 2)))
        if "color" in self.groups:
            contrast, saturation = powers[:, 2:4].unbind(1)
            gain = contrast * (steps[:, 2] - 1.5).sign()
            changed = tinted(changed, gain, contrast * saturation, cosines[:, 2], sines[:, 2], normals[:, 8])
        if "filter" in self.groups:
            gains = powers[:, 4:]
            # Each band is amplified alone, and the image is scaled back to the power that a natural one would have.
            power = torch.addcmul(torch.ones_like(gains), gains.square() - 1, self.power, value=1 / 13)
            kept = power.rsqrt().prod(1, keepdim=True)
            changed = filtered(changed, gains * kept, self.taps)
        if "noise" in self.groups:
            drawn = torch.special.ndtri(pixels).view(len(images), -1, *images.shape[2:])
            rgb = torch.addcmul(changed[:, :3], drawn, normals[:, 11].abs().view(-1, 1, 1, 1))
            changed = with_alpha(rgb, changed)
        changed = torch.where(active.any(1).view(-1, 1, 1, 1), changed, images)
        if "cutout" in self.groups:
            inside = [
                ((torch.arange(side, dtype=u.dtype, device=u.device) + 0.5) / side - middle.unsqueeze(1)).abs() < 0.25
                for side, middle in zip(images.shape[2:], centre.unbind(1)[::-1], strict=True)
            ]
            changed = changed.masked_fill(crossed(*inside), 0)
        return changed

    def check_objective(self, name: str, boundary: float | None) -> None:
        """Check that the objective has a boundary between real and fake logits, unless `target` is None.

        Raises:
            ValueError: if there is a target, but no boundary.
        """
        if boundary is None and self.target is not None:
            raise ValueError(
                f"augment is ada, which needs the sign of real logits, but the {name} objective has no boundary: "
                "set augment_options.target to null, or choose another objective"
            )

    @torch.no_grad()
    def observe(self, real_logits: Tensor, boundary: float | None = 0.0, processes: int = 1) -> None:
        """Accumulate the signs of logits `(N, ...)` on augmented real images, relative to the loss's `boundary`.

        NaN counts as neither sign. The counts are multiplied by the number of `processes`, so that their mean over
        processes is the sum over all images.

        Raises:
            ValueError: if there is a target, but no boundary.
        """
        self.check_objective("given", boundary)
        signs = (real_logits.float() - (boundary or 0.0)).sign().mean()
        self.observed += torch.stack([signs, torch.ones_like(signs)]) * (len(real_logits) * processes)

    def statistics(self) -> list[Tensor]:
        """Return the accumulated sums, `(2,)`. Averaging them more than once changes nothing."""
        return [self.observed]

    @torch.no_grad()
    def adjust(self) -> None:
        """Move the probability in proportion to the number of observed images, and reset the sums.

        It rises if the mean sign of real logits exceeds `target`, else it falls. Source: equation 1 of the paper.
        """
        signs, images = self.observed.unbind()
        if self.target is not None:
            step = (signs - self.target * images).sign() * images / self.images
            self.probability.add_(step).clamp_(0, 1)
        self.observed.zero_()


def named(name: str | None, **options: Any) -> Augmentation | None:
    """Return the augmentation of this `name`, constructed with `options`; None for None.

    Raises:
        ValueError: if the name, an option or a value is unknown, or if there are options without a name.
    """
    kinds: dict[str, type[Augmentation]] = {"diffaugment": DiffAugment, "ada": ADA, "codes": CodeAugment}
    if name is None:
        if options:
            given, either = ", ".join(options), " or ".join(kinds)
            raise ValueError(f"augment_options has {given} without augment: set augment to {either}, or both to null")
        return None
    if name not in kinds:
        raise ValueError(f"augment is {name!r}; expected one of {', '.join(kinds)}")
    known = list(inspect.signature(kinds[name]).parameters)
    for option in options.keys() - known:
        raise ValueError(f"{name} has no option {option!r}; expected one of {', '.join(known)}")
    return kinds[name](**options)
