"""Augmentation that gradients pass, of real and generated images alike: DiffAugment and ADA.

A discriminator that sees few images learns them by heart. If all that it sees is augmented, real and fake, in its own
step and in the generator's, it cannot, and the generator still learns how images are that nobody augmented.

- Random numbers come from outside: `augment(images, uniform)` is a pure function of images `(N, C, H, W)`, of numbers
  `(N, augment.draws)` in [0, 1), a row for each image, and of the probability that `ADA` has reached.
- Both are differentiable twice with respect to the images. A gradient penalty is taken with respect to the images
  before their augmentation: its critic is `lambda x: discriminator(augment(x, uniform))`.
- Nothing waits for the device.
- On a GPU the gradient of `pick` adds in an order that changes from run to run, so a run with ADA or with translation
  repeats and resumes bit for bit on a CPU only.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from math import inf, tau
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class Augmentation(nn.Module):
    """A random change of images; one that adapts overrides `observe`, `statistics` and `adjust` too."""

    draws: int = 0  # random numbers for each image
    interval = 1  # batches from one `adjust` to the next; the caller counts them

    def forward(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Return `images` `(N, C, H, W)` in [-1, 1], changed as `uniform` `(N, draws)` in [0, 1) says.

        Shape and precision stay. Values may leave [-1, 1] and are not clipped, which would stop gradients.

        Raises:
            ValueError: for images of another form, or another number of draws.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
            raise ValueError(f"images have the shape {tuple(images.shape)}; expected (N, C, H, W) with C 1, 3 or 4")
        if uniform.shape != (len(images), self.draws):
            raise ValueError(f"uniform has the shape {tuple(uniform.shape)}; expected ({len(images)}, {self.draws})")
        full = torch.promote_types(images.dtype, torch.float32)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 cannot tell pixel 256 from 257
            # Neither 0 nor 1, whose normal quantiles are infinite; numbers drawn in half precision can be 1.
            inner = uniform.detach().to(full).clamp(2**-25, 1 - 2**-24)
            return self.change(images.to(full), inner).to(images.dtype)

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return the changed images; both arguments are in single precision at least, and `u` lies in (0, 1)."""
        raise NotImplementedError

    def check_objective(self, name: str, boundary: float | None) -> None:
        """Refuse an objective, whose loss has this boundary, if its logits cannot be adapted to.

        Raises:
            ValueError: if they cannot.
        """

    def observe(self, real_logits: Tensor, boundary: float | None = 0.0, processes: int = 1) -> None:
        """Take note of the discriminator's logits on augmented real images, the batch of one of `processes`."""

    def statistics(self) -> list[Tensor]:
        """Return tensors to replace, in place, by their mean over processes before `adjust`."""
        return []

    def adjust(self) -> None:
        """Adapt to what was observed since the last time."""


def chosen(policy: str, known: Iterable[str]) -> list[str]:
    """Return the names in `policy`, which commas separate.

    Raises:
        ValueError: if one is unknown.
    """
    names, known = [name.strip() for name in policy.split(",")], list(dict.fromkeys(known))
    if not set(names) <= set(known):
        raise ValueError(f"policy is {policy!r}; expected one or more of {','.join(known)}, separated by commas")
    return names


def pick(images: Tensor, index: Tensor) -> Tensor:
    """Return the pixels `(N, C, M)` of `images` `(N, C, H, W)` whose places in the flat H x W are `index` `(N, M)`."""
    # Not by `grid_sample`, which not every version of torch differentiates twice.
    return images.flatten(2).gather(2, index.unsqueeze(1).expand(-1, images.shape[1], -1))


def color(images: Tensor, u: Tensor) -> Tensor:
    """Return images brighter by U(-0.5, 0.5), with U(0, 2) of their saturation and U(0.5, 1.5) of their contrast."""
    light, saturation, contrast = u.view(len(u), -1, 1, 1, 1).unbind(1)
    rgb, alpha = images[:, :3] + (light - 0.5), images[:, 3:]
    grey = rgb.mean(1, keepdim=True)
    rgb = (rgb - grey) * (2 * saturation) + grey
    mean = rgb.mean((1, 2, 3), keepdim=True)
    return torch.cat([(rgb - mean) * (contrast + 0.5) + mean, alpha], 1)


def rectangle(images: Tensor, first: list[Tensor], sides: list[int]) -> Tensor:
    """Return a mask `(N, 1, H, W)`, true in the rectangle of `sides` whose first row and column are `first` `(N,)`."""
    spans = []
    for start, side, length in zip(first, sides, images.shape[2:], strict=True):
        place = torch.arange(length, device=images.device) - start.unsqueeze(1)
        spans.append((place >= 0) & (place < side))
    return (spans[0].unsqueeze(2) & spans[1].unsqueeze(1)).unsqueeze(1)


def translation(images: Tensor, u: Tensor) -> Tensor:
    """Return images moved by up to an eighth of each side in whole pixels; zeros follow."""
    sides, shifts, sources = list(images.shape[2:]), [], []
    for side, v in zip(sides, u.unbind(1), strict=True):
        most = (side + 4) // 8
        shifts.append(((2 * most + 1) * v).floor().long() - most)
        sources.append((torch.arange(side, device=u.device) - shifts[-1].unsqueeze(1)).clamp(0, side - 1))
    index = sources[0].unsqueeze(2) * sides[1] + sources[1].unsqueeze(1)
    return pick(images, index.flatten(1)).view_as(images) * rectangle(images, shifts, sides)


def cutout(images: Tensor, u: Tensor) -> Tensor:
    """Return images with zeros in a rectangle of half of each side, whose centre is anywhere."""
    first, cuts = [], []
    for side, v in zip(images.shape[2:], u.unbind(1), strict=True):
        cuts.append((side + 1) // 2)
        first.append(((side + 1 - cuts[-1] % 2) * v).floor() - cuts[-1] // 2)
    return images * ~rectangle(images, first, cuts)


class DiffAugment(Augmentation):
    """Zhao et al. 2020 (arXiv 2006.10738): a few strong changes of every image, always.

    Args:
        policy: which of color, translation and cutout, in the order of their application, separated by commas. Grey
            images have no saturation, and the alpha of RGBA images no colour.
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
        """Return every image changed."""
        for name, columns in zip(self.names, torch.split(u, self.counts, 1), strict=True):
            images = self.changes[name][0](images, columns)
        return images


# -- ADA ---------------------------------------------------------------------------------------------------------------


def matrices(like: Tensor, n: int, entries: dict[tuple[int, int], Tensor | float]) -> Tensor:
    """Return identities `(N, n, n)`, one for each row of `like`, but for the given entries."""
    result = torch.eye(n, dtype=like.dtype, device=like.device).repeat(len(like), 1, 1)
    for (row, column), value in entries.items():
        result[:, row, column] = value
    return result


# The geometric ones lead from coordinates (x, y, 1), in pixels from the centre, of a changed image to where its pixels
# come from: they are inverses of the change.
def stretched(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices `(N, 3, 3)` that magnify by `x` and `y`."""
    return matrices(x, 3, {(0, 0): 1 / x, (1, 1): 1 / y})


def turned(angle: Tensor) -> Tensor:
    """Return matrices `(N, 3, 3)` that turn counterclockwise by `angle`, a share of the circle."""
    cosine, sine = (tau * angle).cos(), (tau * angle).sin()
    return matrices(angle, 3, {(0, 0): cosine, (0, 1): -sine, (1, 0): sine, (1, 1): cosine})


def moved(x: Tensor, y: Tensor) -> Tensor:
    """Return matrices `(N, 3, 3)` that move by pixels to the right and down."""
    return matrices(x, 3, {(0, 2): -x, (1, 2): -y})


def tinted(own: Tensor, grey: Tensor | float = 0.0, turn: Tensor | float = 0.0, light: Tensor | float = 0.0) -> Tensor:
    """Return `own` x identity + `grey` x projection on grey + `turn` x cross product with grey, + `light`.

    These matrices `(N, 4, 4)` act on (red, green, blue, 1); grey is the unit vector along (1, 1, 1).
    """
    third, cross = grey / 3, turn / 3**0.5
    rows = [{(i, i): own + third, (i, (i + 1) % 3): third - cross, (i, (i + 2) % 3): third + cross} for i in range(3)]
    return matrices(own, 4, rows[0] | rows[1] | rows[2] | {(i, 3): light for i in range(3)})


def normal(u: Tensor, sigma: float) -> Tensor:
    """Return N(0, sigma^2) by its quantiles `u`."""
    quantile: Tensor = torch.special.ndtri(u)
    return sigma * quantile


def power(u: Tensor, sigma: float) -> Tensor:
    """Return 2 to the N(0, sigma^2)."""
    return torch.exp2(normal(u, sigma))


def sign(u: Tensor) -> Tensor:
    """Return -1 or 1."""
    return 1 - 2 * (u < 0.5).to(u.dtype)


# Its name, how many numbers it draws, and its matrix for these numbers u[i] `(N,)` and the height and width of images.
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
        ("rotate", 1, lambda u, h, w: turned(u[0])),  # again, so that the stretching has any direction
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
    """Return the products of matrices `(N, n, n)`; `@` may round its factors to ten bits on a GPU."""
    return (first.unsqueeze(3) * second.unsqueeze(1)).sum(2)


def finer(images: Tensor, axis: int) -> Tensor:
    """Return the n + 1 midpoints along `axis` of n pixels, edges included, and behind them the n pixels and one more.

    Beyond its edges the image goes on as its reflection, so the one more is the last pixel again. A midpoint is the
    value of the polynomial through the six pixels around it (Deslauriers and Dubuc 1989).
    """
    n = images.shape[axis]
    outside = [images.narrow(axis, min(k % (2 * n), -(k + 1) % (2 * n)), 1) for k in (-3, -2, -1, n, n + 1, n + 2)]
    padded = torch.cat([*outside[:3], images, *outside[3:]], axis)
    part = [padded.narrow(axis, k, n + 1) for k in range(6)]
    middle = (part[2] + part[3]) * (150 / 256) - (part[1] + part[4]) * (25 / 256) + (part[0] + part[5]) * (3 / 256)
    return torch.cat([middle, part[3]], axis)


def neighbours(position: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the two places in what `finer` makes of n pixels around `position`, and their weights, `(N, 2, H, W)`.

    `position` `(N, H, W)` is in pixels from the centre.
    """
    position = position + n / 2  # from the edge; with its reflection the image has a period of two sides
    position = 2 * (position - 2 * n * (position / (2 * n)).round()).abs()  # in half pixels: even ones are midpoints
    before = position.floor()
    after = position - before
    step = torch.stack([before, before + 1], 1).long()
    return step // 2 + step % 2 * (n + 1), torch.stack([1 - after, after], 1)


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Return `images` `(N, C, H, W)` read where `matrix` `(N, 3, 3)` says that their pixels come from."""
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
    """Karras et al. 2020 (arXiv 2006.06676): changes whose probability follows the discriminator's overfitting.

    Each operation of an image has a gate, open with that probability; if all are shut, the image stays bit for bit. The
    geometric ones make one matrix, by which the image, reflected at its edges, is read once: linearly between pixels of
    a grid that a filter has made twice as fine, so that flips, quarter turns and whole-pixel moves copy pixels. The
    paper's filters (wavelets) are longer and its results twice as fine too, against aliases in shrunken images: four
    times the cost, for few that shrink to less than two thirds. Grey images get brightness, contrast and lumaflip of
    the colour operations; the alpha of RGBA images gets none. `cutout` zeroes a rectangle of half of each side, last of
    all. The paper's filters of frequency bands and its noise are not implemented.

    After each step of the discriminator: `observe` its logits on real images. Every `interval` batches: average
    `statistics()` over processes, if there are several, and `adjust`.

    Args:
        policy: operations, or their groups blit, geometry and color, separated by commas; these three are the paper's
            "bgc". Leave out what changes the meaning of an image, as flips do to digits.
        target: the mean sign of logits on real images to steer to; None keeps the probability.
        images: the real images in which the probability can go from 0 to 1.
        interval: batches between adjustments.
        probability: where it starts.
        multipliers: factors of the probability, from 0 to 1, by operation or group; R3GAN has 0.5 for color.
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
        self.register_buffer("observed", torch.zeros(2))  # sums over processes: of signs, and of how many images

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Stay in single precision whatever the model becomes: half would round the small steps away."""
        super()._apply(lambda tensor: fn(tensor).float(), recurse)  # type: ignore[no-untyped-call]
        return self

    def operations(self, *groups: str) -> list[Operation]:
        """Return those of `groups` that the policy names."""
        return [operation for group in groups for operation in GROUPS[group] if {group, operation[0]} & self.names]

    def change(self, images: Tensor, u: Tensor) -> Tensor:
        """Return images, each after the operations whose gates are open."""
        spatial, colors = self.operations("blit", "geometry"), self.operations("color")
        split, end = (sum(1 + operation[1] for operation in group) for group in (spatial, spatial + colors))
        if spatial:
            steps, active = self.steps(spatial, u[:, :split], images)
            images = torch.where(active, warp(images, functools.reduce(product, steps)), images)
        if colors:
            steps, active = self.steps(colors, u[:, split:end], images)
            matrix, rgb = functools.reduce(product, reversed(steps)), images[:, :3].flatten(2)
            # Grey is (x, x, x), and stays so.
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
        """Return the probability of one operation."""
        group = next((group for group in GROUPS if name in {operation[0] for operation in GROUPS[group]}), name)
        factor = self.multipliers.get(name, self.multipliers.get(group, 1.0))
        probability = self.probability if factor == 1 else self.probability * factor
        # Of two rotations each is so rare that there is one at all with the common probability.
        return 1 - (1 - probability).sqrt() if name == "rotate" else probability

    def steps(self, operations: list[Operation], u: Tensor, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return a matrix `(N, n, n)` for each operation, and which images `(N, 1, 1, 1)` any of them changes."""
        steps, gates = [], []
        columns = torch.split(u, [1 + operation[1] for operation in operations], 1)
        for (name, _, matrix), column in zip(operations, columns, strict=True):
            gate, *draws = column.unbind(1)
            gates.append(gate < self.limit(name))
            if images.shape[1] == 1 and name in ("hue", "saturation"):
                gates[-1] = torch.zeros_like(gates[-1])  # they would change the last bits of grey
            step = matrix(draws, *images.shape[2:])
            steps.append(torch.where(gates[-1].view(-1, 1, 1), step, matrices(u, step.shape[1], {})))
        return steps, torch.stack(gates).any(0).view(-1, 1, 1, 1)

    def check_objective(self, name: str, boundary: float | None) -> None:
        """Refuse an objective whose logits have no boundary between real and fake, unless `target` is None.

        Raises:
            ValueError: if it is refused.
        """
        if boundary is None and self.target is not None:
            raise ValueError(
                f"augment is ada, which follows the sign of real logits, and those of the {name} objective have none: "
                "set augment_options.target to null, which keeps the probability, or choose another objective"
            )

    @torch.no_grad()
    def observe(self, real_logits: Tensor, boundary: float | None = 0.0, processes: int = 1) -> None:
        """Count on which side of the `boundary` of a loss its logits `(N, ...)` on augmented real images are.

        A logit that is not a number is on neither. What one of `processes` sees stands for what all see, so that the
        mean over processes of `statistics()` is the sum of what they have seen.

        Raises:
            ValueError: if there is no boundary, but a target.
        """
        self.check_objective("given", boundary)
        signs = (real_logits.float() - (boundary or 0.0)).sign().mean()
        self.observed += torch.stack([signs, torch.ones_like(signs)]) * (len(real_logits) * processes)

    def statistics(self) -> list[Tensor]:
        """Return the tensor `(2,)` of what was observed. To average it more than once changes nothing."""
        return [self.observed]

    @torch.no_grad()
    def adjust(self) -> None:
        """Move the probability towards the target by the number of images that were observed, and forget them.

        Equation 1 of the paper: up where the discriminator is surer of the real images than `target`, else down.
        """
        signs, images = self.observed.unbind()
        if self.target is not None:
            step = (signs - self.target * images).sign() * images / self.images
            self.probability.add_(step).clamp_(0, 1)
        self.observed.zero_()


def named(name: str | None, **options: Any) -> Augmentation | None:
    """Return what a recipe calls `name`, built with `options`; None for None.

    Raises:
        ValueError: for an unknown name, option, or value, or options of no augmentation.
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
