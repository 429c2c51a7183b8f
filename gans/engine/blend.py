"""Network interpolation between two checkpoints of one model, Wang et al. 2018 (arXiv 1809.00219), section 3.4.

ESRGAN's authors interpolate the network that was trained for PSNR and the one that was trained against a critic. The
result has fewer artefacts than the second and sharper edges than the first. It works for weights that descend from the
same ones, such as two stages of a run, or a model and the one that it was fine-tuned from.

Parameters are interpolated, those of averaged networks too. Of the buffers only statistics are. The vectors of spectral
norms are computed again for the new weights. Counters, noise and the state of regularisers are those of the second
model.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gans.engine.checkpoint import class_path
from gans.networks.spectral import divided, spectral_layers

STATISTICS = ("running_mean", "running_var", "mean_w")  # names of buffers that are means over images or latents
ITERATIONS = 50  # of the power method, from the vectors of the second model


def check_alike(first: nn.Module, second: nn.Module) -> None:
    """Check that two models are of one class, with the same tensors.

    Raises:
        ValueError: if they are not.
    """
    if type(first) is not type(second):
        raise ValueError(f"the models are {class_path(type(first))} and {class_path(type(second))}; expected one class")
    one, other = ({name: tuple(part.shape) for name, part in model.state_dict().items()} for model in (first, second))
    for name in (*one, *other):
        if one.get(name) != other.get(name):
            told = " and ".join(str(shapes.get(name, "missing")) for shapes in (one, other))
            raise ValueError(f"{name} is {told}; expected models of the same architecture")


@torch.no_grad()
def blend(first: nn.Module, second: nn.Module, weight: float) -> None:
    """Replace the weights of the second model by `(1 - weight) first + weight second`.

    Args:
        first: a model.
        second: a model of the same class and architecture, see `check_alike`.
        weight: of the second model, from 0 to 1.

    Raises:
        ValueError: if the models differ in class or architecture.
    """
    check_alike(first, second)
    others: dict[str, Tensor] = {**dict(first.named_parameters()), **dict(first.named_buffers())}
    for name, parameter in second.named_parameters():
        parameter.copy_(torch.lerp(others[name], parameter, weight))
    for name, buffer in second.named_buffers():
        if name.rpartition(".")[2] in STATISTICS:
            buffer.copy_(torch.lerp(others[name], buffer, weight))
    for norm, parametrised in spectral_layers(second):
        for _ in range(ITERATIONS):
            divided([norm], [parametrised.original], iterate=True)


@torch.no_grad()
def apart(first: nn.Module, second: nn.Module) -> float:
    """Return the norm of the difference of two models' parameters relative to that of the second one's.

    Models that were trained from different initial weights are about 1.4 apart.
    """
    others = dict(first.named_parameters())
    pairs = [(parameter.double(), others[name].double()) for name, parameter in second.named_parameters()]
    difference = sum(float((one - other).square().sum()) for one, other in pairs)
    whole = sum(float(one.square().sum()) for one, _ in pairs)
    return (difference / whole) ** 0.5 if whole else 0.0


def differing(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """Return the arguments in which two models differ, by their names."""
    one, other = first.own_arguments(), second.own_arguments()
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return {name: (one.get(name), other.get(name)) for name in names}
