"""Complex axial self-attention (ASA): over the bins of each frame, optionally over the past of each bin.

RaD-Net 2 places it in the denoiser's complex encoder and decoder; its form here is ours (`chosen`). The score
of two bins is Re(q k*) / sqrt(2 d), which is ordinary attention on concatenated (real, imaginary) vectors of
size 2 d, so ``scaled_dot_product_attention`` computes it without storing F x F maps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.complex_layers import ComplexConv, normalised
from training.models.layers import Memory

TIME_WINDOW_FRAMES = 100


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None) -> Tensor:
    """Attend with scores q k / sqrt(E).

    Args:
        q: (..., Q, E) queries.
        k: (..., K, E) keys.
        v: (..., K, E) values.
        visible: (..., Q, K) booleans, which key each query may see; all if missing.

    Returns:
        (..., Q, E).
    """
    width = q.shape[-1]
    # The fused GPU kernels want widths that are multiples of eight; zeros change no score.
    spare = -width % 8
    if spare:
        q, k, v = (F.pad(x, (0, spare)) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=width**-0.5)
    return out[..., :width]


def attend_recent(q: Tensor, k: Tensor, v: Tensor, window: int = TIME_WINDOW_FRAMES) -> Tensor:
    """Attend from each frame to itself and the ``window - 1`` frames before it, never to a later one.

    Works on blocks of ``window`` frames against their own and the preceding block, so memory grows with T *
    window, not with T^2.

    Args:
        q: (S, T, E) queries.
        k: (S, T, E) keys.
        v: (S, T, E) values.
        window: number of frames seen, the current one included.

    Returns:
        (S, T, E).
    """
    sequences, frames, width = q.shape
    block = min(window, frames)
    tail = -frames % block

    def blocks(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, tail)).view(sequences, -1, block, width)

    def with_preceding(x: Tensor) -> Tensor:
        parts = blocks(x)
        return torch.cat((F.pad(parts[:, :-1], (0, 0, 0, 0, 1, 0)), parts), dim=2)

    # Key j of 2 * block is `block` frames older than query index j: visible if 0 <= i - (j - block) < block.
    i = torch.arange(block, device=q.device).unsqueeze(1)
    j = torch.arange(2 * block, device=q.device)
    recent = (j > i) & (j <= i + block)
    visible = recent.repeat(blocks(q).shape[1], 1, 1)
    visible[0, :, :block] = False  # nothing precedes the first block
    out = attend(blocks(q), with_preceding(k), with_preceding(v), visible)
    return out.flatten(1, 2)[:, :frames]


def attend_after(q: Tensor, k: Tensor, v: Tensor, window: int = TIME_WINDOW_FRAMES) -> Tensor:
    """Do the same where keys and values hold frames before the first query as well.

    Args:
        q: (S, T, E) queries.
        k: (S, P + T, E) keys, of P frames before those of the queries, then of the same.
        v: (S, P + T, E) values.
        window: as in :func:`attend_recent`.

    Returns:
        (S, T, E).
    """
    before = k.shape[1] - q.shape[1]
    i = torch.arange(q.shape[1], device=q.device).unsqueeze(1) + before
    j = torch.arange(k.shape[1], device=q.device)
    return attend(q, k, v, (j <= i) & (j > i - window))


class _Projection(nn.Module):
    """Complex 1x1 convolution C -> d with batch norm and PReLU, laid out as attention wants it."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = normalised(ComplexConv(channels, width), width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2C, F, T) to (B, F, T, 2d)."""
        out: Tensor = self.body(x)
        return out.permute(0, 2, 3, 1)


class ComplexAxialAttention(nn.Module):
    """Self-attention along frequency with a learned position, plus its input; shape is kept.

    Args:
        channels: complex channels C; heads: one, of width d = max(1, C // 2).
        bins: F, for the learned bias on each bin's query and key (plain axial attention knows no position).
        key_pool_bins: neighbouring bins averaged into one key and value; must divide F. 1 is full attention;
            the cost falls in proportion.
        over_time: also attend, per bin, to the last 100 frames (1 s) of the frequency attention's output. Off
            by default: it costs a cache in streaming, and MTFAA-Net's author advises against it.
    """

    memory: Memory | None = None

    def __init__(self, channels: int, bins: int, key_pool_bins: int = 1, over_time: bool = False) -> None:
        super().__init__()
        if bins % key_pool_bins:
            raise ValueError(f"key_pool_bins must divide the {bins} bins: {key_pool_bins}")
        self.key_pool_bins = key_pool_bins
        width = max(1, channels // 2)
        self.query = _Projection(channels, width)
        self.key = _Projection(channels, width)
        self.value = _Projection(channels, width)
        self.query_position = nn.Parameter(0.02 * torch.randn(bins, 1, 2 * width))
        self.key_position = nn.Parameter(0.02 * torch.randn(bins, 1, 2 * width))
        self.time_query = _Projection(channels, width) if over_time else None
        self.time_key = _Projection(channels, width) if over_time else None
        self.out = normalised(ComplexConv(width, channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 2C, F, T) to the same shape."""

        # (B, T, bins, 2d), copied: on a strided view the fused kernel would not be used.
        def by_frame(y: Tensor) -> Tensor:
            return y.transpose(1, 2).contiguous()

        attended = attend(
            by_frame(self.query(x) + self.query_position),
            by_frame(self._pooled(self.key(x) + self.key_position)),
            by_frame(self._pooled(self.value(x))),
        )
        attended = attended.transpose(1, 2)  # (B, F, T, 2d)

        if self.time_query is not None and self.time_key is not None:
            attended = self._over_time(self.time_query(x), self.time_key(x), attended)

        out: Tensor = x + self.out(attended.permute(0, 3, 1, 2))
        return out

    def _over_time(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend along time, for each bin; all are (B, F, T, 2d)."""
        q, k, v = (y.flatten(0, 1).contiguous() for y in (q, k, v))
        if self.memory is None:
            return attend_recent(q, k, v).view(self._shape_of(q))
        if self in self.memory:
            past_k, past_v = self.memory[self]
            k, v = torch.cat((past_k, k), dim=1), torch.cat((past_v, v), dim=1)
        self.memory[self] = torch.stack((k, v))[:, :, 1 - TIME_WINDOW_FRAMES :].clone()
        return attend_after(q, k, v).view(self._shape_of(q))

    def _shape_of(self, sequences: Tensor) -> tuple[int, ...]:
        return (-1, len(self.query_position), *sequences.shape[1:])

    def _pooled(self, y: Tensor) -> Tensor:
        if self.key_pool_bins == 1:
            return y
        batch, bins, frames, width = y.shape
        return y.reshape(batch, bins // self.key_pool_bins, self.key_pool_bins, frames, width).mean(dim=2)
