"""CUT, Park, Efros, Zhang and Zhu 2020 (arXiv 2007.15651): unpaired translation with a patchwise contrastive loss."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from gans.checks import at_least
from gans.losses import Objective
from gans.metrics.unpaired import Unpaired
from gans.models.translation import SHOWN, Translator
from gans.networks.contrast import Heads, patch_nce
from gans.networks.layers import Norm, Size, normal_init, xavier_init
from gans.networks.translation import HALVINGS, Generator
from gans.pictures.triptychs import triptychs

INITS = {"xavier": xavier_init, "normal": normal_init}


class CUT(Translator):
    """A generator whose encoder features agree between an image and its translation at the same place.

    A batch is `(source, target)`, any images of both domains. FastCUT is `nce_weight` 10, `identity` off and `mirror`
    on.

    Differences from the authors' code: images come from averaged weights (`ema_halflife` 0 takes the last ones),
    places are drawn for each image, FastCUT mirrors single images, not whole batches, the critic's fakes are
    computed in a pass of their own, and images that are not square are cropped, not squashed (`--data.fit stretch`).

    Args:
        size: side of the images in training, or (height, width). `translate` takes images of any size.
        channels: of sources and targets: 1, 3 or 4.
        width: channels of the generator's first layer; four times as many in the residual blocks.
        discriminator_width: channels of the critic's first layer; None is `width`.
        blocks: residual blocks of the generator.
        norm: in both networks; none in the critic with `spectral_norm`.
        antialias: blur when maps are halved and doubled, in both networks; off gives CycleGAN's layers.
        init: initial weights: `xavier` is the authors', .02 times those of Glorot and Bengio; `normal` is CycleGAN's
            N(0, .02), with which small networks learn in short runs.
        spectral_norm: spectral normalisation of the critic's weights instead of `norm`.
        scales: number of critics; each sees the images at half the size of the one before.
        objective: the adversarial loss.
        nce_weight: weight of the contrastive loss.
        identity: contrast targets with their own translations as well; each term has half of the weight.
        mirror: translate half of the sources mirrored, and compare after mirroring back. For images of which the
            mirror image is as plausible.
        stages: the generator's stages whose maps are compared, numbered as in
            `networks.translation.Generator.features`. None is the paper's: the image, the convolutions of both
            halvings, the first and the middle residual block. With `antialias` these convolutions work at full and
            half size, as the paper's.
        patches: number of places compared in each image and stage, at most.
        patch_dim: length of the vectors that are compared.
        temperature: of the contrastive loss.
        adversarial_weight: weight of the adversarial loss. Least squares have a factor 1/2 here (Mao et al. 2017), so
            2 is the paper's 1.
        options: as in `Translator`.
    """

    scored = Unpaired
    earlier: ClassVar[dict[str, Any]] = {"antialias": False}  # of checkpoints without this argument
    generator: Generator

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        width: int = 64,
        discriminator_width: int | None = None,
        blocks: int = 9,
        norm: Norm = "instance",
        antialias: bool = True,
        init: Literal["xavier", "normal"] = "xavier",
        spectral_norm: bool = False,
        scales: int = 1,
        objective: Objective = "least_squares",
        nce_weight: float = 1.0,
        identity: bool = True,
        mirror: bool = False,
        stages: tuple[int, ...] | None = None,
        patches: int = 256,
        patch_dim: int = 256,
        temperature: float = 0.07,
        adversarial_weight: float = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, None, objective, **options)
        at_least(0, nce_weight=nce_weight, adversarial_weight=adversarial_weight)
        at_least(2, patches=patches)
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected a number above 0")
        if init not in INITS:
            raise ValueError(f"init is {init}; expected {' or '.join(INITS)}")
        begin = INITS[init]
        self.generator = Generator(size, channels, channels, width, blocks, norm, antialias, begin)
        first = HALVINGS + 2  # residual block
        usual = {0, *range(2, first), first, first + (blocks - 1) // 2}
        self.stages = sorted(usual) if stages is None else list(stages)
        last = HALVINGS + 1 + blocks
        if (
            self.stages != sorted(set(self.stages))
            or not self.stages
            or not 0 <= self.stages[0] <= self.stages[-1] <= last
        ):
            raise ValueError(
                f"stages is {stages}; expected numbers from 0 to {last}, the last residual block, in order"
            )
        assert self.image_shape is not None
        if mirror and self.image_shape[-1] % 2**HALVINGS:
            raise ValueError(f"size is {size}; expected a width in multiples of {2**HALVINGS} for mirror")
        self.heads = Heads([self.generator.widths[stage] for stage in self.stages], patch_dim, begin)
        critics, breadth = "none" if spectral_norm else norm, discriminator_width or width
        self.discriminator = self.make_discriminator(
            channels, breadth, critics, spectral_norm, scales, antialias=antialias, init=begin
        )
        self.average_generator()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator together with the heads, and for the discriminator."""
        players = nn.ModuleList([self.generator, self.heads]), self.discriminator
        return [self.adam(network, rate, self.betas) for network, rate in zip(players, self.rates, strict=True)]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic and, in its turn, one of the generator and the heads."""
        optimizer_g, optimizer_d = self.player_optimizers()
        images = batch[0], self.targets(batch)
        make = self.once(self.translated, images[0])
        self.train_critic(optimizer_d, make, *images)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for source, target in self.pieces(*images):
                    made, turned = make(source)
                    game = self.adversarial_loss(made, target)
                    contrast = self.contrast(source, made, turned)
                    self.record("loss/contrast", contrast)
                    if self.hparams["identity"]:
                        same = self.contrast(target, self.generator(target))
                        self.record("loss/identity", same)
                        contrast = (contrast + same) / 2
                    weight, opinion = self.hparams["nce_weight"], self.hparams["adversarial_weight"]
                    self.descend(opinion * game + weight * contrast, optimizer_g)

    def translated(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return translations `(N, C, H, W)`, and which of them are mirrored, see `turned`."""
        turned = self.turned(source)
        return self.generator(mirrored(source, turned)), turned

    def train_critic(
        self,
        optimizer: LightningOptimizer,
        make: Callable[..., tuple[Tensor, Tensor | None]],
        sources: Tensor,
        targets: Tensor,
    ) -> None:
        """One step of the critic."""
        with self.toggled_optimizer(optimizer):
            for source, target in self.pieces(sources, targets):
                with torch.no_grad():
                    made = make(source)[0].detach()
                real_logits, fake_logits = self.critic(target), self.critic(made)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer)

    def contrast(self, source: Tensor, made: Tensor, turned: Tensor | None = None) -> Tensor:
        """Return the mean over stages of `patch_nce` between translations and sources, at newly drawn places."""
        maps, before = (self.generator.features(images, self.stages) for images in (made, source))
        maps = [mirrored(stage, turned) for stage in maps]
        places = [self.places(len(stage), stage.shape[-2] * stage.shape[-1]) for stage in maps]
        # Keys need no gradient, but are computed with one: under no_grad, autocast would cache casts of the weights
        # without a gradient for the rest of the step.
        queries, keys = self.heads(maps, places), self.heads([stage.detach() for stage in before], places)
        found = [patch_nce(*both, self.hparams["temperature"]) for both in zip(queries, keys, strict=True)]
        return torch.stack(found).mean()

    def places(self, n: int, count: int) -> Tensor:
        """Return `patches` of `count` places `(n, P)`, drawn for each row without repetition, or all of them."""
        chosen: Tensor = self.uniform(n, count).topk(min(self.hparams["patches"], count), 1).indices
        return chosen

    def turned(self, images: Tensor) -> Tensor | None:
        """Return which of the images to mirror, bool `(N,)`, or None without `mirror`."""
        return self.uniform(len(images)) < 0.5 if self.hparams["mirror"] else None

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int]]:
        """Return a grid of triptychs: a source, its translation, and an unrelated target."""
        source, target = batch[0][:SHOWN], self.targets(batch)[:SHOWN]
        return {"translations": triptychs(source, self.translate(source), target)}


def mirrored(maps: Tensor, turned: Tensor | None) -> Tensor:
    """Return maps or images `(N, C, H, W)`, flipped from left to right in the rows `turned`, bool `(N,)`."""
    return maps if turned is None else torch.where(turned[:, None, None, None], maps.flip(-1), maps)
