"""Stage 2, the denoiser: S-DCCSN with complex axial self-attention, causal, on the repaired spectrum.

A learnable compression, a complex feature encoder (CFE) at full resolution, a sub-band net on two stacked
halves, a full-band net, and a complex feature decoder (CFD) that estimates the final mask (S-DCCRN's
structure with temporal convolutions for its recurrences). Masks are bounded by tanh: this stage removes,
it cannot restore level (unless ``mask_bound`` is raised).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.attention import ComplexAxialAttention
from training.models.complex_layers import (
    ComplexConv,
    ComplexDenseBlock,
    ComplexTransposedConv,
    bounded_mask,
    complex_cat,
    complex_product,
    normalised,
)
from training.models.layers import Memory, stepped
from training.models.stft import BINS, at_least_float32, compress, decompress
from training.models.temporal import tcm_group

BANDS = 2
ENCODER_KERNEL = (5, 2)
DECODER_KERNEL = (5, 1)
"""Decoders look at the present frame alone (`chosen`): half of the weights to read for each frame."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the denoiser; the defaults are the `paper` preset (the light variant).

    Attributes:
        channels: complex channels C of CFE and CFD.
        dense_depth: layers of each dense block.
        sub_channels: complex channels after each layer of the sub-band encoder, both bands together; even.
        full_channels: complex channels after each layer of the full-band encoder.
        bottleneck: width between encoder and decoder of both nets.
        tcm_hidden: width inside each TCM.
        tcm_groups: groups of four TCM in each bottleneck.
        mask_bound: largest magnitude of the final mask, >= 1. With 1 the stage can only lower magnitudes; with 2 it
            starts at the identity away from tanh's flat end, which learns several times faster (`chosen`).
        use_asa: whether CFE and CFD contain axial self-attention (off for the ablation).
        asa_key_pool_bins: bins averaged into one key of that attention (1: none; a cheaper approximation).
        asa_over_time: whether that attention also looks back one second along time.
    """

    channels: int = 8
    dense_depth: int = 3
    sub_channels: tuple[int, ...] = (16, 32, 32, 48, 48)
    full_channels: tuple[int, ...] = (8, 16, 32, 32, 48, 48)
    bottleneck: int = 192
    tcm_hidden: int = 64
    tcm_groups: int = 1
    mask_bound: float = 1.0
    use_asa: bool = True
    asa_key_pool_bins: int = 4
    asa_over_time: bool = False

    def __post_init__(self) -> None:
        sizes = (self.channels, self.dense_depth, self.bottleneck, self.tcm_hidden, self.tcm_groups)
        if min(*sizes, *self.sub_channels, *self.full_channels) < 1:
            raise ValueError(f"sizes of a denoiser must be positive: {self}")
        if self.mask_bound < 1.0:
            raise ValueError(f"mask_bound must be at least 1: {self.mask_bound}")
        if any(channels % BANDS for channels in self.sub_channels):
            raise ValueError(
                f"sub_channels are shared by {BANDS} bands and must be even: {self.sub_channels}"
            )


class Denoiser(nn.Module):
    """S-DCCSN with complex ASA.

    The final mask starts near the identity (`chosen`), so that training starts from the repaired signal: its kernel
    is small and its bias gives it a magnitude of 1, or 0.96 where the bound is 1. The inner masks start with a bias
    of 1.
    """

    MASK_START_SHARE = 0.96
    MASK_START_SCALE = 0.1

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        C, bins = config.channels, BINS - 1
        self.compression = nn.Parameter(torch.zeros(bins, 1))
        self.encode = nn.Sequential(
            normalised(ComplexConv(1, C), C),
            ComplexDenseBlock(C, config.dense_depth),
            _attention(config, bins),
            normalised(ComplexConv(C, C), C),
        )
        bottleneck = (config.bottleneck, config.tcm_hidden, config.tcm_groups)
        self.sub = MaskNet(
            BANDS * C, BANDS * C, config.sub_channels, bins // BANDS, *bottleneck, groups=BANDS
        )
        self.full = MaskNet(2 * C, C, config.full_channels, bins, *bottleneck, groups=1)
        self.decode = nn.Sequential(
            normalised(ComplexConv(C, C), C),
            ComplexDenseBlock(C, config.dense_depth),
            _attention(config, bins),
        )
        self.mask = ComplexConv(C, 1, bias=True)
        with torch.no_grad():
            self.mask.weight_real.mul_(self.MASK_START_SCALE)
            self.mask.weight_imag.mul_(self.MASK_START_SCALE)
            start = min(1.0, self.MASK_START_SHARE * config.mask_bound)
            _start_at(self.mask, math.atanh(start / config.mask_bound))

    def powers(self) -> Tensor:
        """Return the compression exponent of each bin, (480, 1), between 0.3 and 1."""
        return 0.3 + 0.7 * torch.sigmoid(self.compression)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Denoise a linear spectrum (B, 2, 481, T), the repairing net's; the DC bin of the result is zero."""
        powers = self.powers()
        compressed = compress(at_least_float32(spectrum[:, :, 1:]), powers)
        encoded = self.encode(compressed.contiguous(memory_format=torch.channels_last))
        in_bands = torch.cat(encoded.chunk(BANDS, dim=2), dim=1)
        mask = at_least_float32(self.sub(in_bands))
        masked = torch.cat(
            [
                complex_product(features, bounded_mask(part))
                for features, part in zip(encoded.chunk(BANDS, dim=2), mask.chunk(BANDS, dim=1), strict=True)
            ],
            dim=2,
        )
        mask = at_least_float32(self.full(complex_cat((masked, encoded))))
        masked = complex_product(masked, bounded_mask(mask))
        mask = self.config.mask_bound * bounded_mask(at_least_float32(self.mask(self.decode(masked))))
        denoised = decompress(complex_product(compressed, mask), powers)
        return F.pad(denoised, (0, 0, 1, 0))

    def step(self, frame: Tensor, state: Memory | None = None) -> tuple[Tensor, Memory]:
        """Denoise one frame of a linear spectrum, (B, 2, 481); states as in :meth:`RepairNet.step`."""
        return stepped(self, self, frame, state)


def freeze_batch_norm(net: nn.Module) -> None:
    """Let batch norms use their running statistics, as joint training does; call after ``net.train()``."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()


def _attention(config: DenoiserConfig, bins: int) -> nn.Module:
    if not config.use_asa:
        return nn.Identity()
    return ComplexAxialAttention(config.channels, bins, config.asa_key_pool_bins, config.asa_over_time)


def _start_at(mask: ComplexConv | ComplexTransposedConv, real: float) -> None:
    """Give a mask's last layer the bias ``real`` + 0i on every complex channel."""
    assert mask.bias is not None
    by_part = mask.bias.view(mask.groups, 2, -1)
    with torch.no_grad():
        by_part[:, 0] = real
        by_part[:, 1] = 0.0


class MaskNet(nn.Module):
    """Complex encoder, real temporal bottleneck, complex decoder with skips: an unbounded complex mask.

    Args:
        channels_in: complex channels in.
        channels_out: complex channels of the mask.
        channels: complex channels after each encoder layer.
        bins: F of the input.
        width: of the bottleneck.
        hidden: width inside each TCM.
        temporal_groups: groups of TCM.
        groups: bands stacked on channels, processed apart except in the bottleneck.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: tuple[int, ...],
        bins: int,
        width: int,
        hidden: int,
        temporal_groups: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        ladder = [bins]
        for before, after in zip((channels_in, *channels[:-1]), channels, strict=True):
            conv = ComplexConv(before, after, ENCODER_KERNEL, stride_bins=2, groups=groups)
            self.down.append(normalised(conv, after))
            ladder.append(math.ceil(ladder[-1] / 2))

        flat = 2 * channels[-1] * ladder[-1]
        self.bottleneck = nn.Sequential(
            nn.Conv1d(flat, width, 1),
            *(tcm_group(width, hidden) for _ in range(temporal_groups)),
            nn.Conv1d(width, flat, 1),
        )
        targets = (channels_out, *channels[:-1])
        for level in reversed(range(len(channels))):
            extra = ladder[level] - (2 * ladder[level + 1] - 1)
            shape = (2 * channels[level], targets[level], DECODER_KERNEL, extra, groups)
            if level:
                self.up.append(normalised(ComplexTransposedConv(*shape), targets[level]))
            else:
                last = ComplexTransposedConv(*shape, bias=True)
                _start_at(last, 1.0)
                self.up.append(last)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2 C_in, F, T) to a mask (B, 2 C_out, F, T)."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.bottleneck(x.flatten(1, 2)).view(x.shape).contiguous(memory_format=torch.channels_last)
        for up in self.up:
            x = up(complex_cat((x, skips.pop()), self.groups))
        return x
