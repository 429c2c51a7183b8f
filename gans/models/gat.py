"""GAT: a GAN of transformers, on codes or pixels, Hyun et al. 2025 (arXiv 2509.24935)."""

import math
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.module import in_pieces
from gans.latent import Labels, draw, key
from gans.models.aligned import Aligner
from gans.models.codedgan import CodedGAN
from gans.models.gan import labelled
from gans.networks import gat
from gans.networks.layers import Size, widened
from gans.terms import Alignment, ApproximateR1, ApproximateR2, Step, Term, built

FOLLOWED = 0.005  # weight of a batch in the moving mean of w of a class
REFERENCE_WIDTH = 768  # whose learning rate is `lr`
LEVELS = 4  # of the generator's outputs
SHEET = 8  # rows of a sheet

Preset = Literal[
    "tiny", "S/2", "S/4", "S/8", "B/2", "B/4", "B/8", "L/2", "L/4", "L/8", "XL/2", "XL/4", "XL/8"
]  # fmt: skip


class GAT(CodedGAN):
    """Transformers as both players, on the codes of an autoencoder: one step from latents to images of any class.

    The generator gives a code at four depths. The discriminator sees all four at once, with noise that is stronger for
    lower depths; a real code is repeated four times. Both players minimise the relativistic pairing loss. Approximate
    R1 and R2 need no double backward pass. With the term `Alignment`, the discriminator's tokens of real codes resemble
    those of a frozen image network, as in the paper. A batch then needs pictures: its images, or codes with pictures.

    The learning rates are `lr` x 768 / width. The half-life of 355,000 images is a decay of 0.999 at a batch of 512,
    as in the authors' script: half-life = batch size x log(0.5) / log(0.999).

    Args:
        size: side of the images, or (height, width).
        channels: 1, 3 or 4.
        preset: the paper's size and patch of both networks; `tiny` has patches of 2 and is for a CPU.
        num_classes: number of classes; 0 is unconditional.
        autoencoder: see `CodedGAN`; None plays on the images.
        latent_dim: length of a latent, and of the vector of a class.
        patch: side of the square of a code that is a token, instead of the preset's.
        width: channels of a token, instead of the preset's; heads keep their channels.
        depth: blocks of each network, a multiple of 4, instead of the preset's.
        discriminator_width: `width` of the discriminator; None is that of the generator.
        lr: learning rate of Adam at a width of 768.
        discriminator_lr: the same of the discriminator; None takes `lr`.
        scale_lr: multiply learning rates by 768 / width of the network.
        betas: Adam's decay rates, of both players.
        gamma: weight of approximate R1 and of approximate R2; 0 leaves them out.
        gamma_sigma: standard deviation of their noise.
        gradient_clip: largest norm of each player's gradient; 0 does not clip.
        ema_halflife: half-life in images of the averaged generator; 0 disables averaging.
        ema_rampup: the half-life is at most this share of the images seen so far; 0 is no limit, as in the paper.
        augment: augmentation of the four levels of a code, by the same random numbers; `codes` is the paper's.
        augment_options: arguments of the augmentation.
        checkpointing: compute activations again in the backward pass, which saves memory.
        options: as in `LatentGAN`.
    """

    generator: gat.Generator
    generator_ema: gat.Generator
    discriminator: gat.Discriminator
    aligner: Aligner | None  # None without the term `Alignment`

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        preset: Preset = "B/2",
        num_classes: int = 0,
        autoencoder: str | dict[str, Any] | None = None,
        latent_dim: int = 64,
        patch: int | None = None,
        width: int | None = None,
        depth: int | None = None,
        discriminator_width: int | None = None,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        scale_lr: bool = True,
        betas: tuple[float, float] = (0.0, 0.99),
        gamma: float = 0.1,
        gamma_sigma: float = 0.01,
        gradient_clip: float = 1.0,
        ema_halflife: float = 355_000,
        ema_rampup: float = 0.0,
        augment: Literal["diffaugment", "ada", "codes"] | None = "codes",
        augment_options: dict[str, Any] | None = None,
        checkpointing: bool = False,
        **options: Any,
    ) -> None:
        at_least(0, num_classes=num_classes, gamma=gamma)
        plan = planned(preset, width)
        critic = planned(preset, discriminator_width or width)
        rates = [REFERENCE_WIDTH / found["width"] if scale_lr else 1.0 for found in (plan, critic)]
        super().__init__(
            size,
            channels,
            latent_dim,
            plan["width"],
            autoencoder,
            objective="relativistic",
            generator_batch=1,
            label_smoothing=0.0,
            instance_noise=0.0,
            instance_noise_images=0,
            lr=rates[0] * lr,
            discriminator_lr=rates[1] * (lr if discriminator_lr is None else discriminator_lr),
            betas=betas,
            gradient_clip=gradient_clip,
            ema_halflife=ema_halflife,
            ema_rampup=ema_rampup,
            augment=augment,
            augment_options=augment_options if augment else None,
            **options,
        )
        self.num_classes = num_classes

    def own_terms(self) -> list[Term]:
        """Return the approximate penalties, if they have a weight."""
        gamma, sigma = self.hparams["gamma"], self.hparams["gamma_sigma"]
        return [ApproximateR1(gamma, sigma=sigma), ApproximateR2(gamma, sigma=sigma)] if gamma else []

    def plan(self, width: int | None) -> dict[str, Any]:
        """Return the numbers of a network: of the preset, or given instead."""
        given = self.hparams
        found = planned(given["preset"], width)
        own = {name: given[name] for name in ("patch", "depth") if given[name] is not None}
        return {**found, **own, "num_classes": given["num_classes"], "checkpointing": given["checkpointing"]}

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to codes."""
        plan = self.plan(width)
        del plan["embed_dim"]
        return gat.Generator(self.latent_dim, size, channels, heads_of_output=LEVELS, **plan)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from four levels of codes, and classes, to logits, and tokens if a term aligns them.

        Raises:
            ValueError: if that term has no network, or the pictures of codes cannot follow their augmentation.
        """
        plan = self.plan(self.hparams["discriminator_width"] or width)
        terms = built(self.hparams["terms"])
        self.aligner = Aligner.of(terms)
        if self.aligner is None:
            return gat.Discriminator(size, channels, levels=LEVELS, **plan)
        if self.augment.draws and not self.augment.leads:
            raise ValueError(f"augment is {self.hparams['augment']}; expected codes with Alignment")
        self.hparams["terms"] = self.aligner.described(terms)
        aligned = {"aligned": self.aligner.length, "projector_width": plan["embed_dim"]}
        return gat.Discriminator(size, channels, levels=LEVELS, **plan, **aligned)

    # -- training -----------------------------------------------------------------------------------------------------

    def generate(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Return all levels `(N, 4 c, h, w)` of latents in training. The generator's step moves the means of w."""
        w = self.generator.mapping(z, *conditions)
        levels = torch.cat(self.generator.levels(w), 1)
        if w.requires_grad:  # not in the discriminator's step, where the generator has no gradients
            classes = conditions[0] if conditions else torch.zeros(len(z), dtype=torch.long, device=z.device)
            self.move_class_means(self.generator.mean_w, w.detach(), classes, FOLLOWED)
            self.record_levels(levels.detach())
        return levels

    def record_levels(self, levels: Tensor) -> None:
        """Note the root mean square of what each output layer adds to a code: all of them should have a part in it."""
        parts = levels.float().unflatten(1, (LEVELS, -1))  # type: ignore[no-untyped-call]
        added = torch.diff(parts, dim=1, prepend=torch.zeros_like(parts[:, :1]))
        for index, size in enumerate(added.square().mean((0, 2, 3, 4)).sqrt().unbind(), 1):
            self.record(f"levels/added_{index}", size)

    def repeated(self, images: Tensor) -> Tensor:
        """Return all levels `(N, 4, c, h, w)` of codes: those of real codes `(N, c, h, w)` are equal."""
        levels: Tensor = images.unflatten(1, (-1, self.code_shape[0]))  # type: ignore[no-untyped-call]
        return levels.expand(-1, LEVELS, -1, -1, -1)

    def as_seen(self, images: Tensor) -> Tensor:
        """Return the levels `(N, 4 c, h, w)` of codes, augmented by the same random numbers, and with noise.

        Args:
            images: real codes `(N, c, h, w)`, or generated levels `(N, 4 c, h, w)`.
        """
        levels: Tensor = images.unflatten(1, (-1, self.code_shape[0]))  # type: ignore[no-untyped-call]
        if self.augment.draws:
            uniform = self.uniform(len(levels), self.augment.numbers(*self.code_shape))
            levels = self.augment.of_levels(levels, uniform)
            if self.aligner is not None and levels.shape[1] == 1:  # real codes
                self.aligner.uniform = uniform
        return self.perturbed(levels.flatten(1, 2))

    def perturbed(self, images: Tensor) -> Tensor:
        """Return all levels `(N, 4 c, h, w)` of codes with noise, see `gans.networks.gat.noised`."""
        levels = self.repeated(images)
        noises = self.noise_like(levels)
        return torch.cat(gat.noised(levels.unbind(1), noises.unbind(1)), 1)

    def discriminate(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return the discriminator's output on levels `(N, 4 c, h, w)`, or on codes `(N, c, h, w)`, repeated."""
        return super().discriminate(self.repeated(images).flatten(1, 2), *conditions)

    def hold_out_logits(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits on a batch and on as many averaged samples, with the noise of training."""
        real, *labels = self.encoded(labelled(batch) if self.num_classes else batch[:1])
        w = self.generator_ema.mapping(*self.generator_inputs(len(real), *labels))
        sides = (real, torch.cat(self.generator_ema.levels(w), 1))
        real_output, fake_output = (self.discriminate(self.perturbed(side), *labels) for side in sides)
        return self.logits(real_output), self.logits(fake_output)

    # -- alignment ----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Load the frozen network for training, if the model comes from a checkpoint.

        Raises:
            ValueError: if it is not where it was, or is another one, or the data do not fit the model.
        """
        super().setup(stage)
        if stage == "fit" and self.aligner is not None:
            self.aligner.load()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a resumed run has the frozen network with which it began.

        Raises:
            ValueError: if it has another, or the checkpoint does not fit this model.
        """
        if self.aligner is not None and self._trainer is not None and self.trainer.state.fn == "fit":
            self.aligner.compare_checkpoint(checkpoint["hyper_parameters"].get("terms"))
        super().on_load_checkpoint(checkpoint)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Take the steps of `CodedGAN`, and keep the pictures of the batch for the term `Alignment`.

        Raises:
            ValueError: if the term needs pictures, and the batch holds codes alone.
        """
        if self.aligner is not None:
            pictures = batch[-1] if self.holds_codes(batch) else batch[0]
            if tuple(pictures.shape[1:]) != self.image_shape:
                raise ValueError("Alignment needs pictures; expected data with images, or codes with `pictures: true`")
            self.aligner.pictures = pictures
        super().training_step(batch, batch_idx)

    def discriminator_step(self, real: Tensor, *labels: Tensor, terms: list[Term], alone: bool = False) -> Step:
        """Return the forward passes of a step of the discriminator, with pictures and projected tokens for Alignment.

        The discriminator's projector sees the tokens of real codes alone.
        """
        step = super().discriminator_step(real, *labels, terms=terms, alone=alone)
        if self.aligner is None or not any(isinstance(term, Alignment) for term in terms):
            return step
        tokens = widened(self.discriminator.projected(step.real_output.tokens))
        output = step.real_output._replace(tokens=tokens)
        scale = cast(tuple[int, ...], self.image_shape)[-1] // self.code_shape[-1]
        pictures = self.aligner.followed(self.augment, self._draws.offset, len(real), scale)
        return replace(step, real_output=output, pictures=pictures)

    def guide(self, pictures: Tensor) -> Tensor:
        """Return the frozen network's tokens `(N, 1 + patches, length)` for pictures `(N, C, H, W)` in [-1, 1]."""
        patch = self.discriminator.patch
        return cast(Aligner, self.aligner).tokens(pictures, (self.code_shape[1] // patch, self.code_shape[2] // patch))

    # -- styles -------------------------------------------------------------------------------------------------------

    @property
    def num_ws(self) -> int:
        """Number of w that an image takes: one, for all layers."""
        return 1

    @property
    def w_dim(self) -> int:
        """Length of w."""
        return self.generator.width

    @property
    def mean_w(self) -> Tensor:
        """Mean of w `(w_dim,)` over all classes."""
        return self.generator_ema.mean_w.mean(0)

    def centre(self, *labels: Tensor) -> Tensor:
        """Return the mean of w `(N, w_dim)` of each of the classes `(N,)`; without classes `(1, w_dim)`."""
        means = self.generator_ema.mean_w
        return means[labels[0]] if labels else means

    def to_w(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Return w `(N, w_dim)` of latents `(N, latent_dim)` and, if class-conditional, classes `(N,)`."""
        return cast(Tensor, self.generator_ema.mapping(z, *labels))

    def from_w(self, w: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` of w `(N, w_dim)`, or `(N, 1, w_dim)`.

        Raises:
            ValueError: if w has another shape.
        """
        if w.shape[1:] not in ((self.w_dim,), (1, self.w_dim)):
            raise ValueError(f"w has the shape {tuple(w.shape)}; expected (N, {self.w_dim}), one w for all layers")
        return self.decoded(self.generator_ema.levels(w.flatten(1))[-1])

    def truncated(self, w: Tensor, psi: float, *labels: Tensor) -> Tensor:
        """Return w `(N, w_dim)` moved towards the mean of its class: `mean + psi (w - mean)`.

        Args:
            w: `(N, w_dim)`.
            psi: 1 changes nothing, 0 gives the mean.
            labels: classes `(N,)` of a class-conditional model.

        Raises:
            ValueError: if psi is not finite.
        """
        if not math.isfinite(psi):
            raise ValueError(f"truncation is {psi}; expected a finite number, 1 for none")
        centre = self.centre(*labels)
        return torch.lerp(centre.expand_as(w), w.to(centre), psi)

    @torch.no_grad()
    def sample(
        self, n: int, *, labels: Labels | None = None, truncation: float | None = None, seed: int | None = None
    ) -> Tensor:
        """Return `n` images `(n, C, H, W)` of the averaged generator, unbounded without an autoencoder.

        Args:
            n: number of images.
            labels: class of all images, or classes `(n,)`, for conditional models only; None gives all classes in turn.
            truncation: psi of `truncated`: less variety, more typical images; None is 1.
            seed: draw latents that depend on it alone; None draws them from torch's global generator.

        Raises:
            ValueError: for labels given to a model that takes none, or a truncation that is not finite.
        """
        if truncation is None:
            return super().sample(n, labels=labels, seed=seed)

        def made(z: Tensor, *given: Tensor) -> Tensor:
            return self.from_w(self.truncated(self.to_w(z, *given), truncation, *given))

        return in_pieces(made, *self.sample_inputs(n, labels, seed))

    # -- pictures -----------------------------------------------------------------------------------------------------

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int | None]]:
        """Return a sheet of the four levels, decoded, and one of truncation, psi from 1 to 0. A row is a latent."""
        like = next(self.generator.parameters())
        z = draw((SHEET, self.latent_dim), key("pictures"), self.prior, self.device, like.dtype)
        labels = self.conditions(SHEET, None)
        w = self.to_w(z, *labels)
        levels = torch.stack(self.generator_ema.levels(w), 1)
        psis = torch.linspace(1, 0, LEVELS + 1).tolist()
        less = torch.stack([self.truncated(w, psi, *labels) for psi in psis], 1)
        return {
            "levels": (in_pieces(self.decoded, levels.flatten(0, 1)), LEVELS),
            "truncation": (in_pieces(self.from_w, less.flatten(0, 1)), len(psis)),
        }


def planned(preset: str, width: int | None = None) -> dict[str, Any]:
    """Return the numbers of a preset's networks, with a `width` instead of its own; heads keep their channels.

    Raises:
        ValueError: if the preset is unknown.
    """
    name, _, patch = preset.partition("/")
    if name not in gat.PRESETS or (name == "tiny") == bool(patch) or patch not in ("", "2", "4", "8"):
        raise ValueError(f"preset is {preset}; expected tiny, or S, B, L or XL with a patch of 2, 4 or 8, such as B/2")
    plan = gat.PRESETS[name]
    wide = plan.width if width is None else width
    at_least(1, width=wide)
    heads = max(1, wide * plan.heads // plan.width)
    return {"width": wide, "depth": plan.depth, "heads": heads, "patch": int(patch or 2), "embed_dim": plan.embed_dim}
