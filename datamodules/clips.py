"""Base of the data modules of image sequences: batches with a time axis, and the number of frames."""

from datamodules.base import ImageDataModule, Size, integer


class ClipDataModule(ImageDataModule):
    """Base of the data modules of image sequences. Order and resuming are as in `ImageDataModule`.

    Batches are `(clips, labels)`. Clips are uint8 `(N, C, T, H, W)` in the dataloader, and float in [-1, 1] on the
    device. Labels are int64 `(N,)`. `image_shape` is the shape of a frame.

    Args:
        size: Height and width of the frames, or one number if they are equal.
        channels: 1 (grey), 3 (colour) or 4 (colour and alpha).
        frames: Number of frames of every clip.
        batch_size: Clips per process and batch.
        num_workers: Processes that load clips; 0 loads them in the training process.
        seed: Seed of the split and, with the run's seed (`seed_everything`), of the training order.
        infinite: Repeat the training clips until an epoch has at least 100 batches.
    """

    items = "clips"
    objects: int | None = None  # number of objects that move before a black background; None if it is not known

    def __init__(
        self,
        size: Size,
        channels: int,
        frames: int,
        batch_size: int,
        num_workers: int,
        seed: int,
        infinite: bool = False,
    ) -> None:
        super().__init__(size, channels, batch_size, num_workers, seed, infinite)
        self.frames = integer("frames", frames, least=2)
