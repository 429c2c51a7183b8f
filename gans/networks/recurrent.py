"""Networks of MoCoGAN, Tulyakov et al. 2018 (arXiv 1707.04993), for clips `(N, C, T, H, W)`.

The latent of a clip is one flat vector, [content | first state | noise of frame 1 | ... | noise of frame T]: the
content code holds for the whole clip, a recurrent cell makes a motion code for each frame, and one image generator
makes each frame of both. How long a clip is, only the length of its latent says, and no frame depends on what comes
after it.

Here an image generator that draws every frame anew has to learn that a thing stays what it is. One that draws a clip's
content once, and lets the motion code move it, need not: `Moved`, whose warping of what content draws is that of Wang
et al. 2022 (LIA, arXiv 2203.09043).

The critic of clips halves time and space together, as Vondrick et al. 2016 (arXiv 1609.02612), where MoCoGAN's moves
over time in steps of one: a third of the time in training, and one logit that has seen the whole clip.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, conv3d, grid_sample, interpolate, leaky_relu, one_hot, pad

from gans.networks import dcgan
from gans.networks.conditional import check_labels, make_head
from gans.networks.layers import Size, image_channels, image_size
from gans.networks.spectral import normalise

CANVAS = 4  # channels of what is moved
HIDDEN = 64  # units between a motion code and its field
FINISH = 16  # channels between the two last convolutions


class Generator(nn.Module):
    """Latents `(N, content_dim + (T + 1) motion_dim)` to clips `(N, channels, T, height, width)` in [-1, 1].

    Args:
        content_dim: length of the content code.
        motion_dim: length of a motion code, and of the noise for it.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer; every layer before it has twice as many, up to 8 times.
        num_classes: number of classes, 0 for none. They enter both the motion and the frames.
        grid: knots a side of the field that moves what a clip shows; 0 draws every frame anew, as the paper does.
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
        """Return clips `(N, C, T, H, W)` for `z`, whose length decides T, and the clips' classes `(N,)`.

        Raises:
            ValueError: if `z` has no such length, or `labels` are not what the network expects.
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
            ValueError: if the length of `z` is that of no clip.
        """
        frames, rest = divmod(int(z.shape[1]) - self.content_dim - self.motion_dim, self.motion_dim)
        if rest or frames < 1:
            expected = f"{self.content_dim} + (frames + 1) x {self.motion_dim}"
            raise ValueError(f"a latent has {z.shape[1]} numbers; expected {expected}, for a frame or more")
        kept, state, noise = z.tensor_split([self.content_dim, self.content_dim + self.motion_dim], 1)
        return kept, state, noise.view(z.shape[0], frames, self.motion_dim)

    def motion_codes(self, state: Tensor, noise: Tensor) -> Tensor:
        """Return `(N, T, motion_dim)`: the cell's state after the noise `(N, T, ...)` of each frame.

        In full precision: over many frames a state in half precision drifts.
        """
        codes = []
        with torch.autocast(noise.device.type, enabled=False):
            for step in noise.unbind(1):
                state = self.motion(step, state)
                codes.append(state)
        return torch.stack(codes, 1)


class Drawn(nn.Module):
    """Contents `(N, content_dim)` and motion codes `(N, T, motion_dim)` to clips, every frame drawn anew of both.

    Args:
        content_dim: length of a content.
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
    """Contents `(N, content_dim)` and motion codes `(N, T, motion_dim)` to clips: one canvas a clip, which moves.

    A motion code says, at knots across the frame, where from the canvas to take what is shown there; between knots the
    field is interpolated. One knot moves the canvas as a whole, four a side can turn and bend it. What is beyond its
    edge is like the edge. Two convolutions then make frames of what was moved.

    Args:
        content_dim: length of a content.
        motion_dim: length of a motion code.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the canvas' last hidden layer.
        grid: knots a side, at least 1.
    """

    def __init__(self, content_dim: int, motion_dim: int, size: Size, channels: int, width: int, grid: int) -> None:
        super().__init__()
        self.size, self.grid = image_size(size), grid
        self.canvas = dcgan.Generator(content_dim, size, CANVAS, width)
        shift = nn.Linear(HIDDEN, 2 * grid**2)
        # Motion starts small, at a few pixels, and about nowhere: a canvas that is out of sight has no gradient.
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
        with torch.autocast(motion.device.type, enabled=False):  # positions need all their digits
            where = self.field(motion).view(count, frames * height, breadth, 2)  # all frames of a clip are one picture
            # On a CPU, NaN as a position crashes the interpreter in the backward pass. The last term is 0 or NaN, so
            # that a run that diverges is still noticed.
            seen = grid_sample(canvas.to(where), where.nan_to_num(), padding_mode="border", align_corners=False)
            seen = seen + (where * 0).sum(-1)[:, None]
        seen = seen.view(count, CANVAS, frames, height, breadth).transpose(1, 2).flatten(0, 1)
        finished: Tensor = self.finish(seen)
        return finished.view(count, frames, *finished.shape[1:]).transpose(1, 2)

    def field(self, motion: Tensor) -> Tensor:
        """Return where on the canvas each pixel comes from, `(N T, H, W, 2)`: (across, down) from -1 to 1."""
        shift = self.knots(motion.flatten(0, 1)).view(-1, 2, self.grid, self.grid)
        shift = interpolate(shift, self.size, mode="bilinear", align_corners=True)
        middle = torch.eye(2, 3, device=shift.device, dtype=shift.dtype)[None]
        return affine_grid(middle, [1, 1, *self.size], align_corners=False) + shift.movedim(1, -1)


class Conv3d(nn.Conv3d):
    """A convolution of clips whose gradients are right in bfloat16 on a CPU, too."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return maps of clips `(N, C, T, H, W)`."""
        if clips.shape[2] >= self.kernel_size[0] or not torch.is_autocast_enabled("cpu"):
            return super().forward(clips)
        # For the weights' gradient in bfloat16, oneDNN (torch 2.14) reads memory that it never wrote where the kernel
        # is longer than the unpadded clip: NaN, or a crash.
        before, *sides = (int(amount) for amount in self.padding)
        longer = pad(clips, (0, 0, 0, 0, before, before))
        return conv3d(longer, self.weight, self.bias, self.stride, (0, *sides), self.dilation, self.groups)


class VideoCritic(nn.Module):
    """Clips `(N, channels, frames, height, width)` to logits `(N,)`; each clip by itself, for there is no BatchNorm.

    Args:
        frames: of every clip, 2 or more.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first halving; twice as many after each further one, up to 8 times.
        num_classes: number of classes, 0 for none.
        spectral_norm: normalise every layer, Miyato et al. 2018 (arXiv 1802.05957).
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
            raise ValueError(f"frames is {frames!r}; expected at least 2, for in one frame nothing moves")
        height, breadth = image_size(size)
        hidden = dcgan.widths((height, breadth), width)
        layers: list[nn.Module] = []
        for before, after in zip([image_channels(channels), *hidden], hidden, strict=False):
            # Two frames are left as they are: what is to be seen of motion is between them.
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
        """Return logits, higher for what looks real and moves like its class `labels` `(N,)`."""
        # A view, whose length the head checks: clips of another size or length would pass a mean.
        logits: Tensor = self.head(self.layers(clips).view(len(clips), -1), labels)
        return logits


class ImageCritic(nn.Module):
    """Frames `(N, channels, height, width)` to logits `(N,)`; each frame by itself, for there is no BatchNorm.

    Args:
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first halving; twice as many after each further one, up to 8 times.
        num_classes: number of classes, 0 for none.
        spectral_norm: normalise every layer.
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
        """Return logits, higher for what looks real and like its class `labels` `(N,)`."""
        logits: Tensor = self.head(leaky_relu(self.layers(frames), 0.2), labels)
        return logits


def over_time(code: Tensor, frames: int) -> Tensor:
    """Return the codes `(N, D)` once for each frame, `(N, T, D)`."""
    return code.unsqueeze(1).expand(-1, frames, -1)


@torch.no_grad()
def normal_init(module: nn.Module) -> None:
    """Initialise a three-dimensional convolution as `layers.normal_init` does one of images: N(0, .02), biases 0."""
    if isinstance(module, nn.Conv3d):
        module.weight.normal_(0, 0.02)
        if module.bias is not None:
            module.bias.zero_()


def normalised(network: nn.Module) -> None:
    """Give each convolution of `network` a spectral norm of 1."""
    for layer in [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Conv3d)]:
        normalise(layer)
