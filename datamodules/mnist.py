"""MNIST (LeCun, Cortes and Burges, 1998): 60,000 + 10,000 handwritten digits of 28x28 pixels."""

import contextlib
import shutil
from pathlib import Path

from torch import Tensor
from torch.nn.functional import pad
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from datamodules.base import BatchDataset, ImageDataModule, ImageTensors, Size, integer, quiet_about_workers, split
from datamodules.digits import enlarge, greyscale

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class MNISTDataModule(ImageDataModule):
    """MNIST in memory, in torchvision's layout `ROOT/MNIST/raw`. It is downloaded if its files are missing.

    Args:
        root: Folder that contains `MNIST/raw`, `raw` or the four files; it may be read-only if the files exist.
        size: Height and width. 28 keeps the original pixels, 32 adds two black pixels on each side, others resize.
        channels: 1, or 3 for three equal channels.
        batch_size: Images per process and batch.
        val_size: Number of the 60,000 images kept for validation, chosen by the seed.
        seed: Seed of the split and, with the run's seed, of the training order.
        num_workers: Processes that load images; 0 is fastest, because the images are in memory.
        infinite: Repeat the training images until an epoch has at least 100 batches.
    """

    num_classes = 10

    def __init__(
        self,
        root: str | Path = "data",
        size: Size = 28,
        channels: int = 1,
        batch_size: int = 64,
        val_size: int = 5000,
        seed: int = 0,
        num_workers: int = 0,
        infinite: bool = False,
    ) -> None:
        super().__init__(size, channels, batch_size, num_workers, seed, infinite)
        greyscale(channels)
        self.root = Path(root).expanduser()
        self.val_size = integer("val_size", val_size, least=0)
        quiet_about_workers()

    @property
    def folder(self) -> Path:
        """The folder of the four files: `MNIST/raw`, `raw` or the root. If they are missing, it is `MNIST/raw`."""
        places = [self.root / "MNIST" / "raw", self.root / "raw", self.root]
        return next((place for place in places if complete(place)), places[0])

    def prepare_data(self) -> None:
        """Download missing files, in one process.

        Raises:
            FileNotFoundError: The download failed. Folders that were created for it are removed.
        """
        if complete(self.folder):
            return
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        try:
            MNIST(self.root, download=True)
        except (OSError, RuntimeError) as error:
            if made:
                shutil.rmtree(self.folder, ignore_errors=True)
            for path in made[1:]:
                with contextlib.suppress(OSError):  # another process may have written files there
                    path.rmdir()
            raise self._missing(f"and downloading them failed ({_first_line(error)})") from error

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training and validation images, a split of the 60,000, and the 10,000 test images."""
        if not complete(self.folder):
            raise self._missing("and this step does not download them")
        images, labels = self._read(train=True)
        train, val = (ImageTensors(images[rows], labels[rows]) for rows in split(len(images), self.val_size, self.seed))
        return train, val, ImageTensors(*self._read(train=False))

    def _read(self, train: bool) -> tuple[Tensor, Tensor]:
        try:
            images, labels = FILES[:2] if train else FILES[2:]
            pixels, targets = read_image_file(str(self.folder / images)), read_label_file(str(self.folder / labels))
            if len(pixels) != len(targets):
                raise ValueError(f"{len(pixels)} images but {len(targets)} labels")
        except (OSError, RuntimeError, ValueError, AssertionError, KeyError, IndexError) as error:
            what = "training" if train else "test"
            reason = _first_line(error)
            raise ValueError(f"The {what} files in {self.folder} are damaged ({reason}): fetch them again.") from error
        return self._fit(pixels[:, None]).expand(-1, self.channels, -1, -1), targets.long()

    def _fit(self, images: Tensor) -> Tensor:
        if self.size == (28, 28):
            return images
        if self.size == (32, 32):
            return pad(images, (2, 2, 2, 2))  # a power of two for convolutions, with unchanged pixels
        return enlarge(images, self.size)

    def _missing(self, why: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"MNIST is not in {self.folder} {why}: put the four files {', '.join(FILES)} there (unpacked, from "
            f"{MNIST.mirrors[0]}), or point root at a folder that holds MNIST/raw."
        )


def complete(folder: Path) -> bool:
    """Return whether all four files are in a folder."""
    return all((folder / name).is_file() for name in FILES)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
