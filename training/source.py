"""Where samples come from, as the stream of batches sees it: shards, a renderer, or a mixture of both."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from manifests.online import OnlineRecord
from manifests.recipe import Split
from training.order import EndlessOrder, Pick

Wave = NDArray[np.float32]


class DamagedError(Exception):
    """A sample's bytes are not what its shard's record says, or not audio."""


class Stretch(NamedTuple):
    """A part of a sample."""

    pick: Pick
    start: int
    """First of its frames."""
    frames: int


class Sample(NamedTuple):
    """A stretch of a sample as audio, mono at 48 kHz, full scale 1.0."""

    degraded: Wave
    """(frames,)"""
    target: Wave
    """(frames,), aligned with `degraded`."""
    key: str


class SampleSource(Protocol):
    """Gives samples of one split by their picks. Its methods may be called from several threads at once."""

    @property
    def name(self) -> str:
        """What it is, for messages: the place of a corpus, the name of a recipe."""

    @property
    def data_id(self) -> str:
        """Identity of all that it can give."""

    @property
    def split(self) -> Split:
        """Which samples it gives."""

    @property
    def shortest_frames(self) -> int:
        """Length at 48 kHz of the shortest sample; 0 where there are none."""

    def order(self, seed: int, window_shards: int) -> EndlessOrder:
        """Return the order in which samples are seen; `window_shards` of shards are shuffled together."""

    def spread(self, samples: int) -> list[Pick]:
        """Return the picks of at most so many samples, always the same, that stand for all."""

    def frames(self, pick: Pick) -> int:
        """Return a sample's length at 48 kHz."""

    def where(self, pick: Pick) -> str:
        """Name a sample for a message."""

    def expect(self, stretches: Sequence[Stretch]) -> None:
        """Be told what will be asked for next."""

    def forget(self) -> None:
        """Be told that nothing of it is needed any more: whoever waits for some of it is let go."""

    def sample(self, stretch: Stretch) -> Sample:
        """Return a stretch of a sample.

        Raises:
            DamagedError: when it cannot be read; another sample may be.
            CancelledError: when it was forgotten meanwhile.
            JobError: when no other sample would fare better.
            UserError: when something is gone that the user has to bring back.
        """


class FreshSamples(Protocol):
    """Samples that are made while training goes on, without end; whoever makes them closes them."""

    @property
    def record(self) -> OnlineRecord:
        """What decides them."""

    @property
    def place(self) -> str:
        """Folder that holds the record, the recipe and the catalogue, absolute."""

    def source(self, split: Split) -> SampleSource:
        """Return those of one split."""
