"""A moving average of a network's weights: what is validated and kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of weights and batch-norm statistics; whole-number buffers are copied.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the random start is forgotten soon.

    Args:
        module: whose weights are followed.
        decay: share of the old average kept at each update; 0 follows the weights themselves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = {name: value.detach() for name, value in module.state_dict().items()}
        self._mean = {name: value.clone() for name, value in self._live.items()}
        # Without a decay the average is a copy too, of weights that a skipped step leaves as they are.
        self._smooth = [
            name for name, value in self._live.items() if value.is_floating_point() and decay > 0.0
        ]
        self._copied = [name for name in self._live if name not in set(self._smooth)]
        self._updates = torch.zeros((), device=next(iter(self._live.values())).device)

    @torch.no_grad()
    def update(self, moved: Tensor | None = None) -> None:
        """Take in the weights as they are now.

        Args:
            moved: a truth value on the device of the weights; where it is false, all stays as it is. Nobody has to
                wait for it.
        """
        taken = torch.ones_like(self._updates) if moved is None else moved.to(self._updates.dtype)
        # One minus the decay, written so that it keeps its digits in float32.
        share = (9.0 / (10.0 + self._updates)).clamp_min(1.0 - self._decay)
        if self._smooth:
            means, lives = self._tensors(self._smooth)
            steps = torch._foreach_sub(lives, means)
            torch._foreach_mul_(steps, share * taken)
            torch._foreach_add_(means, steps)
        if self._copied:
            torch._foreach_copy_(*self._tensors(self._copied))
        self._updates += taken

    def _tensors(self, names: list[str]) -> tuple[list[Tensor], list[Tensor]]:
        return [self._mean[name] for name in names], [self._live[name] for name in names]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the module's place; afterwards the weights are back, bit for bit."""
        kept = {name: value.clone() for name, value in self._live.items()}
        self._set_live(self._mean)
        try:
            yield
        finally:
            self._set_live(kept)

    @torch.no_grad()
    def _set_live(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._live[name].copy_(value)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The average, by name."""
        return self._mean

    def state_dict(self) -> dict[str, object]:
        """Return what `load_state_dict` needs."""
        return {"updates": int(self._updates), "mean": self._mean}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a state of a network of the same shape."""
        mean = state["mean"]
        assert isinstance(mean, dict) and isinstance(state["updates"], int)
        self._updates.fill_(state["updates"])
        for name, value in self._mean.items():
            value.copy_(mean[name])
