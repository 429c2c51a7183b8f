"""The spaces of a model that `gans.explore` walks through: their points, and the images of points.

| space | point | models |
|---|---|---|
| `latent` | what the generator takes, `(latent_dim,)` | all |
| `codes` | whitened code of an autoencoder, `(latent_dim,)` | those with a GAN on codes |
| `w` | output w of the mapping network, `(w_dim,)` | style models |
| `w+` | a w for each layer, `(num_ws, w_dim)` | style models with more than one w |

Points of every space have about mean 0 and deviation 1 in each coordinate. So a step, a range or a learning rate means
the same in all of them: points of W are the difference from the mean w, in units of its deviation. Files hold the
model's own numbers; `stored` and `restored` convert.

A style model is described in `gans.engine.interface`: Karras et al. 2019 (arXiv 1812.04948) for W, Abdal et al. 2019
(arXiv 1904.03189) for W+.
"""

import copy
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from gans.checks import nearest
from gans.engine.interface import styled, truncated
from gans.explore.generators import AT_ONCE, still
from gans.explore.inversion import invert
from gans.explore.styles import compact, towards
from gans.latent import draw, key
from gans.networks import manifold
from gans.networks.mixture import Mixture

MATCHED = 200  # steps of descent from a code to its latent, which needs no image
MEASURED = 1000  # latents whose w give the deviation of W


class Space(nn.Module):
    """A space of a model, as a network from its points to images. It uses the averaged weights.

    Here points are latents `(N, latent_dim)`. Subclasses are other spaces.

    Args:
        model: has `latent_dim`, `prior` and `conditions`, such as `gans.engine.module.AdversarialModule`.
        label: class of all images of a class-conditional model, or of each, `(N,)`; None uses all classes in turn.
        truncation: of latents when they were drawn, or psi of a style model, towards its mean w; None for none.
    """

    name = "latent"
    directions = "latent"  # space of the directions that move its points
    layers = 0  # of which each has a w of its own
    scale = 1.0  # deviation of a coordinate in the model's own numbers
    jitter = 0.05  # deviation of a coordinate of the noise on points at the start of an inversion

    def __init__(self, model: Any, label: int | Tensor | None = None, truncation: float | None = None) -> None:
        super().__init__()
        self.model, self.label, self.truncation = model, label, truncation

    def at(self, label: int | Tensor | None, truncation: float | None) -> Self:
        """Return this space for another class and truncation."""
        other = copy.copy(self)
        other.label, other.truncation = label, truncation
        return other

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (int(self.model.latent_dim),)

    @property
    def dim(self) -> int:
        """Length of directions."""
        return self.shape[-1]

    @property
    def uniform(self) -> bool:
        """Whether points are from U(-1, 1), and therefore bounded."""
        return bool(self.model.prior == "uniform")

    @property
    def path(self) -> Literal["lerp", "slerp"]:
        """Which way from a point to another has the distribution of points: straight, or on a sphere."""
        return "lerp" if self.uniform else "slerp"

    def given(self, count: int) -> tuple[Tensor, ...]:
        """Return the model's conditions of `count` images."""
        labels = None if self.label is None else torch.as_tensor(self.label).to(self.model.device).expand(count)
        conditions: tuple[Tensor, ...] = self.model.conditions(count, labels)
        return conditions

    def forward(self, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` of points, not clipped to [-1, 1]; of clips the middle frames.

        Args:
            points: of this space, `(N, *shape)`.
            noise: `(N, noise_dim)`, of a style model; None takes the stored noise.
        """
        return still(self.made(points, noise)).float()

    def made(self, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` or clips `(N, C, T, H, W)`, like `forward`."""
        if noise is not None:
            raise ValueError(f"noise has {noise.shape[1]} numbers; expected none, for these points take none")
        with truncated(self.model, self.truncation):
            images: Tensor = self.model(points, *self.given(len(points)))
        return images

    def from_latents(self, z: Tensor) -> Tensor:
        """Return the points of latents `(N, latent_dim)`."""
        return z

    def stored(self, points: Tensor) -> Tensor:
        """Return points in the model's own numbers, as files hold them."""
        return points

    def accepted(self, stored: Tensor, space: str) -> Tensor:
        """Return the points of stored points `(N, ...)` of a space of the same model.

        Raises:
            ValueError: if they are no points of a space that this one has points for.
        """
        if space != self.name or stored.shape[1:] != self.shape:
            raise ValueError(f"{self.numbers(stored)} of the space {space}; expected {self.expected()}")
        return stored

    def numbers(self, points: Tensor) -> str:
        """Return how many numbers a point has, in words."""
        return f"{' x '.join(map(str, points.shape[1:]))} numbers"

    def expected(self) -> str:
        """Return what points of this space are, in words."""
        return f"{' x '.join(map(str, self.shape))} of the space {self.name}"

    def layered(self, points: Tensor) -> Tensor:
        """Return points `(..., *shape)` in the shape in which their layers can be moved one by one."""
        return points

    def offset(self, vector: Tensor, layers: Sequence[int] | None = None) -> Tensor:
        """Return the direction `(dim,)` that moves these layers, in the shape of a `layered` point.

        Raises:
            ValueError: if there are no such layers.
        """
        self.chosen(layers)
        return vector

    def chosen(self, layers: Sequence[int] | None) -> list[int]:
        """Return the layers of a choice, all of them for None.

        Raises:
            ValueError: if the space has no such layers.
        """
        if layers is None:
            return list(range(self.layers))
        if not self.layers:
            raise ValueError(f"layers is {compact(layers)}; expected none, for the space {self.name} has no layers")
        if wrong := [layer for layer in layers if not 0 <= layer < self.layers]:
            raise ValueError(f"layer is {wrong[0]}; expected 0 to {self.layers - 1}, which the model has")
        return list(layers)


class CodeLatents(Space):
    """Latents `(N, latent_dim)` of an autoencoder with a GAN on its codes.

    The network from latents to codes is near the identity. For Gaussian codes it is the identity. That of a mixture of
    Gaussians has an inverse.
    """

    def accepted(self, stored: Tensor, space: str) -> Tensor:
        """Return the points of stored ones: of latents, or of codes, whose latents are found by gradient descent."""
        if space != "codes" or stored.shape[1:] != self.shape:
            return super().accepted(stored, space)
        between = self.model.generator_ema.latent
        if isinstance(between, Mixture):
            return between.inverse(stored)
        return stored if isinstance(between, nn.Identity) else invert(between, stored, stored, steps=MATCHED).codes


class Codes(Space):
    """Whitened codes `(N, latent_dim)` of an autoencoder."""

    name = "codes"
    directions = "codes"

    @property
    def uniform(self) -> bool:
        """Whether points are bounded: they are not."""
        return False

    def made(self, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the images that the decoder makes of codes."""
        generator = self.model.generator_ema
        images: Tensor = generator.decoder(generator.codes.colour(points))
        return images

    @torch.no_grad()
    def from_latents(self, z: Tensor) -> Tensor:
        """Return the codes of latents."""
        codes: Tensor = self.model.generator_ema.latent(z)
        return codes

    def accepted(self, stored: Tensor, space: str) -> Tensor:
        """Return the points of stored ones: of codes, or of latents, whose codes are computed."""
        if space == "latent" and stored.shape[1:] == self.shape:
            return self.from_latents(stored)
        return super().accepted(stored, space)


class StyleLatents(Space):
    """Latents `(N, latent_dim)` of a style model."""

    def made(self, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the images of latents, truncated in W."""
        if self.truncation is None and noise is None:
            return super().made(points)
        labels = self.given(len(points))
        w = self.model.to_w(points, *labels)
        return styled_images(self.model, towards(w, centre(self.model, *labels), self.truncation), noise)


class Styles(Space):
    """W: outputs of the mapping network `(N, w_dim)`, standardised.

    `forward` also takes points of W+, which moves of single layers lead to.
    """

    name = "w"
    directions = "w"

    def __init__(self, model: Any, label: int | Tensor | None = None, truncation: float | None = None) -> None:
        super().__init__(model, label, truncation)
        self.layers, self.scale = int(model.num_ws), deviation(model)
        self.jitter *= model.w_dim**0.5  # of the length of w - mean_w, as in Karras et al. 2020, appendix D

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (int(self.model.w_dim),)

    @property
    def uniform(self) -> bool:
        """Whether points are bounded: they are not."""
        return False

    @property
    def path(self) -> Literal["lerp", "slerp"]:
        """Straight: W need not be a sphere."""
        return "lerp"

    def made(self, points: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the images of points of W or W+."""
        return styled_images(self.model, self.stored(points), noise)

    @torch.no_grad()
    def from_latents(self, z: Tensor) -> Tensor:
        """Return the points of latents, truncated."""
        labels = self.given(len(z))
        w = self.model.to_w(z, *labels)
        return self.standardised(towards(w, centre(self.model, *labels), self.truncation))

    def standardised(self, w: Tensor) -> Tensor:
        """Return the points `(..., w_dim)` of the model's own w."""
        points: Tensor = (w - self.model.mean_w) / self.scale
        return points

    def stored(self, points: Tensor) -> Tensor:
        """Return the model's own w of points."""
        w: Tensor = self.model.mean_w + self.scale * points
        return w

    def accepted(self, stored: Tensor, space: str) -> Tensor:
        """Return the points of stored ones: of W, or of latents, whose w are computed."""
        if space == "latent" and stored.shape[1:] == (self.model.latent_dim,):
            return self.from_latents(stored)
        if space == "w" and stored.shape[1:] == (self.model.w_dim,):
            return self.standardised(stored)
        hint = ": give --space w+" if space == "w+" else ""
        raise ValueError(f"{self.numbers(stored)} of the space {space}; expected {self.expected()}{hint}")

    def layered(self, points: Tensor) -> Tensor:
        """Return points `(..., w_dim)` as points of W+, `(..., num_ws, w_dim)`."""
        return points.unsqueeze(-2).expand(*points.shape[:-1], self.layers, -1)

    def offset(self, vector: Tensor, layers: Sequence[int] | None = None) -> Tensor:
        """Return the direction `(num_ws, w_dim)` that moves these layers along a vector `(w_dim,)`, and no others."""
        moved = vector.new_zeros(self.layers, len(vector))
        moved[self.chosen(layers)] = vector
        return moved


class LayeredStyles(Styles):
    """W+: a w for each layer, `(N, num_ws, w_dim)`, standardised as in W."""

    name = "w+"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.layers, int(self.model.w_dim))

    def from_latents(self, z: Tensor) -> Tensor:
        """Return the points of latents: the same w for all layers."""
        return super().layered(super().from_latents(z)).clone()

    def accepted(self, stored: Tensor, space: str) -> Tensor:
        """Return the points of stored ones: of W+, of W, or of latents."""
        if space == "w+" and stored.shape[1:] == self.shape:
            return self.standardised(stored)
        if space == "w+":
            raise ValueError(f"{self.numbers(stored)} of the space w+; expected {self.expected()}")
        points = super().accepted(stored, space)
        return points if points.ndim == 3 else super().layered(points).clone()

    def layered(self, points: Tensor) -> Tensor:
        """Return points unchanged: their layers can be moved one by one."""
        return points


Spaces = dict[str, type[Space]]


def spaces(model: Any) -> Spaces:
    """Return the spaces of a model by name."""
    held: Spaces = {"latent": Space}
    if isinstance(getattr(model, "generator_ema", None), manifold.Generator):
        held |= {"latent": CodeLatents, "codes": Codes}
    if styled(model):
        held |= {"latent": StyleLatents, "w": Styles}
        if model.num_ws > 1:
            held["w+"] = LayeredStyles
    return held


def space_of(model: Any, name: str, label: int | Tensor | None = None, truncation: float | None = None) -> Space:
    """Return a space of a model by its name.

    Raises:
        ValueError: if the model has no such space.
    """
    known = spaces(model)
    if name not in known:
        told = f"{nearest(name, list(known))}; expected {' or '.join(known)}, as {type(model).__name__} has"
        raise ValueError(f"space is {name}{told}")
    return known[name](model, label, truncation).eval()


def usual_space(model: Any, moved: bool = False) -> str:
    """Return the name of the space that is explored by default: codes of an autoencoder, W of a style model.

    Args:
        model: whose space it is.
        moved: whether points are moved along directions. Those of an autoencoder are of latents.
    """
    known = spaces(model)
    return next(name for name in (*([] if moved else ["codes"]), "w", "latent") if name in known)


def centre(model: Any, *labels: Tensor) -> Tensor:
    """Return the w to which truncation leads: `model.centre(*labels)` `(N, w_dim)`, or else `mean_w` `(w_dim,)`."""
    of = getattr(model, "centre", None)
    found: Tensor = of(*labels) if of else model.mean_w
    return found


@torch.no_grad()
def deviation(model: Any) -> float:
    """Return the root mean square of a coordinate of w - mean_w of a style model, from 1,000 latents."""
    z = draw((MEASURED, model.latent_dim), key("deviation of w"), model.prior, model.device, model.mean_w.dtype)
    w = torch.cat([model.to_w(part, *model.conditions(len(part), None)) for part in torch.split(z, AT_ONCE)])
    return max(float((w - model.mean_w).square().mean().sqrt()), 1e-12)


def styled_images(model: Any, w: Tensor, noise: Tensor | None) -> Tensor:
    """Return the images of a style model for w `(N, w_dim)` or `(N, num_ws, w_dim)`, in its own numbers."""
    images: Tensor = model.from_w(w) if noise is None else model.from_w(w, noise=noise)
    return images
