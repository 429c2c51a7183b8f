"""The device that `--device` names."""

import torch


def chosen_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        ValueError: if there is none.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {name}, which is not there: {str(error).splitlines()[0]}") from error
    return device
