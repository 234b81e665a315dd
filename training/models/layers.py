"""The repairing net's bricks on (B, C, F, T): time context, cumulative norm, gated convolutions, TFCM.

Every layer that looks along time takes its neighbours through one :class:`TimeContext`; ``causal`` decides
only how many frames come from the past and how many from the future. Parameters have the same shapes either
way, so a non-causal teacher and a causal student exchange state dicts. Inside :func:`carrying`, a causal
network goes on where it stopped: ``TimeContext`` puts the last frames of the stretch before in the place of
zeros, and :class:`CumulativeNorm` goes on with its sums; so does whatever else has a ``memory``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.prelu import PReLU
from training.models.stft import at_least_float32

Memory = dict[nn.Module, Tensor]
"""What the layers of a causal network remember of the frames that they have seen, for one batch of signals."""


@contextmanager
def carrying(network: nn.Module, memory: Memory) -> Iterator[None]:
    """Let a causal network go on with a signal: what it remembers is taken from ``memory`` and put there.

    Args:
        network: causal throughout.
        memory: empty for the beginning of a signal; of the same network and batch size afterwards.
    """
    layers: list[Any] = [layer for layer in network.modules() if hasattr(layer, "memory")]
    for layer in layers:
        layer.memory = memory
    try:
        yield
    finally:
        for layer in layers:
            layer.memory = None


def stepped(
    network: nn.Module, enhance: Callable[[Tensor], Tensor], frame: Tensor, state: Memory | None
) -> tuple[Tensor, Memory]:
    """Run one frame of a signal through a causal network.

    Args:
        network: whose layers remember.
        enhance: what it does to (B, 2, 481, T).
        frame: (B, 2, 481).
        state: what the last step returned; None for the first frame of a signal. It is not changed.

    Returns:
        The enhanced frame, (B, 2, 481), and the state for the next one.
    """
    memory = dict(state or {})
    with carrying(network, memory):
        return enhance(frame.unsqueeze(-1)).squeeze(-1), memory


class TimeContext(nn.Module):
    """Adds ``frames`` zero frames around the input: all before it if causal, else half on each side.

    Args:
        frames: (kernel - 1) * dilation of the layer that follows; even if not causal.
        causal: whether the layer may look at past frames only.
    """

    memory: Memory | None = None

    def __init__(self, frames: int, causal: bool) -> None:
        super().__init__()
        if not causal and frames % 2:
            raise ValueError(f"{frames} frames of context cannot be centred: use an odd time kernel")
        self.before = frames if causal else frames // 2
        self.after = frames - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., before + T + after) for (..., T)."""
        if self.memory is None:
            return F.pad(x, (self.before, self.after))
        past = self.memory.get(self)
        joined = F.pad(x, (self.before, 0)) if past is None else torch.cat((past, x), dim=-1)
        # A copy: a view would keep the whole stretch alive.
        self.memory[self] = joined[..., joined.shape[-1] - self.before :].clone()
        return joined


class CumulativeNorm(nn.Module):
    """Cumulative layer norm: each frame is normalised by mean and variance of all frames up to it.

    Statistics run over channels, bins and time (Conv-TasNet, Luo & Mesgarani 2019, section II-F.3); gain and
    bias are per channel. Frame means are taken in float32 whatever the input type, running sums in float64
    where the device has it, so that minutes of input neither drift nor overflow.

    Args:
        channels: C.
        eps: added to the variance.
    """

    memory: Memory | None = None

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, T) or (B, C, F, T); shape and type are kept."""
        wide = at_least_float32(x)
        over = tuple(range(1, x.dim() - 1))
        running = torch.float32 if x.device.type == "mps" else torch.float64
        frame_mean = wide.mean(over).to(running)
        frame_power = wide.square().mean(over).to(running)
        frames = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=running)
        sums = torch.stack((frame_mean.cumsum(-1), frame_power.cumsum(-1), frames.expand_as(frame_mean)))
        if self.memory is not None:
            if self in self.memory:
                sums = sums + self.memory[self]
            self.memory[self] = sums[..., -1:].clone()
        mean = sums[0] / sums[2]
        variance = (sums[1] / sums[2] - mean.square()).clamp_min(0.0)
        deviation = torch.rsqrt(variance + self.eps)

        # y = (x - mean) / deviation * gain + bias, as one multiply-add over the big tensor. Scale and shift are
        # laid out with channels innermost, as the big tensor is (see `training.models`).
        scale = deviation.to(wide.dtype).unsqueeze(-1) * self.gain
        shift = self.bias - mean.to(wide.dtype).unsqueeze(-1) * scale
        if x.dim() == 4:
            scale, shift = scale.unsqueeze(1), shift.unsqueeze(1)
        scale, shift = scale.movedim(-1, 1), shift.movedim(-1, 1)
        return torch.addcmul(shift, wide, scale).to(x.dtype)


def gate(x: Tensor) -> Tensor:
    """Return values times sigmoid of gates, (B, C, ...), from both stacked on channels, (B, 2C, ...)."""
    values, gates = x.chunk(2, dim=1)
    return values * torch.sigmoid(gates)


class GateConv(nn.Module):
    """Gated convolution that divides the bins by four: kernel 7 x k_t, stride 4 x 1, two bins of padding.

    F becomes (F - 3) // 4 + 1: 481, 120, 30, 7. Gating as in TEA-PSE; kernel and stride in frequency as in
    MTFAA-Net.
    """

    def __init__(self, channels_in: int, channels_out: int, time_kernel: int, causal: bool) -> None:
        super().__init__()
        self.context = TimeContext(time_kernel - 1, causal)
        self.conv = nn.Conv2d(channels_in, 2 * channels_out, (7, time_kernel), stride=(4, 1), padding=(2, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, F, T) to (B, C_out, (F - 3) // 4 + 1, T)."""
        return gate(self.conv(self.context(x)))


class TransposedGateConv(nn.Module):
    """Gated transposed convolution that undoes the bins of a :class:`GateConv`.

    Args:
        channels_in: C_in.
        channels_out: C_out.
        time_kernel: k_t.
        extra_bins: output padding, 0..3: bins out = 4 * bins in - 1 + extra_bins.
        causal: as in :class:`TimeContext`. Over time a transposed convolution of stride one is a convolution;
            with k_t - 1 frames of context in front, cropping k_t - 1 frames at both ends leaves T frames.
    """

    def __init__(
        self, channels_in: int, channels_out: int, time_kernel: int, extra_bins: int, causal: bool
    ) -> None:
        super().__init__()
        self.context = TimeContext(time_kernel - 1, causal)
        self.conv = nn.ConvTranspose2d(
            channels_in,
            2 * channels_out,
            (7, time_kernel),
            stride=(4, 1),
            padding=(2, time_kernel - 1),
            output_padding=(extra_bins, 0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, F, T) to (B, C_out, 4 F - 1 + extra_bins, T)."""
        return gate(self.conv(self.context(x)))


class TFCM(nn.Module):
    """Time-frequency convolution module (MTFAA-Net): residual depthwise-separable layers of growing dilation.

    Layer i: 1x1, batch norm, PReLU; depthwise 3x3 with 2^i frames of dilation, batch norm, PReLU; 1x1; plus
    its input. ``layers`` layers see 2 * (2^layers - 1) frames besides the current one. Batch norm (MTFAA-Net's
    own) costs nothing in use, since it folds into the convolution before it; a cumulative norm is a dozen
    operations a frame.
    """

    def __init__(self, channels: int, layers: int, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TFCMLayer(channels, 2**i, causal) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, F, T) to the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class _TFCMLayer(nn.Module):
    def __init__(self, channels: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            PReLU(),
            TimeContext(2 * dilation, causal),
            nn.Conv2d(
                channels, channels, 3, padding=(1, 0), dilation=(1, dilation), groups=channels, bias=False
            ),
            nn.BatchNorm2d(channels),
            PReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out
