"""GAN in the latent space of an autoencoder, trained in three stages of one run.

A generator against a critic of codes is the l-GAN of Achlioptas et al. 2018 (arXiv 1707.02392). The critic of images is
a second one, as in Bang and Shim 2018 (arXiv 1804.04391). There codes guide a GAN of images, here a critic of images
improves a GAN of codes.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn

from gans.checks import article, at_least
from gans.engine.checkpoint import check_begun, load_model
from gans.engine.schedules import linear
from gans.losses import NonSaturating
from gans.models.autoencoder import FlatCodeModel
from gans.networks import dcgan, manifold
from gans.networks.layers import Size, widened
from gans.penalties import gradient, half_square, leaves, twice_differentiable

STAGES = ("autoencoder", "latent", "image")


class ManifoldGAN(FlatCodeModel):
    """A generator of an autoencoder's codes, against a critic of codes and a critic of images.

    The stage `autoencoder` trains encoder and decoder, which are frozen afterwards. The stage `latent` trains the
    generator of whitened codes against a critic of codes. The stage `image` adds a critic of decoded images. Learning
    rates decay over each stage. The run should have as many steps as all stages together. A longer run continues in the
    last stage.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent and of a code.
        width: channels of encoder and decoder at the highest resolution, doubled at each lower one, up to 8 times.
        autoencoder: checkpoint of an `Autoencoder` of these sizes, loaded at the start of a run, which replaces the
            first stage.
        autoencoder_steps: steps of the first stage.
        latent_steps: steps of the second stage.
        image_steps: steps of the third stage.
        latent_width: units of the hidden layers of the networks on codes.
        discriminator_width: `width` of the critic of images; None is the same as `width`.
        finetune: train the decoder in the third stage, with the critic of images and the reconstruction error.
        reconstruction_weight: weight of the reconstruction error in that training.
        image_weight: weight of the critic of images in the generator's loss.
        lr: learning rate of Adam in the first stage.
        latent_lr: learning rate of the generator and the critic of codes in the second stage.
        image_lr: learning rate of both, and of the decoder with `finetune`, in the third stage.
        discriminator_lr: learning rate of the critic of images.
        final_lr: factor of the learning rates at the end of each stage.
        gan_betas: Adam's decay rates for all players but the autoencoder.
        latent_r1: weight of R1 for the critic of codes, on whitened codes.
        r1: weight of R1 for the critic of images.
        ema_halflife: half-life in images of the averaged generator. There is no averaging in the first stage.
        options: arguments of `FlatCodeModel`.
    """

    players: tuple[str, ...] = ("generator", "latent_critic", "discriminator", "autoencoder")

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 16,
        width: int = 32,
        autoencoder: str | None = None,
        autoencoder_steps: int = 1200,
        latent_steps: int = 3000,
        image_steps: int = 300,
        latent_width: int = 256,
        discriminator_width: int | None = None,
        finetune: bool = False,
        reconstruction_weight: float = 10.0,
        image_weight: float = 1.0,
        lr: float = 1e-3,
        latent_lr: float = 4e-3,
        image_lr: float = 4e-4,
        discriminator_lr: float = 4e-4,
        final_lr: float = 0.1,
        gan_betas: tuple[float, float] = (0.0, 0.99),
        latent_r1: float = 0.02,
        r1: float = 0.05,
        ema_halflife: float = 10_000,
        **options: Any,
    ) -> None:
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            lr=lr,
            ema_halflife=ema_halflife,
            lr_decay_images=0,
            lr_hold_images=0,
            **options,
        )
        self.loss = NonSaturating()
        self.steps = (0 if autoencoder else autoencoder_steps, latent_steps, image_steps)
        self.latent_critic = manifold.Critic(latent_dim, latent_width)
        self.discriminator = dcgan.Discriminator(size, channels, discriminator_width or width, batch_norm=False)
        self.halflife, self.stage = ema_halflife, 0
        self.seconds, self.since = dict.fromkeys(STAGES, 0.0), 0.0
        if finetune:
            self.players = (*self.players, "decoder")

    def make_latent(self) -> nn.Module:
        """Return the network from latents to whitened codes."""
        return manifold.Residual(self.latent_dim, self.hparams["latent_width"])

    def check_options(self) -> None:
        """Check the values of options and their combinations.

        Raises:
            ValueError: if one is not valid.
        """
        super().check_options()
        given = self.hparams
        at_least(0 if given["autoencoder"] else 1, autoencoder_steps=given["autoencoder_steps"])
        at_least(0, **{name: given[name] for name in ("latent_steps", "image_steps", "latent_r1", "r1")})
        at_least(0, reconstruction_weight=given["reconstruction_weight"], image_weight=given["image_weight"])
        if given["autoencoder"] and not given["latent_steps"] + given["image_steps"]:
            raise ValueError("latent_steps is 0, image_steps too; expected one above 0 for a trained autoencoder")
        if not 0 <= given["final_lr"] <= 1:
            raise ValueError(f"final_lr is {given['final_lr']}; expected a share from 0 to 1")

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam for each of `players`."""
        given, decoder = self.hparams, self.generator.decoder
        games = [self.generator.latent, self.latent_critic, self.discriminator]
        optimizers: list[torch.optim.Optimizer] = [
            self.adam(part, given["discriminator_lr"], given["gan_betas"]) for part in games
        ]
        optimizers += super().configure_optimizers()
        return optimizers + ([self.adam(decoder, given["image_lr"], given["gan_betas"])] if given["finetune"] else [])

    # -- stages -------------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Load the given autoencoder at the start of a new run, but not of a resumed one."""
        super().on_fit_start()
        if self.hparams["autoencoder"] and self.batches_seen == 0:
            self.take(self.hparams["autoencoder"])

    def on_train_start(self) -> None:
        """Start to measure the time of the stages."""
        super().on_train_start()
        self.stage, _ = stage_at(self.trainer.global_step, self.steps)
        self.since = time.perf_counter()

    def take(self, path: str) -> None:
        """Load the autoencoder of a checkpoint, with the moments of its codes.

        Raises:
            ValueError: if the checkpoint contains none, or one of other sizes.
        """
        held = load_model(path)
        if not isinstance(held, FlatCodeModel):
            raise ValueError(f"autoencoder is {path}, which holds {article(type(held))}; expected an Autoencoder")
        for name in ("image_shape", "latent_dim"):
            theirs, ours = getattr(held, name), getattr(self, name)
            if theirs != ours:
                raise ValueError(f"autoencoder is {path}, whose {name} is {theirs}; expected {ours}, as this model has")
        for name in ("width", "scaling"):
            if held.hparams[name] != self.hparams[name]:
                both = f"{held.hparams[name]}; expected {self.hparams[name]}"
                raise ValueError(f"autoencoder is {path}, whose {name} is {both}, as this model has")
        self.encoder.load_state_dict(held.encoder.state_dict())
        if self.pixels is not None and held.pixels is not None:
            self.pixels.load_state_dict(held.pixels.state_dict())
        for generator in (self.generator, self.generator_ema):
            generator.decoder.load_state_dict(held.generator_ema.decoder.state_dict())
            generator.codes.load_state_dict(held.generator_ema.codes.state_dict())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the stage for the current step, and which networks train."""
        self.watch()
        self.stage, _ = stage_at(self.trainer.global_step, self.steps)
        first = self.stage == 0
        self.clock = self.players.index("autoencoder" if first else "generator")
        self.ema_halflife = 0 if first else self.halflife  # an averaged decoder would not fit the encoder
        for part in (self.encoder, self.generator.decoder):
            part.train(first)  # frozen networks are in eval mode
        super().on_train_batch_start(batch, batch_idx)
        self.record("stage", torch.tensor(self.stage + 1.0, device=self.device))

    def schedule(self) -> None:
        """Decay the learning rates linearly over each stage."""
        super().schedule()
        given, (stage, step) = self.hparams, stage_at(self.trainer.global_step, self.steps)
        rates = dict.fromkeys(self.players, given["image_lr"] if stage == 2 else given["latent_lr"])
        rates |= {"autoencoder": given["lr"], "discriminator": given["discriminator_lr"]}
        share = linear(step, 1.0, given["final_lr"], max(1, self.steps[stage]))
        for player, optimizer in zip(self.players, self.trainer.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = share * rates[player]

    def watch(self) -> None:
        """Add the time since the last call to the current stage."""
        now = time.perf_counter()
        self.seconds[STAGES[self.stage]] += now - self.since
        self.since = now

    def on_train_end(self) -> None:
        """Print and log the time of each stage."""
        super().on_train_end()
        self.watch()
        if self.trainer.is_global_zero:
            for logger in self.trainer.loggers:
                times = {f"time/{stage}": seconds for stage, seconds in self.seconds.items()}
                logger.log_metrics(times, step=self.trainer.global_step)
            parts = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items() if seconds)
            print(f"stages       {parts}, together {sum(self.seconds.values()):.0f} s")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also save the time of the stages."""
        super().on_save_checkpoint(checkpoint)
        if self.trainer.training:
            self.watch()
        checkpoint["seconds"] = dict(self.seconds)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the state that `on_save_checkpoint` saved.

        Raises:
            ValueError: if the checkpoint does not fit this model, or its run started with another autoencoder.
        """
        check_begun(self, checkpoint, "autoencoder")
        super().on_load_checkpoint(checkpoint)
        self.seconds = dict(checkpoint["seconds"])

    # -- the game -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Update the players of the stage: 1 autoencoder, 2 critic of codes and generator, 3 also critic of images."""
        players = dict(zip(self.players, self.player_optimizers(), strict=True))
        if self.stage == 0:
            self.autoencode(batch[0], self.clock)
            return
        moves = {"latent_critic": self.latent_critic_loss}
        if self.stage == 2:
            moves["discriminator"] = self.discriminator_loss
        if self.generator_turn():
            if self.stage == 2 and "decoder" in players:
                moves["decoder"] = self.decoder_loss
            moves["generator"] = self.generator_loss
        for player, loss in moves.items():
            with self.toggled_optimizer(players[player]):
                for real in self.pieces(batch[0]):
                    self.descend(loss(real), players[player])

    def white(self, n: int) -> Tensor:
        """Return whitened codes `(n, latent_dim)` for new random latents."""
        codes: Tensor = widened(self.generator.latent(self.latent(n)))
        return codes

    def drawn(self, white: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` decoded from whitened codes `(N, latent_dim)`."""
        images: Tensor = self.generator.decoder(self.generator.codes.colour(white))
        return images

    def latent_critic_loss(self, real: Tensor) -> Tensor:
        """Return the loss of the critic of codes, with R1."""
        codes, fake = self.generator.codes.whiten(self.encode(real)), self.white(len(real)).detach()
        (codes,) = leaves(codes)
        with twice_differentiable(codes.device):
            real_logits = widened(self.latent_critic(codes))
        fake_logits = widened(self.latent_critic(fake))
        loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = half_square(gradient(real_logits, codes))
        self.record("loss/latent_critic", loss)
        self.record("logits/real_codes", real_logits)
        self.record("logits/fake_codes", fake_logits)
        self.record("penalty/latent_r1", penalty)
        total: Tensor = loss + self.hparams["latent_r1"] * penalty
        return total

    def discriminator_loss(self, real: Tensor) -> Tensor:
        """Return the loss of the critic of images, with R1."""
        fake = self.drawn(self.white(len(real))).detach()
        real, _, real_logits = self.forward_critic(real, (), gradient=True)
        fake_logits = self.critic(fake)
        loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = half_square(gradient(real_logits, real))
        self.augment.observe(real_logits.detach(), self.loss.boundary, self.trainer.world_size)
        self.record("loss/discriminator", loss)
        self.record("logits/real", real_logits)
        self.record("logits/fake", fake_logits)
        self.record("accuracy/discriminator", self.loss.right(real_logits, fake_logits))
        self.record("penalty/r1", penalty)
        total: Tensor = loss + self.hparams["r1"] * penalty
        return total

    def generator_loss(self, real: Tensor) -> Tensor:
        """Return the generator's loss against the critic of codes and, in the third stage, the critic of images."""
        white = self.white(len(real))
        loss = self.loss.generator(None, widened(self.latent_critic(white)))
        self.record("loss/generator", loss)
        if self.stage == 2 and self.hparams["image_weight"]:
            of_images = self.loss.generator(None, self.critic(self.drawn(white)))
            self.record("loss/generator_images", of_images)
            loss = loss + self.hparams["image_weight"] * of_images
        return loss

    def decoder_loss(self, real: Tensor) -> Tensor:
        """Return the decoder's loss against the critic of images, with the reconstruction error."""
        of_images = self.loss.generator(None, self.critic(self.drawn(self.white(len(real)))))
        error = self.error(self.generator.decoder(self.encode(real)), real).mean()
        self.record("loss/reconstruction", error)
        total: Tensor = self.hparams["image_weight"] * of_images + self.hparams["reconstruction_weight"] * error
        return total


def stage_at(step: int, steps: tuple[int, int, int]) -> tuple[int, int]:
    """Return the stage (0, 1 or 2) of a trainer step, and the number of its steps that are done.

    The last stage with steps has no end.
    """
    stages = [stage for stage, count in enumerate(steps) if count]
    for stage in stages[:-1]:
        if step < steps[stage]:
            return stage, step
        step -= steps[stage]
    return stages[-1], step
