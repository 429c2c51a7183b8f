"""Lightning data modules that give uint8 images in an order that no worker, rank or restart can change."""

from datamodules.digits import DigitsDataModule
from datamodules.folder import ImageFolderDataModule
from datamodules.mnist import MNISTDataModule

__all__ = ["DigitsDataModule", "ImageFolderDataModule", "MNISTDataModule"]
