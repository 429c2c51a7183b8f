"""Auxiliary classifier GAN, Odena, Olah and Shlens 2017 (arXiv 1610.09585)."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gans.checks import at_least
from gans.losses import Objective
from gans.models.gan import GAN, labelled
from gans.networks import concatenated, resnet
from gans.networks.layers import Size


class ACGAN(GAN):
    """The generator is told the class; the discriminator guesses it, and both want the guess to be right.

    On SNGAN's networks: on the paper's, without spectral norms, the generator soon gave one image a class, and
    so it does on these with a `generator_class_weight` of 1. The discriminator learns classes of real images only, as
    in the code of WGAN-GP, whose weights these are; in the paper of fake ones too.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image, and everywhere up to 32 pixels.
        num_classes: number of classes; at least as many as the data have.
        class_weight: of the classification of real images, in the discriminator's loss.
        generator_class_weight: of the classification of fake images, in the generator's loss.
        objective: what the players minimise besides.
        betas: Adam's decay rates, of both players.
        options: as in `GAN`.
    """

    unread = ("critic", "batch_norm", "lazy")

    def __init__(
        self,
        size: Size = 32,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 64,
        num_classes: int = 10,
        class_weight: float = 1.0,
        generator_class_weight: float = 0.1,
        objective: Objective = "hinge",
        betas: tuple[float, float] = (0.0, 0.9),
        **options: Any,
    ) -> None:
        at_least(1, num_classes=num_classes)
        at_least(0, class_weight=class_weight, generator_class_weight=generator_class_weight)
        super().__init__(size, channels, latent_dim, width, objective, betas=betas, **options)
        self.num_classes = num_classes

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and classes to images."""
        classes = self.hparams["num_classes"]
        images = resnet.Generator(self.latent_dim + classes, size, channels, width, resnet.growth(size))
        return concatenated.UnitVectors(images, classes)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits of reality and of the class."""
        options, classes = resnet.shape(size), self.hparams["num_classes"]
        return resnet.Discriminator(size, channels, width, num_classes=classes, head="auxiliary", **options)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the discriminator and, in its turn, one of the generator, on the classes of the batch."""
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real, labels in self.pieces(*labelled(batch)):
                fake = self.generator(self.latent(len(real)), labels).detach()
                (real_logits, guesses), (fake_logits, _) = self.critic(real), self.critic(fake)
                loss = self.loss.discriminator(real_logits, fake_logits)
                guessed = cross_entropy(guesses, labels)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.record("loss/class_real", guessed)
                self.record("accuracy/class_real", guesses.argmax(1) == labels)
                loss = loss + self.penalty(real, fake, real_logits, fake_logits)
                self.descend(loss + self.hparams["class_weight"] * guessed, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real, labels in self.pieces(*labelled(batch)):
                    z, given = self.generator_rows(len(real), labels)
                    fake_logits, guesses = self.critic(self.generator(z, given))
                    loss = self.loss.generator(self.compared(real), fake_logits)
                    guessed = cross_entropy(guesses, given)
                    self.record("loss/generator", loss)
                    self.record("loss/class_fake", guessed)
                    self.descend(loss + self.hparams["generator_class_weight"] * guessed, optimizer_g)

    def reality(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Return the logits of reality, `(N,)`, without those of the class."""
        return self.critic(images)[0]

    def hold_out_logits(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits on a batch and on averaged samples of the same classes."""
        real, labels = labelled(batch)
        return self.discriminator(real)[0], self.discriminator(self(self.latent(len(real)), labels))[0]
