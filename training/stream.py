"""Batches of degraded and target waves, read ahead in a fixed order.

A batch is a pure function of the slot at which it begins (`training.order`), so threads may read ahead as
they like: results are taken in order, and the state is the next slot alone.

A sample that cannot be read is replaced by the next readable one of the epoch's order, cut at the place that
was drawn for its slot. So every rank still gets full batches, and all ranks agree without talking.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manifests.errors import JobError, UserError
from manifests.recipe import SAMPLE_RATE_HZ
from training.order import Pick, Slot, step_slots
from training.source import DamagedError, Sample, SampleSource, Stretch, Wave

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamState:
    """Where a stream stands: enough to go on, with any number of ranks."""

    epoch: int
    position: int
    seed: int
    corpus_id: str


@dataclass(frozen=True)
class Batch:
    """Pairs of waves."""

    degraded: Tensor
    """(B, N) float32, full scale 1.0, 48 kHz."""
    target: Tensor
    """(B, N), aligned with `degraded`."""
    keys: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    """Why samples were replaced, one sentence for each."""


class SampleStream:
    """An endless iterator of batches whose state can be taken and restored between any two of them.

    Use as a context manager, so that reading ahead ends with it.

    Args:
        source: where samples come from.
        seed: decides the order and the cuts.
        batch_size: samples a step, all ranks together.
        segment_s: length of the cuts in seconds; samples that are shorter are used whole.
        threads: reading ahead; 0 reads when asked.
        prefetch_batches: batches read ahead at most.
        window_shards: see `Order`.
        max_damaged_in_row: so many unreadable samples in a row are an error.
        pinned: whether batches lie in memory from which a GPU copies while the host goes on.
        rank: of this process.
        ranks: number of processes that share the sequence.

    Raises:
        UserError: when the split is empty.
    """

    def __init__(
        self,
        source: SampleSource,
        seed: int,
        batch_size: int,
        segment_s: float,
        threads: int = 0,
        prefetch_batches: int = 4,
        window_shards: int = 8,
        max_damaged_in_row: int = 16,
        pinned: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if source.shortest_frames == 0:
            raise UserError(f"{source.name}: has no samples in its {source.split} split")
        self._source = source
        self._order = source.order(seed, window_shards)
        self._batch_size, self._rank, self._ranks = batch_size, rank, ranks
        self._frames = min(round(segment_s * SAMPLE_RATE_HZ), source.shortest_frames)
        self._max_damaged, self._pinned = max_damaged_in_row, pinned
        self._next = 0
        self._pool = ThreadPoolExecutor(threads, "samples") if threads else None
        self._prefetch = prefetch_batches
        self._ahead: deque[Future[Batch]] = deque()

    def __enter__(self) -> "SampleStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            JobError: when too many samples in a row cannot be read.
        """
        step = self._batch_size
        if self._pool is None:
            batch = self.batch_at(self._next)
        else:
            while len(self._ahead) < self._prefetch:
                at = self._next + step * len(self._ahead)
                self._ahead.append(self._pool.submit(self.batch_at, at))
            batch = self._ahead.popleft().result()
        self._next += step
        for sentence in batch.damaged:
            log.warning("%s", sentence)
        return batch

    def batch_at(self, first: int) -> Batch:
        """Return this rank's batch of the step that begins at slot `first`; depends on nothing else."""
        damaged: list[str] = []
        numbers = step_slots(first, self._batch_size, self._rank, self._ranks)
        slots = [self._order.slot(number) for number in numbers]
        self._source.expect([self._stretch(slot, self._order.pick(slot)) for slot in slots])
        samples = [self._sample(slot, damaged) for slot in slots]
        return _batch_of(samples, damaged, self._pinned)

    def _stretch(self, slot: Slot, pick: Pick) -> Stretch:
        """Return what is cut from a sample at a slot."""
        start = self._order.crop_start(slot, self._source.frames(pick), self._frames)
        return Stretch(pick, start, self._frames)

    def _sample(self, slot: Slot, damaged: list[str]) -> Sample:
        """Read the sample at a slot, or the next readable one; add to `damaged` what could not be read."""
        where = ""
        for tried in range(self._max_damaged):
            pick = self._order.replacement(slot, tried) if tried else self._order.pick(slot)
            try:
                return self._source.sample(self._stretch(slot, pick))
            except DamagedError as error:
                where = self._source.where(pick)
                damaged.append(f"{where}: {error}; the next readable sample takes its place")
        raise JobError(
            f"{where}: the last of {self._max_damaged} samples in a row that cannot be read; "
            f"run 'ssiforge verify {self._source.name}'"
        )

    @property
    def state(self) -> StreamState:
        """Where the stream stands: before the batch that comes next, whatever was read ahead."""
        slot = self._order.slot(self._next)
        return StreamState(slot.epoch, slot.position, self._order.seed, self._source.data_id)

    def restore(self, state: StreamState) -> None:
        """Go on at a state, taken with whatever number of ranks.

        Raises:
            UserError: when the state belongs to another corpus or seed.
        """
        here = self._source
        if state.corpus_id != here.data_id:
            raise UserError(
                f"{here.name}: is corpus {here.data_id}, but the run to resume was reading corpus "
                f"{state.corpus_id}; give it that corpus, or start a new run"
            )
        if state.seed != self._order.seed:
            raise UserError(
                f"the run to resume draws its order with seed {state.seed}, not {self._order.seed}"
            )
        self._forget_ahead()
        self._next = state.epoch * self._order.samples + state.position

    def close(self) -> None:
        """Stop reading ahead."""
        self._forget_ahead()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _forget_ahead(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self._source.forget()


def fixed_batches(source: SampleSource, samples: int, segment_s: float, batch_size: int) -> list[Batch]:
    """Return the same held-out stretches each time: spread over the split, cut from the middle.

    Unreadable samples are left out with a warning.

    Args:
        source: of the split to use.
        samples: how many; all of the split if it has fewer.
        segment_s: length in seconds; samples that are shorter are used whole.
        batch_size: samples a batch; the last may be smaller.
    """
    frames = min(round(segment_s * SAMPLE_RATE_HZ), source.shortest_frames)
    stretches = [
        Stretch(pick, (source.frames(pick) - frames) // 2, frames) for pick in source.spread(samples)
    ]
    source.expect(stretches)
    held: list[Sample] = []
    for stretch in stretches:
        try:
            held.append(source.sample(stretch))
        except DamagedError as error:
            log.warning("%s: %s; left out of the validation", source.where(stretch.pick), error)
    return [_batch_of(held[at : at + batch_size]) for at in range(0, len(held), batch_size)]


def _batch_of(samples: Sequence[Sample], damaged: Sequence[str] = (), pinned: bool = False) -> Batch:
    degraded, target = (
        _stacked(waves, pinned)
        for waves in ([one.degraded for one in samples], [one.target for one in samples])
    )
    return Batch(degraded, target, tuple(one.key for one in samples), tuple(damaged))


def _stacked(waves: Sequence[Wave], pinned: bool) -> Tensor:
    stacked = torch.empty(len(waves), len(waves[0]), pin_memory=pinned)
    np.stack(waves, out=stacked.numpy())
    return stacked
