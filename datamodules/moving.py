"""Moving MNIST (Srivastava, Mansimov and Salakhutdinov 2015, arXiv 1502.04681): digits that bounce in a frame."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from datamodules.base import Batch, BatchDataset, ImageTensors, Size, integer, one_of, split
from datamodules.clips import ClipDataModule
from datamodules.digits import DigitsDataModule, greyscale
from datamodules.mnist import MNISTDataModule
from datamodules.order import Key, mix

Source: TypeAlias = Literal["mnist", "digits"]
Labels: TypeAlias = Literal["digit", "direction"]
Speed: TypeAlias = float | tuple[float, float]

COMPASS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
LARGEST_DIGIT = 28  # pixels, as in the published frames of 64x64
LARGEST_SHARE = 0.6  # maximum size of a digit as a share of the shorter side, so that it can move
SMALLEST_FRAME = 8


class Scene(NamedTuple):
    """The common settings of all clips of a set. `speed` is (least, most) in pixels from frame to frame."""

    size: tuple[int, int]
    channels: int
    frames: int
    digits: int
    speed: tuple[float, float]
    labels: Labels


class MovingDigits(Dataset[Batch]):
    """Clips that are generated on access. Clip i is a function of the seed and i.

    Args:
        sprites: Grey square digits and their labels from 0 to 9.
        count: Number of clips.
        seed: Seed of the clips.
        scene: Common settings of the clips.
    """

    def __init__(self, sprites: ImageTensors, count: int, seed: int, scene: Scene) -> None:
        self.sprites, self.count, self.seed, self.scene = sprites, count, seed, scene

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: Key) -> Batch:
        """Return one clip `(C, T, H, W)` and its label `()`."""
        clips, labels = self.__getitems__([key])
        return clips[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the clips `(N, C, T, H, W)` and labels `(N,)` of the keys."""
        draws = self._all_draws(keys)
        rows = (draws[..., 0] * len(self.sprites)).long()
        sprites = self.sprites.images[rows, 0]
        # Positions are rounded to pixels, as published, because interpolation would blur the digits.
        views = placed(sprites.flatten(0, 1), self._paths(draws).round().long().flatten(0, 1), self.scene.size)
        clips = views.view(*rows.shape, *views.shape[1:]).amax(1)
        if self.scene.digits > 1:
            labels = torch.zeros_like(rows)
        else:
            labels = (
                self.sprites.labels[rows] if self.scene.labels == "digit" else (len(COMPASS) * draws[..., 1]).long()
            )
        return clips[:, None].repeat(1, self.scene.channels, 1, 1, 1), labels[:, 0]

    def paths(self, keys: Sequence[Key]) -> Tensor:
        """Return the true positions of the digits in the clips of the keys, `(N, digits, T, 2)` (y, x), float64.

        A position is that of the upper left corner of a digit's square, in pixels, before it is rounded to pixels.
        """
        return self._paths(self._all_draws(keys))

    def _paths(self, draws: Tensor) -> Tensor:
        """Return positions `(N, D, T, 2)` for random numbers `(N, D, 5)`."""
        room = torch.tensor(self.scene.size, dtype=torch.float64) - self.sprites.images.shape[-1]
        return bouncing(*self._launch(draws[..., 1], draws[..., 2], draws[..., 3:], room), room, self.scene.frames)

    def _all_draws(self, keys: Sequence[Key]) -> Tensor:
        """Return the random numbers of the clips of the keys, `(N, D, 5)`."""
        return torch.stack([self._draws(key if isinstance(key, int) else key[0]) for key in keys])

    def _draws(self, row: int) -> Tensor:
        """Return random numbers in [0, 1) for each digit of a clip, `(D, 5)`: digit, bearing, speed, start y and x."""
        generator = torch.Generator().manual_seed(mix(self.seed, row))
        return torch.rand(self.scene.digits, 5, generator=generator, dtype=torch.float64)

    def _launch(self, bearing: Tensor, pace: Tensor, start: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """Return start and velocity `(N, D, 2)` (y, x). The first step has no bounce, so it shows the bearing."""
        least, most = self.scene.speed
        angle = 2 * math.pi * bearing - math.pi / len(COMPASS)  # each octant is centred at its direction
        velocity = (least + (most - least) * pace)[..., None] * torch.stack([-angle.cos(), angle.sin()], -1)
        return start * (room - velocity.abs()) - velocity.clamp(max=0), velocity


def bouncing(start: Tensor, velocity: Tensor, room: Tensor, frames: int) -> Tensor:
    """Return the positions `(..., T, 2)` of points that start at `(..., 2)` and bounce elastically off 0 and `room`."""
    time = torch.arange(frames, dtype=start.dtype)[:, None]
    # The motion without walls in a room that alternates with its mirror image has a period of two rooms.
    unfolded = (start[..., None, :] + velocity[..., None, :] * time).remainder(2 * room)
    return room - (room - unfolded).abs()


def placed(sprites: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
    """Return black frames `(K, T, *size)` with sprites `(K, S, S)` at upper left corners `(K, T, 2)`."""
    down, across = (side - sprites.shape[-1] for side in size)
    # Each frame is a window into a larger, padded one with the sprite in the centre, so that one gather suffices.
    windows = pad(sprites, (across, across, down, down)).unfold(1, size[0], 1).unfold(2, size[1], 1)
    y, x = corners.unbind(-1)
    return windows[torch.arange(len(sprites))[:, None], down - y, across - x]


class MovingDigitsDataModule(ClipDataModule):
    """Digits that move at constant speed and bounce off the edges of the frame. Clips are generated on access.

    Digits have a side of 28 pixels, or 0.6 of the frame's shorter side if that is less. Each of several digits moves by
    itself. Where they overlap, the brighter pixel is shown. `paths` of the data sets returns the true positions. The
    sets share no digit image, except that the validation and test sets of scikit-learn's digits are the same.

    Args:
        root: Folder that contains `MNIST/raw`; only for `source` mnist.
        source: mnist, or digits for the 1,797 digits of scikit-learn, which need no download.
        size: Height and width of the frames.
        channels: 1, or 3 for three equal channels.
        frames: Number of frames of every clip.
        every: Stride: show every frame (1), every second one (2), ... It is the same as `every` times the speed.
        digits: Number of digits in every clip, 2 as published. Clips with several digits have no classes.
        speed: Pixels per frame: one number, or (least, most), a range from which each digit's speed is drawn.
        labels: digit, or direction (the initial direction, 8 classes).
        batch_size: Clips per process and batch.
        num_workers: Processes that generate clips; 0 is fast enough.
        seed: Seed of the clips and, with the run's seed, of the training order.
        clips: Number of training clips.
        val_clips: Number of validation clips.
        test_clips: Number of test clips.
        test_frames: Number of frames of every test clip, by default `frames`: how a model continues clips farther ahead
            than in training.
        infinite: Repeat the training clips until an epoch has at least 100 batches.
    """

    def __init__(
        self,
        root: str | Path = "data",
        source: Source = "mnist",
        size: Size = 32,
        channels: int = 1,
        frames: int = 16,
        every: int = 1,
        digits: int = 1,
        speed: Speed = (1.0, 3.0),
        labels: Labels = "digit",
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        clips: int = 10_000,
        val_clips: int = 1000,
        test_clips: int = 1000,
        test_frames: int | None = None,
        infinite: bool = False,
    ) -> None:
        super().__init__(size, channels, frames, batch_size, num_workers, seed, infinite)
        greyscale(channels)
        self.source: Source = one_of("source", source, ("mnist", "digits"))
        self.every = integer("every", every, least=1)
        self.digits = self.objects = integer("digits", digits, least=1)
        self.labels: Labels = one_of("labels", labels, ("digit", "direction"))
        if labels == "direction" and digits > 1:
            raise ValueError(
                f"labels is direction, but {digits} digits have no common one; expected digits 1, or digit."
            )
        self.counts = (
            integer("clips", clips, least=1),
            integer("val_clips", val_clips, least=0),
            integer("test_clips", test_clips, least=0),
        )
        self.test_frames = self.frames if test_frames is None else integer("test_frames", test_frames, least=2)
        side = digit_side(self.size)
        self.speed = slow_enough(speed, self.every, min(self.size) - side, self.size)
        self._images = (
            MNISTDataModule(root, side, val_size=0) if self.source == "mnist" else DigitsDataModule(side, val_size=0)
        )

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels; empty for clips with several digits."""
        if self.digits > 1:
            return []
        return list(COMPASS) if self.labels == "direction" else [str(digit) for digit in range(10)]

    @property
    def num_classes(self) -> int:
        """10 for digits, 8 for directions, 1 for clips with several digits."""
        return max(1, len(self.classes))

    @property
    def unclassed(self) -> str:  # type: ignore[override]
        """Reason why there are no classes."""
        return f"a clip has {self.digits} digits" if self.digits > 1 else ""

    def prepare_data(self) -> None:
        """Download MNIST, if it is the source and missing, in one process."""
        self._images.prepare_data()

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return clips of 11/12 of the training digits, of the other training digits, and of the test digits."""
        digits, _, test = self._images.splits()
        assert isinstance(digits, ImageTensors)
        assert isinstance(test, ImageTensors)
        train, val = (
            ImageTensors(digits.images[rows], digits.labels[rows])
            for rows in split(len(digits), len(digits) // 12, self.seed)
        )
        least, most = self.speed
        speed = least * self.every, most * self.every
        scene = Scene(self.size, self.channels, self.frames, self.digits, speed, self.labels)
        scenes = (scene, scene, scene._replace(frames=self.test_frames))
        sprites = (train, val, test if len(test) else val)
        first, second, third = (
            MovingDigits(sprites[part], self.counts[part], mix(self.seed, part), scenes[part]) for part in range(3)
        )
        return first, second, third


def digit_side(size: tuple[int, int]) -> int:
    """Return the side of digits in frames of `size`.

    Raises:
        ValueError: The frames are too small.
    """
    if min(size) < SMALLEST_FRAME:
        raise ValueError(f"size must be at least {SMALLEST_FRAME} for a digit to fit and to move, got {size}.")
    return min(LARGEST_DIGIT, int(LARGEST_SHARE * min(size)))


def slow_enough(speed: Speed, every: int, room: int, size: tuple[int, int]) -> tuple[float, float]:
    """Return the minimum and maximum speed.

    Raises:
        ValueError: They are not positive numbers, or a digit would cross the frame in less than one step.
    """
    least, most = speed if isinstance(speed, (tuple, list)) and len(speed) == 2 else (speed, speed)
    if not all(isinstance(value, (int, float)) for value in (least, most)) or not 0 < least <= most:
        raise ValueError(f"speed must be a positive number or (least, most) pixels per frame, got {speed!r}.")
    if most * every > room:
        what, got = ("speed", f"{speed!r}") if every == 1 else ("speed x every", f"{speed!r} x {every}")
        raise ValueError(
            f"{what} must be at most {room}, the pixels that a digit can move in frames of {size}, got {got}."
        )
    return float(least), float(most)
