"""Networks that `torch.compile(network)` returns: their weights keep the names of the network that they run."""

from typing import Any

from torch import nn

INNER = "_orig_mod."  # what PyTorch puts before the names


def name_as_eager(network: nn.Module) -> None:
    """Let `state_dict` and `load_state_dict` of a compiled network, also of modules that hold it, use eager names.

    So a checkpoint of a compiled model loads into a model that is not compiled, and the reverse.
    """
    network.register_state_dict_post_hook(without_inner)  # type: ignore[no-untyped-call]
    network.register_load_state_dict_pre_hook(with_inner)  # type: ignore[no-untyped-call]


def without_inner(network: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Remove the inner name from the keys below `prefix`, in place."""
    renamed(state, f"{prefix}{INNER}", prefix)


def with_inner(network: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Add the inner name to the keys below `prefix`, in place."""
    renamed(state, prefix, f"{prefix}{INNER}")


def renamed(state: dict[str, Any], before: str, after: str) -> None:
    """Replace the beginning of keys, in place and in their order."""
    for name in [name for name in state if name.startswith(before)]:
        state[f"{after}{name.removeprefix(before)}"] = state.pop(name)
