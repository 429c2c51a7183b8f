"""R3GAN, Huang, Gokaslan, Kuleshov and Tompkin 2024 (arXiv 2501.05441): a modern baseline."""

import math
from typing import Any, Literal, cast

from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.schedules import cosine, span
from gans.models.gan import LatentGAN
from gans.networks import r3gan
from gans.networks.layers import Size
from gans.terms import R1, R2, ApproximateR1, ApproximateR2, Term

PRESETS = {
    "small": r3gan.SMALL,
    "cifar10": r3gan.CIFAR10,
    "ffhq64": r3gan.FFHQ64,
    "ffhq256": r3gan.FFHQ256,
    "imagenet32": r3gan.IMAGENET,
    "imagenet64": r3gan.IMAGENET,
}


class R3GAN(LatentGAN):
    """The relativistic pairing loss with R1 and R2, on residual networks without normalisation.

    Learning rate, beta2, the weight of the penalties, the probability of the augmentation and the half-life of the
    averaged weights follow a cosine over the first `schedule_images` images. It leads from the first number of each
    pair to the second. The defaults are those of CIFAR-10; `gans.engine.schedules` lists the paper's others.

    Each player gets half of the batch, so the paper's batch of 512 is a batch of 1,024 here. `schedule_images` and
    `halflives` count the images of one player, as in the paper. `images_seen` counts the images of both.

    The forward pass of the discriminator's step, which R1 and R2 read, is in float32. The authors' is in
    bfloat16 for most stages, as with `penalty_precision="mixed"` and `bf16-mixed` for all stages.

    Args:
        size: image side, or (height, width), from 8 pixels.
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        preset: architecture of both networks; `small` is for a processor without a GPU.
        width: channels of the finest stage, instead of the preset's.
        num_classes: number of classes; 0 is unconditional.
        lr: learning rate of Adam, of both players.
        betas2: second decay rate of Adam; the first is 0.
        gamma: weight of R1 and R2.
        penalty_sigma: standard deviation of the noise of `ApproximateR1` and `ApproximateR2`, which then replace R1 and
            R2; 0 is the exact penalties.
        augment_probability: probability of ADA if `augment` is `ada`; it does not adapt here.
        halflives: half-life of the averaged weights, in images of one player.
        ema_rampup: the half-life is at most this share of the images seen so far; 0 leaves it to the schedule.
        schedule_images: images of one player until the end of all schedules; `run` is the whole run.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 64,
        preset: Literal["small", "cifar10", "ffhq64", "ffhq256", "imagenet32", "imagenet64"] = "small",
        width: int | None = None,
        num_classes: int = 0,
        lr: tuple[float, float] = (2e-4, 5e-5),
        betas2: tuple[float, float] = (0.9, 0.99),
        gamma: tuple[float, float] = (0.05, 0.005),
        penalty_sigma: float = 0.0,
        augment_probability: tuple[float, float] = (0.0, 0.55),
        halflives: tuple[float, float] = (0, 5_000_000),
        ema_rampup: float = 0.0,
        schedule_images: float | str = 20_000_000,
        augment: Literal["diffaugment", "ada"] | None = None,
        augment_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset}; expected one of {', '.join(PRESETS)}")
        if not span("schedule_images", schedule_images).amount:
            raise ValueError(f"schedule_images is {schedule_images}; expected a number above 0")
        at_least(0, num_classes=num_classes, penalty_sigma=penalty_sigma)
        limits = {"lr": (lr, 1.0), "betas2": (betas2, 1.0), "augment_probability": (augment_probability, 1.0)}
        limits |= {"gamma": (gamma, math.inf), "halflives": (halflives, math.inf)}
        for name, (pair, limit) in limits.items():
            if len(pair) != 2 or not all(0 <= value <= limit and value < math.inf for value in pair):
                raise ValueError(f"{name} is {pair}; expected two numbers from 0 to {limit}, at start and end")
        if augment == "ada":
            of_ada = augment_options or {}
            for name in ("target", "images", "interval", "probability"):
                if of_ada.get(name) is not None:
                    told = f"augment_options.{name} is {of_ada[name]}, which R3GAN does not read"
                    raise ValueError(f"{told}: the probability follows augment_probability")
            augment_options = {**of_ada, "target": None}
        width = width or PRESETS[preset]["width"]
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            objective="relativistic",
            lr=lr[0],
            discriminator_lr=None,
            betas=(0.0, betas2[0]),
            generator_batch=1,
            critic_steps=1,
            r1=0.0,
            r2=0.0,
            lazy=1,
            lr_decay_images=0,
            lr_hold_images=0,
            ema_halflife=0,
            ema_rampup=ema_rampup,
            augment=augment,
            augment_options=augment_options,
            **options,
        )
        self.num_classes = num_classes
        self.add_spans(2, schedule_images=schedule_images)  # of both players

    def own_terms(self) -> list[Term]:
        """Return both gradient penalties, whose weight `schedule` sets."""
        if sigma := self.hparams["penalty_sigma"]:
            return [ApproximateR1(sigma=sigma), ApproximateR2(sigma=sigma)]
        return [R1(), R2()]

    def plan(self, width: int) -> r3gan.Plan:
        """Return the numbers of the architecture."""
        plan = PRESETS[self.hparams["preset"]]
        return r3gan.Plan(**{**plan, "width": width, "max_width": max(width, plan["max_width"])})

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to images."""
        classes = self.hparams["num_classes"]
        return r3gan.Generator(self.latent_dim, size, channels, num_classes=classes, **self.plan(width))

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images, and classes, to logits."""
        return r3gan.Discriminator(size, channels, num_classes=self.hparams["num_classes"], **self.plan(width))

    def scheduled(self, name: str) -> float:
        """Return what a pair of numbers, start and end, amounts to now."""
        start, end = self.hparams[name]
        return cosine(self.gone("schedule_images"), start, end, 1.0)

    def schedule(self) -> None:
        """Let learning rates, beta2, the augmentation and the half-life follow their cosines."""
        super().schedule()
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = self.scheduled("lr"), (0.0, self.scheduled("betas2"))
        for term in list(self.terms.values())[:2]:  # own terms come first
            cast(Term, term).weight = self.scheduled("gamma")
        self.ema_halflife = 2 * self.scheduled("halflives")  # the average counts the images of both players
        if "probability" in dict(self.augment.named_buffers()):
            self.augment.get_buffer("probability").fill_(self.scheduled("augment_probability"))

    def shares(self, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return half of a batch for each player.

        Raises:
            ValueError: if the batch has an odd number of images.
        """
        if len(batch[0]) % 2:
            raise ValueError(f"a batch has {len(batch[0])} images; expected an even number, half for each player")
        # Every other one, so that the halves of all processes are the halves of the global batch.
        return tuple(part[::2] for part in batch), tuple(part[1::2] for part in batch)
