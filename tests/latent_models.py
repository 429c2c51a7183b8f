"""One small model of each kind that has latents, for tests of what explores them."""

import torch

from gans.models import DCGAN, VAE, ConditionalGAN, InfoGAN, ManifoldGAN, SequenceGAN, StyleGAN2

SMALL = {"size": 16, "channels": 1, "latent_dim": 6, "width": 4}
MODELS = {
    "dcgan": lambda: DCGAN(**SMALL),
    "infogan": lambda: InfoGAN(**SMALL, num_categories=3, num_codes=2),
    "conditional": lambda: ConditionalGAN(**SMALL, num_classes=3),
    "vae": lambda: VAE(**SMALL, network="conv"),
    "manifold": lambda: ManifoldGAN(**SMALL, latent_width=8),
    "stylegan2": lambda: StyleGAN2(**SMALL, preset="small", num_classes=3),
    "sequence": lambda: SequenceGAN(size=16, frames=4, latent_dim=6, motion_dim=2, width=4),
}


def awake(build):
    """Build a model whose pictures differ as if it had been trained."""
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for parameter in model.generator_ema.parameters():
            parameter.copy_(3 * torch.randn(parameter.shape) * parameter.abs().mean().clamp(min=0.02))
    return model
