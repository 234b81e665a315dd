"""Buffers of a network, batch norms' statistics above all, that can be put back as they were before a step."""

import torch
from torch import Tensor, nn


class Statistics:
    """All buffers of a module, copied into one vector for each type: two operations, however many there are.

    Args:
        module: on its device already; its buffers must stay where they are.
    """

    def __init__(self, module: nn.Module) -> None:
        buffers = list(module.buffers())
        types = dict.fromkeys(buffer.dtype for buffer in buffers)
        self._groups = [[buffer for buffer in buffers if buffer.dtype == dtype] for dtype in types]
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them as they are now."""
        self._kept = [_joined(group) for group in self._groups]

    def changes(self) -> list[tuple[Tensor, Tensor]]:
        """Return each buffer with its values as they were kept."""
        pairs = []
        for group, kept in zip(self._groups, self._kept, strict=True):
            parts = torch.split(kept, [buffer.numel() for buffer in group])
            pairs += [(buffer, part.view_as(buffer)) for part, buffer in zip(parts, group, strict=True)]
        return pairs

    @torch.no_grad()
    def put_back_unless(self, moved: Tensor) -> None:
        """Put back what was kept, unless the truth value `moved`, a scalar on the device, says otherwise."""
        for group, kept in zip(self._groups, self._kept, strict=True):
            chosen = torch.where(moved, _joined(group), kept)
            parts = torch.split(chosen, [buffer.numel() for buffer in group])
            torch._foreach_copy_(
                group, [part.view_as(buffer) for part, buffer in zip(parts, group, strict=True)]
            )


def _joined(group: list[Tensor]) -> Tensor:
    return torch.cat([buffer.reshape(-1) for buffer in group])
