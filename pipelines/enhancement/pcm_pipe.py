"""`ssiforge enhance --stream - -`: raw PCM from stdin to stdout, hop by hop as it comes."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from manifests.errors import JobError, UserError
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
        UserError: when only one side is a pipe, `stream` is not asked for, or input ends within a sample; what was
            whole is enhanced before.
        JobError: when whoever reads stdout is gone.
    """
    if not stream or str(source) != "-" or str(output) != "-":
        raise UserError("'-' means stdin and stdout: ssiforge enhance --stream - -")
    if sys.stdin is None or sys.stdout is None:
        raise UserError("stdin and stdout must be open: ssiforge enhance --stream - -")
    enhancer = enhancer_of(model_reference, device, stream, say)
    pipe = _Hops(sys.stdin.buffer)
    try:
        for block in enhancer(pipe):
            steps = np.clip(np.rint(block * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1.0)
            sys.stdout.buffer.write(steps.astype("<i2").tobytes())
            sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        # What is still buffered cannot be written either: else the interpreter would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise JobError("stdout: was closed before stdin ended") from error
    if pipe.left_over:
        raise UserError("stdin: ends within a sample; raw mono 16-bit PCM at 48 kHz is expected")


class _Hops:
    """What comes through a pipe, a hop at a time; the last may be shorter."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self.left_over = 0
        """Bytes after the last whole sample, once the pipe has ended."""

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        while content := self._pipe.read(HOP_SAMPLES * BYTES_PER_SAMPLE):
            self.left_over = len(content) % BYTES_PER_SAMPLE
            whole = content[: len(content) - self.left_over]
            yield np.frombuffer(whole, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
