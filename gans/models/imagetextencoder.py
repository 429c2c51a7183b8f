"""Contrastive encoders of images and sentences: a small CLIP (Radford et al. 2021, arXiv 2103.00020).

The sentence encoder is that of AttnGAN's DAMSM (Xu et al. 2018, arXiv 1711.10485). `TextToImage` trains the same pair
as its first stage, or takes the weights of a model trained here.
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from gans.checks import at_least, positive
from gans.engine.batch import captioned
from gans.engine.checkpoint import class_path
from gans.engine.distributed import gathered
from gans.engine.draws import drawn_from, run_seed
from gans.engine.resume import Groups, apply_settings, continue_curves, settings
from gans.latent import key
from gans.losses import info_nce
from gans.metrics.captions import Retrieval
from gans.networks import clip as clip_sentences
from gans.networks.layers import Size, image_channels, image_size
from gans.networks.text import Matcher, Vocabulary, entries


class ImageTextEncoder(L.LightningModule):
    """An image encoder and a sentence encoder; batches are (image, tokens, lengths), see `datamodules.captions`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        features: length of the vectors of images and of sentences.
        width: channels of the image encoder after the first halving; they double at each further one, up to 8 times.
        text_width: of the sentence encoder: length of a word's vector, and of each of the two recurrent states.
        clip: folder of a CLIP text model for `transformers` that replaces the sentence encoder; or its description.
        vocabulary: words in the order of their numbers, or a tokenizer's JSON; None takes that of the data.
        lr: learning rate of Adam.
        betas: Adam's decay rates.
    """

    task = "text"  # the group of its recipes

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        features: int = 128,
        width: int = 32,
        text_width: int = 64,
        clip: str | dict[str, Any] | None = None,
        vocabulary: list[str] | str | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        at_least(1, features=features, width=width, text_width=text_width)
        positive(lr=lr)
        self.image_shape = (image_channels(channels), *image_size(size))
        self.matcher: Matcher | None = None
        if vocabulary is not None:
            self.make_matcher(vocabulary)
        self.held_out = Retrieval()
        self.seed: int | None = None
        self._given: Groups | None = None  # what this run gives its optimizer
        self._resumed: Groups | None = None  # what the run did that is continued

    def make_matcher(self, vocabulary: Vocabulary) -> None:
        """Build the encoders for a vocabulary, which becomes part of the checkpoint."""
        self.matcher = built(self.hparams, vocabulary, self.hparams["width"])

    def setup(self, stage: str) -> None:
        """Take the vocabulary of the data, and build the encoders."""
        self.seed = run_seed(self.trainer.strategy)
        vocabulary = shared_vocabulary(self, self.hparams["vocabulary"])
        if self.matcher is None:
            with drawn_from(key(self.seed, "matcher")):  # the same on any number of processes
                self.make_matcher(vocabulary)
        self.trainer.precision_plugin.convert_module(self)  # before a checkpoint is loaded, as `AdversarialModule` does
        self._given = self._resumed = None

    def on_fit_start(self) -> None:
        """Keep this run's optimizer settings before a checkpoint's replace them."""
        self._given = settings(self.trainer.optimizers)

    def on_train_start(self) -> None:
        """Apply this run's settings over the checkpoint's, and continue the curves."""
        if self._given is not None and self._resumed is not None:
            apply_settings(self.trainer, self._given, self._resumed)
            continue_curves(self.trainer)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam for both encoders."""
        given = self.hparams
        return torch.optim.Adam(self.parameters(), given["lr"], (float(given["betas"][0]), float(given["betas"][1])))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the class of the model, the run seed and the optimizer settings, as `AdversarialModule` does."""
        state = {"model": class_path(type(self)), "seed": self.seed, "settings": self._given or []}
        checkpoint["adversarial"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose vocabulary is not the data's, which `setup` took before.

        Raises:
            ValueError: if it is not.
        """
        ours = self.hparams["vocabulary"]
        check_same(checkpoint["hyper_parameters"].get("vocabulary", ours), ours)
        state = checkpoint["adversarial"]
        self.seed = state.get("seed", self.seed)
        self._resumed = state.get("settings") or [[{}]]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the contrastive loss of a batch."""
        assert self.matcher is not None
        seen, read = self.matcher(*captioned(batch))
        self.matcher.spread.update(gathered(read.detach()))  # of all processes
        loss = both_ways(seen, read, self.matcher.scale(), self.global_rank)
        self.log("loss/contrastive", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Encode held-out images and sentences."""
        self.held_out.add(self, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log how often an image's own sentence is nearest among a hundred."""
        for name, value in self.held_out.compute(self).items():
            self.log(f"val/{name}", value, sync_dist=True)


def built(given: Any, vocabulary: Vocabulary, width: int) -> Matcher:
    """Return the encoders that hyper-parameters `given` describe.

    In `given`, the vocabulary and the description of CLIP are set, so that a checkpoint can be loaded without the data
    and the folder.

    Raises:
        ValueError: if CLIP cannot be read, or has fewer tokens than the vocabulary.
    """
    given["vocabulary"] = vocabulary if isinstance(vocabulary, str) else list(vocabulary)
    matcher = Matcher(
        entries(vocabulary), given["size"], given["channels"], given["features"], width, given["text_width"]
    )
    if given["clip"] is None:
        return matcher
    folder = given["clip"] if isinstance(given["clip"], str) else None
    if folder is not None:
        given["clip"] = clip_sentences.described(folder)
    sentences = clip_sentences.ClipSentences(given["clip"], given["features"])
    if sentences.count < entries(vocabulary):
        told = f"{entries(vocabulary)} tokens, CLIP {sentences.count}"
        raise ValueError(
            f"the vocabulary has {told}: give the data its tokenizer, --data.tokenizer FOLDER/tokenizer.json"
        )
    if folder is not None:
        clip_sentences.load(sentences, folder)
    matcher.sentences = sentences
    return matcher


def both_ways(seen: Tensor, read: Tensor, scale: Tensor, rank: int) -> Tensor:
    """Return the contrastive loss of a batch in both directions, with the negatives of all processes.

    Args:
        seen: unit vectors of images, `(N, D)`.
        read: of their sentences, `(N, D)`.
        scale: factor of the inner products, the inverse temperature.
        rank: of this process.
    """
    first = rank * len(seen)
    return (info_nce(seen, gathered(read), scale, first) + info_nce(read, gathered(seen), scale, first)) / 2


def shared_vocabulary(module: L.LightningModule, own: Vocabulary | None) -> Vocabulary:
    """Return the vocabulary of a model and its data.

    Raises:
        ValueError: if neither has one, or they differ.
    """
    theirs = getattr(getattr(module.trainer, "datamodule", None), "vocabulary", None)
    if own is None and theirs is None:
        raise ValueError("the data have no captions; expected such as CaptionedDataModule's, or --model.vocabulary")
    check_same(own, theirs)
    found: Any = theirs if own is None else own
    vocabulary: Vocabulary = found
    return vocabulary


def check_same(own: Vocabulary | None, theirs: Vocabulary | None) -> None:
    """Refuse data whose vocabulary is not the model's, if both have one.

    Raises:
        ValueError: if they differ.
    """
    if own is not None and theirs is not None and not same(own, theirs):
        raise ValueError(
            f"the data's vocabulary ({entries(theirs)} tokens) is not the model's ({entries(own)}): give the data the "
            "captions that the model was trained on"
        )


def held_encoders(path: str, vocabulary: Vocabulary, device: torch.device) -> dict[str, Tensor]:
    """Return the weights of the encoders in a checkpoint.

    Raises:
        ValueError: if it has none, or they were trained with another vocabulary.
    """
    try:
        held = torch.load(path, map_location=device, weights_only=True, mmap=True)
        theirs, state = held["hyper_parameters"]["vocabulary"], held["state_dict"]
    except OSError as error:
        raise ValueError(f"encoder is {path}, which is no file: {error.strerror or error}") from error
    except Exception as error:  # unpickling what is no checkpoint raises almost anything
        raise ValueError(f"encoder is {path}; expected a checkpoint of ImageTextEncoder or TextToImage") from error
    if not same(theirs, vocabulary):
        raise ValueError(f"encoder is {path}, whose {entries(theirs)} tokens are others than the data's")
    return {name[8:]: value for name, value in state.items() if name.startswith("matcher.")}


def same(one: Vocabulary, other: Vocabulary) -> bool:
    """Return whether two vocabularies have the same tokens in the same order."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return list(one) == list(other)
