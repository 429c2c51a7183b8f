"""Next-frame prediction of clips by pix2pix, Isola et al. 2017 (arXiv 1611.07004), applied to its own output in turn.

Mathieu, Couprie and LeCun 2015 (arXiv 1511.05440) predict frames from the frames before with an adversarial loss.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.batch import last_frames
from gans.metrics.continuations import Continuations
from gans.models.translation import Translator
from gans.networks import translation, unet
from gans.networks.advection import Advection, outputs
from gans.networks.layers import Norm, Size

FRAMES_AT_ONCE = 4096  # frames that a clip is continued in at once, to limit memory


class NextFrame(Translator):
    """A network from the last frames of a clip to the next one, against a patch critic that sees all of them.

    The source is `given` frames, stacked as channels, and the target is the frame that follows. A clip is continued by
    applying the network to its own output again and again. There is no noise: a clip has one continuation.

    Batches contain clips `(N, C, T, H, W)`, with or without labels. A step takes one window of each clip, at a place
    that is drawn for it.

    Args:
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        frames: frames of a clip in the data.
        given: frames that the network sees.
        rollout: frames that follow them in a step of training. With more than one, the network also learns from
            windows that hold its own output.
        reach: greatest motion in pixels per frame. A pixel is a mean of the pixels of the last frame that are no
            farther away, and of a drawn one, as in Finn et al. 2016. With 0 all pixels are drawn, as in pix2pix.
        width: channels of the generator's first layer; they double with depth, up to 8 times.
        discriminator_width: the same of the critic; None is `width`.
        network: of the generator: a U-Net, or CycleGAN's residual network.
        blocks: residual blocks; `resnet` only.
        norm: in both networks; none in the critic with `spectral_norm`.
        spectral_norm: spectral normalisation of the critic's weights instead of `norm`.
        l1_weight: weight of the mean absolute error.
        adversarial_weight: weight of the adversarial loss. With 0 there is none, and the critic is not trained.
        features: extractor of clips for the Frechet distance of continuations in validation: `moving`, or a file; None
            leaves it out.
        options: as in `Translator`.
    """

    task = "clips"  # the group of its recipes
    usage = "`gans predict CKPT --input FRAMES --output continued.gif`"
    held_out: Continuations

    def __init__(
        self,
        size: Size = 32,
        channels: int = 1,
        frames: int = 16,
        given: int = 4,
        rollout: int = 1,
        reach: int = 2,
        width: int = 64,
        discriminator_width: int | None = None,
        network: Literal["unet", "resnet"] = "unet",
        blocks: int = 9,
        norm: Norm = "instance_affine",
        spectral_norm: bool = False,
        l1_weight: float = 100.0,
        adversarial_weight: float = 1.0,
        features: str | None = None,
        **options: Any,
    ) -> None:
        at_least(1, given=given, rollout=rollout)
        at_least(0, reach=reach, l1_weight=l1_weight, adversarial_weight=adversarial_weight)
        if given + rollout > frames:
            raise ValueError(f"given is {given} and rollout is {rollout}; expected together at most frames, {frames}")
        if network not in ("unet", "resnet"):
            raise ValueError(f"network is {network}; expected unet or resnet")
        super().__init__(size, channels, None, features="random", **options)
        assert self.image_shape is not None
        self.input_shape = (channels, frames, *self.image_shape[1:])
        self.given, self.rollout, self.source_channels = given, rollout, given * channels
        self.held_out = Continuations(features)
        made = outputs(channels, reach) if reach else channels
        drawn: nn.Module
        if network == "unet":
            drawn = unet.Generator(size, self.source_channels, made, width, norm, dropout=0.0)
        else:
            drawn = translation.Generator(size, self.source_channels, made, width, blocks, norm)
        self.generator = Advection(drawn, channels, reach) if reach else drawn
        critics = "none" if spectral_norm else norm
        breadth = width if discriminator_width is None else discriminator_width
        self.discriminator = self.make_discriminator((given + 1) * channels, breadth, critics, spectral_norm, 1)
        self.average_generator()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic, if it is used, and, in its turn, one of the generator."""
        optimizer_g, optimizer_d = self.player_optimizers()
        windows = self.windows(batch[0])
        make = self.once(self.made, windows)
        weight = self.hparams["adversarial_weight"]
        if weight:
            with self.toggled_optimizer(optimizer_d):
                for real in self.pieces(windows):
                    with torch.no_grad():
                        fake = make(real).detach()
                    real_logits, fake_logits = (self.critic(*self.steps(clips)) for clips in (real, fake))
                    loss = self.loss.discriminator(real_logits, fake_logits) / 2  # slower than the generator
                    self.record_discriminator(loss, real_logits, fake_logits)
                    self.descend(loss, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real in self.pieces(windows):
                    fake = make(real)
                    l1 = (fake - real)[:, :, self.given :].abs().mean()
                    self.record("loss/l1", l1)
                    loss = self.hparams["l1_weight"] * l1
                    if weight:
                        made, before = self.steps(fake)
                        loss = loss + weight * self.adversarial_loss(made, self.steps(real)[0], before)
                    self.descend(loss, optimizer_g)

    def windows(self, clips: Tensor) -> Tensor:
        """Return a window `(N, C, given + rollout, H, W)` of each clip, at a place that is drawn."""
        length = self.given + self.rollout
        places = clips.shape[2] - length + 1
        start = (self.uniform(len(clips)) * places).long().clamp(max=places - 1)  # rounding may give `places`
        which = start[:, None] + torch.arange(length, device=clips.device)
        return clips[torch.arange(len(clips), device=clips.device)[:, None], :, which].transpose(1, 2)

    def made(self, windows: Tensor) -> Tensor:
        """Return windows `(N, C, given + rollout, H, W)` whose last frames the generator has made."""
        first = windows[:, :, : self.given]
        return torch.cat([first, self.following(self.generator, first, self.rollout)], 2)

    def following(self, network: nn.Module, first: Tensor, frames: int) -> Tensor:
        """Return the frames `(N, C, frames, H, W)` that a network makes of those `(N, C, given, H, W)` before."""
        seen = list(first.unbind(2))
        for _ in range(frames):
            seen.append(network(torch.cat(seen[-self.given :], 1)))
        return torch.stack(seen[self.given :], 2)

    def steps(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames `(rollout N, C, H, W)` of windows, and what was given before each, stacked as channels."""
        frames = windows.transpose(1, 2).unbind(1)
        pasts = [torch.cat(frames[place : place + self.given], 1) for place in range(self.rollout)]
        return torch.cat(frames[self.given :]), torch.cat(pasts)

    # -- the interface of translators: the first frames of a clip, stacked, are translated to the next one ------------

    def setup(self, stage: str) -> None:
        """Check that the data fit the model, and read the extractor, before anything is written.

        Raises:
            ValueError: if the data do not fit, or there is no such extractor.
        """
        super().setup(stage)
        if stage != "predict":
            self.held_out.extractor(self.device)

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the argument of `translate` in a batch: the first frames, stacked, `(N, given C, H, W)`.

        Raises:
            ValueError: if the batch has no clips of the model's size with more frames.
        """
        return (self.clips(batch)[:, :, : self.given].transpose(1, 2).flatten(1, 2),)

    def targets(self, batch: Any) -> Tensor:
        """Return the frames `(N, C, H, W)` that follow these.

        Raises:
            ValueError: as `inputs` does.
        """
        return self.clips(batch)[:, :, self.given]

    def clips(self, batch: Any) -> Tensor:
        """Return the clips of a batch, `(N, C, T, H, W)`, of which the first is in front."""
        clips: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
        last_frames(clips, self.given + 1, self.input_shape)
        return clips

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score the continuations of held-out clips.

        Raises:
            ValueError: as `inputs` does.
        """
        super().validation_step((self.clips(batch),), batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Score the continuations of test clips.

        Raises:
            ValueError: as `inputs` does.
        """
        super().test_step((self.clips(batch),), batch_idx)

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Return a batch of `n` random clips of the shape of training."""
        assert self.input_shape is not None
        return (torch.rand(n, *self.input_shape, device=self.device) * 2 - 1,)

    # -- continuations ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def extend(self, clips: Tensor, frames: int, *, seed: int | None = None) -> Tensor:
        """Return clips `(N, C, T + frames, H, W)` that begin with `clips` and are continued by the averaged generator.

        Args:
            clips: `(N, C, T, H, W)` in [-1, 1], of which the network sees the last `given` frames.
            frames: number of new frames. Longer continuations begin with shorter ones.
            seed: not read: a clip has one continuation.

        Raises:
            ValueError: for clips of another size or of less than `given` frames, or if `frames` is below 1.
        """
        at_least(1, frames=frames)
        first = last_frames(clips, self.given, self.input_shape).to(next(self.generator_ema.parameters()))
        pieces = torch.split(first, max(1, FRAMES_AT_ONCE // frames))
        made = torch.cat([self.continued(piece, frames) for piece in pieces])
        return torch.cat([clips.to(made), made], 2)

    def continued(self, first: Tensor, frames: int) -> Tensor:
        """Return what follows given frames `(N, C, given, H, W)`, `(N, C, frames, H, W)`, by the averaged generator."""
        return self.following(self.generator_ema, first, frames)

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, None]]:  # type: ignore[override]
        """Return clips of a batch, each followed by a row that continues its first frames."""
        real = self.clips(batch)[:4]
        made = self.extend(real[:, :, : self.given], real.shape[2] - self.given)
        return {"continued": (torch.stack([real.to(made), made], 1).flatten(0, 1), None)}
