"""Networks of MoCoGAN, Tulyakov et al. 2018 (arXiv 1707.04993), for clips `(N, C, T, H, W)`.

The latent of a clip is one flat vector: [content | first state | noise of frame 1 | ... | noise of frame T]. All frames
share the content code. A recurrent cell computes a motion code for each frame. An image generator computes each frame
from both codes. The length of the latent determines the length of the clip. No frame depends on later frames.

`Drawn`, the paper's generator, computes every frame independently and must learn that objects persist. `Moved` computes
one canvas per clip and warps it with the motion codes, as Wang et al. 2022 (LIA, arXiv 2203.09043).

With given frames, `Encoder` computes content and first state from them. `Moved` then warps the last given frame itself,
which keeps all details. `surrounded` says what is around that frame. For the same purpose Denton and Fergus 2018 (SVG,
arXiv 1802.07687) have skip connections from the last given frame. `Dynamics` computes its displacements: motion goes on
as in the given frames, with learned changes, as in the residual dynamics of Franceschi et al. 2020 (SRVP, arXiv
2002.09219).

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
POINTS = 8  # points in each given frame whose positions the encoder measures
SHARP = 3.0  # standard deviations in the exponent of a map of positions, at the start
OUTLIER = 3 * 1.4826  # distance of a border pixel from the median in medians of all distances: 3 standard deviations


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
        given: number of frames that a clip can be continued from; 0 has no encoder.
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
        given: int = 0,
    ) -> None:
        super().__init__()
        self.content_dim, self.motion_dim, self.num_classes = content_dim, motion_dim, num_classes
        self.given = given
        self.motion = nn.GRUCell(motion_dim + num_classes, motion_dim)
        kept = content_dim + num_classes
        self.frames = (
            Moved(kept, motion_dim, size, channels, width, grid)
            if grid
            else Drawn(kept, motion_dim, size, channels, width)
        )
        if given:
            self.encoder = Encoder(given, 0 if grid else content_dim, motion_dim, size, channels, width)
        if given and grid:
            self.dynamics = Dynamics(motion_dim, size, grid)

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        first: Tensor | None = None,
        continued: Tensor | None = None,
    ) -> Tensor:
        """Return clips `(N, C, T, H, W)` for latents `z` and classes `(N,)`. The length of `z` determines T.

        A clip that continues given frames has their content and motion instead of those in `z`, and no class. `Moved`
        begins with these frames, `Drawn` with a reconstruction. Only the noise of each frame comes from `z`.

        Args:
            z: latents `(N, content_dim + (T + 1) motion_dim)`.
            labels: classes `(N,)`.
            first: given frames `(N, C, given, H, W)`, or None.
            continued: bool `(N,)`, the clips that continue `first`; None means all.

        Raises:
            ValueError: if no clip has latents of this length, or if `labels` are not valid.
        """
        kept, state, noise = self.parts(z)
        if first is not None:
            continued = torch.ones(z.shape[0], dtype=torch.bool, device=z.device) if continued is None else continued
            content, start, points = self.encoder(first)
            state = torch.where(continued[:, None], start, state)
            kept = torch.where(continued[:, None], content, kept) if self.encoder.content_dim else kept
        if self.num_classes or labels is not None:
            check_labels(labels, z.shape[0], self.num_classes)
            assert labels is not None
            classes = one_hot(labels.long(), self.num_classes).to(z.dtype)
            if continued is not None:
                classes = classes * ~continued[:, None]
            kept, noise = torch.cat([kept, classes], 1), torch.cat([noise, over_time(classes, noise.shape[1])], 2)
        motion = self.motion_codes(state, noise)
        if first is None or continued is None or not isinstance(self.frames, Moved):
            clips: Tensor = self.frames(kept, motion)
        else:
            shift = self.dynamics(points, velocity(first[:, :, -2:]).to(motion), motion[:, self.given :])
            clips = self.frames(kept, motion, first, shift, continued)
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
    pixels, a given frame by `surrounded`. Two convolutions turn the warped canvas into frames.

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
        self.size, self.grid, self.channels = image_size(size), grid, channels
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

    def forward(
        self,
        content: Tensor,
        motion: Tensor,
        first: Tensor | None = None,
        shift: Tensor | None = None,
        continued: Tensor | None = None,
    ) -> Tensor:
        """Return clips `(N, C, T, H, W)` in [-1, 1].

        Args:
            content: content codes `(N, content_dim)`.
            motion: motion codes `(N, T, motion_dim)`.
            first: given frames `(N, C, given, H, W)`, or None.
            shift: displacements of the last of them in the frames that follow, `(N, T - given, 2 grid^2)`.
            continued: bool `(N,)`, the clips that begin with `first` and go on with its last frame, displaced.
        """
        (count, frames), (height, breadth) = motion.shape[:2], self.size
        canvas = self.canvas(content)
        with torch.autocast(motion.device.type, enabled=False):  # half precision is too coarse for positions
            moves = self.knots(motion)
            if first is not None and shift is not None and continued is not None:
                rows, last = continued[:, None, None, None], surrounded(first.to(moves))
                last = pad(last, (0, 0, 0, 0, 0, CANVAS - self.channels))
                canvas = torch.where(rows, last, pad(canvas.to(moves), (1, 1, 1, 1), mode="replicate"))
                moves = torch.where(rows[..., 0], pad(shift, (0, 0, first.shape[2], 0)), moves)
            where = self.field(moves.flatten(0, 1))
            if first is not None:  # the canvas has a ring of one pixel
                where = where * where.new_tensor([breadth / (breadth + 2), height / (height + 2)])
            # The frames of a clip are sampled as one tall image.
            where = where.view(count, frames * height, breadth, 2)
            # On a CPU, NaN as a position crashes the interpreter in the backward pass. The second term is 0 or NaN, so
            # a diverged run still shows NaN.
            warped = grid_sample(canvas.to(where), where.nan_to_num(), padding_mode="border", align_corners=False)
            warped = warped + (where * 0).sum(-1)[:, None]
        warped = warped.view(count, CANVAS, frames, height, breadth).transpose(1, 2).flatten(0, 1)
        finished: Tensor = self.finish(warped)
        clips = finished.view(count, frames, *finished.shape[1:]).transpose(1, 2)
        if first is None or continued is None:
            return clips
        # Given frames are warped without convolutions, which would first learn to make uncertain objects fade.
        kept = warped.view(count, frames, CANVAS, height, breadth)[:, first.shape[2] :, : self.channels].transpose(1, 2)
        return torch.where(continued[:, None, None, None, None], torch.cat([first.to(kept), kept], 2).to(clips), clips)

    def field(self, shift: Tensor) -> Tensor:
        """Return the position on the canvas for each pixel, `(K, H, W, 2)`: (x, y) in [-1, 1].

        Args:
            shift: displacements `(K, 2 grid^2)` of the control points.
        """
        shift = interpolate(shift.view(-1, 2, self.grid, self.grid), self.size, mode="bilinear", align_corners=True)
        middle = torch.eye(2, 3, device=shift.device, dtype=shift.dtype)[None]
        return affine_grid(middle, [1, 1, *self.size], align_corners=False) + shift.movedim(1, -1)


class Encoder(nn.Module):
    """Given frames `(N, channels, given, H, W)` to what a generator needs to continue them.

    It returns content codes `(N, content_dim)`, states `(N, motion_dim)` and the positions of points in the last frame,
    `(N, 2 POINTS)`.

    Two branches add up to the state: convolutions of all frames together, and positions of points in each frame. A
    point is the centre of a map after a softmax over all pixels, as in Levine et al. 2016 (arXiv 1504.00702). It
    follows a moving object to fractions of a pixel, which convolutions with stride learn slowly.

    Args:
        given: number of given frames.
        content_dim: length of a content code; 0 if a generator takes its content from the last frame.
        motion_dim: length of a state.
        size: side of a frame, or (height, width).
        channels: 1, 3 or 4.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
    """

    def __init__(self, given: int, content_dim: int, motion_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        height, breadth = image_size(size)
        hidden = dcgan.widths((height, breadth), width)
        layers: list[nn.Module] = []
        for before, after in zip([given * image_channels(channels), *hidden], hidden, strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        self.content_dim, scale = content_dim, 2 ** len(hidden)
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.codes = nn.Linear(hidden[-1] * (height // scale) * (breadth // scale), content_dim + motion_dim)
        self.maps = nn.Sequential(
            nn.Conv2d(channels, FINISH, 5, 1, 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(FINISH, POINTS, 3, 1, 1),
        )
        self.sharpness = nn.Parameter(torch.full((POINTS, 1), SHARP))
        self.track = nn.Sequential(
            nn.Linear(2 * POINTS * given, 2 * HIDDEN), nn.LeakyReLU(0.2), nn.Linear(2 * HIDDEN, motion_dim)
        )

    def forward(self, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return content codes, states and points."""
        found, maps = self.layers(first.transpose(1, 2).flatten(1, 2)), self.maps(first.transpose(1, 2).flatten(0, 1))
        with torch.autocast(first.device.type, enabled=False):  # half precision is too coarse for positions
            content, state = self.codes(found.to(self.sharpness)).tensor_split([self.content_dim], 1)
            points = self.points(maps.to(self.sharpness)).view(first.shape[0], -1, 2 * POINTS)
            # Position in the last frame, and pixels from frame to frame, in numbers of one order.
            moves = points.diff(dim=1) * min(first.shape[-2:]) / 2
            state = state + self.track(torch.cat([points[:, -1:], moves], 1).flatten(1))
            return content, state, points[:, -1]

    def points(self, maps: Tensor) -> Tensor:
        """Return the positions of the points of maps `(K, POINTS, H, W)`, first all y, then all x, `(K, 2 POINTS)`.

        They are in [-1, 1].
        """
        flat = maps.flatten(2)
        flat = (flat - flat.mean(2, keepdim=True)) / flat.std(2, keepdim=True).clamp(min=1e-5)
        weights = (self.sharpness * flat).softmax(2).view_as(maps)
        down, across = (torch.linspace(-1, 1, side).to(maps) for side in maps.shape[-2:])
        return torch.cat([(weights.sum(3) * down).sum(2), (weights.sum(2) * across).sum(2)], 1)


class Dynamics(nn.Module):
    """Displacements of the last given frame: those of the frame before, plus a step that changes from frame to frame.

    The change of a step depends on where the points are now, on the step, and on the motion code of the frame. So a
    bounce is the same rule in every frame. Without a change motion goes on at constant velocity.

    Args:
        motion_dim: length of a motion code.
        size: side of a frame, or (height, width).
        grid: control points per side of the displacement field.
    """

    def __init__(self, motion_dim: int, size: Size, grid: int) -> None:
        super().__init__()
        self.size, self.grid = image_size(size), grid
        last = nn.Linear(2 * HIDDEN, 2 * grid**2)
        nn.init.normal_(last.weight, 0, 0.01)
        nn.init.zeros_(last.bias)
        self.change = nn.Sequential(
            nn.Linear(2 * POINTS + 2 * grid**2 + motion_dim, 2 * HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * HIDDEN, 2 * HIDDEN),
            nn.LeakyReLU(0.2),
            last,
        )

    def forward(self, points: Tensor, speed: Tensor, motion: Tensor) -> Tensor:
        """Return displacements on the scale of `Moved.field`, `(N, T, 2 grid^2)`.

        Args:
            points: positions in the last given frame, `(N, 2 POINTS)`.
            speed: velocity (y, x) in the given frames in pixels per frame, `(N, 2)`.
            motion: motion codes of the frames that follow, `(N, T, motion_dim)`.
        """
        found = []
        with torch.autocast(motion.device.type, enabled=False):
            pixels = torch.tensor([*self.size[::-1]], device=motion.device, dtype=motion.dtype) / 2
            step = speed.flip(1).repeat_interleave(self.grid**2, 1)  # all x, then all y, as `field` has them
            moved, scale = torch.zeros_like(step), pixels.repeat_interleave(self.grid**2)
            for code in motion.unbind(1):
                mean = (moved / scale).view(-1, 2, self.grid**2).mean(2).flip(1)
                now = points + mean.repeat_interleave(POINTS, 1)
                step = step + self.change(torch.cat([now, step, code], 1))
                moved = moved + step
                found.append(-moved / scale)  # to show an object where it is, the frame is sampled where it was
        return torch.stack(found, 1)


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


def surrounded(clips: Tensor) -> Tensor:
    """Return the last frame of clips `(N, C, T, H, W)` in a ring of one pixel, `(N, C, H + 2, W + 2)`.

    The ring is what is expected outside the frame, and pads it: the nearest pixel, or the background if that pixel
    belongs to an object. If the border of an object were repeated, it would leave a streak when it moves away.

    A pixel belongs to an object if it is an outlier among the border pixels of all frames (Hampel 1974, "The influence
    curve and its role in robust estimation"): its distance from their median is more than 3 standard deviations,
    estimated by the median of all distances. The background is the median. Of a texture almost all pixels are repeated.
    """
    sides = clips[:, :, :, 0], clips[:, :, :, -1], clips[..., 0], clips[..., -1]
    border = torch.cat([side.flatten(2) for side in sides], 2)
    half = border.shape[2] // 2
    middle = border.sort(2).values[:, :, half, None]
    spread = (border - middle).abs().mean(1).sort(1).values[:, half, None, None, None]
    last = clips[:, :, -1]
    middle, repeated = middle[..., None], pad(last, (1, 1, 1, 1), mode="replicate")
    outside = pad(torch.zeros_like(last[:, :1]), (1, 1, 1, 1), value=1.0) > 0
    outlier = (repeated - middle).abs().mean(1, keepdim=True) > OUTLIER * spread
    return torch.where(outside & outlier, middle, repeated)


def velocity(clips: Tensor) -> Tensor:
    """Return the mean velocity (y, x) of clips `(N, C, T, H, W)` in pixels per frame, `(N, 2)`: 0 for a single frame.

    It is the place of the peak of the phase correlation of the first and the last frame, so it must be less than half a
    frame. Sources: Kuglin and Hines 1975, "The phase correlation image alignment method". A shift by a fraction of a
    pixel divides the peak between neighbours (Foroosh, Zerubia and Berthod 2002, "Extension of phase correlation to
    subpixel registration"), of which the mean is taken.
    """
    count, _, frames, height, width = clips.shape
    if frames < 2:
        return clips.new_zeros(count, 2)
    start, end = (spectrum(clips[:, :, i].double().mean(1)) for i in (0, -1))
    cross = end * start.conj()
    found = torch.fft.irfft2(cross / cross.abs().clamp(min=1e-9), s=(height, width)).flatten(1)
    # An object that comes into the frame may have two equal peaks. Rounding takes the same one everywhere.
    peak = (found * 1e4).round().argmax(1)
    row, column = peak // width, peak % width
    around = [(row + step) % height * width + column for step in (-1, 1)]
    around += [row * width + (column + step) % width for step in (-1, 1)]
    middle, *sides = (found.gather(1, place[:, None]).squeeze(1).clamp(min=0) for place in (peak, *around))
    moved = []
    for place, side, before, after in ((row, height, *sides[:2]), (column, width, *sides[2:])):
        whole = torch.where(place > side // 2, place - side, place)
        moved.append(whole + (after - before) / (before + middle + after).clamp(min=1e-9))
    return (torch.stack(moved, 1) / (frames - 1)).to(clips.dtype)


def spectrum(images: Tensor) -> Tensor:
    """Return the Fourier transform of the periodic component of images `(N, H, W)`, `(N, H, W // 2 + 1)`.

    Opposite borders of an image differ. In a Fourier transform this is an edge, which does not move with the content.
    The periodic component is without it. Source: Moisan 2011, "Periodic plus smooth image decomposition".
    """
    height, width = images.shape[-2:]
    jumps = torch.zeros_like(images)
    for axis in (1, 2):
        last = images.shape[axis] - 1
        jump = images.select(axis, last) - images.select(axis, 0)
        jumps.select(axis, 0).add_(jump)
        jumps.select(axis, last).sub_(jump)
    turns = (torch.arange(n, device=images.device) / side for n, side in ((height, height), (width // 2 + 1, width)))
    down, across = (2 * (2 * torch.pi * turn.to(images)).cos() for turn in turns)
    laplacian = down[:, None] + across - 4
    laplacian[0, 0] = 1  # of the mean, where the sum of the jumps is 0
    periodic: Tensor = torch.fft.rfft2(images) - torch.fft.rfft2(jumps) / laplacian
    return periodic


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
