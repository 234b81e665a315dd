"""A long wave through a model in bounded memory: overlapping blocks, joined by short cross-fades.

A wave of up to `BLOCK_SAMPLES` is enhanced in one piece. In a longer one, each block is enhanced with the
`CONTEXT_SAMPLES` before it, since the networks normalise over what they have heard, and with what the
model looks ahead. This is not yet the exact frame-by-frame streaming, which carries every state: there,
the context is endless.
"""

from collections.abc import Callable

import numpy as np

from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.metrics import Audio
from training.bundle import Bundle

BLOCK_SAMPLES = 20 * SAMPLE_RATE_HZ
CONTEXT_SAMPLES = 10 * SAMPLE_RATE_HZ
FADE_SAMPLES = SAMPLE_RATE_HZ // 10
CAUSAL_LOOK_AHEAD_SAMPLES = 960
"""One window of the transform."""
LOOK_AHEAD_SAMPLES = 2 * SAMPLE_RATE_HZ
"""For a teacher, which hears the whole wave in training: most of what it uses lies this near."""


class Blockwise:
    """Takes one channel in pieces of any size and gives back the enhanced channel, as long in the end.

    Args:
        enhance: (N,) -> (N,).
        causal: whether it looks at the past only.
    """

    def __init__(self, enhance: Callable[[Audio], Audio], causal: bool) -> None:
        self._enhance = enhance
        self._ahead = FADE_SAMPLES + (CAUSAL_LOOK_AHEAD_SAMPLES if causal else LOOK_AHEAD_SAMPLES)
        self._held = np.zeros(0, np.float32)
        self._origin = 0
        """Place of the first held sample in the whole wave."""
        self._done = 0
        """How much was given back."""
        self._fading = np.zeros(0, np.float32)
        """What the block before says about the beginning of the next."""

    def push(self, piece: Audio, last: bool = False) -> Audio:
        """Take the next piece (N,); return what is finished, everything that is left if it is the `last`."""
        self._held = np.concatenate([self._held, piece])
        finished = []
        while (left := self._origin + len(self._held) - self._done) > BLOCK_SAMPLES + self._ahead:
            finished.append(self._block(BLOCK_SAMPLES))
        if last and left:
            finished.append(self._block(left))
        return np.concatenate(finished) if finished else np.zeros(0, np.float32)

    def _block(self, length: int) -> Audio:
        begin = self._done - self._origin
        output = self._enhance(self._held[: begin + length + self._ahead])
        block = output[begin : begin + length].copy()
        fade = min(len(self._fading), length)
        if fade:
            rising = (np.arange(fade, dtype=np.float32) + 0.5) / fade
            block[:fade] = rising * block[:fade] + (1.0 - rising) * self._fading[:fade]
        self._fading = output[begin + length : begin + length + FADE_SAMPLES].copy()
        self._done += length
        forgotten = max(0, self._done - CONTEXT_SAMPLES - self._origin)
        self._held = self._held[forgotten:]
        self._origin += forgotten
        return block


def blockwise(bundle: Bundle) -> Blockwise:
    """Prepare a model for one channel."""
    import torch

    def enhance(wave: Audio) -> Audio:
        output: Audio = bundle.enhance(torch.from_numpy(np.array(wave[None]))).cpu().numpy()[0]
        return output

    return Blockwise(enhance, bundle.info.causal)


def enhanced_wave(bundle: Bundle, wave: Audio) -> Audio:
    """Enhance a mono wave (N,) at 48 kHz."""
    return blockwise(bundle).push(wave, last=True)
