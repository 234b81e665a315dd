"""Discriminators on spectrograms, used in training only: multi-resolution and multi-band.

The forms follow public codecs' (magnitudes as in UnivNet, bands of the complex spectrum as in DAC), with one
difference that matters here: an input is never normalised by its own level, or the level of an
estimate, which is one of the repaired dimensions, could not be judged. `common_gain` brings targets to one
level, and the estimate gets the gain of its target.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import weight_norm

from training.losses.adversarial import Judgement
from training.models.stft import at_least_float32

BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Shares of the Nyquist frequency: 2.4, 6, 12 and 18 kHz at 48 kHz."""
COMPRESSION_POWER = 0.3
EPS_POWER = 1e-8
SLOPE = 0.1
REFERENCE_RMS = 0.1
"""Level to which clean targets are brought, -20 dBFS."""
FLOOR_RMS = 1e-3
"""Targets below -60 dBFS get the gain of one at -60 dBFS."""


def common_gain(target: Tensor) -> Tensor:
    """Return the gain (B, 1) that brings targets (B, N) to the reference level; estimates get the same."""
    target = at_least_float32(target)
    rms = target.square().mean(-1, keepdim=True).sqrt()
    return REFERENCE_RMS / rms.clamp_min(FLOOR_RMS)


class MagnitudeDiscriminator(nn.Module):
    """Judges |STFT|^0.3 at one resolution.

    Args:
        window: of the Hann STFT in samples; the hop is a quarter of it.
        channels: of every layer.
    """

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.window = window
        self.layers = _layers(1, channels)
        self.score = _conv(channels, 1, (3, 3))

    def forward(self, wave: Tensor) -> Judgement:
        """Judge waves (B, N), common gain applied."""
        power = spectrum(wave, self.window).square().sum(1, keepdim=True)
        features = _activations(self.layers, (power + EPS_POWER) ** (COMPRESSION_POWER / 2.0))
        return Judgement(self.score(features[-1]), features)


class BandDiscriminator(nn.Module):
    """Judges the complex STFT at one resolution, each band by layers of its own and all bands by one score.

    Magnitudes are compressed as above, phases kept: plain ones are so small above 6 kHz that biases hide them.

    Args:
        window: of the Hann STFT in samples; the hop is a quarter of it.
        channels: of every layer.
    """

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.window = window
        bins = window // 2 + 1
        edges = [round(share * bins) for share in BAND_EDGES]
        self.bands = list(pairwise(edges))
        self.layers = nn.ModuleList(_layers(2, channels) for _ in self.bands)
        self.score = _conv(channels, 1, (3, 3))

    def forward(self, wave: Tensor) -> Judgement:
        """Judge waves (B, N), common gain applied."""
        plain = spectrum(wave, self.window)
        power = plain.square().sum(1, keepdim=True) + EPS_POWER
        compressed = plain * power ** ((COMPRESSION_POWER - 1.0) / 2.0)
        of_bands = [
            _activations(cast(nn.ModuleList, layers), compressed[..., low:high])
            for layers, (low, high) in zip(self.layers, self.bands, strict=True)
        ]
        joined = torch.cat([features[-1] for features in of_bands], dim=-1)
        return Judgement(self.score(joined), tuple(one for features in of_bands for one in features))


class Discriminators(nn.Module):
    """Several discriminators that judge the same waves.

    Args:
        resolution_windows: of one `MagnitudeDiscriminator` each, in samples.
        band_windows: of one `BandDiscriminator` each, in samples.
        channels: of every layer.
    """

    def __init__(
        self, resolution_windows: tuple[int, ...], band_windows: tuple[int, ...], channels: int
    ) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            [
                *(MagnitudeDiscriminator(window, channels) for window in resolution_windows),
                *(BandDiscriminator(window, channels) for window in band_windows),
            ]
        )

    def forward(self, wave: Tensor, gain: Tensor) -> list[Judgement]:
        """Judge waves (B, N) after multiplying them by the gain (B, 1) of their clean targets."""
        with torch.autocast(wave.device.type, enabled=False):
            scaled = at_least_float32(wave) * gain
        return [discriminator(scaled) for discriminator in self.each]


def spectrum(wave: Tensor, window: int) -> Tensor:
    """Return the complex Hann STFT of waves (B, N) as (B, 2, T, F), of unit gain for white noise; in float32."""
    with torch.autocast(wave.device.type, enabled=False):
        wave = at_least_float32(wave)
        shape = torch.hann_window(window, dtype=wave.dtype, device=wave.device)
        transformed = torch.stft(
            wave,
            window,
            window // 4,
            window=shape,
            pad_mode="constant",
            normalized=True,
            return_complex=True,
        )
        return torch.view_as_real(transformed).permute(0, 3, 2, 1)


def _layers(inputs: int, channels: int) -> nn.ModuleList:
    return nn.ModuleList(
        [
            _conv(inputs, channels, (3, 9)),
            *(_conv(channels, channels, (3, 9), stride=(1, 2)) for _ in range(3)),
            _conv(channels, channels, (3, 3)),
        ]
    )


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> nn.Module:
    """Return a weight-normed convolution over (T, F) that keeps sizes but for its stride."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    normed: nn.Module = weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))
    return normed


def _activations(layers: nn.ModuleList, x: Tensor) -> tuple[Tensor, ...]:
    features = []
    for layer in layers:
        x = leaky_relu(layer(x), SLOPE)
        features.append(x)
    return tuple(features)
