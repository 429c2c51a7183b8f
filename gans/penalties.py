"""Regularisers of a discriminator's gradient, computed in float32 outside autocast whatever the run's precision.

Half precision under a double backward is wrong by percents (bfloat16) or lost entirely (float16), so the discriminator
is evaluated here once more, in float32. The backward pass of the result must run outside autocast too, as
`AdversarialModule.descend` does. Every function returns a scalar without its weight.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Critic = Callable[[Tensor], Tensor]


def input_gradient(critic: Critic, images: Tensor) -> Tensor:
    """Return the gradient of the summed logits with respect to `images` `(N, C, H, W)`, itself differentiable.

    The logits of one sample must not depend on another sample, or the gradient mixes them: no BatchNorm in `critic`.
    """
    full = torch.promote_types(images.dtype, torch.float32)
    with torch.autocast(images.device.type, enabled=False), torch.enable_grad():
        images = images.detach().to(full).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
    return gradient


def zero_centered(critic: Critic, images: Tensor) -> Tensor:
    """Return `E |grad D|^2 / 2`, squares summed over pixels: R1 on real images, R2 on fake ones.

    Source: Mescheder et al. 2018 (arXiv 1801.04406), equation 9.
    """
    return input_gradient(critic, images).square().flatten(1).sum(1).mean() / 2


def one_centered(critic: Critic, real: Tensor, fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return `E (|grad D(x)| - 1)^2` at points between real and fake images, the gradient penalty of WGAN-GP.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), equation 3.

    Args:
        critic: logits of `(N, C, H, W)`.
        real: images `(N, C, H, W)`.
        fake: images of the same shape; autocast may have made them in half precision.
        weights: `(N,)` in [0, 1], the share of the real image in each point; None draws them uniformly from torch's
            global generator. `AdversarialModule.uniform(n)` draws them so that they do not depend on the ranks.
    """
    if weights is None:
        weights = torch.rand(len(real), device=real.device)
    full = torch.promote_types(real.dtype, torch.float32)
    real, fake, weights = (tensor.detach().to(full) for tensor in (real, fake, weights))
    between = torch.lerp(fake, real, weights.view(-1, *[1] * (real.ndim - 1)))
    norms: Tensor = torch.linalg.vector_norm(input_gradient(critic, between).flatten(1), dim=1)
    return (norms - 1).square().mean()


@torch.no_grad()
def clip_weights(parameters: Iterable[Tensor], limit: float) -> None:
    """Clamp every parameter to [-limit, limit] in place, the Lipschitz constraint of the first WGAN.

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), algorithm 1 with limit 0.01.
    """
    for parameter in parameters:
        parameter.clamp_(-limit, limit)
