"""CycleGAN, Zhu, Park, Isola and Efros 2017 (arXiv 1703.10593): unpaired translation in both directions."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from gans.checks import at_least
from gans.engine.distributed import gather_rows
from gans.engine.pool import ImagePool
from gans.losses import Objective, Relativistic
from gans.metrics.unpaired import BothWays
from gans.models.translation import SHOWN, Translator
from gans.networks.layers import Norm, Size, widened
from gans.networks.translation import Generator, TwoWay
from gans.pictures.triptychs import triptychs


class CycleGAN(Translator):
    """Two generators, each the inverse of the other, against a critic for each domain.

    `translate(images)` makes targets of sources, `back(images)` sources of targets. A batch is `(source, target)`, any
    images of the two domains. The image pool is shared by all processes: it takes the fakes of the global batch in
    order. Each process keeps a copy, and checkpoints hold it. So the critics see the same images on any number of
    processes and in a resumed run.

    Differences from the authors' code: images come from averaged weights (`ema_halflife` 0 takes the last ones), the
    critics move before the generators, and images that are not square are cropped, not squashed.

    Args:
        size: side of the images in training, or (height, width). `translate` takes images of any size.
        channels: of the targets: 1, 3 or 4.
        source_channels: of the sources; None is `channels`.
        width: channels of the generators' first layer; four times as many in the residual blocks.
        discriminator_width: channels of the critics' first layer; None is `width`.
        blocks: residual blocks; in the paper nine for 256 pixels, six for 128.
        norm: in all networks; none in the critics with `spectral_norm`.
        spectral_norm: spectral normalisation of the critics' weights instead of `norm`.
        scales: number of critics of each domain; each sees the images at half the size of the one before.
        objective: the adversarial loss.
        cycle_weight: weight of the cycle loss, the mean absolute error of images translated there and back.
        identity_weight: weight of the identity loss, relative to `cycle_weight`: the mean absolute change of images
            that are of the target domain already. It preserves colours; 0 switches it off, a fifth less time.
        adversarial_weight: weight of the adversarial loss. Least squares have a factor 1/2 here (Mao et al. 2017), so
            2 is the paper's 1.
        pool: number of earlier fakes that the critics see among new ones; 0 shows new ones only.
        options: as in `Translator`.
    """

    scored = BothWays
    generator: TwoWay
    generator_ema: TwoWay
    discriminator: TwoWay

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        source_channels: int | None = None,
        width: int = 64,
        discriminator_width: int | None = None,
        blocks: int = 9,
        norm: Norm = "instance",
        spectral_norm: bool = False,
        scales: int = 1,
        objective: Objective = "least_squares",
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        adversarial_weight: float = 2.0,
        pool: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, source_channels, objective, **options)
        at_least(0, cycle_weight=cycle_weight, identity_weight=identity_weight, pool=pool)
        at_least(0, adversarial_weight=adversarial_weight)
        given = self.source_channels
        if identity_weight and given != channels:
            raise ValueError(
                f"identity_weight is {identity_weight}; expected 0 for sources of {given} channels and {channels}"
            )
        self.generator = TwoWay(
            Generator(size, given, channels, width, blocks, norm), Generator(size, channels, given, width, blocks, norm)
        )
        breadth, norm = discriminator_width or width, "none" if spectral_norm else norm
        self.discriminator = TwoWay(
            self.make_discriminator(channels, breadth, norm, spectral_norm, scales),
            self.make_discriminator(given, breadth, norm, spectral_norm, scales),
        )
        # No buffers: these would be averaged over processes in every step.
        self.pools = ImagePool(pool), ImagePool(pool)
        self.average_generator()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of both critics and, in their turn, one of both generators."""
        optimizer_g, optimizer_d = self.player_optimizers()
        images = batch[0], self.targets(batch)
        there, back = self.generator.there, self.generator.back
        makes = self.once(there, images[0]), self.once(back, images[1])
        self.train_critics(optimizer_d, makes, *images)
        if self.generator_turn():
            weights = (self.hparams[f"{name}_weight"] for name in ("adversarial", "cycle", "identity"))
            adversarial, cycle, identity = weights
            with self.toggled_optimizer(optimizer_g):
                for source, target in self.pieces(*images):
                    made, unmade = (make(part) for make, part in zip(makes, (source, target), strict=True))
                    game = self.game("there", target, made) + self.game("back", source, unmade)
                    returned = absolute(back(made), source) + absolute(there(unmade), target)
                    self.record("loss/generator", game)
                    self.record("loss/cycle", returned)
                    loss = adversarial * game + cycle * returned
                    if identity:
                        changed = absolute(there(target), target) + absolute(back(source), source)
                        self.record("loss/identity", changed)
                        loss = loss + identity * cycle * changed
                    self.descend(loss, optimizer_g)

    def train_critics(
        self,
        optimizer: LightningOptimizer,
        makes: tuple[Callable[..., Tensor], Callable[..., Tensor]],
        sources: Tensor,
        targets: Tensor,
    ) -> None:
        """One step of both critics, on real images and on fakes from the pools."""
        with self.toggled_optimizer(optimizer):
            made, unmade = (self.fakes(*both) for both in zip(makes, (sources, targets), strict=True))
            made, unmade = (self.pooled(*both) for both in zip(self.pools, (made, unmade), strict=True))
            for source, target, fake_target, fake_source in self.pieces(sources, targets, made, unmade):
                real, fake = self.judged("there", target), self.judged("there", fake_target)
                real_back, fake_back = self.judged("back", source), self.judged("back", fake_source)
                loss = self.loss.discriminator(real, fake) + self.loss.discriminator(real_back, fake_back)
                self.record_discriminator(loss / 2, flat(real, real_back), flat(fake, fake_back))
                self.descend(loss, optimizer)

    def game(self, way: str, real: Tensor, fake: Tensor) -> Tensor:
        """Return the adversarial loss of the generator of one direction, a scalar."""
        compared = self.judged(way, real) if isinstance(self.loss, Relativistic) else None
        return self.loss.generator(compared, self.judged(way, fake))

    def judged(self, way: str, images: Tensor) -> Tensor:
        """Return the logits of one critic: that of `there` sees targets, that of `back` sources."""
        logits: Tensor = widened(getattr(self.discriminator, way)(self.as_seen(images)))
        return logits

    def fakes(self, make: Callable[..., Tensor], images: Tensor) -> Tensor:
        """Return a generator's translations of images `(N, C, H, W)`, without gradient, in `accumulate` pieces."""
        with torch.no_grad():
            return torch.cat([make(part) for part in images.tensor_split(min(self.accumulate, len(images)))])

    def pooled(self, pool: ImagePool, fakes: Tensor) -> Tensor:
        """Return this process's rows of the pool's images for the fakes `(N, C, H, W)` of all processes."""
        draws = self.uniform(len(fakes), 2)
        if self.trainer.world_size == 1 or not pool.size:
            return pool.swap(fakes, draws)
        shown = pool.swap(gather_rows(fakes), gather_rows(draws))
        return shown[self.global_rank * len(fakes) :][: len(fakes)]

    @torch.no_grad()
    def back(self, images: Tensor) -> Tensor:
        """Return images `(N, source_channels, H, W)` in [-1, 1] of targets `(N, channels, H, W)` of any size."""
        rows = max(1, self.pixels // (images.shape[-2] * images.shape[-1]))
        return torch.cat([self.generator_ema.back(part) for part in torch.split(images, rows)])

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int]]:
        """Return grids of triptychs of both directions: an image, its translation, and that translated back."""
        source, target = batch[0][:SHOWN], self.targets(batch)[:SHOWN]
        made, unmade = self.translate(source), self.back(target)
        return {
            "translations": triptychs(source, made, self.back(made)),
            "back": triptychs(target, unmade, self.translate(unmade)),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the pools, too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["pools"] = [pool.state_dict() for pool in self.pools]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the pools, too.

        Raises:
            ValueError: if the checkpoint does not fit this model.
        """
        super().on_load_checkpoint(checkpoint)
        for pool, state in zip(self.pools, checkpoint["pools"], strict=True):
            pool.load_state_dict(state)


def absolute(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean absolute difference of images, a scalar."""
    return (one - other).abs().mean()


def flat(*logits: Tensor) -> Tensor:
    """Return logits of any shapes as one vector."""
    return torch.cat([part.flatten() for part in logits])
