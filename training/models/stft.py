"""The front end: 20 ms sqrt-Hann frames every 10 ms at 48 kHz, and power compression of spectra.

Spectra are real tensors (B, 2, F, T): the real part, then the imaginary part. F = 481 bins of 50 Hz, T = 100
frames a second. At 50 % overlap the squared window sums to one, so analysis followed by synthesis is the
identity. An output sample depends on at most 959 samples after it: the algorithmic latency is 960 samples (20
ms).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE_HZ = 48_000
WINDOW_SAMPLES = 960
HOP_SAMPLES = 480
BINS = WINDOW_SAMPLES // 2 + 1

# |X| = 1e-5 is far below one 16-bit step in a frame of 960 samples; below it, compression is linear.
MIN_POWER = 1e-10
# Floor under |Y|^2 while decompressing: keeps the gradient of the magnitude finite at exact zeros.
MIN_COMPRESSED_POWER = 1e-12


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it is of lower precision, else unchanged (float64 stays float64)."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _window(like: Tensor) -> Tensor:
    return torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=like.dtype, device=like.device).sqrt()


def frame_count(samples: int) -> int:
    """Return the number of frames of a wave of ``samples`` samples: ceil(samples / 480) + 1."""
    return -(-samples // HOP_SAMPLES) + 1


def analyse(wave: Tensor) -> Tensor:
    """Transform a wave into its spectrum.

    Args:
        wave: (B, N) samples, full scale 1.0, any N >= 1. It is padded on the right to whole hops, then by 480
            zeros on both sides.

    Returns:
        (B, 2, 481, T) linear spectrum with T = ceil(N / 480) + 1.

    Raises:
        ValueError: ``wave`` is not (B, N) or is empty.
    """
    if wave.dim() != 2 or wave.shape[1] == 0:
        raise ValueError(f"a wave must be (batch, samples) and not empty, not {tuple(wave.shape)}")
    wave = at_least_float32(wave)
    tail = -wave.shape[1] % HOP_SAMPLES
    return spectrum_of(F.pad(wave, (HOP_SAMPLES, HOP_SAMPLES + tail)))


def spectrum_of(wave: Tensor) -> Tensor:
    """Transform a wave (B, (T + 1) * 480), as it stands, into the linear spectrum (B, 2, 481, T)."""
    frames = wave.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES) * _window(wave)
    bins = torch.fft.rfft(frames)
    return torch.stack((bins.real, bins.imag), dim=1).transpose(2, 3).contiguous()


def synthesise(spectrum: Tensor, samples: int) -> Tensor:
    """Transform a spectrum back into a wave; the inverse of :func:`analyse`.

    Args:
        spectrum: (B, 2, 481, T) linear spectrum.
        samples: length N of the wave wanted, at most (T - 1) * 480.

    Returns:
        (B, N) wave.
    """
    return overlapped(frames_of(spectrum))[:, :samples]


def frames_of(spectrum: Tensor) -> Tensor:
    """Transform a linear spectrum (B, 2, 481, T) into windowed frames (B, T, 960)."""
    spectrum = at_least_float32(spectrum).transpose(2, 3)
    frames = torch.fft.irfft(torch.complex(spectrum[:, 0], spectrum[:, 1]), n=WINDOW_SAMPLES)
    windowed: Tensor = frames * _window(frames)
    return windowed


def overlapped(frames: Tensor) -> Tensor:
    """Overlap and add windowed frames (B, T, 960): (B, (T - 1) * 480), without the ends that only one frame covers."""
    # At 50 % overlap each hop of the output is one frame's first half plus the preceding frame's second half.
    hops = frames[:, 1:, :HOP_SAMPLES] + frames[:, :-1, HOP_SAMPLES:]
    return hops.reshape(hops.shape[0], -1)


def squared_magnitude(x: Tensor) -> Tensor:
    """Return |x|^2 (B, C, F, T) of a complex tensor (B, 2C, F, T)."""
    real, imag = x.chunk(2, dim=1)
    return real.square() + imag.square()


def compress(spectrum: Tensor, power: float | Tensor) -> Tensor:
    """Raise magnitudes to ``power`` and keep phases: X |X|^(power - 1).

    Args:
        spectrum: (B, 2, F, T) linear spectrum.
        power: exponent in (0, 1], a number or a tensor that broadcasts to (B, 1, F, T). Half is the repairing
            net's.

    Returns:
        (B, 2, F, T) compressed spectrum; linear in X where |X| < 1e-5.
    """
    magnitude_power: Tensor = squared_magnitude(spectrum).clamp_min(MIN_POWER) ** ((power - 1.0) / 2.0)
    return spectrum * magnitude_power


def decompress(spectrum: Tensor, power: float | Tensor) -> Tensor:
    """Undo :func:`compress`: Y |Y|^(1 / power - 1).

    Args:
        spectrum: (B, 2, F, T) compressed spectrum.
        power: the exponent it was compressed with.

    Returns:
        (B, 2, F, T) linear spectrum.
    """
    return spectrum * squared_magnitude(spectrum).clamp_min(MIN_COMPRESSED_POWER) ** (
        (1.0 / power - 1.0) / 2.0
    )
