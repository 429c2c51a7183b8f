"""Base of GANs whose critic's tokens resemble those of a frozen image network: GAT, Hyun et al. 2025 (2509.24935)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from gans.metrics.classifiers import unpack
from gans.metrics.interface import digest
from gans.models.codedgan import CodedGAN
from gans.models.gan import Shown, labelled
from gans.networks.aligned import ClassifierMaps, Guide, dinov2
from gans.networks.classifier import Classifier
from gans.networks.layers import Size
from gans.terms import Alignment, Step, Term, built


class AlignedGAN(CodedGAN):
    """Base of GANs on codes that may have the term `Alignment`.

    `make_discriminator` builds a critic of `aligned` numbers a token. Its output then has the field `tokens`, and its
    attribute `patch` is the side of the square of codes that a token sees. The frozen network is no part of
    checkpoints, which hold its path, its digest and the length of its tokens. A run resumes with the same network.

    The pictures are the images of a batch, or its last element if the batch holds codes.
    """

    aligned = 0  # length of a token of the frozen network; 0 without the term
    _guide: tuple[Guide, ...] = ()  # in a tuple: it is frozen, and no part of checkpoints
    _pictures: Tensor | None = None  # of the batch
    _shown: Tensor  # those of the current piece
    _began = 0  # draws of the step before the augmentation of real images

    def played(self, size: Size, channels: int) -> tuple[Size, int]:
        """Load the frozen network, if a term names it by its path, and return the size and the channels of codes.

        Raises:
            ValueError: if there is no such network, there are two, or pictures cannot follow the augmentation.
        """
        entries = [term.described() for term in built(self.hparams["terms"])]
        for entry in entries:
            if (term := aligning([entry])) is None:
                continue
            if self.aligned:
                raise ValueError("terms has Alignment twice; expected it once")
            if isinstance(term.network, str):
                guide, found = load_guide(term.network)
                self._guide = (guide,)
                entry["init_args"]["network"] = {"path": term.network, "digest": found, "length": guide.length}
            self.aligned = int(entry["init_args"]["network"]["length"])
        if self.aligned and self.augment.draws and not self.augment.leads:
            raise ValueError(f"augment is {self.hparams['augment']}; expected codes with Alignment")
        if self.aligned:
            self.hparams["terms"] = entries
        return super().played(size, channels)

    def setup(self, stage: str) -> None:
        """Load the frozen network for training, if the model comes from a checkpoint.

        Raises:
            ValueError: if it is not where it was, or is another one.
        """
        super().setup(stage)
        if stage == "fit" and self.aligned and not self._guide:
            term = cast(Alignment, aligning(self.hparams["terms"]))
            told = cast(dict[str, Any], term.network)
            guide, found = load_guide(told["path"])
            if found != told["digest"]:
                raise ValueError(f"network is {told['path']}, which is another than that with which the run began")
            self._guide = (guide,)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a resumed run has the frozen network with which it began.

        Raises:
            ValueError: if it has another, or the checkpoint does not fit this model.
        """
        ours, theirs = aligning(self.hparams["terms"]), aligning(checkpoint["hyper_parameters"].get("terms"))
        if ours is not None and theirs is not None and self._trainer is not None and self.trainer.state.fn == "fit":
            here, there = cast(dict[str, Any], ours.network), cast(dict[str, Any], theirs.network)
            if here["digest"] != there["digest"]:
                raise ValueError(f"network is {here['path']}, which is another than that with which the run began")
        super().on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:
        """Move the frozen network to the device."""
        super().on_fit_start()
        for guide in self._guide:
            guide.to(self.device)

    def guide(self, pictures: Tensor) -> Tensor:
        """Return the frozen network's tokens `(N, 1 + patches, aligned)` for pictures `(N, C, H, W)` in [-1, 1]."""
        patch = cast(int, self.discriminator.patch)
        rows, columns = (side // patch for side in self.code_shape[1:])
        tokens: Tensor = self._guide[0](pictures.float(), (rows, columns))
        return tokens

    # -- the pictures of a step ---------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Take the steps of `CodedGAN`, with the pictures of the batch for the term `Alignment`.

        Raises:
            ValueError: if the batch holds codes without pictures.
        """
        if self.aligned:
            self._pictures = batch[-1] if self.holds_codes(batch) else batch[0]
            if tuple(self._pictures.shape[1:]) != self.image_shape:
                raise ValueError("Alignment needs pictures; expected data with images, or codes with `pictures: true`")
        super().training_step(batch, batch_idx)

    def parts(self, batch: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """Yield pieces of a batch, and note the pictures of each."""
        if self._pictures is None:
            yield from super().parts(batch)
            return
        given = labelled(batch) if self.num_classes else batch[:1]
        for *piece, pictures in self.pieces(*given, self._pictures):
            self._shown = pictures
            yield tuple(piece)

    def all_as_seen(self, batches: Mapping[Shown, Tensor]) -> Tensor:
        """Return batches of codes with augmentation and noise, and note where the draws for real ones begin."""
        self._began = self._draws.count
        return super().all_as_seen(batches)

    def discriminator_step(self, real: Tensor, *labels: Tensor, terms: list[Term], alone: bool = False) -> Step:
        """Return the forward passes of a step of the discriminator, with pictures if a term reads them."""
        step = super().discriminator_step(real, *labels, terms=terms, alone=alone)
        if not any(isinstance(term, Alignment) for term in terms):
            return step
        return replace(step, pictures=self.followed(self._shown))

    def followed(self, pictures: Tensor) -> Tensor:
        """Return pictures `(N, C, H, W)` of the real codes of a step, shifted and mirrored as these were."""
        numbers = self.augment.numbers(*self.code_shape) if self.augment.draws else 0
        if not numbers:
            return pictures
        with self._draws.again(self._began):
            drawn = self.uniform(len(pictures), numbers)
        return self.augment.followed(pictures, drawn, pictures.shape[-1] // self.code_shape[-1])


def aligning(given: Any) -> Alignment | None:
    """Return the term `Alignment` among terms or their descriptions; None without one."""
    return next((term for term in built(given) if isinstance(term, Alignment)), None)


def load_guide(path: str | Path) -> tuple[Guide, str]:
    """Return a frozen image network, and its digest.

    Args:
        path: folder of a DINOv2 for `transformers`, or file of a classifier of images that `gans train_features` wrote.

    Raises:
        ValueError: if there is no such network.
    """
    where = Path(path).expanduser()
    if where.is_dir():
        guide: Guide = dinov2(where)
        return guide, digest(guide.network.state_dict(), "dinov2")
    try:
        held, network = unpack(where)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"network is {path}: {error}; expected a folder of DINOv2, or a file of a classifier"
        ) from error
    if not isinstance(network, Classifier):
        raise ValueError(f"network is {path}, a classifier of clips; expected one of images")
    height, width = held["unframed"]
    return ClassifierMaps(network, (height, width)), held["sha256"]
