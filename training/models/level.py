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
FLOOR = 0.005
"""Added to the measured level: noise is lifted by 35 dB at most."""
TRUSTED_FRAMES = 2.0
"""A causal net follows the measured level half, in decibels, once it has heard so many frames of sound that comes and
goes, as speech does (`chosen`, with the next three; docs/results.md)."""
STEADY_VARIATION = 0.2
"""Sound whose level varies less is steady, as noise in a pause before the first word."""
SPEECH_VARIATION = 0.7
"""Sound whose level varies so much is speech; between the two it counts in part."""
STEADY_TRUST = 0.005
"""What a frame of steady sound counts beside one of speech."""


class RunningLevel(nn.Module):
    """Scales a compressed spectrum so that its level so far is that of speech at -26 dBFS (`chosen`).

    The level is the mean of |X| over bins and frames, weighted by itself, sum p^2 / sum p: loud frames count and
    pauses do not, as in an active level. A causal net knows the frames up to the present one; its teacher all.

    What was heard so far is not always speech, and a gain that lifts a noisy pause by 20 dB falls on the first word. So
    a causal net begins with gain 1 and follows as it hears speech: (sum p)^2 / sum p^2 is the number of frames n_a in
    which there was sound, and v = n / n_a - 1 the squared coefficient of variation of p, near 0 for noise and about 1
    for speech. v brought from [`STEADY_VARIATION`, `SPEECH_VARIATION`] to [0, 1], plus `STEADY_TRUST`, times n_a is the
    evidence e, and the gain in decibels is the measured one times e / (e + `TRUSTED_FRAMES`).

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
        sums = torch.stack((magnitude.square(), magnitude, torch.ones_like(magnitude))).cumsum(-1)
        if not self.causal:
            sums = sums[..., -1:]
        elif self.memory is not None:
            if self in self.memory:
                sums = sums + self.memory[self]
            self.memory[self] = sums[..., -1:].clone()
        squares, total, frames = sums
        tiny = torch.finfo(torch.float32).tiny
        gain = SPEECH_LEVEL / (squares / (total + tiny) + FLOOR)
        if self.causal:
            sounding = total.square() / (squares + tiny)
            variation = frames / (sounding + tiny) - 1.0
            speech = (variation - STEADY_VARIATION) / (SPEECH_VARIATION - STEADY_VARIATION)
            evidence = sounding * (speech.clamp(0.0, 1.0) + STEADY_TRUST)
            gain = gain ** (evidence / (evidence + TRUSTED_FRAMES))
        levelled: Tensor = compressed * gain.sqrt().to(compressed.dtype)[:, None, None, :]
        return levelled
