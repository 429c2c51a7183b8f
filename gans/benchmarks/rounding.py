"""The error of approximate gradient penalties in half precision: the penalty and its gradient, beside float32.

The change of a critic's logits under small noise has the rounding errors of both logits. They are divided by the noise.
Networks are those at the start of training, in evaluation mode. Images are smooth, as photographs are: a critic changes
less with noise in them than with noise in noise.
"""

import argparse
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gans.benchmarks.models import Options, build
from gans.commands.timing import quiet
from gans.networks.layers import widened
from gans.penalties import half_square

CASES: dict[str, dict[str, Any]] = {
    "r3gan": {"preset": "small"},
    "sngan": {"width": 32},
    "dcgan": {"batch_norm": False},
}
SIGMAS = (0.01, 0.03, 0.1)
PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def penalty(critic: nn.Module, images: Tensor, noise: Tensor, sigma: float, dtype: torch.dtype) -> tuple[float, Tensor]:
    """Return the penalty of `gans.terms.ApproximateR1` under autocast to `dtype`, and the gradient of all weights."""
    weights = [weight for weight in critic.parameters() if weight.requires_grad]
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits, moved = widened(critic(torch.cat([images, images + sigma * noise]))).chunk(2)
    value = half_square((moved - logits).view(len(images), -1).sum(1, keepdim=True) / sigma)
    found = torch.autograd.grad(value, weights, allow_unused=True)
    return float(value.detach()), torch.cat([part.flatten() for part in found if part is not None])


def errors(case: str, sigma: float, batch_size: int) -> dict[str, tuple[float, float]]:
    """Return for each precision the penalty over that in float32, and the cosine of the angle of their gradients."""
    torch.manual_seed(0)
    model = build(case, 32, 3, **CASES[case])
    coarse = torch.rand(batch_size, 3, 4, 4, device=model.device) * 2 - 1
    images = interpolate(coarse, size=32, mode="bilinear")
    critic, noise = model.discriminator.eval(), torch.randn_like(images)
    exact, slope = penalty(critic, images, noise, sigma, torch.float32)
    found = {}
    for name, dtype in PRECISIONS.items():
        value, rough = penalty(critic, images, noise, sigma, dtype)
        found[name] = value / exact, float(torch.cosine_similarity(rough, slope, dim=0))
    return found


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this subcommand."""
    parser.add_argument("--models", nargs="+", default=[*CASES], choices=[*CASES], metavar="MODEL", help="default: all")
    parser.add_argument("--batch_size", type=int, default=32)


def run(options: Options) -> None:
    """Print the errors."""
    quiet()
    print("approximate R1 in half precision: times that in float32, and cosine of the angle of their gradients")
    for case in options.models:
        for sigma in SIGMAS:
            found = errors(case, sigma, options.batch_size)
            told = ", ".join(f"{name} x{ratio:.3g} ({cosine:.2f})" for name, (ratio, cosine) in found.items())
            print(f"  {case:8} sigma {sigma:4}  {told}", flush=True)
