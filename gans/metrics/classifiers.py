"""Small classifiers of images or clips as extractors: those of this package, and files that `train_features` wrote."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from gans.metrics.interface import Extractor, Outputs, digest
from gans.networks import classifier
from gans.pictures.images import to_float

WEIGHTS = Path(__file__).with_name("weights")
# The files of this package and the sha256 of each.
SHIPPED = {
    "mnist": "157005c29e481de7ecf2ca41e6108738f48cd5c08eb0e910064980f00bca7eb5",
    "moving": "5f65e3323cc885c7b9e9b3c7b88c2ab83bc535cba2a47f2d69cb0b512a967f27",
    # Trained on captioned digits in all pairs of digit and colour.
    "captioned-digit": "1fe0b4fe034f202f9e647fa519d2cd8825eb81940e4e9fee4db7811f8882ad15",
    "captioned-colour": "d4864715fd937b6a1d6c5f731d0aeca27a4c2ce55849b795f625a911796d8568",
}


class Classifier(Extractor):
    """A small classifier of images or clips that `scripts/train_features.py` wrote.

    Images of other sizes are resized. If the classifier was trained on images within a black frame, such as 28x28
    digits in 32x32, images are resized to the inner size and framed: MNIST with and without the frame has equal
    features. The frames of clips are resized likewise; their number stays.

    Args:
        path: file with the content that `pack` returns.
        sha256: the hash that the file must have; None accepts any that fits its weights.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or of another kind or hash.
    """

    def __init__(self, path: str | Path, sha256: str | None = None) -> None:
        held, network = unpack(Path(path))
        if sha256 is not None and held["sha256"] != sha256:
            raise ValueError(f"{path} has sha256 {held['sha256'][:12]}...; expected {sha256[:12]}...")
        self.size: tuple[int, int] = tuple(held["size"])
        self.unframed: tuple[int, int] = tuple(held["unframed"])
        resize = "{}x{} bilinear antialias".format(*self.unframed)
        if self.unframed != self.size:
            resize += ", black frame to {}x{}".format(*self.size)
        sizes = held["architecture"]
        super().__init__(
            network,
            held["name"],
            sizes["num_features"],
            sizes["num_classes"] or None,
            held["sha256"],
            resize,
            sizes["channels"],
            clips="frames" in held,
        )
        self.accuracy: float = held["accuracy"]
        self.data: str = held["data"]

    def extract(self, images: Tensor) -> Outputs:
        """Return features and logits of images `(N, C, H, W)`, or clips, in [0, 255], resized if needed."""
        found: Outputs = self.network(to_float(fitted(images, self.size, self.unframed)))
        return found


class Stacked(Extractor):
    """The shipped classifier on each of three channels, for digits stacked as red, green and blue: 1,000 classes.

    Outputs are those of the channels, joined. Logits are sums of the channels' log-probabilities, so the most likely
    class is the triple of the most likely digits, the red one counting hundreds. Metz et al. 2017 (arXiv 1611.02163)
    and Srivastava et al. 2017 (arXiv 1705.07761) count modes so, each with a classifier of their own.
    """

    def __init__(self) -> None:
        digits = shipped("mnist")
        assert digits.num_classes is not None
        sizes = 3 * digits.num_features, digits.num_classes**3
        super().__init__(digits, "stacked", *sizes, digest({}, "stacked", digits.sha256), digits.resize, channels=3)

    def extract(self, images: Tensor) -> Outputs:
        """Return features `(N, 192)` and logits `(N, 1000)` of uint8 images `(N, 3, H, W)`."""
        features, logits = self.network(images.flatten(0, 1).unsqueeze(1))
        red, green, blue = logits.log_softmax(1).unflatten(0, (-1, 3)).unbind(1)
        triples = red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]
        return features.unflatten(0, (-1, 3)).flatten(1), triples.flatten(1)


def shipped(name: str) -> Classifier:
    """Return the classifier of this package with a name of `SHIPPED`."""
    return Classifier(WEIGHTS / f"{name}.pt", SHIPPED[name])


def fitted(images: Tensor, size: tuple[int, int], unframed: tuple[int, int]) -> Tensor:
    """Return images or clips `(N, C, ..., H, W)` as float32 `(N, C, ..., *size)` of the same range.

    Images of another size than `size` are resized to `unframed`; a black frame fills the rest of `size`.
    """
    pixels = images.float().flatten(1, -3)  # channels and frames are resized one by one
    if pixels.shape[-2:] == size:
        return pixels.view(images.shape)
    if pixels.shape[-2:] != unframed:
        pixels = interpolate(pixels, size=unframed, mode="bilinear", antialias=True)
    (height, width), (top, left) = unframed, ((size[0] - unframed[0]) // 2, (size[1] - unframed[1]) // 2)
    framed = pad(pixels, (left, size[1] - width - left, top, size[0] - height - top))
    return framed.view(*images.shape[:-2], *size)


def pack(network: nn.Module, architecture: dict[str, int], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file for `Classifier`: the weights on the CPU, their sha256 and the facts.

    Args:
        network: of `gans.networks.classifier`.
        architecture: its arguments.
        facts: `name`; `size` of the images in training; `unframed`, the size within their black frame, or `size`;
            `accuracy`; `data`, a description; for a classifier of clips also `frames`, their number in training.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return {"architecture": architecture, "weights": weights, **facts} | {
        "sha256": digest(weights, sorted(architecture.items()), tuple(facts["size"]), tuple(facts["unframed"]))
    }


def unpack(path: Path) -> tuple[dict[str, Any], nn.Module]:
    """Return the content of a file that `pack` describes, and its network.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, or its sha256 is not that of its weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        with torch.device("meta"):  # draws no numbers
            kind = classifier.ClipClassifier if "frames" in held else classifier.Classifier
            network: nn.Module = kind(**held["architecture"])
        network.load_state_dict(held["weights"], assign=True)
        facts = {key: held[key] for key in ("name", "size", "unframed", "accuracy", "data")}
        sides = (*zip(held["unframed"], held["size"], strict=True),)  # of what is within the frame, and with it
        if len(sides) != 2 or not all(0 < inner <= outer for inner, outer in sides):
            raise ValueError("no size")
        same = pack(network, held["architecture"], facts)["sha256"] == held["sha256"]
    except Exception as error:  # unpickling what is no checkpoint raises almost anything
        raise ValueError(f"{path} was not written by train_features, or is damaged ({type(error).__name__})") from error
    if not same:
        raise ValueError(f"{path} is damaged: its weights are not those of its sha256")
    return held, network
