"""In which precision networks compute: autocast, and the scaled loss of float16.

Weights, optimiser and averages are float32 always. Autocast lowers convolutions, linear layers and attention;
spectra, norms and losses raise what they are given to float32 (`training.models.stft.at_least_float32`).
"""

import torch

from manifests.experiment import Optimisation

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """What a stage computes in.

    Attributes:
        scaler: scales the loss of float16, whose small gradients would vanish; it does nothing otherwise.

    Args:
        optimisation: its `precision` is used.
        device: where the networks are.
    """

    def __init__(self, optimisation: Optimisation, device: torch.device) -> None:
        self._device_type = device.type
        self._dtype = DTYPES[optimisation.precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        """Return the context in which networks run."""
        lowered = self._dtype != torch.float32
        dtype = self._dtype if lowered else torch.bfloat16
        return torch.autocast(self._device_type, dtype=dtype, enabled=lowered)
