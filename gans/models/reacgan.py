"""Rebooted auxiliary classifier GAN, Kang et al. 2021 (ReACGAN, arXiv 2111.01118)."""

from typing import Any

from gans.models.contragan import ContraGAN
from gans.terms import DataToData, Player, Term


class ReACGAN(ContraGAN):
    """ContraGAN's networks with a loss that ignores easy pairs: `DataToData`, in the losses of both players.

    An image is compared with its class and with images of other classes, not with others of its own class. Pairs that
    are near or far enough by `positive_margin` and `negative_margin` have no gradient, which keeps variety in a class.

    Args:
        class_weight: weight of the term, in the losses of both players.
        temperature: of the cosines between embeddings.
        positive_margin: cosine of an image and its class from which they are near enough.
        negative_margin: cosine of images of two classes up to which they are far enough; 1 - `positive_margin` in the
            paper.
        options: as in `ContraGAN`.
    """

    def __init__(
        self,
        *,
        class_weight: float = 0.5,
        temperature: float = 0.5,
        positive_margin: float = 0.98,
        negative_margin: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(class_weight=class_weight, temperature=temperature, **options)

    def own_terms(self) -> list[Term]:
        """Return the cross entropy of real images, for the discriminator, and of fake ones, for the generator."""
        given = self.hparams
        margins = given["positive_margin"], given["negative_margin"]
        players: tuple[Player, ...] = ("discriminator", "generator")
        return [DataToData(given["class_weight"], given["temperature"], *margins, player) for player in players]
