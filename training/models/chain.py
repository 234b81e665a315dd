"""Both stages in a row, as they run in use: repair, then denoise, causal end to end."""

from typing import NamedTuple

from torch import Tensor, nn

from training.models.denoiser import Denoiser
from training.models.layers import Memory, stepped
from training.models.repair import RepairNet
from training.models.stft import synthesise


class ChainOutput(NamedTuple):
    """What the chain returns.

    Attributes:
        repaired: (B, N) wave after stage 1.
        denoised: (B, N) wave after stage 2, the result.
    """

    repaired: Tensor
    denoised: Tensor


class Chain(nn.Module):
    """A repairing net and a denoiser.

    The denoiser reads the mapped spectrum itself, not that of the resynthesised wave: a second analysis would
    add another 20 ms of latency.
    """

    def __init__(self, repair: RepairNet, denoiser: Denoiser) -> None:
        super().__init__()
        self.repair = repair
        self.denoiser = denoiser

    def forward(self, wave: Tensor) -> ChainOutput:
        """Enhance a batch of waves (B, N), full scale 1.0, at 48 kHz."""
        repaired = self.repair(wave)
        return ChainOutput(repaired.wave, synthesise(self.denoiser(repaired.spectrum), wave.shape[1]))

    def enhance_spectrum(self, spectrum: Tensor) -> Tensor:
        """Return what the chain puts out in use: (B, 2, 481, T), linear, finished by the repairing net."""
        return self.repair.finished(*self.unfinished(spectrum))

    def unfinished(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the chain makes of a degraded spectrum, and that spectrum levelled, as the net's own does."""
        repaired, levelled = self.repair.unfinished(spectrum)
        return self.denoiser(repaired), levelled

    def step(self, frame: Tensor, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """Enhance one frame of a degraded linear spectrum, (B, 2, 481); states as in :meth:`RepairNet.step`."""
        return stepped(self, self.enhance_spectrum, frame, state)
