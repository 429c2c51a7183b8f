"""Auxiliary classifier GAN, Odena, Olah and Shlens 2017 (arXiv 1610.09585)."""

from typing import Any

from torch import Tensor, nn

from gans.checks import at_least
from gans.losses import Objective
from gans.models.gan import LatentGAN
from gans.networks import concatenated, resnet
from gans.networks.layers import Size
from gans.terms import ClassTerm, Term


class ACGAN(LatentGAN):
    """A class-conditional generator, and a discriminator that also classifies.

    The networks are SNGAN's. On the paper's networks, without spectral norms, the generator collapsed to one image a
    class; it does so here with a `generator_class_weight` of 1. The discriminator is trained to classify real images
    only, with the weights of WGAN-GP's code. In the paper it is trained on fake images too.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels next to the image, and everywhere up to 32 pixels.
        num_classes: number of classes; at least as many as the data have.
        class_weight: weight of the classification of real images in the discriminator's loss.
        generator_class_weight: weight of the classification of fake images in the generator's loss.
        objective: the adversarial loss.
        betas: Adam's decay rates, of both players.
        options: as in `LatentGAN`.
    """

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

    def own_terms(self) -> list[Term]:
        """Return the classification of real images, for the discriminator, and of fake ones, for the generator."""
        weights = self.hparams["class_weight"], self.hparams["generator_class_weight"]
        return [ClassTerm(weights[0], "discriminator"), ClassTerm(weights[1], "generator")]

    def discriminate(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return logits `(N,)` and guesses of the class `(N, num_classes)`; the discriminator does not see classes."""
        return self.discriminator(images)
