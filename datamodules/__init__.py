"""LightningDataModules for images and image sequences. Each is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.captioned_digits import CaptionedDigitsDataModule
    from datamodules.captions import CaptionedDataModule
    from datamodules.changed import UnpairedDigitsDataModule, UnpairedMNISTDataModule
    from datamodules.codes import CodesDataModule
    from datamodules.degraded import DegradedDigitsDataModule, DegradedFolderDataModule, DegradedMNISTDataModule
    from datamodules.digits import DigitsDataModule
    from datamodules.folder import ImageFolderDataModule
    from datamodules.frames import FrameFolderDataModule
    from datamodules.huggingface import HuggingFaceDataModule
    from datamodules.mnist import MNISTDataModule
    from datamodules.moving import MovingDigitsDataModule
    from datamodules.paired import PairedFolderDataModule
    from datamodules.stacked import StackedMNISTDataModule
    from datamodules.streaming import LitDataModule
    from datamodules.torchvision import TorchvisionDataModule
    from datamodules.unpaired import UnpairedFoldersDataModule

__all__ = [
    "CaptionedDataModule",
    "CaptionedDigitsDataModule",
    "CodesDataModule",
    "DegradedDigitsDataModule",
    "DegradedFolderDataModule",
    "DegradedMNISTDataModule",
    "DigitsDataModule",
    "FrameFolderDataModule",
    "HuggingFaceDataModule",
    "ImageFolderDataModule",
    "LitDataModule",
    "MNISTDataModule",
    "MovingDigitsDataModule",
    "PairedFolderDataModule",
    "StackedMNISTDataModule",
    "TorchvisionDataModule",
    "UnpairedDigitsDataModule",
    "UnpairedFoldersDataModule",
    "UnpairedMNISTDataModule",
]

_FILES = {
    "CaptionedDataModule": "captions",
    "CaptionedDigitsDataModule": "captioned_digits",
    "CodesDataModule": "codes",
    "DegradedDigitsDataModule": "degraded",
    "DegradedFolderDataModule": "degraded",
    "DegradedMNISTDataModule": "degraded",
    "DigitsDataModule": "digits",
    "FrameFolderDataModule": "frames",
    "HuggingFaceDataModule": "huggingface",
    "ImageFolderDataModule": "folder",
    "LitDataModule": "streaming",
    "MNISTDataModule": "mnist",
    "MovingDigitsDataModule": "moving",
    "PairedFolderDataModule": "paired",
    "StackedMNISTDataModule": "stacked",
    "TorchvisionDataModule": "torchvision",
    "UnpairedDigitsDataModule": "changed",
    "UnpairedFoldersDataModule": "unpaired",
    "UnpairedMNISTDataModule": "changed",
}


def __getattr__(name: str) -> Any:
    # Imports at the top would be a cycle, because the imported files import other files of this package.
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
