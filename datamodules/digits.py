"""scikit-learn's 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak, 1998), without a download."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from datamodules.base import BatchDataset, ImageDataModule, ImageTensors, Size, integer, quiet_about_workers, split


class DigitsDataModule(ImageDataModule):
    """scikit-learn's handwritten digits, for first runs, tests and small machines.

    The validation and test sets are the same.

    Args:
        size: Height and width to which the 8x8 pixels are enlarged.
        channels: 1, or 3 for three equal channels.
        batch_size: Images per process and batch.
        val_size: Number of images kept for validation, chosen by the seed.
        seed: Seed of the split and, with the run's seed, of the training order.
        num_workers: Loading processes; the images are in memory, so 0 is fastest.
        infinite: Repeat the training images until an epoch has at least 100 batches.
    """

    num_classes = 10

    def __init__(
        self,
        size: Size = 32,
        channels: int = 1,
        batch_size: int = 64,
        val_size: int = 197,
        seed: int = 0,
        num_workers: int = 0,
        infinite: bool = False,
    ) -> None:
        super().__init__(size, channels, batch_size, num_workers, seed, infinite)
        greyscale(channels)
        self.val_size = integer("val_size", val_size, least=0)
        quiet_about_workers()

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training images and, twice, the validation images."""
        from sklearn.datasets import load_digits  # a second to import, and needed by this class only

        digits = load_digits()
        images = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
        images = enlarge(images, self.size).expand(-1, self.channels, -1, -1)
        labels = torch.from_numpy(digits.target).long()
        train, val = (ImageTensors(images[rows], labels[rows]) for rows in split(len(images), self.val_size, self.seed))
        return train, val, val


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images `(N, C, H, W)` of 0..255, up or down, to uint8 `(N, C, *size)`.

    The filter is antialiased bicubic, which gives smoother strokes than nearest, bilinear or Lanczos.
    """
    parts = torch.split(images, 1000)  # in parts, because a float copy of 60,000 images is large
    enlarged = (interpolate(part.float(), size=size, mode="bicubic", antialias=True) for part in parts)
    return torch.cat([part.clamp_(0, 255).round_().to(torch.uint8) for part in enlarged])


def greyscale(channels: int) -> None:
    """Check the channels of a greyscale data set.

    Raises:
        ValueError: They are neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1, or 3 to repeat the grey channel of these digits, got {channels}.")
