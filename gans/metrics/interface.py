"""What every extractor is: a frozen network from images or clips to the features that metrics compare.

A score is comparable only with scores from the same network, weights and resizing, so an extractor names them (`name`,
`sha256`, `resize`). Nothing around it changes its features: not train mode, not autocast, not TF32.
"""

import copy
import hashlib
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from gans.metrics.sequences import motion
from gans.precision import full_precision

Outputs = tuple[Tensor, Tensor | None]  # features (N, num_features), and logits (N, num_classes) if there are classes


class Extractor(nn.Module):
    """A frozen network from uint8 images, or clips, to features and, if it is a classifier, logits.

    A subclass for another kind of network overrides `extract`, and `extras` if scores need more than features.

    Args:
        network: returns features and logits. It is frozen here and put into eval mode.
        name: the last part of a score's tag, as in `score/fid_mnist`.
        num_features: length of the features.
        num_classes: length of the logits; None if there are none.
        sha256: hash of the weights and of everything else that the features depend on.
        resize: how images of other sizes than the network's are resized, for example `tf1 299`.
        channels: 1 or 3, what the network takes; None leaves the channels of images as they are.
        clips: whether it takes clips instead of images.
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
        """Return this extractor, which stays in eval mode when the module that holds it changes mode."""
        return self

    def forward(self, images: Tensor) -> Outputs:
        """Return features `(N, num_features)` and logits `(N, num_classes)` or None, float32.

        Raises:
            ValueError: if the images are not uint8 `(N, C, H, W)`, or `(N, C, T, H, W)` for an extractor of clips, or
                the network returns other shapes than `num_features` and `num_classes` say.
        """
        dims, sides = (5, "(N, C, T, H, W)") if self.clips else (4, "(N, C, H, W)")
        if images.dtype != torch.uint8 or images.dim() != dims:
            kind = f"{images.dtype} of shape {tuple(images.shape)}"
            raise ValueError(f"images are {kind}; expected uint8 {sides} for the extractor {self.name}")
        if self.channels:
            images = with_channels(images, self.channels)
        if len(images) == 0:  # resizing fails on it, but a process without samples must take part
            logits = None if self.num_classes is None else torch.zeros(0, self.num_classes, device=images.device)
            return torch.zeros(0, self.num_features, device=images.device), logits
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False), full_precision():
            features, logits = self.extract(images)
        self._check(features, len(images), self.num_features, "features")
        self._check(logits, len(images), self.num_classes, "logits")
        return features.float(), None if logits is None else logits.float()

    def extras(self, images: Tensor) -> dict[str, Tensor]:
        """Return what scores need besides features, a row for each of the uint8 images: the motion of clips."""
        return {"motion": motion(images)} if self.clips else {}

    def extract(self, images: Tensor) -> Outputs:
        """Return features and logits of uint8 images `(N, C, H, W)`, or clips, with the channels of the network."""
        found: Outputs = self.network(images)
        return found

    def _check(self, found: Tensor | None, count: int, length: int | None, what: str) -> None:
        given = None if found is None else tuple(found.shape)
        expected = None if length is None else (count, length)
        if given != expected:
            raise ValueError(f"{what} of extractor {self.name} are of shape {given}; expected {expected}")


class Wrapped(Extractor):
    """A frozen copy of any module that returns features, or features and logits, of uint8 images.

    A module of clips has an attribute `clips` that is true.

    Args:
        module: the network; its weights are copied as they are now.
        name: the last part of a score's tag; None takes the name of the module's class.
        num_features: length of the features; None reads the module's attribute of that name.
        num_classes: length of the logits; None reads the module's attribute of that name, if there is one.

    Raises:
        ValueError: if `num_features` is neither given nor an attribute.
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

    def extract(self, images: Tensor) -> Outputs:
        """Return what the module returns, with None for missing logits."""
        found = self.network(images)
        return found if isinstance(found, tuple) else (found, None)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return uint8 images `(N, C, ...)` with 1 or 3 channels. Computed in integers, so equal on every device.

    RGBA is composed over white, grey is repeated, and RGB becomes grey with the weights of ITU-R 601.

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


def digest(given: nn.Module | Mapping[str, Tensor], *words: object) -> str:
    """Return the sha256 of named tensors, or of a module's tensors and layers, and of `words`."""
    sha = hashlib.sha256(repr(words).encode())
    if isinstance(given, nn.Module):
        sha.update(repr(given).encode())
        given = {**given.state_dict(), **dict(given.named_buffers())}  # buffers need not be in the state_dict
    for name, tensor in sorted(given.items()):
        if isinstance(tensor, Tensor):  # modules may put anything there
            sha.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
            sha.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
