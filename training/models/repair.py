"""Stage 1, the repairing net: COM-Net (TEA-PSE) as used by RaD-Net, one class for teacher and student.

Three gated downsampling layers, groups of gated TCMs, three upsampling layers with skips; complex mapping of
the compressed spectrum. The student is causal; the teacher is the same net with symmetric time padding.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.models.complex_layers import complex_product
from training.models.finishing import NoiseGauge, SilenceGate, kept
from training.models.layers import TFCM, CumulativeNorm, GateConv, Memory, TransposedGateConv, stepped
from training.models.level import RunningLevel
from training.models.prelu import PReLU
from training.models.stft import BINS, analyse, at_least_float32, compress, decompress, synthesise
from training.models.temporal import gtcm_group

COMPRESSION_POWER = 0.5
LEVELS = 3
LOUDER_LOW, LOUDER_HIGH = 32.0, 4.0
"""What is added counts half where it is so much louder than what the mask leaves, as compressed: 60 and 24 dB
(`chosen`; docs/results.md). Below, where most of speech is, it may fill what is gone and not cover what is there."""
LOW_BINS, HIGH_BINS = 140, 180
"""Where the one ends and the other begins: 7 and 9 kHz; between them it falls evenly in decibels."""
MOST_MAKEUP_DB = 6.0
"""A model that is further off the level of targets than this does not need a gain but training."""
UNCALIBRATED = {"kept_share": 0.0, "dry_share": 0.0, "makeup_db": 0.0, "by_noise": False}
"""What of the sizes below is none, but decided by calibrating a finished model, and not used in training."""
MIN_SHARED_POWER = 1e-8
"""Keeps the share of what is added finite where there is nothing, compressed: -160 dB of full scale."""


@dataclass(frozen=True)
class RepairConfig:
    """Sizes of the repairing net; the defaults are the `paper` preset.

    Attributes:
        channels: C of the encoder and decoder.
        time_kernel: frames k_t under each downsampling convolution; odd.
        up_time_kernel: the same of the upsampling ones. At 1 they look at the present frame alone, as their
            TFCM looks back already: a third of the weights to read for each frame.
        tfcm_layers: L, layers of each TFCM.
        gtcm_hidden: h, width inside each GTCM.
        gtcm_groups: G, groups of four GTCM.
        head_channels: channels that reach full frequency resolution.
        kept_share: how much of the levelled input is put back where the finished model leaves it about as it is, 0 to 1
            (`training.models.finishing`; not used in training).
        dry_share: share of the levelled input in what the finished model puts out, 0 to below 1 (`chosen`; not used in
            training). It bounds what a model can take away, and with it what it can spoil.
        makeup_db: gain on what the finished model puts out, in dB (`chosen`; not used in training). With noise and
            echoes a model takes some of the speech away; this brings its level back, for all signals alike.
        by_noise: whether both shares are for clean signals alone, and go to zero where most of the input is noise.
    """

    channels: int = 64
    time_kernel: int = 3
    up_time_kernel: int = 1
    tfcm_layers: int = 3
    gtcm_hidden: int = 64
    gtcm_groups: int = 4
    head_channels: int = 16
    kept_share: float = 0.0
    dry_share: float = 0.0
    makeup_db: float = 0.0
    by_noise: bool = False

    def __post_init__(self) -> None:
        if min(self.channels, self.tfcm_layers, self.gtcm_hidden, self.gtcm_groups, self.head_channels) < 1:
            raise ValueError(f"sizes of a repairing net must be positive: {self}")
        if not 0.0 <= self.kept_share <= 1.0:
            raise ValueError(f"kept_share must be from 0 to 1: {self.kept_share}")
        if not 0.0 <= self.dry_share < 1.0:
            raise ValueError(f"dry_share must be from 0 to below 1: {self.dry_share}")
        if not abs(self.makeup_db) <= MOST_MAKEUP_DB:
            raise ValueError(
                f"makeup_db must be from -{MOST_MAKEUP_DB:g} to {MOST_MAKEUP_DB:g}: {self.makeup_db}"
            )
        if (
            min(self.time_kernel, self.up_time_kernel) < 1
            or not self.time_kernel % 2 == self.up_time_kernel % 2 == 1
        ):
            raise ValueError(f"time kernels must be odd, so that a teacher can centre them: {self}")

    @property
    def makeup_gain(self) -> float:
        """Factor of what the finished model puts out."""
        gain: float = 10.0 ** (self.makeup_db / 20.0)
        return gain


class RepairOutput(NamedTuple):
    """What a repairing net returns.

    Attributes:
        wave: (B, N) repaired wave.
        spectrum: (B, 2, 481, T) its linear spectrum, as mapped (the denoiser's input).
        features: activations for distillation, empty unless asked for: fd1, fd2, fd3, fu3, fu2 are (B, C,
            F_l, T), gtcm1, gtcm2, ... are (B, D, T).
    """

    wave: Tensor
    spectrum: Tensor
    features: dict[str, Tensor]


def level_bins() -> list[int]:
    """Return the number of bins before and after each downsampling layer: 481, 120, 30, 7."""
    bins = [BINS]
    for _ in range(LEVELS):
        bins.append((bins[-1] - 3) // 4 + 1)
    return bins


class RepairNet(nn.Module):
    """COM-Net. ``causal=True`` is the student, ``causal=False`` the teacher; state dicts fit both.

    The input X is brought to the level of targets first (`chosen`; `training.models.level`). The mapped spectrum is
    Y + R |R|^2 / (|R|^2 + |l Y|^2) with Y = m X, where the head puts out a complex mask M and a spectrum R, and m is
    g + M, or that over its magnitude where this is above 1; g is one learned gain a bin (`chosen`; the paper's COM-Net
    maps to R alone).
    Noise is taken away by a mask, which need not know its phase; what is missing is added, and where something is left
    of the input a faint R fades: else a network that is not sure what to add covers the whole of the speech with it.
    l is larger below 8 kHz (`louder`).
    g starts at 1 and the head near 0, so that an untrained net returns its input at the right level, and what needs no
    repair is left alone from the first step on. R is not bounded, so it remains a complex mapping.
    """

    HEAD_START_SCALE = 0.005

    def __init__(self, config: RepairConfig, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        C, k_t = config.channels, config.time_kernel
        bins = level_bins()
        self.level = RunningLevel(causal)
        self.noise = NoiseGauge(causal)
        self.sound = SilenceGate()
        self.down = nn.ModuleList(
            _Down(2 if i == 0 else C, C, k_t, config.tfcm_layers, causal) for i in range(LEVELS)
        )
        self.temporal = nn.ModuleList(
            gtcm_group(C * bins[-1], config.gtcm_hidden, causal) for _ in range(config.gtcm_groups)
        )
        # From the deepest level up: FU3, FU2, FU1.
        self.up = nn.ModuleList(
            _Up(
                C,
                config.head_channels if level == 0 else C,
                config.up_time_kernel,
                config.tfcm_layers,
                extra_bins=bins[level] - (4 * bins[level + 1] - 1),
                causal=causal,
            )
            for level in reversed(range(LEVELS))
        )
        self.head = nn.Conv2d(config.head_channels, 4, (3, 1), padding=(1, 0))
        self.skip_gain = nn.Parameter(torch.ones(BINS, 1))
        self.louder: Tensor
        self.register_buffer("louder", louder().unsqueeze(-1), persistent=False)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(self.HEAD_START_SCALE)

    def levelled(self, spectrum: Tensor) -> Tensor:
        """Compress a degraded linear spectrum (B, 2, 481, T) and bring it to the level of targets."""
        levelled: Tensor = self.level(compress(spectrum, COMPRESSION_POWER))
        return levelled

    def map_spectrum(self, spectrum: Tensor, with_features: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Map a degraded linear spectrum (B, 2, 481, T) to a repaired one; features as in RepairOutput."""
        return self.map_levelled(self.levelled(spectrum), with_features)

    def map_levelled(
        self, compressed: Tensor, with_features: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Do the same from what :meth:`levelled` returned."""
        features: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor) -> None:
            if with_features:
                features[name] = value

        x = compressed.contiguous(memory_format=torch.channels_last)
        skips = []
        for i, down in enumerate(self.down, start=1):
            x = down(x)
            skips.append(x)
            keep(f"fd{i}", x)

        deepest = x.shape
        x = x.flatten(1, 2)
        for i, group in enumerate(self.temporal, start=1):
            x = group(x)
            keep(f"gtcm{i}", x)
        x = x.view(deepest).contiguous(memory_format=torch.channels_last)

        for level, up in zip(range(LEVELS, 0, -1), self.up, strict=True):
            x = up(x, skips.pop())
            if level > 1:
                keep(f"fu{level}", x)

        mask, added = at_least_float32(self.head(x)).chunk(2, dim=1)
        mask = torch.cat((mask[:, :1] + self.skip_gain, mask[:, 1:]), dim=1)
        mask = mask / mask.square().sum(1, keepdim=True).clamp_min(1.0).sqrt()
        masked = complex_product(compressed, mask)
        mapped = masked + added * _share(added, masked, self.louder)
        return decompress(mapped, COMPRESSION_POWER), features

    def step(self, frame: Tensor, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """Map one frame of a degraded linear spectrum; only a causal net can.

        Args:
            frame: (B, 2, 481).
            state: what the last step returned; None for the first frame of a signal.

        Returns:
            The repaired frame, (B, 2, 481), and the state for the next one. The given state is not changed.
        """
        return stepped(self, self.enhance_spectrum, frame, state)

    def enhance_spectrum(self, spectrum: Tensor) -> Tensor:
        """Return what the net puts out in use, where it is the whole model: (B, 2, 481, T), linear."""
        return self.finished(*self.unfinished(spectrum))

    def unfinished(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the net makes of a degraded spectrum, and that spectrum levelled; both linear, (B, 2, 481, T)."""
        levelled = self.levelled(spectrum)
        return self.map_levelled(levelled)[0], decompress(levelled, COMPRESSION_POWER)

    def finished(self, enhanced: Tensor, levelled: Tensor) -> Tensor:
        """Mix the levelled input into an enhanced spectrum, let silence be what it was, and make up for the level.

        Both are linear, (B, 2, 481, T), and so is the result.
        """
        config = self.config
        mixed = enhanced
        if config.dry_share or config.kept_share:
            clean = self.noise(enhanced, levelled) if config.by_noise else 1.0
            mixed = kept(enhanced, levelled, config.kept_share * clean)
            mixed = mixed + config.dry_share * clean * (levelled - mixed)
        audible: Tensor = levelled + self.sound(levelled) * (mixed - levelled)
        return config.makeup_gain * audible

    def forward(self, wave: Tensor, with_features: bool = False) -> RepairOutput:
        """Repair a batch of waves (B, N), full scale 1.0, at 48 kHz; collect features only if asked."""
        spectrum, features = self.map_spectrum(analyse(wave), with_features)
        return RepairOutput(synthesise(spectrum, wave.shape[1]), spectrum, features)


def louder() -> Tensor:
    """Return how much louder, as compressed, what is added must be to count half, in each bin (481,)."""
    high = ((torch.arange(BINS) - LOW_BINS) / (HIGH_BINS - LOW_BINS)).clamp(0.0, 1.0)
    return LOUDER_LOW * (LOUDER_HIGH / LOUDER_LOW) ** high


def _share(added: Tensor, masked: Tensor, louder: Tensor) -> Tensor:
    """Return |R|^2 / (|R|^2 + |l Y|^2), (B, 1, F, T), of spectra (B, 2, F, T) and l (F, 1)."""
    power, left = (spectrum.square().sum(1, keepdim=True) for spectrum in (added, masked))
    return power / (power + louder.square() * left + MIN_SHARED_POWER)


class _Down(nn.Module):
    """FD layer: GateConv, cLN, PReLU, TFCM."""

    def __init__(
        self, channels_in: int, channels: int, time_kernel: int, tfcm_layers: int, causal: bool
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            GateConv(channels_in, channels, time_kernel, causal),
            CumulativeNorm(channels),
            PReLU(),
            TFCM(channels, tfcm_layers, causal),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class _Up(nn.Module):
    """FU layer: 1x1 over input and skip, TFCM (cheap at low resolution), transposed GateConv, cLN, PReLU."""

    def __init__(
        self,
        channels: int,
        channels_out: int,
        time_kernel: int,
        tfcm_layers: int,
        extra_bins: int,
        causal: bool,
    ) -> None:
        super().__init__()
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        self.body = nn.Sequential(
            TFCM(channels, tfcm_layers, causal),
            TransposedGateConv(channels, channels_out, time_kernel, extra_bins, causal),
            CumulativeNorm(channels_out),
            PReLU(),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.body(self.merge(torch.cat((x, skip), dim=1)))
        return out
