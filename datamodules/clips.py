"""What the data modules of image sequences share: batches with a time axis, and how many frames a clip has."""

from datamodules.base import ImageDataModule, Size, integer


class ClipDataModule(ImageDataModule):
    """Base of the data modules of image sequences; all that it promises of images holds for clips.

    Batches are `(clips, labels)`: uint8 `(N, C, T, H, W)` from the loader, float in [-1, 1] on the device, and int64
    `(N,)`. `image_shape` is that of a frame.

    Args:
        size: Height and width of the frames, one number if they are equal.
        channels: 1 (grey), 3 (colour) or 4 (colour and alpha).
        frames: Frames of every clip.
        batch_size: Clips per process and batch.
        num_workers: Processes that load clips; 0 loads them in the training process.
        seed: Seed of the split and, with the run's seed (`seed_everything`), of the training order.
        infinite: Repeat the training clips until an epoch has at least 100 batches.
    """

    items = "clips"

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
