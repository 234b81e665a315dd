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
        self._updates = 0
        self._live = {name: value.detach() for name, value in module.state_dict().items()}
        self._mean = {name: value.clone() for name, value in self._live.items()}
        self._smooth = [name for name, value in self._live.items() if value.is_floating_point()]
        self._copied = [name for name in self._live if name not in set(self._smooth)]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        means, lives = ([part[name] for name in self._smooth] for part in (self._mean, self._live))
        torch._foreach_lerp_(means, lives, 1.0 - decay)
        for name in self._copied:
            self._mean[name].copy_(self._live[name])
        self._updates += 1

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
        return {"updates": self._updates, "mean": self._mean}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from a state of a network of the same shape."""
        mean = state["mean"]
        assert isinstance(mean, dict) and isinstance(state["updates"], int)
        self._updates = state["updates"]
        for name, value in self._mean.items():
            value.copy_(mean[name])
