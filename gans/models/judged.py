"""What images of held-out captions show, by the encoders of sentences and images, by the critic, and by classifiers."""

from typing import Any

import torch
from torch import Tensor, nn

from gans.engine.distributed import gather_rows
from gans.engine.module import AdversarialModule
from gans.metrics.extractors import judge
from gans.metrics.interface import Extractor
from gans.metrics.text import held_out_shares
from gans.models.imagetextencoder import captioned
from gans.networks.text import Matcher
from gans.pictures.images import to_uint8


class JudgedByCaptions(AdversarialModule):
    """A model that makes images of sentences, with the scores of `gans test` and of the curves.

    It has `generator_ema`, `discriminator`, `encoders` and `sentence`, and the argument `judges`: an extractor for each
    attribute of the data that images of held-out sentences are judged by.
    """

    generator_ema: nn.Module

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # In a tuple, so that the weights of others are neither parameters of the model nor in its checkpoints.
        self._judges: tuple[dict[str, Extractor], ...] = ()
        self._seen: list[dict[str, Tensor]] = []  # of held-out sentences, until all have been seen

    @property
    def encoders(self) -> Matcher:
        """The encoders of sentences and images."""
        raise NotImplementedError

    def sentence(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors `(N, features)` of sentences."""
        raise NotImplementedError

    def judges(self) -> dict[str, Extractor]:
        """Return the networks that tell attributes of images, where the model is."""
        if not self._judges:
            self._judges = ({name: judge(given) for name, given in (self.hparams["judges"] or {}).items()},)
        return {name: network.to(self.device) for name, network in self._judges[0].items()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """See what images of held-out sentences show."""
        self.hold_out(batch)

    test_step = validation_step

    def hold_out(self, batch: Any) -> None:
        """Keep what is to be known of a batch: vectors, the critic's opinion, and what judges say of the images."""
        images, tokens, lengths = captioned(batch)
        sentences, names = self.sentence(tokens, lengths), self.attributes()
        made = self.generator_ema(self.latent(len(images)), sentences)
        own, other = self.discriminator(images, sentences, sentences.roll(1, 0))
        same = (tokens == tokens.roll(1, 0)).all(1)
        swap = torch.where(same, -1, (own > other).long())
        seen = {"tokens": tokens, "swap": swap, "read": self.encoders.sentence(tokens, lengths)}
        seen |= {"made": self.encoders.image(made), "real": self.encoders.image(images)}
        if len(batch) > 3 and names:
            seen["said"] = batch[3]
            for name, network in self.judges().items():
                said = batch[3][:, names.index(name)]
                seen[name] = torch.where(said < 0, -1, (network(to_uint8(made))[1].argmax(1) == said).long())
        self._seen.append(seen)

    def attributes(self) -> tuple[str, ...]:
        """Return what the data's captions may say of an image, by the columns of a batch's fourth part.

        Raises:
            ValueError: if a judge is of something else.
        """
        names = tuple(getattr(getattr(self.trainer, "datamodule", None), "attributes", ()))
        missing = [name for name in self.hparams["judges"] or () if names and name not in names]
        if missing:
            raise ValueError(f"judges has {missing[0]}; expected attributes of the data: {', '.join(names)}")
        return names

    def on_validation_epoch_end(self) -> None:
        """Log the shares of all held-out images."""
        self.judge("val")

    def on_test_epoch_end(self) -> None:
        """Log the same for the test images."""
        self.judge("test")

    def judge(self, stage: str) -> None:
        """Log what was kept, of all processes, and forget it; combinations never trained on stand by themselves."""
        if not self._seen:
            return
        parts = {name: gather_rows(torch.cat([seen[name] for seen in self._seen])) for name in self._seen[0]}
        self._seen = []
        shares = held_out_shares(parts, self.attributes(), tuple(self.hparams["judges"] or ()))
        found: dict[str, Tensor | float] = {f"{stage}/{name}": value for name, value in shares.items()}
        self.log_dict({**found, "step": float(self.trainer.global_step)}, sync_dist=True)
