"""StyleGAN2, Karras et al. 2020 (arXiv 1912.04958), and StyleGAN2-ADA, Karras et al. 2020 (arXiv 2006.06676)."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.module import in_pieces
from gans.latent import Labels, draw, key
from gans.models.gan import LatentGAN
from gans.networks import stylegan2
from gans.networks.layers import Size, image_size
from gans.terms import PathLength, Term

FOLLOWED = 0.005  # weight of a batch in the moving mean of w
SHEET = 6  # images along a side of a sheet


@dataclass(frozen=True)
class Preset:
    """Numbers of a configuration: the networks, and how they are trained.

    Args:
        latent_dim: length of a latent.
        w_dim: length of w.
        mapping_layers: layers of the mapping network.
        class_layers: layers of the mapping network of classes in the discriminator.
        base_width: channels of a level times its resolution.
        max_width: maximum number of channels of a level.
        architecture: of the discriminator.
        minibatch_std: group size of the minibatch standard deviation.
        lr: learning rate of Adam, of both players.
        r1: weight of R1.
        path_length: weight of the path length penalty.
        style_mixing: probability of style mixing.
        ema_halflife: half-life of the averaged generator in images.
        ema_rampup: its maximum as a share of the images seen; 0 is none.
        clamp: largest absolute value of activations, for float16; None is no limit.
    """

    latent_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 2
    class_layers: int = 8
    base_width: int = 16384
    max_width: int = 512
    architecture: stylegan2.Architecture = "resnet"
    minibatch_std: int = 4
    lr: float = 2.5e-3
    r1: float | Literal["heuristic"] = "heuristic"
    path_length: float = 2.0
    style_mixing: float = 0.9
    ema_halflife: float = 10_000
    ema_rampup: float = 0.05
    clamp: float | None = 256.0


PRESETS = {
    "auto": Preset(),
    "cifar": Preset(
        base_width=32768,
        architecture="orig",
        minibatch_std=32,
        r1=0.01,
        path_length=0.0,
        style_mixing=0.0,
        ema_halflife=500_000,
    ),
    "paper256": Preset(mapping_layers=8, minibatch_std=8, r1=1.0, ema_halflife=20_000, ema_rampup=0.0),
    "small": Preset(
        latent_dim=64,
        w_dim=64,
        class_layers=2,
        base_width=1024,
        max_width=96,
        minibatch_std=8,
        r1=1.0,
        path_length=0.0,
        clamp=None,
    ),
}


def planned(name: str, size: Size, width: int | None = None, **given: Any) -> Preset:
    """Return the numbers of a configuration for images of `size`, with those that are given instead of its own.

    Those of `auto` depend on the size, as the authors' do.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name}; expected one of {', '.join(PRESETS)}")
    found, sides = PRESETS[name], image_size(size)
    resolution = max(sides)
    if name == "auto":
        wide, fine = resolution >= 512, resolution >= 1024
        # Of a batch that the authors' code gives to one GPU: 32 images up to 128 pixels, 16 at 256.
        halflife = 10_000 / 32 * max(1, min(4096 // resolution, 32))
        found = replace(found, base_width=32768 if wide else 16384, lr=2e-3 if fine else 2.5e-3, ema_halflife=halflife)
    if width is not None:
        at_least(1, width=width)
        given["base_width"] = math.ceil(width * math.sqrt(sides[0] * sides[1]))
    return replace(found, **{option: value for option, value in given.items() if value is not None})


class StyleGAN2(LatentGAN):
    """A generator with styles: a mapping network makes w of a latent, and each layer takes a w of its own.

    The non-saturating loss with lazy R1, and path length regularisation, both with Adam's correction; style mixing, and
    noise in every layer. Outside training the noise is stored, so an image depends on its latent and class alone.
    `augment: ada` is StyleGAN2-ADA.

    Arguments that are None take the preset's values. `auto`, `cifar` and `paper256` have those of StyleGAN2-ADA's code;
    batch sizes are the recipes'. `small` is for a processor without a GPU: a sixteenth as wide, with a larger R1,
    without path lengths, and without a limit of activations, so not for float16.

    Args:
        size: image side, or (height, width): multiples of a power of two, with at most 15 such units in the shorter.
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        preset: architecture of both networks and numbers of the training.
        width: channels next to the image; the width doubles with each halving, up to the preset's maximum.
        num_classes: number of classes; 0 is unconditional.
        lr: learning rate of Adam, of both players.
        betas: Adam's decay rates, of both players.
        r1: weight of the gradient penalty on real images; `heuristic` is 2e-4 x pixels / batch size.
        r2: weight of the same on fake images.
        lazy: interval of `r1` and `r2` in batches.
        path_length: weight of the path length penalty, every 4 steps of the generator on half of the batch; 0 is none.
        style_mixing: share of the images whose layers have w of two latents, from a random layer on, in training.
        minibatch_std: group size of the minibatch standard deviation in the discriminator; 0 is none.
        noise: noise in every layer. Without it, the layers never learn to use any, and images have no grain.
        ema_halflife: half-life in images of the averaged generator; 0 disables averaging.
        ema_rampup: the half-life is at most this share of the images seen so far; 0 is no limit.
        clamp: largest absolute value of activations in both networks; 0 is no limit, but float16 needs one.
        options: as in `LatentGAN`.
    """

    generator: stylegan2.Generator
    generator_ema: stylegan2.Generator

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        latent_dim: int | None = None,
        preset: Literal["auto", "cifar", "paper256", "small"] = "auto",
        width: int | None = None,
        num_classes: int = 0,
        lr: float | None = None,
        betas: tuple[float, float] = (0.0, 0.99),
        r1: float | Literal["heuristic"] | None = None,
        r2: float | Literal["heuristic"] = 0.0,
        lazy: int = 16,
        path_length: float | None = None,
        style_mixing: float | None = None,
        minibatch_std: int | None = None,
        noise: bool = True,
        ema_halflife: float | None = None,
        ema_rampup: float | None = None,
        clamp: float | None = None,
        **options: Any,
    ) -> None:
        plan = planned(
            preset,
            size,
            width,
            latent_dim=latent_dim,
            lr=lr,
            r1=r1,
            path_length=path_length,
            style_mixing=style_mixing,
            minibatch_std=minibatch_std,
            ema_halflife=ema_halflife,
            ema_rampup=ema_rampup,
            clamp=clamp,
        )
        at_least(
            0,
            clamp=plan.clamp or 0,
            num_classes=num_classes,
            path_length=plan.path_length,
            minibatch_std=plan.minibatch_std,
        )
        if not 0 <= plan.style_mixing <= 1:
            raise ValueError(f"style_mixing is {plan.style_mixing}; expected a number from 0 to 1")
        super().__init__(
            size,
            channels,
            plan.latent_dim,
            plan.base_width,
            lr=plan.lr,
            betas=betas,
            r1=plan.r1,
            r2=r2,
            lazy=lazy if plan.r1 or r2 else 1,
            ema_halflife=plan.ema_halflife,
            ema_rampup=plan.ema_rampup,
            **options,
        )
        self.num_classes = num_classes

    def plan(self) -> Preset:
        """Return the numbers of the preset, with those that were given instead of its own."""
        names = ("latent_dim", "path_length", "style_mixing", "minibatch_std", "clamp")
        given = {name: self.hparams[name] for name in ("width", *names)}
        return planned(self.hparams["preset"], self.hparams["size"], **given)

    def own_terms(self) -> list[Term]:
        """Return the path length penalty, if it has a weight."""
        weight = self.plan().path_length
        return [PathLength(weight)] if weight else []

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to images."""
        plan, classes = self.plan(), self.hparams["num_classes"]
        return stylegan2.Generator(
            self.latent_dim,
            size,
            channels,
            num_classes=classes,
            w_dim=plan.w_dim,
            mapping_layers=plan.mapping_layers,
            base_width=width,
            max_width=plan.max_width,
            clamp=plan.clamp or None,
        )

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images, and classes, to logits."""
        plan, classes = self.plan(), self.hparams["num_classes"]
        return stylegan2.Discriminator(
            size,
            channels,
            num_classes=classes,
            architecture=plan.architecture,
            base_width=width,
            max_width=plan.max_width,
            mapping_layers=plan.class_layers,
            minibatch_group=plan.minibatch_std,
            clamp=plan.clamp or None,
        )

    # -- training -----------------------------------------------------------------------------------------------------

    def styles(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return w of all layers `(N, num_ws, w_dim)` in training, with style mixing, and move the mean of w.

        A share `style_mixing` of the images has w of a second latent from a random layer on, layer 1 or a later one.
        """
        generator, share = self.generator, self.plan().style_mixing
        if not share:
            w = generator.mapping(z, *labels)
            self.move_mean(generator.mean_w, w, FOLLOWED)
            return generator.broadcast(w)
        others, (mixed, place) = self.latent(len(z)), self.uniform(len(z), 2).unbind(1)
        w, other = generator.mapping(torch.cat([z, others]), *(torch.cat([part, part]) for part in labels)).chunk(2)
        self.move_mean(generator.mean_w, w, FOLLOWED)
        begin = torch.where(mixed < share, 1 + (place * (self.num_ws - 1)).floor(), self.num_ws)
        own = torch.arange(self.num_ws, device=z.device) < begin.unsqueeze(1)
        return torch.where(own.unsqueeze(2), w.unsqueeze(1), other.unsqueeze(1))

    def layer_noise(self, n: int) -> Tensor:
        """Return fresh N(0, 1) numbers `(n, noise_dim)` of all layers; zeros `(1, noise_dim)` without noise."""
        if not self.hparams["noise"]:
            return self.generator.mean_w.new_zeros(1, self.generator.noise_dim)
        return self.noise_like(self.generator.synthesis.noise.expand(n, -1))

    def generate(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Return the images `(N, C, H, W)` of latents in training, with style mixing and fresh noise."""
        return cast(Tensor, self.generator.synthesis(self.styles(z, *conditions), self.layer_noise(len(z))))

    def path(self, z: Tensor, *conditions: Tensor, every: int = 1) -> tuple[Tensor, Tensor]:
        """Return w of all layers `(N, num_ws, w_dim)`, which depends on the mapping network, and their images."""
        ws, noise = self.styles(z, *conditions)[::every], self.layer_noise(len(z))[::every]
        return ws, cast(Tensor, self.generator.synthesis(ws, noise))

    # -- styles -------------------------------------------------------------------------------------------------------

    @property
    def num_ws(self) -> int:
        """Number of w that an image takes, one for each layer."""
        return self.generator.num_ws

    @property
    def w_dim(self) -> int:
        """Length of w."""
        return self.generator.w_dim

    @property
    def mean_w(self) -> Tensor:
        """Moving mean of w `(w_dim,)`."""
        return self.generator_ema.mean_w

    def to_w(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return w `(N, w_dim)` of latents `(N, latent_dim)` and, if class-conditional, classes `(N,)`."""
        return cast(Tensor, self.generator_ema.mapping(z, *labels))

    @property
    def noise_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each layer's noise."""
        return self.generator_ema.synthesis.noise_sizes

    @property
    def stored_noise(self) -> Tensor:
        """Noise of all layers `(noise_dim,)` that images have outside training."""
        return self.generator_ema.synthesis.noise

    def from_w(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` of w `(N, w_dim)`, the same for all layers, or `(N, num_ws, w_dim)`.

        Args:
            w: of the images.
            noise: `(N, noise_dim)` in place of the stored noise.

        Raises:
            ValueError: if w or noise has another shape.
        """
        if w.shape[1:] not in ((self.w_dim,), (self.num_ws, self.w_dim)):
            told = f"w has the shape {tuple(w.shape)}"
            raise ValueError(f"{told}; expected (N, {self.w_dim}) or (N, {self.num_ws}, {self.w_dim})")
        ws = w if w.ndim == 3 else self.generator_ema.broadcast(w)
        return cast(Tensor, self.generator_ema.synthesis(ws, noise))

    def truncated(self, w: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        """Return w of all layers `(N, num_ws, w_dim)`, moved towards the mean of w: `mean + psi (w - mean)`.

        Source: Karras et al. 2019 (StyleGAN, arXiv 1812.04948), section 3.2.

        Args:
            w: `(N, w_dim)` or `(N, num_ws, w_dim)`.
            psi: 1 changes nothing, 0 gives the mean. A negative number gives opposites.
            cutoff: number of layers, from the lowest resolution, that are moved; None is all.

        Raises:
            ValueError: if psi is not finite, or there are fewer layers.
        """
        if not math.isfinite(psi):
            raise ValueError(f"truncation is {psi}; expected a finite number, 1 for none")
        if cutoff is not None and not 1 <= cutoff <= self.num_ws:
            raise ValueError(f"cutoff is {cutoff}; expected 1 to {self.num_ws}, the layers of the generator")
        ws = w if w.ndim == 3 else self.generator_ema.broadcast(w)
        moved = torch.lerp(self.mean_w.to(ws), ws, psi)
        return moved if cutoff is None else torch.cat([moved[:, :cutoff], ws[:, cutoff:]], 1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        cutoff: int | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return `n` images `(n, C, H, W)` of the averaged generator, unbounded, but mostly in [-1, 1].

        Args:
            n: number of images.
            labels: class of all images, or classes `(n,)`, for conditional models only; None gives all classes in turn.
            truncation: psi of `truncated`: less variety, more typical images; None is 1.
            cutoff: number of layers, from the lowest resolution, that are truncated; None is all.
            seed: draw latents that depend on it alone; None draws them from torch's global generator.

        Raises:
            ValueError: for labels given to a model that takes none, or a truncation or cutoff out of range.
        """
        if truncation is None:
            if cutoff is not None:
                raise ValueError(f"cutoff is {cutoff}; expected None without truncation, which it limits")
            return super().sample(n, labels=labels, seed=seed)

        def made(*inputs: Tensor) -> Tensor:
            return self.from_w(self.truncated(self.to_w(*inputs), truncation, cutoff))

        return in_pieces(made, *self.sample_inputs(n, labels, seed))

    # -- pictures -----------------------------------------------------------------------------------------------------

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int | None]]:
        """Return a sheet of truncation, psi from 1 to 0 across, and one of style mixing.

        In the second, the first row and the first column are images of their own w; the first of all is that of the
        mean w. Any other has w of its row in the first half of the layers, and w of its column in the second.
        """
        like = next(self.generator.parameters())
        z = draw((2 * SHEET, self.latent_dim), key("pictures"), self.prior, self.device, like.dtype)
        ws = self.generator_ema.broadcast(self.to_w(z, *self.conditions(len(z), None)))
        rows, columns, half = ws[:SHEET], ws[SHEET:], self.num_ws // 2
        less = torch.stack([self.truncated(rows, psi) for psi in torch.linspace(1, 0, SHEET).tolist()], 1)
        mean = self.truncated(ws[:1], 0.0)
        rows, columns = torch.cat([mean, rows[1:]]), torch.cat([mean, columns[1:]])
        coarse, fine = rows.unsqueeze(1).repeat(1, SHEET, 1, 1), columns.unsqueeze(0).repeat(SHEET, 1, 1, 1)
        coarse[0], fine[:, 0] = columns, rows
        mixed = torch.cat([coarse[:, :, :half], fine[:, :, half:]], 2)
        sheets = {"truncation": less, "mixing": mixed}
        return {name: (in_pieces(self.from_w, sheet.flatten(0, 1)), SHEET) for name, sheet in sheets.items()}
