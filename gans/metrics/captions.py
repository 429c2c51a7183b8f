"""Scores of held-out captions: whether images show what their sentences say, and find their sentences."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gans.engine.batch import captioned
from gans.metrics.extractors import judge
from gans.metrics.heldout import HeldOut
from gans.metrics.interface import Extractor
from gans.metrics.text import held_out_shares, r_precision, statements
from gans.pictures.images import to_uint8


class Captions(HeldOut):
    """What images that a model makes of held-out sentences show: to its encoders, to its critic, and to classifiers.

    The model has `sentence`, `latent`, `generator_ema`, `discriminator` and `encoders`, see `gans.models.texttoimage`.

    Args:
        judges: name, file or module of a classifier for each attribute of the data that images are judged by.
    """

    def __init__(self, judges: Mapping[str, str]) -> None:
        super().__init__()
        self.named = dict(judges)
        self._judges: dict[str, Extractor] | None = None

    def judges(self, device: torch.device | str) -> dict[str, Extractor]:
        """Return the classifiers by attribute, on a device. They are read at the first call.

        Raises:
            ValueError: if one has no classes, or does not exist.
        """
        if self._judges is None:
            self._judges = {name: judge(given) for name, given in self.named.items()}
        return {name: network.to(device) for name, network in self._judges.items()}

    def rows(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return the vectors of images and sentences, the critic's preference, and what judges say of the images.

        `held_out_shares` describes them.
        """
        images, tokens, lengths = captioned(batch)
        sentences, names = model.sentence(tokens, lengths), self.attributes(model)
        made = model.generator_ema(model.latent(len(images)), sentences)
        own, other = model.discriminator(images, sentences, sentences.roll(1, 0))
        same = (tokens == tokens.roll(1, 0)).all(1)
        swap = torch.where(same, -1, (own > other).long())
        seen = {"tokens": tokens, "swap": swap, "read": model.encoders.sentence(tokens, lengths)}
        seen |= {"made": model.encoders.image(made), "real": model.encoders.image(images)}
        if len(batch) > 3 and names:
            seen["said"] = batch[3]
            for name, network in self.judges(model.device).items():
                said = batch[3][:, names.index(name)]
                seen[name] = torch.where(said < 0, -1, (network(to_uint8(made))[1].argmax(1) == said).long())
        return seen

    def scores(self, model: Any, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the shares of images; combinations that were held out of training have shares of their own."""
        return held_out_shares(rows, self.attributes(model), tuple(self.named))

    def attributes(self, model: Any) -> tuple[str, ...]:
        """Return the attributes of the data's captions.

        Raises:
            ValueError: if a judge is of another attribute.
        """
        names = attributes(model)
        missing = [name for name in self.named if names and name not in names]
        if missing:
            raise ValueError(f"judges has {missing[0]}; expected attributes of the data: {', '.join(names)}")
        return names


class Retrieval(HeldOut):
    """R-precision of an encoder of images and sentences: how often an image's own sentence is the nearest of 100.

    The model has `matcher`, see `gans.models.imagetextencoder`.
    """

    def rows(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return the vectors of images and sentences, the tokens, and what the captions say of each attribute."""
        images, tokens, lengths = captioned(batch)
        names = attributes(model)
        said = statements(batch[3], names) if len(batch) > 3 and names else None
        seen = {"seen": model.matcher.image(images), "read": model.matcher.sentence(tokens, lengths), "tokens": tokens}
        return seen if said is None or not said.shape[1] else {**seen, "said": said}

    def scores(self, model: Any, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the R-precision."""
        hits = r_precision(rows["seen"], rows["read"], rows["tokens"], rows.get("said"))
        return {"r_precision": hits.float().mean()}


def attributes(model: Any) -> tuple[str, ...]:
    """Return what the captions of a model's data may say of an image, by the columns of a batch's fourth part."""
    return tuple(getattr(getattr(model.trainer, "datamodule", None), "attributes", ()))
