"""Penalties, mostly on a discriminator's gradient, as pure functions. `gans.terms` adds them to a model's losses.

A double backward pass in half precision has errors of percents (bfloat16) or underflows (float16). So the forward pass
is in float32 outside autocast, and the backward pass of the result must be too, as in `AdversarialModule.descend`.
Every function returns an unweighted scalar. Functions of a critic run an additional forward pass.

TF32 is off for the forward pass, its gradient, and the backward pass of the penalty: it has the 10 bits of mantissa of
float16. PyTorch allows it by default for convolutions on Ampere GPUs and newer.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import relu

from gans.precision import full_precision, require_to_the_end

Critic = Callable[..., Tensor]


@contextmanager
def accurate(device: torch.device, mixed: bool = False) -> Iterator[None]:
    """Run a forward pass in float32, outside autocast and without TF32. With `mixed` autocast stays as it is."""
    autocast = torch.autocast(device.type, enabled=mixed and torch.is_autocast_enabled(device.type))
    with autocast, full_precision():
        yield


@contextmanager
def twice_differentiable(device: torch.device, mixed: bool = False) -> Iterator[None]:
    """Run a forward pass whose gradient is differentiated once more: `accurate`, and not compiled.

    Networks that `torch.nn.Module.compile` has compiled run eagerly here, on the same parameters: a compiled graph has
    no double backward pass. Attention runs by PyTorch's plain kernel, because its fused ones have no second derivative.
    """
    eager, plain = torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH)
    with accurate(device, mixed), torch.enable_grad(), eager, plain:
        yield


def leaves(*parts: Tensor) -> tuple[Tensor, ...]:
    """Return images and conditions that require a gradient, in at least float32; whole numbers remain as they are."""
    full = [torch.promote_types(part.dtype, torch.float32) for part in parts]
    return tuple(
        part.detach().to(dtype).requires_grad_() if part.is_floating_point() else part
        for part, dtype in zip(parts, full, strict=True)
    )


def gradients(logits: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the sum of `logits` with respect to `inputs`. They are differentiable.

    `logits` must come from a forward pass on `inputs`, in `twice_differentiable`.
    """
    with torch.autocast(logits.device.type, enabled=False), full_precision():
        found = list(torch.autograd.grad(logits.sum(), inputs, create_graph=True))
    for gradient in found:
        if gradient.requires_grad:
            # For the double backward pass, which begins there.
            gradient.register_hook(require_to_the_end)  # type: ignore[no-untyped-call]
    return found


def gradient(logits: Tensor, images: Tensor) -> Tensor:
    """Return the gradient `(N, C, H, W)` of the sum of `logits` with respect to `images`. It is differentiable.

    A layer that mixes samples, such as minibatch standard deviation, adds terms between samples, as in StyleGAN2.
    BatchNorm is not supported: it cancels changes that all samples share.
    """
    return gradients(logits, [images])[0]


def half_square(gradient: Tensor) -> Tensor:
    """Return the mean over samples of half the squared norm of a gradient `(N, ...)`, a scalar."""
    return gradient.square().flatten(1).sum(1).mean() / 2


def power_of_length(gradients: list[Tensor], power: float) -> Tensor:
    """Return the mean over samples of a power of the joint norm of several gradients `(N, ...)`, a scalar."""
    squares = torch.stack([gradient.square().flatten(1).sum(1) for gradient in gradients]).sum(0)
    # A power of the squared norm, because the derivative of the square root at 0 is infinite.
    return squares.pow(power / 2).mean()


def input_gradient(critic: Critic, images: Tensor, *conditions: Tensor) -> Tensor:
    """Return the `gradient` of a critic's logits at `images` `(N, C, H, W)`, from an additional forward pass."""
    with twice_differentiable(images.device):
        (images,) = leaves(images)
        return gradient(critic(images, *conditions), images)


def zero_centered(critic: Critic, images: Tensor, *conditions: Tensor) -> Tensor:
    """Return `E |grad D|^2 / 2`, squares summed over pixels: R1 on real images, R2 on fake ones.

    Source: Mescheder et al. 2018 (arXiv 1801.04406), equation 9.
    """
    return half_square(input_gradient(critic, images, *conditions))


def matching_aware(critic: Critic, images: Tensor, sentences: Tensor, power: float = 6.0) -> Tensor:
    """Return `E |grad D|^power` at real images `(N, C, H, W)` with their matching sentence embeddings `(N, D)`.

    The norm is over the gradients of image and sentence together. The penalty smooths the critic around matching
    pairs, which helps the generator to converge to them.
    Source: Tao et al. 2022 (DF-GAN, arXiv 2008.05865), equation 2.
    """
    with twice_differentiable(images.device):
        given = leaves(images, sentences)
        return power_of_length(gradients(critic(*given), given), power)


def one_centered(critic: Critic, real: Tensor, fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return `E (|grad D(x)| - 1)^2` at points x between real and fake images, the gradient penalty of WGAN-GP.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), equation 3.

    Args:
        critic: logits of `(N, C, H, W)`.
        real: images `(N, C, H, W)`.
        fake: images of the same shape, also in half precision.
        weights: `(N,)` in [0, 1], the share of the real image in each point; None draws them uniformly from torch's
            global generator. `AdversarialModule.uniform(n)` draws weights that do not depend on the number of ranks.
    """
    if weights is None:
        weights = torch.rand(len(real), device=real.device)
    full = torch.promote_types(real.dtype, torch.float32)
    real, fake, weights = (tensor.detach().to(full) for tensor in (real, fake, weights))
    between = torch.lerp(fake, real, weights.view(-1, *[1] * (real.ndim - 1)))
    norms: Tensor = torch.linalg.vector_norm(input_gradient(critic, between).flatten(1), dim=1)
    return (norms - 1).square().mean()


def mode_seeking(first: Tensor, second: Tensor, z: Tensor, other: Tensor) -> Tensor:
    """Return `E |z - z'| / |G(z) - G(z')|` with mean absolute differences, for a generator that ignores its latent.

    Minimising it makes two images `(N, C, H, W)` of one condition differ in proportion to their latents `(N, D)`. The
    ratio is inverted after adding 0.01, so that equal images have a finite gradient.

    Source: Mao et al. 2019 (MSGAN, arXiv 1903.05628), equation 4; like the authors' code, this is its inverse.
    """
    full = torch.promote_types(first.dtype, torch.float32)
    images = (first.to(full) - second.to(full)).abs().flatten(1).mean(1)
    latents = (z.to(full) - other.to(full)).abs().flatten(1).mean(1)
    return (1 / (images / latents + 0.01)).mean()


def off_diagonal(matrices: Sequence[Tensor]) -> Tensor:
    """Return the sum of `|W W^T * (1 - I)|^2` over matrices W, each with rows that need not be orthogonal.

    It can be differentiated once.

    Source: Brock et al. 2018 (BigGAN, arXiv 1809.11096), equation 3.
    """
    with torch.autocast(matrices[0].device.type, enabled=False):
        total: Tensor = OffDiagonal.apply(*matrices)
    return total


class OffDiagonal(torch.autograd.Function):
    """The sum that `off_diagonal` returns, by its gradient: with S = (W W^T * (1 - I)) W, it is 4 S, the value <S, W>.

    S needs no matrix with the square of the number of rows, and autograd would launch three times as many kernels.
    """

    @staticmethod
    def forward(ctx: Any, *matrices: Tensor) -> Tensor:
        """Return the sum, a scalar."""
        slopes = []
        for w in matrices:
            cubed = w @ (w.mT @ w) if w.shape[0] > w.shape[1] else (w @ w.mT) @ w
            slopes.append(torch.addcmul(cubed, w.square().sum(1, keepdim=True), w, value=-1))
        ctx.save_for_backward(*slopes)
        return torch.stack([product.sum() for product in torch._foreach_mul(slopes, list(matrices))]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the matrices."""
        return tuple(torch._foreach_mul(list(ctx.saved_tensors), 4 * gradients[0]))


def gamma_heuristic(size: tuple[int, int], batch_size: int) -> float:
    """Return an initial weight for `zero_centered`, given the (height, width) of images and the global batch size.

    The best weight differs between data sets by more than a factor of 10, so try several.
    Source: the "auto" configuration of Karras et al. 2020 (arXiv 2006.06676).
    """
    return 2e-4 * size[0] * size[1] / batch_size


def lecam(real_logits: Tensor, fake_logits: Tensor, real_average: Tensor, fake_average: Tensor) -> Tensor:
    """Return `E max(0, D(x) - fake_average)^2 + E max(0, real_average - D(G(z)))^2`, for training on few images.

    It pulls logits, of any shape, towards the moving average of the logits on the other kind of images. The caller
    maintains the averages. No gradient flows into them.

    Source: Tseng et al. 2021 (arXiv 2104.03310). This is the common one-sided form: it never pushes real and fake
    logits apart.
    """
    full = torch.promote_types(real_logits.dtype, torch.float32)
    above = real_logits.to(full) - fake_average.detach()
    below = real_average.detach() - fake_logits.to(full)
    return relu(above).square().mean() + relu(below).square().mean()


@torch.no_grad()
def clip_weights(parameters: Iterable[Tensor], limit: float) -> None:
    """Clamp every parameter to [-limit, limit] in place, the Lipschitz constraint of the original WGAN.

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), algorithm 1 with limit 0.01.
    """
    if weights := list(parameters):
        torch._foreach_clamp_min_(weights, -limit)
        torch._foreach_clamp_max_(weights, limit)
