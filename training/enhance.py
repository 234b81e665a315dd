"""Enhancing audio of any length with a trained model, in bounded memory.

Up to `WHOLE_S` a clip goes through the network in one piece. What is longer is cut: each piece of `PIECE_S` is
computed with `CONTEXT_S` of audio before it (and after it, for a teacher), and pieces are cross-faded over `FADE_S`.
The context is computed twice, so a long recording takes about twice the work of a short one of the same network.

What cutting changes: convolutions reach back two seconds at `tiny` and ten at `paper`, the far ones faintly. The
cumulative norms remember everything: whole, they average from the beginning of the recording; in pieces, from the
beginning of each context. So a piece is not equal, sample for sample, to what the whole would give (a trained `tiny`
student on 40 s of speech: the difference lies 35 dB below the signal), and in pieces the network follows a talker
whose level changes. Frame-by-frame streaming with carried state will be exact.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from training.bundle import Bundle

Audio = NDArray[np.float32]

RATE_HZ = 48_000
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
    piece, context, fade = (round(seconds * RATE_HZ) for seconds in (PIECE_S, CONTEXT_S, FADE_S))
    ahead = fade if bundle.info.causal else context
    whole = round(WHOLE_S * RATE_HZ)
    held = np.zeros(0, np.float32)  # input from `context` before the next piece on
    done = 0  # samples of `held` that were put out already
    tail: Audio | None = None  # the last piece's view of the first `fade` samples of the next
    for block in blocks:
        held = np.concatenate((held, np.asarray(block, np.float32)))
        # The first piece is cut only from what is too long to go whole.
        while len(held) - done > (whole if tail is None else piece + ahead):
            enhanced = _run(bundle, held[: done + piece + ahead])[done:]
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
