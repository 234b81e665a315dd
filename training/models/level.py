"""Loudness at the door of the repairing net: the input is brought to the level that targets have.

Inputs of the challenge range over 50 dB, targets have one active level. A network that starts from its input as it
comes has to learn that range first, and a few hundred steps are not enough for it.
"""

import torch
from torch import Tensor, nn

from training.models.layers import Memory
from training.models.stft import at_least_float32

SPEECH_LEVEL = 0.27
"""Level, as measured here, of speech at -26 dBFS active level: 0.25 full-band, 0.32 with a band of 11 kHz."""
FLOOR = 0.01
"""Added to the measured level: noise is lifted by 29 dB at most."""
PRIOR_FRAMES = 0.1
"""A causal net begins as if it had heard so many frames at `SPEECH_LEVEL`: what is quiet before the first word is not
taken for quiet speech, and a second of speech at -50 dBFS still outweighs it (`chosen`; docs/results.md)."""


class RunningLevel(nn.Module):
    """Scales a compressed spectrum so that its level so far is that of speech at -26 dBFS (`chosen`).

    The level is the mean of |X| over bins and frames, weighted by itself, sum p^2 / sum p: loud frames count and
    pauses do not, as in an active level. A causal net knows the frames up to the present one; its teacher all.

    Args:
        causal: whether the level is that of the frames so far, or of the whole.
    """

    memory: Memory | None = None

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, compressed: Tensor) -> Tensor:
        """Scale (B, 2, F, T), compressed with power 0.5; the same shape."""
        wide = at_least_float32(compressed)
        running = torch.float32 if compressed.device.type == "mps" else torch.float64
        magnitude = wide.square().sum(1).mean(1).to(running)
        sums = torch.stack((magnitude.square().cumsum(-1), magnitude.cumsum(-1)))
        prior = PRIOR_FRAMES if self.causal else 0.0
        if not self.causal:
            sums = sums[..., -1:]
        elif self.memory is not None:
            if self in self.memory:
                sums = sums + self.memory[self]
            self.memory[self] = sums[..., -1:].clone()
        heard = sums[1] + prior * SPEECH_LEVEL + torch.finfo(torch.float32).tiny
        level = (sums[0] + prior * SPEECH_LEVEL**2) / heard
        gain = (SPEECH_LEVEL / (level + FLOOR)).sqrt().to(wide.dtype)
        return compressed * gain[:, None, None, :].to(compressed.dtype)
