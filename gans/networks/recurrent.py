"""Networks of MoCoGAN, Tulyakov et al. 2018 (arXiv 1707.04993), for clips `(N, C, T, H, W)`.

The latent of a clip is one flat vector, [content | first state | noise of frame 1 | ... | noise of frame T]: the
content code holds for the whole clip, a recurrent cell makes a motion code for each frame, and one image generator
makes each frame of both. How long a clip is, only the length of its latent says, and no frame depends on what comes
after it.

The critic of clips halves time and space together, as Vondrick et al. 2016 (arXiv 1609.02612), where MoCoGAN's moves
over time in steps of one: a third of the time in training, and one logit that has seen the whole clip.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot
from torch.nn.utils import parametrizations

from gans.layers import Size, image_channels, image_size
from gans.networks import dcgan
from gans.networks.conditional import check_labels, make_head


class Generator(nn.Module):
    """Latents `(N, content_dim + (T + 1) motion_dim)` to clips `(N, channels, T, height, width)` in [-1, 1].

    Args:
        content_dim: length of the content code.
        motion_dim: length of a motion code, and of the noise for it.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer; every layer before it has twice as many, up to 8 times.
        num_classes: number of classes, 0 for none. They enter both the motion and the frames.
    """

    def __init__(
        self, content_dim: int, motion_dim: int, size: Size, channels: int, width: int, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.content_dim, self.motion_dim, self.num_classes = content_dim, motion_dim, num_classes
        self.motion = nn.GRUCell(motion_dim + num_classes, motion_dim)
        self.frame = dcgan.Generator(content_dim + num_classes + motion_dim, size, channels, width)

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
        motion = self.motion_codes(state, noise)
        frames: Tensor = self.frame(torch.cat([over_time(kept, motion.shape[1]), motion], 2).flatten(0, 1))
        return frames.view(*motion.shape[:2], *frames.shape[1:]).transpose(1, 2)

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
            layers += [nn.Conv3d(before, after, (kernel, 4, 4), (stride, 2, 2), 1), nn.LeakyReLU(0.2, inplace=True)]
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
        parametrizations.spectral_norm(layer)
