"""Enhancing audio of any length with a trained model, in bounded memory.

A causal model goes through a recording in stretches of `STRETCH_S` and remembers the frames and sums that it needs
(`training.models.layers.carrying`): the output is that of the whole recording in one piece, with no seams.

A teacher looks ahead as well, and cannot. Up to `WHOLE_S` a clip goes through it in one piece. What is longer is
cut: each piece of `PIECE_S` is computed with `CONTEXT_S` of audio on both sides, and pieces are cross-faded over
`FADE_S`. Its cumulative norms then average from the beginning of each context instead of the recording's, so a piece
differs from what the whole would give (some 35 dB below the signal at `tiny`).
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.bundle import Bundle
from training.models.layers import Memory, carrying
from training.models.stft import HOP_SAMPLES, frames_of, overlapped, spectrum_of

Audio = NDArray[np.float32]

RATE_HZ = 48_000
STRETCH_S = 3.0
WHOLE_S = 8.0
PIECE_S = 3.0
CONTEXT_S = 3.0
FADE_S = 0.1


def enhance_array(bundle: Bundle, audio: Audio) -> Audio:
    """Enhance one channel.

    Args:
        bundle: any finished model.
        audio: shape (N,), 48 kHz, full scale 1.0. It is not changed.

    Returns:
        Shape (N,), aligned with the input.

    Raises:
        ValueError: when `audio` is not one-dimensional.
    """
    if audio.ndim != 1:
        raise ValueError(f"audio must be one channel of shape (N,), not {audio.shape}")
    blocks = list(enhance_blocks(bundle, [audio]))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def enhance_blocks(bundle: Bundle, blocks: Iterable[Audio]) -> Iterator[Audio]:
    """Enhance one channel that comes in blocks; memory stays bounded however long it is.

    Args:
        bundle: any finished model.
        blocks: stretches of any lengths, shape (n,), 48 kHz, in order.

    Yields:
        Enhanced stretches in order; together as long as the input.
    """
    return _in_stretches(bundle, blocks) if bundle.info.causal else _in_pieces(bundle, blocks)


def _in_stretches(bundle: Bundle, blocks: Iterable[Audio]) -> Iterator[Audio]:
    """Go through a recording with a causal model that remembers."""
    stretch = round(STRETCH_S * RATE_HZ)
    passage = _Passage(bundle)
    held = np.zeros(0, np.float32)
    taken = given = 0
    for block in blocks:
        taken += len(block)
        held = np.concatenate((held, np.asarray(block, np.float32)))
        while len(held) > stretch:
            enhanced = passage.go_on(held[:stretch])
            held = held[stretch:]
            given += len(enhanced)
            yield enhanced
    if taken:
        # As the whole would be padded: to whole hops, then by the hop that completes the last frame.
        padded = np.pad(held, (0, -len(held) % HOP_SAMPLES + HOP_SAMPLES))
        yield passage.go_on(padded)[: taken - given]


class _Passage:
    """A causal model on its way through one recording.

    Its output lags by the hop that the next frame overlaps: the first stretch gives one hop less than it takes.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._model = bundle.model
        self._device = next(bundle.model.parameters()).device
        self._memory: Memory = {}
        self._last_hop = torch.zeros(1, HOP_SAMPLES, device=self._device)
        self._last_frame: Tensor | None = None

    @torch.inference_mode()
    def go_on(self, audio: Audio) -> Audio:
        """Take the next stretch, a whole number of hops; return what is finished."""
        wave = torch.from_numpy(np.ascontiguousarray(audio)).unsqueeze(0).to(self._device)
        wave = torch.cat((self._last_hop, wave), dim=1)
        self._last_hop = wave[:, -HOP_SAMPLES:].clone()
        with carrying(self._model, self._memory):
            frames = frames_of(self._model.enhance_spectrum(spectrum_of(wave)))
        if self._last_frame is not None:
            frames = torch.cat((self._last_frame, frames), dim=1)
        self._last_frame = frames[:, -1:].clone()
        enhanced: Audio = overlapped(frames)[0].cpu().numpy()
        return enhanced


def _in_pieces(bundle: Bundle, blocks: Iterable[Audio]) -> Iterator[Audio]:
    """Go through a recording with a model that looks ahead."""
    piece, context, fade = (round(seconds * RATE_HZ) for seconds in (PIECE_S, CONTEXT_S, FADE_S))
    whole = round(WHOLE_S * RATE_HZ)
    held = np.zeros(0, np.float32)  # input from `context` before the next piece on
    done = 0  # samples of `held` that were put out already
    tail: Audio | None = None  # the last piece's view of the first `fade` samples of the next
    for block in blocks:
        held = np.concatenate((held, np.asarray(block, np.float32)))
        # The first piece is cut only from what is too long to go whole.
        while len(held) - done > (whole if tail is None else piece + context):
            enhanced = _run(bundle, held[: done + piece + context])[done:]
            yield _faded(tail, enhanced[:piece])
            tail = enhanced[piece : piece + fade]
            done += piece
            spare = max(0, done - context)
            held, done = held[spare:], done - spare
    if len(held) > done:
        yield _faded(tail, _run(bundle, held)[done:])


def _run(bundle: Bundle, audio: Audio) -> Audio:
    wave = torch.from_numpy(np.ascontiguousarray(audio)).unsqueeze(0)
    enhanced: Audio = bundle.enhance(wave)[0].float().cpu().numpy()
    return enhanced


def _faded(before: Audio | None, piece: Audio) -> Audio:
    """Fade linearly from the end of the piece before into this one; both are estimates of the same samples."""
    if before is None:
        return piece
    length = min(len(before), len(piece))
    rising = (np.arange(length, dtype=np.float32) + 1.0) / (length + 1.0)
    faded = piece.copy()
    faded[:length] = before[:length] * (1.0 - rising) + piece[:length] * rising
    return faded
