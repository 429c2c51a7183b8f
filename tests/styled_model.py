"""A small style model, as a user would write one for `gans.explore`: see `gans.engine.interface`."""

import math

import torch
from torch import nn
from torch.nn import functional as F

SIZES = [(4, 4), (8, 8), (16, 16)]


class Styled(nn.Module):
    """Latents of 6 numbers to w of 5, and w of 3 layers to images of 16x16 pixels. Layer i adds detail of its size.

    Class k of `num_classes` moves w along its axis k.
    """

    latent_dim, w_dim, num_ws, prior, image_shape = 6, 5, 3, "normal", (1, 16, 16)
    noise_sizes = SIZES
    device = torch.device("cpu")

    def __init__(self, num_classes=0, width=8):
        super().__init__()
        self.num_classes = num_classes
        self.mapping = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 5))
        self.affine = nn.ModuleList(nn.Linear(5, width) for _ in SIZES)
        self.to_grey = nn.ModuleList(nn.Linear(5, width) for _ in SIZES[:-1])
        self.patterns = nn.ParameterList(torch.randn(width, *size) for size in SIZES)
        self.strength = 0.1
        self.register_buffer("mean_w", torch.zeros(5))
        self.register_buffer("stored_noise", torch.randn(sum(math.prod(size) for size in SIZES)))
        self.generator = self.generator_ema = self.mapping
        with torch.no_grad():
            self.mean_w.copy_(self.to_w(torch.randn(2000, 6), *self.conditions(2000, None)).mean(0))
        self.eval().requires_grad_(False)

    def conditions(self, n, labels):
        if not self.num_classes:
            return ()
        return (torch.arange(n) % self.num_classes if labels is None else labels,)

    def to_w(self, z, *labels):
        w = 2 + 3 * self.mapping(z)
        return w + 4 * F.one_hot(labels[0], 5) if labels else w

    def from_w(self, w, noise=None):
        ws = w if w.ndim == 3 else w[:, None].expand(-1, self.num_ws, -1)
        noise = self.stored_noise[None] if noise is None else noise
        parts = noise.split([math.prod(size) for size in SIZES], 1)
        image = torch.zeros(len(ws), 1, 4, 4)
        for i, (size, part) in enumerate(zip(SIZES, parts, strict=True)):
            image = F.interpolate(image, size)
            if i:
                image = image + 0.01 * self.to_grey[i - 1](ws[:, i]).mean(1)[:, None, None, None]
            maps = torch.einsum("nc,chw->nhw", self.affine[i](ws[:, i] / 2), self.patterns[i])
            image = image + 0.2 * maps[:, None] + self.strength * part.view(-1, 1, *size)
        return torch.tanh(image)

    def forward(self, z, *labels):
        return self.from_w(self.to_w(z, *labels))
