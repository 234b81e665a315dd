"""How long the parts of a step take, measured without waiting for the device."""

import time

import torch


class StepClock:
    """Shares out time between parts: from one mark to the next, all of it belongs to the later mark's part.

    On CUDA a mark is an event in the stream, so that parts are as long as the device needs for them (waiting for
    the host included) and nobody waits until times are taken. Elsewhere it is the host's clock.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []

    def mark(self, part: str) -> None:
        """Say that everything since the last mark was `part`; the first mark ever only starts the clock."""
        now: float | torch.cuda.Event
        if self._device.type == "cuda":
            now = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record(torch.cuda.current_stream(self._device))
        else:
            now = time.perf_counter()
        self._marks.append((part, now))

    def take(self) -> dict[str, float]:
        """Return the seconds of each part since they were last taken; on CUDA this waits for the last mark."""
        seconds: dict[str, float] = {}
        for (_, before), (part, now) in zip(self._marks, self._marks[1:], strict=False):
            seconds[part] = seconds.get(part, 0.0) + _seconds_between(before, now)
        del self._marks[:-1]
        return seconds


def _seconds_between(before: float | torch.cuda.Event, now: float | torch.cuda.Event) -> float:
    if isinstance(before, float) or isinstance(now, float):
        assert isinstance(before, float) and isinstance(now, float)
        return now - before
    now.synchronize()
    return float(before.elapsed_time(now)) / 1000.0
