"""Sums along time that forget: each frame they lose a share of what they were, and gain what is there."""

import torch
from torch import Tensor

BLOCK_FRAMES = 500
"""Computed at a time: what fades within a block is divided out and put back, so it must not become too small."""


def fading_sums(x: Tensor, fading: Tensor, before: Tensor) -> Tensor:
    """Return s with s[t] = exp(-fading[t]) s[t - 1] + x[t], all (..., T).

    Args:
        x: not negative, (..., T); any length.
        fading: nepers a frame, from 0 to 0.1, of a shape that broadcasts to that of `x`.
        before: s at the frame before the first, (..., 1).
    """
    sums = []
    blocks = torch.split(x, BLOCK_FRAMES, -1), torch.split(fading.expand_as(x), BLOCK_FRAMES, -1)
    for values, faded in zip(*blocks, strict=True):
        so_far = faded.cumsum(-1)
        sums.append(((values * so_far.exp()).cumsum(-1) + before) * (-so_far).exp())
        before = sums[-1][..., -1:]
    return torch.cat(sums, -1)
