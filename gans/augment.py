"""Differentiable augmentation of the discriminator's input: DiffAugment and ADA.

With few training images the discriminator overfits. Both classes augment all its inputs, real and fake, in both
players' steps. Gradients pass through the augmentation, so the generator still learns the distribution of the images
without augmentation.

- The caller supplies the random numbers: `augment(images, uniform)` is a pure function of images `(N, C, H, W)`,
  numbers `(N, augment.draws)` in [0, 1), and the current probability of `ADA`.
- Both are twice differentiable. A gradient penalty is taken with respect to the images before augmentation: its
  critic is `lambda x: discriminator(augment(x, uniform))`.
- No operation synchronises with the device.
- On a GPU the gradient of `pick` is summed in a nondeterministic order. So runs with ADA or translation are
  reproducible bit for bit on a CPU only.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from math import inf, tau
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class Augmentation(nn.Module):
    """Base class of augmentations. An adaptive one also overrides `observe`, `statistics` and `adjust`."""

    draws: int = 0  # random numbers per image
    interval = 1  # batches between two calls of `adjust`, counted by the caller

    def forward(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Return augmented `images` `(N, C, H, W)`, in the same dtype, given random numbers `uniform` `(N, draws)`.

        The input is in [-1, 1]. The result may leave this range: clipping would stop gradients.

        Raises:
            ValueError: if `images` or `uniform` have another shape.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
            raise ValueError(f"images have the shape {tuple(images.shape)}; expected (N, C, H, W) with C 1, 3 or 4")
        if uniform.shape != (len(images), self.draws):
            raise ValueError(f"uniform has the shape {tuple(uniform.shape)}; expected ({len(images)}, {self.draws})")
        full = torch.promote_types(images.dtype, torch.float32)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 rounds the index 257 to 256
            # The normal quantiles of 0 and 1 are infinite, and numbers drawn in half precision can be 1.
            inner = uniform.detach().to(full).clamp(2**-25, 1 - 2**-24)
            return self.change(images.to(full), inner).to(images.dtype)

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return the augmented images. Both arguments are at least float32, and `u` is in (0, 1)."""
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


def chosen(policy: str, known: Iterable[str]) -> list[str]:
    """Return the names in `policy`, a comma-separated list.

    Raises:
        ValueError: if a name is unknown.
    """
    names, known = [name.strip() for name in policy.split(",")], list(dict.fromkeys(known))
    if not set(names) <= set(known):
        raise ValueError(f"policy is {policy!r}; expected one or more of {','.join(known)}, separated by commas")
    return names


def pick(images: Tensor, index: Tensor) -> Tensor:
    """Return the pixels `(N, C, M)` of `images` `(N, C, H, W)` at the flat positions `index` `(N, M)`."""
    # Not `grid_sample`: some supported versions of torch cannot differentiate it twice.
    return images.flatten(2).gather(2, index.unsqueeze(1).expand(-1, images.shape[1], -1))


def color(images: Tensor, u: Tensor) -> Tensor:
    """Return images with brightness plus U(-0.5, 0.5), saturation times U(0, 2) and contrast times U(0.5, 1.5)."""
    light, saturation, contrast = u.view(len(u), -1, 1, 1, 1).unbind(1)
    rgb, alpha = images[:, :3] + (light - 0.5), images[:, 3:]
    grey = rgb.mean(1, keepdim=True)
    rgb = (rgb - grey) * (2 * saturation) + grey
    mean = rgb.mean((1, 2, 3), keepdim=True)
    return torch.cat([(rgb - mean) * (contrast + 0.5) + mean, alpha], 1)


def rectangle(images: Tensor, first: list[Tensor], sides: list[int]) -> Tensor:
    """Return a mask `(N, 1, H, W)`, true in a rectangle of `sides` that starts at the row and column in `first`."""
    spans = []
    for start, side, length in zip(first, sides, images.shape[2:], strict=True):
        place = torch.arange(length, device=images.device) - start.unsqueeze(1)
        spans.append((place >= 0) & (place < side))
    return (spans[0].unsqueeze(2) & spans[1].unsqueeze(1)).unsqueeze(1)


def translation(images: Tensor, u: Tensor) -> Tensor:
    """Return images shifted by whole pixels, up to an eighth of each side, and padded with zeros."""
    sides, shifts, sources = list(images.shape[2:]), [], []
    for side, v in zip(sides, u.unbind(1), strict=True):
        most = (side + 4) // 8
        shifts.append(((2 * most + 1) * v).floor().long() - most)
        sources.append((torch.arange(side, device=u.device) - shifts[-1].unsqueeze(1)).clamp(0, side - 1))
    index = sources[0].unsqueeze(2) * sides[1] + sources[1].unsqueeze(1)
    return pick(images, index.flatten(1)).view_as(images) * rectangle(images, shifts, sides)


def cutout(images: Tensor, u: Tensor) -> Tensor:
    """Return images with a zeroed rectangle of half of each side, centred at a random pixel."""
    first, cuts = [], []
    for side, v in zip(images.shape[2:], u.unbind(1), strict=True):
        cuts.append((side + 1) // 2)
        first.append(((side + 1 - cuts[-1] % 2) * v).floor() - cuts[-1] // 2)
    return images * ~rectangle(images, first, cuts)


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


# -- ADA ---------------------------------------------------------------------------------------------------------------


def matrices(like: Tensor, n: int, entries: dict[tuple[int, int], Tensor | float]) -> Tensor:
    """Return identity matrices `(N, n, n)` with the given entries replaced, one for each row of `like`."""
    result = torch.eye(n, dtype=like.dtype, device=like.device).repeat(len(like), 1, 1)
    for (row, column), value in entries.items():
        result[:, row, column] = value
    return result


# Geometric matrices map coordinates (x, y, 1) of the augmented image, in pixels from the centre, to those of the input
# image. So they are the inverses of the transforms.
def stretched(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices `(N, 3, 3)` that scale by `x` and `y`."""
    return matrices(x, 3, {(0, 0): 1 / x, (1, 1): 1 / y})


def turned(angle: Tensor) -> Tensor:
    """Return matrices `(N, 3, 3)` that rotate counterclockwise by `angle`, in turns."""
    cosine, sine = (tau * angle).cos(), (tau * angle).sin()
    return matrices(angle, 3, {(0, 0): cosine, (0, 1): -sine, (1, 0): sine, (1, 1): cosine})


def moved(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices `(N, 3, 3)` that shift by `x` pixels to the right and `y` pixels down."""
    return matrices(x, 3, {(0, 2): -x, (1, 2): -y})


def tinted(own: Tensor, grey: Tensor | float = 0.0, turn: Tensor | float = 0.0, light: Tensor | float = 0.0) -> Tensor:
    """Return `own` x identity + `grey` x projection on grey + `turn` x cross product with grey, + `light`.

    These matrices `(N, 4, 4)` act on (red, green, blue, 1); grey is the unit vector along (1, 1, 1).
    """
    third, cross = grey / 3, turn / 3**0.5
    rows = [{(i, i): own + third, (i, (i + 1) % 3): third - cross, (i, (i + 2) % 3): third + cross} for i in range(3)]
    return matrices(own, 4, rows[0] | rows[1] | rows[2] | {(i, 3): light for i in range(3)})


def normal(u: Tensor, sigma: float) -> Tensor:
    """Return the quantiles `u` of N(0, sigma^2)."""
    quantile: Tensor = torch.special.ndtri(u)
    return sigma * quantile


def power(u: Tensor, sigma: float) -> Tensor:
    """Return the quantiles `u` of 2^x with x from N(0, sigma^2)."""
    return torch.exp2(normal(u, sigma))


def sign(u: Tensor) -> Tensor:
    """Return -1 where `u` is below 0.5, else 1."""
    return 1 - 2 * (u < 0.5).to(u.dtype)


# Name, count of random numbers, and a function from these numbers u[i] `(N,)`, height and width to the matrix.
Operation = tuple[str, int, Callable[[list[Tensor], int, int], Tensor]]
GROUPS: dict[str, list[Operation]] = {
    "blit": [
        ("xflip", 1, lambda u, h, w: stretched(sign(u[0]), torch.ones_like(u[0]))),
        ("rotate90", 1, lambda u, h, w: turned((4 * u[0]).floor() / 4).round()),
        ("xint", 2, lambda u, h, w: moved(((2 * u[0] - 1) * (w / 8)).round(), ((2 * u[1] - 1) * (h / 8)).round())),
    ],
    "geometry": [
        ("scale", 1, lambda u, h, w: stretched(power(u[0], 0.2), power(u[0], 0.2))),
        ("rotate", 1, lambda u, h, w: turned(u[0])),
        ("aniso", 1, lambda u, h, w: stretched(power(u[0], 0.2), power(u[0], -0.2))),
        ("rotate", 1, lambda u, h, w: turned(u[0])),  # twice, so that the anisotropic scaling has any direction
        ("xfrac", 2, lambda u, h, w: moved(normal(u[0], w / 8), normal(u[1], h / 8))),
    ],
    "color": [
        ("brightness", 1, lambda u, h, w: tinted(torch.ones_like(u[0]), light=normal(u[0], 0.2))),
        ("contrast", 1, lambda u, h, w: tinted(power(u[0], 0.5))),
        ("lumaflip", 1, lambda u, h, w: tinted(torch.ones_like(u[0]), grey=sign(u[0]) - 1)),
        ("hue", 1, lambda u, h, w: tinted((tau * u[0]).cos(), 1 - (tau * u[0]).cos(), (tau * u[0]).sin())),
        ("saturation", 1, lambda u, h, w: tinted(power(u[0], 1), 1 - power(u[0], 1))),
    ],
}


def product(first: Tensor, second: Tensor) -> Tensor:
    """Return the products of matrices `(N, n, n)` in full precision; `@` may compute in TF32 on a GPU."""
    return (first.unsqueeze(3) * second.unsqueeze(1)).sum(2)


def finer(images: Tensor, axis: int) -> Tensor:
    """Return the n + 1 midpoints between n pixels along `axis`, edges included, followed by n + 1 pixels.

    The image is padded by reflection, so the last of the n + 1 pixels is the last pixel again. A midpoint is the value
    of the polynomial through the six nearest pixels (Deslauriers and Dubuc 1989).
    """
    n = images.shape[axis]
    outside = [images.narrow(axis, min(k % (2 * n), -(k + 1) % (2 * n)), 1) for k in (-3, -2, -1, n, n + 1, n + 2)]
    padded = torch.cat([*outside[:3], images, *outside[3:]], axis)
    part = [padded.narrow(axis, k, n + 1) for k in range(6)]
    middle = (part[2] + part[3]) * (150 / 256) - (part[1] + part[4]) * (25 / 256) + (part[0] + part[5]) * (3 / 256)
    return torch.cat([middle, part[3]], axis)


def neighbours(position: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the two indices into the result of `finer` next to each position, and their weights, `(N, 2, H, W)`.

    `position` `(N, H, W)` is in pixels from the centre of n pixels.
    """
    position = position + n / 2  # from the edge; the image with its reflection has a period of 2n pixels
    position = 2 * (position - 2 * n * (position / (2 * n)).round()).abs()  # in half pixels: even ones are midpoints
    before = position.floor()
    after = position - before
    step = torch.stack([before, before + 1], 1).long()
    return step // 2 + step % 2 * (n + 1), torch.stack([1 - after, after], 1)


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Return `images` `(N, C, H, W)` resampled at the coordinates that `matrix` `(N, 3, 3)` maps the pixels to."""
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=matrix.dtype, device=matrix.device) - (width - 1) / 2
    y = torch.arange(height, dtype=matrix.dtype, device=matrix.device).unsqueeze(1) - (height - 1) / 2
    entry = matrix.view(-1, 3, 3, 1, 1)
    columns, right = neighbours(entry[:, 0, 0] * x + entry[:, 0, 1] * y + entry[:, 0, 2], width)
    rows, down = neighbours(entry[:, 1, 0] * x + entry[:, 1, 1] * y + entry[:, 1, 2], height)
    index = rows.unsqueeze(2) * (2 * width + 2) + columns.unsqueeze(1)  # (N, 2, 2, H, W)
    weights = (down.unsqueeze(2) * right.unsqueeze(1)).flatten(1, 2).unsqueeze(1)
    corners = pick(finer(finer(images, 2), 3), index.flatten(1))
    return (corners.view(*images.shape[:2], 4, height, width) * weights).sum(2)


class ADA(Augmentation):
    """Adaptive discriminator augmentation, Karras et al. 2020 (arXiv 2006.06676).

    Each operation is applied to each image with a probability that follows the overfitting of the discriminator. An
    image to which no operation is applied stays unchanged bit for bit.

    All geometric operations of an image are one matrix, so the image is resampled once. It is padded by reflection,
    upsampled by 2 and interpolated linearly. Flips, quarter turns and shifts by whole pixels copy pixels exactly. The
    paper uses longer (wavelet) filters and downsamples its result by 2, against aliasing in images that are scaled
    down. That costs four times as much, and few images are scaled below two thirds.

    Grey images get brightness, contrast and lumaflip from the color group. Color operations do not change the alpha
    channel. `cutout` comes last and zeroes a rectangle of half of each side. The paper's frequency filters and noise
    are not implemented.

    After each discriminator step, call `observe` with the logits on real images. Every `interval` batches, average
    `statistics()` over processes, if there are several, and call `adjust`.

    Args:
        policy: comma-separated list of operations or of the groups blit, geometry and color, the paper's "bgc". Omit
            operations that change the meaning of an image, such as flips of digits.
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
        known = [*GROUPS, *(operation[0] for group in GROUPS.values() for operation in group), "cutout"]
        self.names, self.multipliers = set(chosen(policy, known)), dict(multipliers or {})
        for name, factor in self.multipliers.items():
            if name not in known or not 0 <= factor <= 1:
                given = f"multipliers has {name}: {factor}"
                raise ValueError(f"{given}; expected numbers from 0 to 1 for some of {','.join(dict.fromkeys(known))}")
        self.draws = sum(1 + operation[1] for operation in self.operations(*GROUPS)) + 3 * ("cutout" in self.names)
        self.target, self.images, self.interval = target, images, interval
        self.register_buffer("probability", torch.tensor(float(probability)))
        self.register_buffer("observed", torch.zeros(2))  # sum of signs and number of images, over all processes

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keep the buffers in float32: half precision would round small steps of the probability to 0."""
        super()._apply(lambda tensor: fn(tensor).float(), recurse)  # type: ignore[no-untyped-call]
        return self

    def operations(self, *groups: str) -> list[Operation]:
        """Return the operations in `groups` that the policy names."""
        return [operation for group in groups for operation in GROUPS[group] if {group, operation[0]} & self.names]

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return the images after the operations that `u` selects for each."""
        spatial, colors = self.operations("blit", "geometry"), self.operations("color")
        split, end = (sum(1 + operation[1] for operation in group) for group in (spatial, spatial + colors))
        if spatial:
            steps, active = self.steps(spatial, u[:, :split], images)
            images = torch.where(active, warp(images, functools.reduce(product, steps)), images)
        if colors:
            steps, active = self.steps(colors, u[:, split:end], images)
            matrix, rgb = functools.reduce(product, reversed(steps)), images[:, :3].flatten(2)
            # Grey is (x, x, x), and the operations keep it grey.
            colored = matrix[:, : rgb.shape[1], :3] @ rgb.expand(-1, 3, -1) + matrix[:, : rgb.shape[1], 3:]
            colored = torch.cat([colored.view_as(images[:, :3]), images[:, 3:]], 1)
            images = torch.where(active, colored, images)
        if "cutout" in self.names:
            gate, *centre = u[:, end:].unbind(1)
            inside = [
                ((torch.arange(side, device=u.device) + 0.5) / side - middle.unsqueeze(1)).abs() < 0.25
                for side, middle in zip(images.shape[2:], reversed(centre), strict=True)
            ]
            cut = (inside[0].unsqueeze(2) & inside[1].unsqueeze(1)).unsqueeze(1)
            images = images.masked_fill(cut & (gate < self.limit("cutout")).view(-1, 1, 1, 1), 0)
        return images

    def limit(self, name: str) -> Tensor:
        """Return the probability of one operation, a scalar tensor."""
        group = next((group for group in GROUPS if name in {operation[0] for operation in GROUPS[group]}), name)
        factor = self.multipliers.get(name, self.multipliers.get(group, 1.0))
        probability = self.probability if factor == 1 else self.probability * factor
        # There are two rotations: the probability that at least one is applied equals that of the other operations.
        return 1 - (1 - probability).sqrt() if name == "rotate" else probability

    def steps(self, operations: list[Operation], u: Tensor, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return a matrix `(N, n, n)` for each operation, and a mask `(N, 1, 1, 1)` of images that they change."""
        steps, gates = [], []
        columns = torch.split(u, [1 + operation[1] for operation in operations], 1)
        for (name, _, matrix), column in zip(operations, columns, strict=True):
            gate, *draws = column.unbind(1)
            gates.append(gate < self.limit(name))
            if images.shape[1] == 1 and name in ("hue", "saturation"):
                gates[-1] = torch.zeros_like(gates[-1])  # rounding would change the last bits of grey
            step = matrix(draws, *images.shape[2:])
            steps.append(torch.where(gates[-1].view(-1, 1, 1), step, matrices(u, step.shape[1], {})))
        return steps, torch.stack(gates).any(0).view(-1, 1, 1, 1)

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
    kinds: dict[str, type[Augmentation]] = {"diffaugment": DiffAugment, "ada": ADA}
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
