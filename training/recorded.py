"""The losses and gradients of a batch as one CUDA graph: thousands of kernels for which the host gives one command.

A step of networks of this size waits for the host, which takes longer to ask for a kernel than the GPU to run it.
So a step is recorded once, and from then on replayed with other numbers in the same places. What is computed stays
what it was.
"""

import logging
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

Gradients = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Leaves gradients in the weights and returns losses, detached, for waves (B, N)."""

EAGER_STEPS = 3
"""Steps done as usual before one is recorded: by then libraries have chosen their kernels."""

log = logging.getLogger(__name__)


class Recorder:
    """Does steps as usual until they repeat, then records one and replays it.

    Args:
        weights: those that get gradients; before each step they have none.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self._key: Hashable = None
        self._eager_steps = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._fails = False
        # One for all steps: memory that one stream gave back is not given to another.
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.replays = 0
        """Steps that were replayed so far."""

    def __call__(
        self, compute: Gradients, degraded: Tensor, target: Tensor, key: Hashable
    ) -> dict[str, Tensor]:
        """Return what `compute(degraded, target)` does, and leave its gradients.

        Args:
            compute: what to do; it must not ask the device how it went.
            degraded: (B, N), on the device.
            target: (B, N).
            key: equal in two steps that differ in nothing but their waves; None in a step that is like no other.
        """
        if key is None or self._fails:
            self._forget(None)
            return compute(degraded, target)
        if self._key != (key, degraded.shape):
            self._forget((key, degraded.shape))
        if self._graph is None and self._eager_steps == EAGER_STEPS:
            here = torch.cuda.current_stream()
            try:
                self._record(compute, degraded, target)
            except RuntimeError as error:
                # Where ending the recording fails too, torch leaves its stream current, and tells of that failure.
                torch.cuda.set_stream(here)
                cause = error.__context__ or error
                log.warning("a step cannot be recorded, steps are done one by one (%s)", cause)
                self._forget(None)
                self._fails = True
                for weight in self._weights:
                    weight.grad = None
        if self._graph is None:
            self._eager_steps += 1
            return self._beside(lambda: compute(degraded, target))
        self._degraded.copy_(degraded, non_blocking=True)
        self._target.copy_(target, non_blocking=True)
        self._graph.replay()
        self.replays += 1
        for weight, gradient in zip(self._weights, self._gradients, strict=True):
            weight.grad = gradient
        return {name: value.clone() for name, value in self._losses.items()}

    def _record(self, compute: Gradients, degraded: Tensor, target: Tensor) -> None:
        self._degraded, self._target = degraded.clone(), target.clone()
        graph = torch.cuda.CUDAGraph()
        # Other threads pin memory meanwhile, which is no part of it.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._losses = compute(self._degraded, self._target)
        self._gradients = [weight.grad for weight in self._weights]
        self._graph = graph

    def _beside(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Do it on the stream on which it will be recorded: what is made for the default stream cannot be."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            losses = compute()
        here.wait_stream(self._stream)
        return losses

    def _forget(self, key: Hashable) -> None:
        if self._graph is not None:
            del self._graph, self._losses, self._gradients, self._degraded, self._target
        self._graph, self._key, self._eager_steps = None, key, 0
