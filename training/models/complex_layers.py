"""Complex-valued layers on real tensors, for the denoiser.

A complex tensor of C channels is (B, 2C, F, T): C real parts, then C imaginary parts. With ``groups`` > 1
that holds within each group: (group 1 real, group 1 imaginary, group 2 real, ...), so stacking the bands of a
signal on channels gives a grouped tensor without any shuffling.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.layers import TimeContext
from training.models.prelu import PReLU

# Kernels, strides and paddings are (bins, frames).
Pair = tuple[int, int]


def complex_cat(parts: Sequence[Tensor], groups: int = 1) -> Tensor:
    """Concatenate complex tensors (B, 2C_i, F, T) on channels, group by group, into (B, 2 sum C_i, F, T)."""
    split = [part.chunk(2 * groups, dim=1) for part in parts]
    return torch.cat([part[i] for i in range(2 * groups) for part in split], dim=1)


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two complex tensors (B, 2C, F, T) elementwise."""
    ar, ai = a.chunk(2, dim=1)
    br, bi = b.chunk(2, dim=1)
    return torch.cat((ar * br - ai * bi, ar * bi + ai * br), dim=1)


def bounded_mask(x: Tensor) -> Tensor:
    """Squash magnitudes of a complex tensor by tanh and keep phases, so that |mask| < 1 (DCCRN's E mode)."""
    real, imag = x.chunk(2, dim=1)
    magnitude = (real.square() + imag.square() + 1e-12).sqrt()
    scale = torch.tanh(magnitude) / magnitude
    return torch.cat((real * scale, imag * scale), dim=1)


def block_weight(real: Tensor, imag: Tensor, groups: int, transposed: bool) -> Tensor:
    """Return the real kernel [[Wr, -Wi], [Wi, Wr]] that acts on (real, imaginary) as Wr + i Wi does."""
    # A transposed kernel is stored (in, out / groups, ...), with groups along the inputs; the other one the
    # other way.
    grouped_r = real.view(groups, -1, *real.shape[1:])
    grouped_i = imag.view(groups, -1, *imag.shape[1:])
    from_real = torch.cat((grouped_r, grouped_i), dim=2 if transposed else 1)
    from_imag = torch.cat((-grouped_i, grouped_r), dim=2 if transposed else 1)
    return torch.cat((from_real, from_imag), dim=1 if transposed else 2).flatten(0, 1)


class _ComplexKernel(nn.Module):
    """Real and imaginary kernels, drawn so that the variance of the output matches a real layer's."""

    def __init__(self, shape: tuple[int, ...], fan_in: int, bias_channels: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(2 * fan_in)
        self.weight_real = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.weight_imag = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(bias_channels)) if bias_channels else None


class ComplexConv(_ComplexKernel):
    """Complex convolution, causal in time: re = Wr xr - Wi xi, im = Wi xr + Wr xi, as one real convolution.

    Args:
        channels_in: complex channels in.
        channels_out: complex channels out.
        kernel: (bins, frames).
        stride_bins: stride along frequency.
        dilation_frames: dilation along time.
        groups: blocks of channels that do not mix.
        bias: off where batch norm follows.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: Pair = (1, 1),
        stride_bins: int = 1,
        dilation_frames: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        fan_in = channels_in // groups * kernel[0] * kernel[1]
        shape = (channels_out, channels_in // groups, *kernel)
        super().__init__(shape, fan_in, 2 * channels_out if bias else 0)
        self.context = TimeContext((kernel[1] - 1) * dilation_frames, causal=True)
        self.stride_bins = stride_bins
        self.padding_bins = kernel[0] // 2
        self.dilation_frames = dilation_frames
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2 C_in, F, T) to (B, 2 C_out, ceil(F / stride), T)."""
        return F.conv2d(
            self.context(x),
            block_weight(self.weight_real, self.weight_imag, self.groups, transposed=False),
            self.bias,
            stride=(self.stride_bins, 1),
            padding=(self.padding_bins, 0),
            dilation=(1, self.dilation_frames),
            groups=self.groups,
        )


class ComplexTransposedConv(_ComplexKernel):
    """Complex transposed convolution that doubles the bins, causal in time (the first T frames are kept).

    Args:
        channels_in: complex channels in.
        channels_out: complex channels out.
        kernel: (bins, frames).
        extra_bins: bins out = 2 * bins in - 1 + extra_bins.
        groups: blocks of channels that do not mix.
        bias: off where batch norm follows.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: Pair,
        extra_bins: int,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        fan_in = channels_in // groups * kernel[0] * kernel[1] // 2
        shape = (channels_in, channels_out // groups, *kernel)
        super().__init__(shape, fan_in, 2 * channels_out if bias else 0)
        self.context = TimeContext(kernel[1] - 1, causal=True)
        self.padding = (kernel[0] // 2, kernel[1] - 1)
        self.extra_bins = extra_bins
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2 C_in, F, T) to (B, 2 C_out, 2 F - 1 + extra_bins, T)."""
        return F.conv_transpose2d(
            self.context(x),
            block_weight(self.weight_real, self.weight_imag, self.groups, transposed=True),
            self.bias,
            stride=(2, 1),
            padding=self.padding,
            output_padding=(self.extra_bins, 0),
            groups=self.groups,
        )


def normalised(conv: ComplexConv | ComplexTransposedConv, channels_out: int) -> nn.Sequential:
    """Return ``conv``, then batch norm and PReLU on its real and imaginary channels apart."""
    return nn.Sequential(conv, nn.BatchNorm2d(2 * channels_out), PReLU())


class ComplexDenseBlock(nn.Module):
    """Dense block (DPT-FSNet's, complex): each layer sees all outputs before it; the last one is returned.

    Kernels are 3 bins by 2 frames; layer i is dilated by 2^i frames.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            normalised(ComplexConv(channels * (i + 1), channels, (3, 2), dilation_frames=2**i), channels)
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2C, F, T) to the same shape."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer(complex_cat(seen)))
        return seen[-1]
