"""Frozen image networks whose tokens a critic's tokens are compared with, as in GAT (Hyun et al. 2025, 2509.24935).

A guide is DINOv2 (Oquab et al. 2023, arXiv 2304.07193) from a local folder of Hugging Face's `transformers`, or a small
classifier of `gans.networks.classifier`. It returns a class token and a grid of patch tokens. Nothing is downloaded.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gans.networks.classifier import Classifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pixels in [0, 1]
SIDE = 224  # pixels of the shorter side that DINOv2 sees


class Guide(nn.Module):
    """Base of the frozen networks: pictures `(N, C, H, W)` in [-1, 1] to tokens `(N, 1 + h w, length)`.

    A subclass defines `tokens`.

    Args:
        network: frozen here, and put into eval mode.
        length: of a token.
    """

    def __init__(self, network: nn.Module, length: int) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.training = False
        self.length = length

    def train(self, mode: bool = True) -> Self:
        """Return the guide, which stays in eval mode."""
        return self

    @torch.no_grad()
    def forward(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the tokens of pictures, the class token first, then the patches in rows, without gradients.

        Args:
            pictures: `(N, C, H, W)` in [-1, 1]; grey ones are repeated to three channels, alpha is left out.
            grid: rows and columns of the patch tokens, which are resized by bicubic interpolation.
        """
        one, patches = self.tokens(pictures)
        return torch.cat([one.float().unsqueeze(1), resized(patches.float(), grid).flatten(2).mT], 1)

    def tokens(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return class tokens `(N, length)` and patch tokens `(N, length, h, w)` of pictures in [-1, 1]."""
        raise NotImplementedError


class Dinov2(Guide):
    """DINOv2: the class token and the patch tokens after the last norm.

    Pictures are normalised with ImageNet's mean and standard deviation and then resized, without antialiasing, as in
    GAT's authors' code. The shorter side becomes 224 pixels, the longer one the nearest number of whole patches.

    Args:
        network: a `Dinov2Model` of `transformers`.
    """

    def __init__(self, network: nn.Module) -> None:
        config: Any = network.config
        super().__init__(network, config.hidden_size)
        self.patch: int = config.patch_size

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) to which pictures are resized."""
        scale = SIDE / min(height, width) / self.patch
        rows, columns = (max(1, round(side * scale)) * self.patch for side in (height, width))
        return rows, columns

    def tokens(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return class tokens `(N, length)` and patch tokens `(N, length, h, w)` of pictures in [-1, 1]."""
        mean, std = (torch.tensor(part, device=pictures.device)[:, None, None] for part in (MEAN, STD))
        normalised = ((coloured(pictures) + 1) / 2 - mean) / std
        size = self.size(*pictures.shape[-2:])
        found: Tensor = self.network(interpolate(normalised, size, mode="bicubic")).last_hidden_state
        one, patches = found[:, 0], found[:, 1:].mT
        return one, patches.reshape(*patches.shape[:2], size[0] // self.patch, size[1] // self.patch)


class ClassifierMaps(Guide):
    """A small classifier: the pixels of its last maps as patch tokens, and their mean as class token.

    Args:
        network: an image classifier.
        size: (height, width) of the images that it was trained on, to which pictures are resized.
    """

    def __init__(self, network: Classifier, size: tuple[int, int]) -> None:
        last = network.layers[-2]
        assert isinstance(last, nn.BatchNorm2d)
        super().__init__(network, last.num_features)
        first: Any = network.layers[0]
        self.size, self.channels = size, int(first.in_channels)

    def tokens(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return class tokens `(N, length)` and patch tokens `(N, length, h, w)` of pictures in [-1, 1].

        Raises:
            ValueError: if the classifier is for grey images and the pictures are not.
        """
        if self.channels == 1 != pictures.shape[1]:
            raise ValueError(f"the classifier takes grey images, but the pictures have {pictures.shape[1]} channels")
        images = pictures if pictures.shape[1] == self.channels else coloured(pictures)
        if tuple(images.shape[-2:]) != self.size:
            images = interpolate(images, self.size, mode="bilinear", antialias=True)
        network: Any = self.network
        maps: Tensor = network.layers(images)
        return maps.mean((2, 3)), maps


def coloured(pictures: Tensor) -> Tensor:
    """Return pictures with the three channels of RGB: `(N, 3, H, W)` of `(N, 1, 3 or 4, H, W)`."""
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures[:, :3]


def resized(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return patch tokens `(N, length, h, w)` as `(N, length, *grid)`, by bicubic interpolation."""
    return patches if tuple(patches.shape[-2:]) == grid else interpolate(patches, grid, mode="bicubic")


def package() -> ModuleType:
    """Return `transformers`.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError("DINOv2 needs the package transformers: pip install 'lightning-gans[latents]'") from error
    module: ModuleType = transformers
    return module


def dinov2(folder: str | Path) -> Dinov2:
    """Return the DINOv2 of a local folder.

    Raises:
        ValueError: if `transformers` is not installed, or the folder holds no DINOv2.
    """
    library, path = package(), Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise ValueError(f"network is {folder}; expected a folder with config.json and model.safetensors")
    try:
        kind = library.AutoConfig.from_pretrained(path, local_files_only=True).model_type
        if kind != "dinov2":
            raise TypeError(f"config.json has the model_type {kind}; expected dinov2")
        with torch.random.fork_rng(devices=[]):
            return Dinov2(library.Dinov2Model.from_pretrained(path, local_files_only=True, use_safetensors=True))
    except Exception as error:  # the package raises many kinds
        raise ValueError(f"network is {folder}, which holds no DINOv2: {' '.join(str(error).split())}") from error
