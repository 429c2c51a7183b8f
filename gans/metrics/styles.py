"""Scores of held-out images in other styles, by statistics of an encoder's maps."""

from typing import Any

from torch import Tensor

from gans.metrics.pairs import Paired, Scores
from gans.reconstruction import content_distance


class Restyled(Paired):
    """Distances of restyled images from the style and from the content, in the maps of the model's encoder.

    The model has `encoder`, `encode`, `restyled` and `style_distance`, see `gans.models.styletransfer`.
    """

    def image_scores(self, model: Any, made: Tensor, target: Tensor, *inputs: Tensor) -> Scores:
        """Return the distances from style and content, and those to compare them with, `(N,)` each.

        The style distance is compared with that of the content image itself. The content distance is compared with
        that of images which are encoded and decoded but not restyled, and with that of the style image.
        """
        content, name = inputs[0], model.encoder().name
        plain = model.restyled(content, target.to(content), 0.0)
        found, given, wanted, decoded = (model.encode(images) for images in (made, content, target, plain))
        return {
            f"style_distance/{name}": model.style_distance(found, wanted),
            f"style_distance/{name}/unstyled": model.style_distance(given, wanted),
            f"content_distance/{name}": content_distance(found[-1], given[-1]),
            f"content_distance/{name}/unstyled": content_distance(decoded[-1], given[-1]),
            f"content_distance/{name}/style": content_distance(wanted[-1], given[-1]),
        }
