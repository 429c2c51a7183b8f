"""The device that `--device` names."""

import torch


def chosen_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first GPU if there is one, else the CPU.

    Raises:
        ValueError: if there is none.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).cpu()  # devices such as meta compute nothing
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise ValueError(f"device is {name}; expected {', '.join(known())}") from error
    return device


def known() -> list[str]:
    """Return the names of the devices of this machine, and `auto`."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["auto", "cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
