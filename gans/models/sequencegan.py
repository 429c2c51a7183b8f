"""MoCoGAN, Tulyakov, Liu, Yang and Kautz 2018 (arXiv 1707.04993): clips from separate codes for content and motion."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d

from gans.checks import at_least
from gans.engine.batch import checked_batch, last_frames
from gans.latent import Labels, draw, key, truncate
from gans.losses import Objective, Relativistic
from gans.metrics.continuations import Continuations
from gans.models.gan import LatentGAN
from gans.networks import recurrent
from gans.networks.layers import Size, widened
from gans.terms import Step, needed

FRAMES_AT_ONCE = 4096  # frames per batch of samples, to limit memory
SCALES = (1, 2, 4, 8)  # pixels a side that the reconstruction averages
FADE = 0.7  # weight of a frame in the reconstruction in multiples of that of the frame before
CONTINUED = 0.5  # probability that a fake clip continues given frames


class SequenceGAN(LatentGAN):
    """A recurrent generator of clips against two critics: of whole clips, and of random frames.

    Batches contain clips `(N, C, T, H, W)` and, for a class-conditional model, labels. `discriminator` is the critic of
    clips. The paper's critic of clips predicts a category. Here both critics are class-conditional, so that the class
    also holds in every frame.

    Further differences from the paper: hinge loss, spectral normalisation instead of BatchNorm, no weight decay, and a
    critic of clips that downsamples time. The authors' runs use every second frame (`every` of the data).

    Args:
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        frames: frames of a clip in training; `sample(n, frames=...)` makes shorter and longer ones.
        latent_dim: length of the content code, which all frames of a clip share. With the motion noise, the latent of
            a clip has a length of `latent_dim` + (frames + 1) x `motion_dim`.
        motion_dim: length of the motion code of each frame.
        width: channels at the highest resolution, doubled at each lower one, up to 8 times.
        motion_grid: control points per side of a displacement field, with which the motion code warps the content. 1
            translates it, more can rotate and bend it. 0 generates every frame from both codes, as the paper.
        num_classes: number of classes, at least as many as in the data; 0 ignores labels.
        stills: random frames of each clip for the critic of frames in a step; one in the paper.
        given: number of frames that a clip can be continued from; 0 only generates clips from noise.
        given_weight: weight of the L1 distance of continued clips from the given frames.
        future_weight: weight of their L1 distance from the true continuation. With 0 only the critics judge how a clip
            continues.
        features: extractor of clips for the Frechet distance of continuations in validation: `moving`, or a file; None
            leaves it out.
        spectral_norm: use spectral normalisation in both critics.
        objective: adversarial loss.
        betas: Adam's decay rates for all players.
        options: arguments of `LatentGAN`. Those of the discriminator also apply to the critic of frames.
    """

    task = "clips"  # the group of its recipes
    players: tuple[str, ...] = ("generator", "discriminator", "image_critic")

    def __init__(
        self,
        size: Size = 32,
        channels: int = 1,
        frames: int = 16,
        latent_dim: int = 50,
        motion_dim: int = 10,
        width: int = 32,
        motion_grid: int = 0,
        num_classes: int = 0,
        stills: int = 8,
        given: int = 0,
        given_weight: float = 100.0,
        future_weight: float = 100.0,
        features: str | None = None,
        spectral_norm: bool = True,
        objective: Objective = "hinge",
        betas: tuple[float, float] = (0.5, 0.999),
        **options: Any,
    ) -> None:
        at_least(1, latent_dim=latent_dim, motion_dim=motion_dim, stills=stills)
        at_least(0, num_classes=num_classes, motion_grid=motion_grid, given=given)
        at_least(0, given_weight=given_weight, future_weight=future_weight)
        at_least(2, frames=frames)
        if given >= frames:
            raise ValueError(f"given is {given}; expected less than frames, {frames}")
        length = latent_dim + (frames + 1) * motion_dim
        super().__init__(
            size,
            channels,
            length,
            width,
            objective,
            betas=betas,
            generator_batch=1,
            terms=None,
            lazy=1,
            lecam=0.0,
            lecam_start=1000,
            prior="normal",
            augment=None,
            augment_options=None,
            instance_noise=0.0,
            instance_noise_images=0,
            **options,
        )
        self.num_classes, self.given = num_classes, given
        self.given_weight, self.future_weight = given_weight, future_weight
        self.held_out = Continuations(features)
        self.image_critic = recurrent.ImageCritic(size, channels, width, num_classes, spectral_norm)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to clips."""
        assert self.image_shape is not None
        self.frames = self.hparams["frames"]
        self.image_shape = (self.image_shape[0], self.frames, *self.image_shape[1:])
        content, motion, classes = (self.hparams[name] for name in ("latent_dim", "motion_dim", "num_classes"))
        grid, given = self.hparams["motion_grid"], self.hparams["given"]
        return recurrent.Generator(content, motion, size, channels, width, classes, grid, given)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from clips, and classes, to logits."""
        frames, classes, normed = (self.hparams[name] for name in ("frames", "num_classes", "spectral_norm"))
        return recurrent.VideoCritic(frames, size, channels, width, classes, spectral_norm=normed)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator, the critic of clips and, with the same settings, the critic of frames."""
        generator, discriminator = super().configure_optimizers()
        group = discriminator.param_groups[0]
        return [generator, discriminator, self.adam(self.image_critic, group["lr"], group["betas"], self.eps)]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Update both critics with the same samples and, in its turn, the generator."""
        optimizer_g, optimizer_v, optimizer_i = self.player_optimizers()
        samples: list[tuple[Tensor, Tensor]] = []  # latents and clips of each piece, for both critics
        with self.toggled_optimizer(optimizer_v):
            for real, *labels in self.parts(batch):
                z = self.latent(len(real))
                with torch.no_grad():
                    fake, _ = self.generated(z, real, *labels)
                samples.append((z, fake))
                self.record("motion/ratio", motion(fake) / motion(real).clamp(min=1e-8))  # real clips may not move
                step = self.critics_step(z, real, fake, *labels)
                loss = self.loss.discriminator(step.real_logits, step.fake_logits)
                self.record_discriminator(loss, step.real_logits, step.fake_logits)
                self.descend(loss + self.terms.total(step, self.terms.of("discriminator")), optimizer_v)
        with self.toggled_optimizer(optimizer_i):
            for (real, *labels), (z, fake) in zip(self.parts(batch), samples, strict=True):
                (real, *classes), (fake, *_) = self.stills(real, *labels), self.stills(fake)
                step = self.critics_step(z, real, fake, *classes)
                loss = self.loss.discriminator(step.real_logits, step.fake_logits)
                self.record_image_critic(loss, step.real_logits, step.fake_logits)
                self.descend(loss + self.terms.total(step, self.terms.of("discriminator"), "image_"), optimizer_i)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real, *labels in self.parts(batch):
                    fake, continued = self.generated(self.latent(len(real)), real, *labels)
                    loss = self.loss.generator(self.compared(real, *labels), self.critic(fake, *labels))
                    if continued is not None:
                        loss = loss + self.reconstruction(widened(fake), real, continued)
                    (real, *classes), (fake, *_) = self.stills(real, *labels), self.stills(fake)
                    loss = loss + self.loss.generator(self.compared(real, *classes), self.critic(fake, *classes))
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)

    def generated(self, z: Tensor, real: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return clips `(N, C, T, H, W)` and which of them continue the given frames of `real`, `(N,)`, or None."""
        if not self.given:
            return self.generator(z, *labels), None
        continued = self.uniform(len(z)) < CONTINUED
        first = real[:, :, : self.given]
        return self.generator(z, labels[0] if labels else None, first, continued), continued

    def reconstruction(self, fake: Tensor, real: Tensor, continued: Tensor) -> Tensor:
        """Return the weighted L1 distance of continued clips from true ones, a scalar, and record its parts.

        It is the mean over averages of 1, 2, 4 and 8 pixels a side: an object that is several pixels away from its
        place does not overlap it, and only coarse scales say in which direction it has to move. Frames farther ahead
        count less. There an object is so far from its place that L1 would rather have none.

        Args:
            fake: clips `(N, C, T, H, W)`.
            real: the clips that they continue.
            continued: bool `(N,)`, the rows that count. The expected share is `CONTINUED`, by which the sum is divided:
                the actual share would make the loss of a process depend on its rows.
        """
        change, scales = fake - real, [k for k in SCALES if k <= min(fake.shape[-2:])]
        pooled = [avg_pool3d(change, (1, k, k)).abs().mean((1, 3, 4)) for k in scales]
        error = torch.stack(pooled).mean(0) * continued[:, None] / CONTINUED
        given, future = error[:, : self.given].mean(), error[:, self.given :].mean(0)
        weights = FADE ** torch.arange(len(future), device=future.device)
        future = (future * weights).sum() / weights.sum()
        self.record("reconstruction/given", given)
        self.record("reconstruction/future", future)
        return self.given_weight * given + self.future_weight * future

    def critics_step(self, z: Tensor, real: Tensor, fake: Tensor, *labels: Tensor) -> Step:
        """Return the forward passes of a step of one critic, on clips or on frames."""
        slopes = needed(self.terms.of("discriminator"), "differentiates")
        seen, given, real_output = self.forward_critic(real, labels, "real" in slopes)
        made, _, fake_output = self.forward_critic(fake, labels, "fake" in slopes)
        rows = self.batch_size(len(real))
        return Step("discriminator", self, z, seen, given, real_output, made, given, fake_output, rows)

    def compared(self, real: Tensor, *labels: Tensor) -> Tensor | None:
        """Return a critic's logits of real clips or frames for an objective that compares with them, else None."""
        return self.critic(real, *labels) if isinstance(self.loss, Relativistic) else None

    def critic(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Return the logits `(N,)` of clips `(N, C, T, H, W)` or frames `(N, C, H, W)` with these classes."""
        network = self.discriminator if images.ndim == 5 else self.image_critic
        logits: Tensor = widened(network(images, *labels))
        return logits

    def stills(self, clips: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return `stills` random frames of each clip `(N, C, T, H, W)`, `(N stills, C, H, W)`, and their labels."""
        n, _, frames = clips.shape[:3]
        count: int = self.hparams["stills"]
        which = (self.uniform(n, count) * frames).long().clamp(max=frames - 1)  # rounding may give `frames`
        chosen = clips[torch.arange(n, device=clips.device)[:, None], :, which].flatten(0, 1)
        return chosen, *(part.repeat_interleave(count) for part in labels)

    def record_image_critic(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Record the loss, logits and accuracy of the critic of frames."""
        self.record("loss/image_critic", loss)
        self.record("logits/image_real", real_logits)
        self.record("logits/image_fake", fake_logits)
        self.record("accuracy/image_critic", self.loss.right(real_logits, fake_logits))

    # -- held-out clips -----------------------------------------------------------------------------------------------

    def hold_out(self, stage: str, batch: tuple[Tensor, ...]) -> None:
        """Log loss and logits of the critic of clips, on the first frames of longer clips.

        Raises:
            ValueError: if clips are shorter, or frames have another shape.
        """
        batch = batch[0][:, :, : self.frames], *batch[1:]
        checked_batch(batch, self.image_shape)
        super().hold_out(stage, batch)

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the critic of clips on held-out clips and samples, and keep the scores of continuations."""
        super().validation_step(batch, batch_idx)
        if self.given:
            self.held_out.add(self, batch, batch_idx)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the same as `validation_step`, on the test clips."""
        super().test_step(batch, batch_idx)
        if self.given:
            self.held_out.add(self, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of continuations of held-out clips."""
        self.held_out.log(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of continuations of test clips."""
        self.held_out.log(self, "test")

    # -- pictures -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        seed: int | None = None,
        frames: int | None = None,
    ) -> Tensor:
        """Return `n` clips `(n, C, T, H, W)` in [-1, 1] of the averaged generator.

        Args:
            n: number of clips.
            labels: class of all clips, or classes `(n,)`, for class-conditional models; None uses all classes in turn.
            truncation: truncate latents at ± this many standard deviations, for less variety and more typical clips.
            seed: seed of the latents; None uses torch's global generator.
            frames: length T of the clips; None is the length in training. With one seed, longer clips continue shorter
                ones.

        Raises:
            ValueError: if there are labels for an unconditional model, or `frames` is below 1.
        """
        frames = self.frames if frames is None else frames
        at_least(1, frames=frames)
        longer = (frames - self.frames) * self.hparams["motion_dim"]
        z = self.drawn(n, self.latent_dim, seed)
        if longer > 0:
            z = torch.cat([z, self.drawn(n, longer, seed, "longer")], 1)
        z = z[:, : self.latent_dim + longer]
        if truncation is not None:
            z = truncate(z, truncation)
        rows = max(1, FRAMES_AT_ONCE // frames)
        pieces = zip(*(torch.split(part, rows) for part in (z, *self.conditions(n, labels))), strict=True)
        return torch.cat([self(*piece) for piece in pieces])

    @torch.no_grad()
    def extend(self, clips: Tensor, frames: int, *, seed: int | None = None) -> Tensor:
        """Return clips `(N, C, T + frames, H, W)` that begin with `clips` and are continued by the averaged generator.

        Args:
            clips: `(N, C, T, H, W)` in [-1, 1]. The last `given` frames determine the content and the motion.
            frames: number of new frames. With one seed, longer continuations begin with shorter ones.
            seed: seed of the motion noise; None uses torch's global generator. Each seed is another continuation.

        Raises:
            ValueError: if the model was trained with `given` 0, for clips of another size or of less than `given`
                frames, or if `frames` is below 1.
        """
        if not self.given:
            raise ValueError("this SequenceGAN was trained with given 0, so it cannot continue clips: train it with 4")
        at_least(1, frames=frames)
        first = last_frames(clips, self.given, self.image_shape)
        count, rows = self.given + frames, max(1, FRAMES_AT_ONCE // (self.given + frames))
        words = [("extend", i) for i in range(count)]
        noise = torch.cat([self.drawn(len(clips), self.hparams["motion_dim"], seed, *named) for named in words], 1)
        pieces = zip(torch.split(first.to(noise), rows), torch.split(noise, rows), strict=True)
        made = torch.cat([self.continuation(*piece) for piece in pieces])
        return torch.cat([clips.to(made), made], 2)

    def continued(self, first: Tensor, frames: int) -> Tensor:
        """Return what follows given frames `(N, C, given, H, W)`, `(N, C, frames, H, W)`, with fresh noise."""
        noise = first.new_empty(len(first), (self.given + frames) * self.hparams["motion_dim"])
        return self.continuation(first, self.noise_like(noise))

    def continuation(self, first: Tensor, noise: Tensor) -> Tensor:
        """Return what follows given frames, `(N, C, T - given, H, W)`.

        Args:
            first: `(N, C, given, H, W)`.
            noise: motion noise of given and new frames, `(N, T motion_dim)`, at the end of longer latents.
        """
        z = torch.cat(
            [noise.new_zeros(noise.shape[0], self.hparams["latent_dim"] + self.hparams["motion_dim"]), noise], 1
        )
        labels = torch.zeros(z.shape[0], dtype=torch.long, device=z.device) if self.num_classes else None
        clips: Tensor = self.generator_ema(z, labels, first)
        return clips[:, :, self.given :].clamp(-1, 1)

    def drawn(self, n: int, length: int, seed: int | None, *words: str | int) -> Tensor:
        """Return normal numbers `(n, length)`, a function of `seed` and `words`, or from torch's global generator."""
        dtype = next(self.generator.parameters()).dtype
        return draw((n, length), None if seed is None else key(seed, *words), self.prior, self.device, dtype)

    def pictures(self, batch: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, int | None]]:
        """Return clips that separate content, motion and class.

        `motion` has two contents, in rows 1 to 4 and 5 to 8, with the same four motions. `classes` has one latent in
        all classes. `continued` has clips of the batch, each followed by a row that continues its first frames.
        """
        z = self.drawn(4, self.latent_dim, 0, "pictures")
        contents, motions = z.tensor_split([self.hparams["latent_dim"]], 1)
        both = torch.cat([contents[:2].repeat_interleave(4, 0), motions.repeat(2, 1)], 1)
        rows = torch.arange(8, device=self.device) // 4
        shown = {"motion": self(both, *self.conditions(8, rows % self.num_classes if self.num_classes else None))}
        if self.num_classes:
            shown["classes"] = self(z[:1].expand(self.num_classes, -1), *self.conditions(self.num_classes, None))
        if self.given:
            real = batch[0][:4]
            made = self.extend(real[:, :, : self.given], self.frames - self.given, seed=0)
            shown["continued"] = torch.stack([real.to(made), made], 1).flatten(0, 1)
        return {name: (clips, None) for name, clips in shown.items()}


def motion(clips: Tensor) -> Tensor:
    """Return the mean absolute difference between successive frames of clips `(N, C, T, H, W)`, a scalar."""
    return clips.diff(dim=2).abs().mean()
