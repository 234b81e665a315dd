"""`ssiforge enhance --stream - -`: raw PCM from stdin to stdout, hop by hop as it comes."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UserError
from pipelines.enhancement.enhance import enhancer_of
from training.models.stft import HOP_SAMPLES

BYTES_PER_SAMPLE = 2
FULL_SCALE = 32768.0


def enhance_pipe(
    source: Path,
    output: Path,
    model_reference: str | None,
    device: str,
    stream: bool,
    say: Callable[[str], None],
) -> None:
    """Enhance mono 16-bit little-endian PCM at 48 kHz from stdin to stdout.

    As many samples come out as go in, one hop of 10 ms later than they could at best (the latency of 20 ms is the
    algorithm's: a window of 20 ms).

    Raises:
        UserError: when only one side is a pipe, `stream` is not asked for, or input ends within a sample.
    """
    if not stream or str(source) != "-" or str(output) != "-":
        raise UserError("'-' means stdin and stdout: ssiforge enhance --stream - -")
    enhancer = enhancer_of(model_reference, device, stream, say)
    for block in enhancer(_hops(sys.stdin.buffer)):
        steps = np.clip(np.rint(block * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1.0)
        sys.stdout.buffer.write(steps.astype("<i2").tobytes())
        sys.stdout.buffer.flush()


def _hops(pipe: BinaryIO) -> Iterator[NDArray[np.float32]]:
    """Read what comes, a hop at a time; the last may be shorter."""
    while content := pipe.read(HOP_SAMPLES * BYTES_PER_SAMPLE):
        if len(content) % BYTES_PER_SAMPLE:
            raise UserError("stdin: ends within a sample; raw mono 16-bit PCM at 48 kHz is expected")
        yield np.frombuffer(content, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
