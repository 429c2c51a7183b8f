"""Networks of MoCoGAN, Tulyakov et al. 2018 (arXiv 1707.04993), for clips `(N, C, T, H, W)`.

The latent of a clip is one flat vector: [content | first state | noise of frame 1 | ... | noise of frame T]. All frames
share the content code. A recurrent cell computes a motion code for each frame. An image generator computes each frame
from both codes. The length of the latent determines the length of the clip. No frame depends on later frames.

`Drawn`, the paper's generator, computes every frame independently and must learn that objects persist. `Moved` computes
one canvas per clip and warps it with the motion codes, as Wang et al. 2022 (LIA, arXiv 2203.09043).

The critic of clips downsamples time and space together, as in Vondrick et al. 2016 (arXiv 1609.02612), and returns one
logit for the whole clip. MoCoGAN's critic has a stride of 1 over time and takes three times as long in training.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, conv3d, grid_sample, interpolate, leaky_relu, one_hot, pad

from gans.networks import dcgan
from gans.networks.conditional import check_labels, make_head
from gans.networks.layers import Size, image_channels, image_size
from gans.networks.spectral import normalise

CANVAS = 4  # channels of the canvas
HIDDEN = 64  # hidden units between a motion code and its displacement field
FINISH = 16  # channels between the last two convolutions


class Generator(nn.Module):
    """Latents `(N, content_dim + (T + 1) motion_dim)` to clips `(N, channels, T, height, width)` in [-1, 1].

    Args:
        content_dim: length of the content code.
        motion_dim: length of a motion code, and of its noise.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer, doubled in each layer before it, up to 8 times.
        num_classes: number of classes; 0 means unconditional. Both motion and frames depend on the class.
        grid: control points per side of the displacement field of `Moved`; 0 uses `Drawn`, as the paper.
    """

    def __init__(
        self,
        content_dim: int,
        motion_dim: int,
        size: Size,
        channels: int,
        width: int,
        num_classes: int = 0,
        grid: int = 0,
    ) -> None:
        super().__init__()
        self.content_dim, self.motion_dim, self.num_classes = content_dim, motion_dim, num_classes
        self.motion = nn.GRUCell(motion_dim + num_classes, motion_dim)
        kept = content_dim + num_classes
        self.frames = (
            Moved(kept, motion_dim, size, channels, width, grid)
            if grid
            else Drawn(kept, motion_dim, size, channels, width)
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return clips `(N, C, T, H, W)` for latents `z` and classes `(N,)`. The length of `z` determines T.

        Raises:
            ValueError: if no clip has latents of this length, or if `labels` are not valid.
        """
        kept, state, noise = self.parts(z)
        if self.num_classes or labels is not None:
            check_labels(labels, z.shape[0], self.num_classes)
            assert labels is not None
            classes = one_hot(labels.long(), self.num_classes).to(z.dtype)
            kept, noise = torch.cat([kept, classes], 1), torch.cat([noise, over_time(classes, noise.shape[1])], 2)
        clips: Tensor = self.frames(kept, self.motion_codes(state, noise))
        return clips

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the content `(N, content_dim)`, first state `(N, motion_dim)` and noise `(N, T, motion_dim)` in `z`.

        Raises:
            ValueError: if no clip has latents of the length of `z`.
        """
        frames, rest = divmod(int(z.shape[1]) - self.content_dim - self.motion_dim, self.motion_dim)
        if rest or frames < 1:
            expected = f"{self.content_dim} + (frames + 1) x {self.motion_dim}"
            raise ValueError(f"a latent has {z.shape[1]} numbers; expected {expected}, with at least one frame")
        kept, state, noise = z.tensor_split([self.content_dim, self.content_dim + self.motion_dim], 1)
        return kept, state, noise.view(z.shape[0], frames, self.motion_dim)

    def motion_codes(self, state: Tensor, noise: Tensor) -> Tensor:
        """Return motion codes `(N, T, motion_dim)`: the cell's state after the noise `(N, T, ...)` of each frame.

        They are computed outside autocast, because half precision accumulates errors over many frames.
        """
        codes = []
        with torch.autocast(noise.device.type, enabled=False):
            for step in noise.unbind(1):
                state = self.motion(step, state)
                codes.append(state)
        return torch.stack(codes, 1)


class Drawn(nn.Module):
    """Content codes `(N, content_dim)` and motion codes `(N, T, motion_dim)` to clips, each frame by itself.

    Args:
        content_dim: length of a content code.
        motion_dim: length of a motion code.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer.
    """

    def __init__(self, content_dim: int, motion_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.frame = dcgan.Generator(content_dim + motion_dim, size, channels, width)

    def forward(self, content: Tensor, motion: Tensor) -> Tensor:
        """Return clips `(N, C, T, H, W)` in [-1, 1]."""
        frames: Tensor = self.frame(torch.cat([over_time(content, motion.shape[1]), motion], 2).flatten(0, 1))
        return frames.view(*motion.shape[:2], *frames.shape[1:]).transpose(1, 2)


class Moved(nn.Module):
    """Content codes `(N, content_dim)` and motion codes `(N, T, motion_dim)` to clips: warps of one canvas per clip.

    A motion code gives displacements at a grid of control points, which are interpolated to all pixels. One control
    point translates the whole canvas, a 4x4 grid can also rotate and bend it. The canvas is padded by its border
    pixels. Two convolutions turn the warped canvas into frames.

    Args:
        content_dim: length of a content code.
        motion_dim: length of a motion code.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer of the canvas generator.
        grid: control points per side, at least 1.
    """

    def __init__(self, content_dim: int, motion_dim: int, size: Size, channels: int, width: int, grid: int) -> None:
        super().__init__()
        self.size, self.grid = image_size(size), grid
        self.canvas = dcgan.Generator(content_dim, size, CANVAS, width)
        shift = nn.Linear(HIDDEN, 2 * grid**2)
        # Initial displacements are a few pixels, around 0: parts of the canvas outside the frame have no gradient.
        nn.init.normal_(shift.weight, 0, 0.05)
        nn.init.zeros_(shift.bias)
        self.knots = nn.Sequential(nn.Linear(motion_dim, HIDDEN), nn.LeakyReLU(0.2), shift)
        self.finish = nn.Sequential(
            nn.Conv2d(CANVAS, FINISH, 3, 1, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(FINISH, image_channels(channels), 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, content: Tensor, motion: Tensor) -> Tensor:
        """Return clips `(N, C, T, H, W)` in [-1, 1]."""
        (count, frames), (height, breadth) = motion.shape[:2], self.size
        canvas = self.canvas(content)
        with torch.autocast(motion.device.type, enabled=False):  # half precision is too coarse for positions
            # The frames of a clip are sampled as one tall image.
            where = self.field(motion).view(count, frames * height, breadth, 2)
            # On a CPU, NaN as a position crashes the interpreter in the backward pass. The second term is 0 or NaN, so
            # a diverged run still shows NaN.
            warped = grid_sample(canvas.to(where), where.nan_to_num(), padding_mode="border", align_corners=False)
            warped = warped + (where * 0).sum(-1)[:, None]
        warped = warped.view(count, CANVAS, frames, height, breadth).transpose(1, 2).flatten(0, 1)
        finished: Tensor = self.finish(warped)
        return finished.view(count, frames, *finished.shape[1:]).transpose(1, 2)

    def field(self, motion: Tensor) -> Tensor:
        """Return the position on the canvas for each pixel, `(N T, H, W, 2)`: (x, y) in [-1, 1]."""
        shift = self.knots(motion.flatten(0, 1)).view(-1, 2, self.grid, self.grid)
        shift = interpolate(shift, self.size, mode="bilinear", align_corners=True)
        middle = torch.eye(2, 3, device=shift.device, dtype=shift.dtype)[None]
        return affine_grid(middle, [1, 1, *self.size], align_corners=False) + shift.movedim(1, -1)


class Conv3d(nn.Conv3d):
    """A convolution of clips with correct gradients in bfloat16 on a CPU."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return maps of clips `(N, C, T, H, W)`."""
        if clips.shape[2] >= self.kernel_size[0] or not torch.is_autocast_enabled("cpu"):
            return super().forward(clips)
        # If the kernel is longer than the unpadded clip, oneDNN (torch 2.14) reads uninitialised memory in the
        # bfloat16 gradient of the weights. The result is NaN or a crash.
        before, *sides = (int(amount) for amount in self.padding)
        longer = pad(clips, (0, 0, 0, 0, before, before))
        return conv3d(longer, self.weight, self.bias, self.stride, (0, *sides), self.dilation, self.groups)


class VideoCritic(nn.Module):
    """Clips `(N, channels, frames, height, width)` to logits `(N,)`. There is no BatchNorm.

    Args:
        frames: number of frames of every clip, 2 or more.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        num_classes: number of classes; 0 means unconditional.
        spectral_norm: use spectral normalisation in every layer, Miyato et al. 2018 (arXiv 1802.05957).
    """

    def __init__(
        self,
        frames: int,
        size: Size,
        channels: int,
        width: int,
        num_classes: int = 0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        if type(frames) is not int or frames < 2:
            raise ValueError(f"frames is {frames!r}; expected at least 2, because a single frame has no motion")
        height, breadth = image_size(size)
        hidden = dcgan.widths((height, breadth), width)
        layers: list[nn.Module] = []
        for before, after in zip([image_channels(channels), *hidden], hidden, strict=False):
            # The last two or three frames are not downsampled, because the motion is the difference between them.
            kernel, stride = (4, 2) if frames >= 4 else (3, 1)
            layers += [Conv3d(before, after, (kernel, 4, 4), (stride, 2, 2), 1), nn.LeakyReLU(0.2, inplace=True)]
            frames = frames // stride
        scale = 2 ** len(hidden)
        layers += [nn.Conv3d(hidden[-1], hidden[-1], (frames, height // scale, breadth // scale))]
        layers += [nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers).apply(normal_init)
        if spectral_norm:
            normalised(self.layers)
        self.head = make_head(hidden[-1], num_classes, "projection", spectral_norm)

    def forward(self, clips: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)`, higher for realistic clips of the classes `labels` `(N,)`."""
        # The head checks the length of this view, so clips of another size or length raise an error.
        logits: Tensor = self.head(self.layers(clips).view(len(clips), -1), labels)
        return logits


class ImageCritic(nn.Module):
    """Frames `(N, channels, height, width)` to logits `(N,)`. There is no BatchNorm.

    Args:
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        num_classes: number of classes; 0 means unconditional.
        spectral_norm: use spectral normalisation in every layer.
    """

    def __init__(
        self, size: Size, channels: int, width: int, num_classes: int = 0, spectral_norm: bool = False
    ) -> None:
        super().__init__()
        features = dcgan.widths(image_size(size), width)[-1]
        self.layers = dcgan.Discriminator(size, channels, width, batch_norm=False, outputs=features)
        if spectral_norm:
            normalised(self.layers)
        self.head = make_head(features, num_classes, "projection", spectral_norm)

    def forward(self, frames: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)`, higher for realistic frames of the classes `labels` `(N,)`."""
        logits: Tensor = self.head(leaky_relu(self.layers(frames), 0.2), labels)
        return logits


def over_time(code: Tensor, frames: int) -> Tensor:
    """Return the codes `(N, D)` repeated for each frame, `(N, T, D)`."""
    return code.unsqueeze(1).expand(-1, frames, -1)


@torch.no_grad()
def normal_init(module: nn.Module) -> None:
    """Initialise a 3D convolution as `layers.normal_init` does a 2D one: weights N(0, 0.02), biases 0."""
    if isinstance(module, nn.Conv3d):
        module.weight.normal_(0, 0.02)
        if module.bias is not None:
            module.bias.zero_()


def normalised(network: nn.Module) -> None:
    """Add spectral normalisation to each convolution of `network`, in place."""
    for layer in [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Conv3d)]:
        normalise(layer)
