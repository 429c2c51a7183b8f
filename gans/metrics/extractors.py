"""Networks whose features the metrics compare: Inception, small classifiers of images or clips, any module.

A number is comparable only with numbers from the same network, weights and resizing. An extractor says what its are
(`name`, `sha256`, `resize`), and nothing around it changes its features: not train mode, not autocast, not TF32.
"""

import copy
import difflib
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from gans.metrics.sequences import motion
from gans.networks import classifier
from gans.pictures.images import to_float

WEIGHTS = Path(__file__).with_name("weights")
MNIST, MOVING = WEIGHTS / "mnist.pt", WEIGHTS / "moving.pt"
MNIST_SHA256 = "157005c29e481de7ecf2ca41e6108738f48cd5c08eb0e910064980f00bca7eb5"
MOVING_SHA256 = "5f65e3323cc885c7b9e9b3c7b88c2ab83bc535cba2a47f2d69cb0b512a967f27"
# Classifiers of digits on captioned pictures of them, in all pairs of digit and colour: judges of text to image.
CAPTIONED_SHA256 = {
    "captioned-digit": "1fe0b4fe034f202f9e647fa519d2cd8825eb81940e4e9fee4db7811f8882ad15",
    "captioned-colour": "d4864715fd937b6a1d6c5f731d0aeca27a4c2ce55849b795f625a911796d8568",
}
NAMES = "mnist", "stacked", "moving", *CAPTIONED_SHA256, "inception", "vgg19", "random"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
BACKENDS = attrgetter("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")(torch.backends)

Features = tuple[Tensor, Tensor | None]


class Extractor(nn.Module):
    """A frozen network from uint8 images, or clips, to features and, if it is a classifier, logits.

    Args:
        network: gives both; it is frozen here and put into eval mode.
        name: stands in tags, as `fid/mnist`.
        num_features: length of the features.
        num_classes: length of the logits; None if there are none.
        sha256: of the weights, and of all else that features depend on.
        resize: what happens to images of another size than the network's, as `tf1 299`.
        channels: 1 or 3, what the network takes; None passes images on as they are.
        clips: whether it takes image sequences instead of images.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        num_features: int,
        num_classes: int | None,
        sha256: str,
        resize: str,
        channels: int | None = None,
        clips: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.training = False
        self.name, self.sha256, self.resize = name, sha256, resize
        self.num_features, self.num_classes, self.channels = num_features, num_classes, channels
        self.clips = clips

    def train(self, mode: bool = True) -> Self:
        """Return this extractor, in eval mode as ever: whoever holds it may change mode."""
        return self

    def forward(self, images: Tensor) -> Features:
        """Return features `(N, num_features)` and logits `(N, num_classes)` or None, float32.

        Raises:
            ValueError: if the images are not uint8 `(N, C, H, W)`, or `(N, C, T, H, W)` for an extractor of clips, or
                the network gives other shapes than it promised.
        """
        dims, sides = (5, "(N, C, T, H, W)") if self.clips else (4, "(N, C, H, W)")
        if images.dtype != torch.uint8 or images.dim() != dims:
            kind = f"{images.dtype} of shape {tuple(images.shape)}"
            raise ValueError(f"images are {kind}; expected uint8 {sides} for the extractor {self.name}")
        if self.channels:
            images = with_channels(images, self.channels)
        if len(images) == 0:  # resizing refuses it, but a process without samples must take part
            logits = None if self.num_classes is None else torch.zeros(0, self.num_classes, device=images.device)
            return torch.zeros(0, self.num_features, device=images.device), logits
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False), full_precision():
            features, logits = self.extract(images)
        self._check(features, len(images), self.num_features, "features")
        self._check(logits, len(images), self.num_classes, "logits")
        return features.float(), None if logits is None else logits.float()

    def extras(self, images: Tensor) -> dict[str, Tensor]:
        """Return what else scores need to know of uint8 images, by its name, a row for each; of clips the motion."""
        return {"motion": motion(images)} if self.clips else {}

    def extract(self, images: Tensor) -> Features:
        """Return features and logits of uint8 images `(N, C, H, W)` with the channels that the network takes."""
        found: Features = self.network(images)
        return found

    def _check(self, found: Tensor | None, count: int, length: int | None, what: str) -> None:
        given = None if found is None else tuple(found.shape)
        expected = None if length is None else (count, length)
        if given != expected:
            raise ValueError(f"{what} of extractor {self.name} are of shape {given}; expected {expected}")


class Inception(Extractor):
    """InceptionV3 as the field measures with it: torch-fidelity's port of TensorFlow's of 2015, resizing included.

    Szegedy et al. 2015 (arXiv 1512.00567), first used so by Salimans et al. 2016 (arXiv 1606.03498) for logits and by
    Heusel et al. 2017 (arXiv 1706.08500) for features. Nothing is downloaded.

    Args:
        weights: file of the weights; None looks where torch.hub keeps its downloads.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
        path = cache if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"{path.name} is not in {path.parent}: put Inception's weights there, {INCEPTION_URL}"
            )
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ValueError('inception needs torch-fidelity: pip install "lightning-gans[inception]"') from error
        try:
            torch.load(path, weights_only=True, mmap=True)  # torch-fidelity would run what a file of another kind says
            with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))
        except Exception as error:  # unpickling what is no checkpoint raises almost anything
            raise ValueError(f"{path} does not hold Inception's weights ({type(error).__name__})") from error
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        super().__init__(network, "inception", 2048, 1008, sha256, "tf1 299", channels=3)


class Classifier(Extractor):
    """A small classifier trained by `scripts/train_features.py`; the shipped ones know digits, plain, coloured, moving.

    Images of its native size are taken as they are, others resized. Where the native size is a smaller one in a black
    frame, as 28x28 digits in 32x32, the resizing is to the smaller one and the frame is added: framed or not, MNIST has
    the same features to the bit. Frames of clips are treated as images are; how many there are is left as it is.

    Args:
        path: file that `pack` describes.
        sha256: what it must be; None accepts any that the weights confirm.
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

    def extract(self, images: Tensor) -> Features:
        """Return features and logits of uint8 images `(N, C, H, W)`, resized if they have to be."""
        found: Features = self.network(to_float(fitted(images, self.size, self.unframed)))
        return found


class Stacked(Extractor):
    """The shipped classifier on each of three channels, for digits stacked as red, green and blue: 1,000 classes.

    Features are those of the channels, joined. Logits are sums of the channels' log-probabilities, so the most likely
    class is the triple of the most likely digits, the red one counting hundreds. Metz et al. 2017 (arXiv 1611.02163)
    and Srivastava et al. 2017 (arXiv 1705.07761) count modes so, each with a classifier of their own.
    """

    def __init__(self) -> None:
        digits = Classifier(MNIST, MNIST_SHA256)
        assert digits.num_classes is not None
        sizes = 3 * digits.num_features, digits.num_classes**3
        super().__init__(digits, "stacked", *sizes, digest({}, "stacked", digits.sha256), digits.resize, channels=3)

    def extract(self, images: Tensor) -> Features:
        """Return features `(N, 192)` and logits `(N, 1000)` of uint8 images `(N, 3, H, W)`."""
        features, logits = self.network(images.flatten(0, 1).unsqueeze(1))
        red, green, blue = logits.log_softmax(1).unflatten(0, (-1, 3)).unbind(1)
        triples = red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]
        return features.unflatten(0, (-1, 3)).flatten(1), triples.flatten(1)


class Wrapped(Extractor):
    """Any module that gives features, or features and logits, of uint8 images. A copy of it is frozen, not itself.

    A module of clips says so by an attribute `clips` that is true.

    Args:
        module: the network; its weights are copied as they are now.
        name: stands in tags; None is the name of its class.
        num_features: length of the features; None asks the module's attribute of that name.
        num_classes: length of the logits; None asks the module's attribute of that name, and without it there are none.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str | None = None,
        num_features: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        name = name or type(module).__name__
        features = getattr(module, "num_features", None) if num_features is None else num_features
        classes = getattr(module, "num_classes", None) if num_classes is None else num_classes
        if features is None:
            raise ValueError(f"num_features of {name} is not known; expected it as an argument or its attribute")
        classes = None if classes is None else int(classes)
        clips = bool(getattr(module, "clips", False))
        super().__init__(copy.deepcopy(module), name, int(features), classes, digest(module), "none", clips=clips)

    def extract(self, images: Tensor) -> Features:
        """Return what the module gives, with None for logits that it does not give."""
        found = self.network(images)
        return found if isinstance(found, tuple) else (found, None)


def extractor(given: str | Path | nn.Module, weights: str | Path | None = None) -> Extractor:
    """Return the extractor of a name, a file of `train_features`, or a module.

    `weights` is a file for inception.

    Raises:
        ValueError: for anything else, and for a file that is damaged.
        FileNotFoundError: if the file, or that of Inception's weights, is not there.
    """
    if given == "inception":
        return Inception(weights)
    if weights is not None:
        raise ValueError(f"weights is {weights}; expected none, for only inception reads them from a file of their own")
    if isinstance(given, nn.Module):
        return given if isinstance(given, Extractor) else Wrapped(given)
    if given == "mnist":
        return Classifier(MNIST, MNIST_SHA256)
    if given == "moving":
        return Classifier(MOVING, MOVING_SHA256)
    if given in CAPTIONED_SHA256:
        return Classifier(WEIGHTS / f"{given}.pt", CAPTIONED_SHA256[str(given)])
    if given == "stacked":
        return Stacked()
    if given in ("vgg19", "random"):
        from gans.metrics.perceptual import Pooled, feature_network  # which needs this file

        return Pooled(feature_network(str(given)))
    path = Path(given).expanduser()
    if path.is_file():
        return Classifier(path)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"there is no file {path}")
    close = difflib.get_close_matches(str(given), NAMES, n=1, cutoff=0.5)
    near = f" (did you mean {close[0]}?)" if close else ""
    known = f"{', '.join(NAMES)} or a file that train_features wrote"
    raise ValueError(f"extractor is {given}{near}; expected {known}")


def judge(given: str | Path | nn.Module) -> Extractor:
    """Return an extractor that tells classes, as `extractor` does.

    Raises:
        ValueError: also for one that tells none.
    """
    found = extractor(given)
    if found.num_classes is None:
        raise ValueError(f"judge is {found.name}; expected an extractor with classes")
    return found


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 products in float32, whatever `torch.set_float32_matmul_precision` says outside."""
    before = [backend.fp32_precision for backend in BACKENDS]
    try:
        for backend in BACKENDS:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(BACKENDS, before, strict=True):
            backend.fp32_precision = precision


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return uint8 images `(N, C, ...)` with 1 or 3 channels, in integers and so equal on every device.

    A fourth channel is alpha and lies over white; grey is repeated; colours are weighed as ITU-R 601 does.

    Raises:
        ValueError: if the images have neither 1, 3 nor 4 channels.
    """
    if images.shape[1] not in (1, 3, 4):
        raise ValueError(f"images have {images.shape[1]} channels; expected 1 (grey), 3 (RGB) or 4 (RGBA)")
    if images.shape[1] == 4:
        colours, alpha = images[:, :3].int(), images[:, 3:].int()
        images = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, *images.shape[2:])
    red, green, blue = torch.split(images.int(), 1, dim=1)
    grey: Tensor = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return grey.to(torch.uint8)


def fitted(images: Tensor, size: tuple[int, int], unframed: tuple[int, int]) -> Tensor:
    """Return images `(N, C, ..., H, W)` as float32 `(N, C, ..., *size)` of the same range, resized if need be.

    They become `unframed`, with black around it up to `size`.
    """
    pixels = images.float().flatten(1, -3)  # frames, as channels are, are images of their own
    if pixels.shape[-2:] == size:
        return pixels.view(images.shape)
    if pixels.shape[-2:] != unframed:
        pixels = interpolate(pixels, size=unframed, mode="bilinear", antialias=True)
    (height, width), (top, left) = unframed, ((size[0] - unframed[0]) // 2, (size[1] - unframed[1]) // 2)
    framed = pad(pixels, (left, size[1] - width - left, top, size[0] - height - top))
    return framed.view(*images.shape[:-2], *size)


def digest(given: nn.Module | Mapping[str, Tensor], *words: object) -> str:
    """Return the sha256 of tensors by their names, or of a module's tensors and layers, and of `words`."""
    sha = hashlib.sha256(repr(words).encode())
    if isinstance(given, nn.Module):
        sha.update(repr(given).encode())
        given = {**given.state_dict(), **dict(given.named_buffers())}  # buffers need not be in the state_dict
    for name, tensor in sorted(given.items()):
        if isinstance(tensor, Tensor):  # modules may put anything there
            sha.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
            sha.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def pack(network: nn.Module, architecture: dict[str, int], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file for `Classifier`: weights on the CPU, their sha256 and how to use them.

    `architecture` holds the arguments of the network, `facts` its name, size, unframed (the size within the black frame
    of the data; size if there is none), accuracy, data, a description, and for clips frames, how many it has seen.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    return {"architecture": architecture, "weights": weights, **facts} | {
        "sha256": digest(weights, sorted(architecture.items()), tuple(facts["size"]), tuple(facts["unframed"]))
    }


def unpack(path: Path) -> tuple[dict[str, Any], nn.Module]:
    """Return what `pack` returned and the network.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another kind, or its weights are not those of its sha256.
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
