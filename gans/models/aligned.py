"""Alignment of a critic's tokens with those of a frozen image network, Hyun et al. 2025 (GAT, arXiv 2509.24935)."""

from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor

from gans.augment import Augmentation
from gans.metrics.classifiers import unpack
from gans.metrics.interface import digest
from gans.networks.aligned import ClassifierMaps, Guide, dinov2
from gans.networks.classifier import Classifier
from gans.terms import Alignment, Term, built


class Aligner:
    """The frozen network of a model's term `Alignment`, and the pictures of a step.

    It is no module, and the network is no part of checkpoints. They hold `told`: its path, its digest and the length of
    its tokens. So a checkpoint loads without the network, and a run resumes with the same network.

    Args:
        term: names the network by its path, or by what a checkpoint holds.

    Raises:
        ValueError: if there is no such network.
    """

    pictures: Tensor  # of the batch
    uniform: Tensor | None = None  # random numbers by which the real images of the step were augmented

    def __init__(self, term: Alignment) -> None:
        self.network: Guide | None = None
        self.told: dict[str, Any]
        if isinstance(term.network, str):
            self.network, found = load_guide(term.network)
            self.told = {"path": term.network, "digest": found, "length": self.network.length}
        else:
            self.told = term.network

    @classmethod
    def of(cls, terms: list[Term]) -> Self | None:
        """Return that of a model's terms; None if `Alignment` is not among them.

        Raises:
            ValueError: if it is there twice, or there is no such network.
        """
        found = [term for term in terms if isinstance(term, Alignment)]
        if len(found) > 1:
            raise ValueError("terms has Alignment twice; expected it once")
        return cls(found[0]) if found else None

    @property
    def length(self) -> int:
        """Length of a token."""
        return int(self.told["length"])

    def described(self, terms: list[Term]) -> list[dict[str, Any]]:
        """Return the descriptions of a model's terms, for its checkpoints."""
        entries = [term.described() for term in terms]
        for entry, term in zip(entries, terms, strict=True):
            if isinstance(term, Alignment):
                entry["init_args"]["network"] = self.told
        return entries

    def load(self) -> None:
        """Load the network, if the model comes from a checkpoint.

        Raises:
            ValueError: if it is not where it was, or is another one.
        """
        if self.network is None:
            network, found = load_guide(self.told["path"])
            self.compare(found)
            self.network = network

    def compare(self, theirs: str) -> None:
        """Refuse to go on with a network of another digest than that of a run.

        Raises:
            ValueError: if it is another one.
        """
        if theirs != self.told["digest"]:
            raise ValueError(f"network is {self.told['path']}, which is another than that with which the run began")

    def compare_checkpoint(self, terms: Any) -> None:
        """Refuse to resume a run that had another network.

        Args:
            terms: descriptions in its checkpoint.

        Raises:
            ValueError: if it is another one.
        """
        for term in built(terms):
            if isinstance(term, Alignment) and isinstance(term.network, dict):
                self.compare(term.network["digest"])

    def tokens(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the network's tokens `(N, 1 + patches, length)`, the class token first.

        Args:
            pictures: `(N, C, H, W)` in [-1, 1].
            grid: rows and columns of patches.
        """
        network = cast(Guide, self.network).to(pictures.device)
        return cast(Tensor, network(pictures.float(), grid))

    def followed(self, augment: Augmentation, first: int, count: int, scale: int) -> Tensor:
        """Return pictures of real codes, shifted and mirrored as these were.

        Args:
            augment: of the codes.
            first: index in the batch of the first picture.
            count: number of pictures.
            scale: side of a picture in sides of a code.
        """
        pictures = self.pictures[first : first + count]
        return pictures if self.uniform is None else augment.followed(pictures, self.uniform[:count], scale)


def load_guide(path: str | Path) -> tuple[Guide, str]:
    """Return a frozen image network, and its digest.

    Args:
        path: folder of a DINOv2 for `transformers`, or file of a classifier of images by `scripts/train_features.py`.

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
