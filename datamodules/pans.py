"""Clips of a photograph by a camera that pans and zooms: real textures with known motion."""

import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.order import mix


class Camera(NamedTuple):
    """The settings that all clips share.

    Attributes:
        size: (height, width) of a frame.
        frames: Number of frames, at least 2.
        speed: Least and greatest speed in pixels of a frame, per frame.
        zoom: Greatest factor between the magnifications of the first and the last frame, at least 1.
    """

    size: tuple[int, int]
    frames: int
    speed: tuple[float, float]
    zoom: float

    def needed(self) -> tuple[int, int]:
        """Return the least (height, width) of a photograph for every motion, without enlarging it."""
        travel = self.speed[1] * (self.frames - 1)
        height, width = (math.ceil(self.zoom * (side + travel)) for side in self.size)
        return height, width


class Motion(NamedTuple):
    """The motion of the camera in a clip, in pixels of the photograph.

    Attributes:
        centre: (y, x) of the first frame's centre.
        velocity: (y, x) per frame.
        scale: Pixels of the photograph per pixel of the first frame.
        zoom: Magnification of the last frame in multiples of that of the first one.
    """

    centre: tuple[float, float]
    velocity: tuple[float, float]
    scale: float
    zoom: float


def motion(camera: Camera, photograph: tuple[int, int], *words: int) -> Motion:
    """Return a motion whose frames all lie in a photograph of (height, width), a function of the words.

    Direction, and the logarithms of zoom and scale, are uniform; so are the speed and the place.
    """
    numbers = torch.rand(6, generator=torch.Generator().manual_seed(mix(*words)), dtype=torch.float64).tolist()
    angle, pace, zooming, scaling, *places = numbers
    least, most = camera.speed
    speed, zoom = least + (most - least) * pace, camera.zoom ** (2 * zooming - 1)
    velocity = (speed * math.sin(2 * math.pi * angle), speed * math.cos(2 * math.pi * angle))
    # What the frames cover below and above the first centre, at a scale of 1.
    ends = [
        [along * i + side / 2 * sign / magnified for i, magnified in ((0, 1.0), (camera.frames - 1, zoom))]
        for along, side in zip(velocity, camera.size, strict=True)
        for sign in (-1, 1)
    ]
    low, high = [min(some) for some in ends[::2]], [max(some) for some in ends[1::2]]
    largest = min(side / (high[axis] - low[axis]) for axis, side in enumerate(photograph))
    smallest = max(1.0, zoom)
    scale = smallest * (largest / smallest) ** scaling
    centre = [
        place * (side - scale * (high[axis] - low[axis])) - scale * low[axis]
        for axis, (place, side) in enumerate(zip(places, photograph, strict=True))
    ]
    return Motion((centre[0], centre[1]), (scale * velocity[0], scale * velocity[1]), scale, zoom)


def filmed(photograph: Tensor, camera: Camera, path: Motion) -> Tensor:
    """Return the frames `(C, T, H, W)` uint8 of a photograph `(C, h, w)` uint8 of 1 or 3 channels.

    Each is resampled at its exact place with an antialiased bicubic filter. The zoom is exponential in time.
    """
    height, width = photograph.shape[1:]
    source = Image.fromarray(photograph.permute(1, 2, 0).squeeze(-1).contiguous().numpy())
    made = []
    for i in range(camera.frames):
        scale = path.scale * path.zoom ** (-i / (camera.frames - 1))
        box = [
            (centre + along * i - scale * side / 2, centre + along * i + scale * side / 2)
            for centre, along, side in zip(path.centre, path.velocity, camera.size, strict=True)
        ]
        # Rounding may leave the photograph by a tiny part of a pixel, which Pillow refuses.
        (top, bottom), (left, right) = (
            (max(0.0, low), min(float(most), high)) for (low, high), most in zip(box, (height, width), strict=True)
        )
        frame = source.resize(camera.size[::-1], Image.Resampling.BICUBIC, (left, top, right, bottom))
        pixels = torch.from_numpy(np.array(frame))
        made.append(pixels.view(*camera.size, -1).permute(2, 0, 1))
    return torch.stack(made, 1)
