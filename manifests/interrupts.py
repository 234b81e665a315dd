"""Ctrl-C once: finish what is begun. Twice: stop now."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

_T = TypeVar("_T")


class Interrupts:
    """Whether the job was asked to stop."""

    def __init__(self) -> None:
        self.stopping = False

    def until_stopped(self, tasks: Iterable[_T]) -> Iterator[_T]:
        """Hand out tasks as long as nobody asks to stop."""
        for task in tasks:
            if self.stopping:
                return
            yield task


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: raise KeyboardInterrupt, so that what was begun is put away and said."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible(
    say: Callable[[str], None], when: str = "when the shards in progress are finished", deaf_s: float = 0.0
) -> Iterator[Interrupts]:
    """Let the first Ctrl-C (SIGINT) or SIGTERM ask to stop, and the second raise KeyboardInterrupt.

    Outside the main thread, where Python takes no signals, nothing is changed.

    Args:
        say: told what the first one does.
        when: what is waited for, as the end of "stopping ...".
        deaf_s: so long after the first one, another is taken for the same: who started the process may pass on what
            a terminal has sent to both of them.
    """
    asked = Interrupts()
    first_at = 0.0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal first_at
        if asked.stopping:
            if time.monotonic() - first_at < deaf_s:
                return
            raise KeyboardInterrupt
        asked.stopping, first_at = True, time.monotonic()
        say(f"stopping {when}; again to stop now")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
