"""Which device the networks are on."""

import torch

from manifests.errors import UserError


def chosen_device(name: str) -> torch.device:
    """Return the device that `name` means.

    Raises:
        UserError: when there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: no such device on this machine") from error
    return device
