"""Batches of degraded and target waves, read ahead in a fixed order; those of a corpus by byte offset.

A batch is a pure function of the slot at which it begins (`training.order`), so threads may read ahead as
they like: results are taken in order, and the state is the next slot alone.

A sample that cannot be read is replaced by the next readable one of the epoch's order, cut at the place that
was drawn for its slot. So every rank still gets full batches, and all ranks agree without talking.
"""

import io
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.corpus import Corpus, Member, OpenPart, SampleEntry, ShardRecord
from manifests.errors import JobError, UserError
from manifests.parts import exact
from manifests.recipe import Split
from manifests.selection import Selection
from training.mixture import Mixture
from training.order import EndlessOrder, Order, Pick, Slot, step_slots
from training.source import DamagedError, Sample, SampleSource, Stretch, Wave

SAMPLE_RATE_HZ = 48_000
DEGRADED = "degraded.flac"
TARGET = "target.flac"

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


@dataclass(frozen=True)
class Reader:
    """Reads samples of one split by their place in it; those that are not aligned with their targets are left out."""

    corpus: Corpus
    split: Split
    selection: Selection | None = None
    """If given, the samples to which it is limited."""
    shards: tuple[ShardRecord, ...] = field(init=False)
    """Of all parts of the corpus, part after part."""
    holders: tuple[OpenPart, ...] = field(init=False)
    """For each shard, the part that holds it."""

    def __post_init__(self) -> None:
        parts = self.corpus.parts
        object.__setattr__(self, "holders", tuple(part for part in parts for _ in part.corpus.of(self.split)))
        held = tuple(shard for part in parts for shard in part.corpus.of(self.split))
        if self.selection is not None:
            held = tuple(self.selection.of(*each) for each in zip(self.holders, held, strict=True))
        shards = tuple(
            shard.model_copy(update={"samples": tuple(entry for entry in shard.samples if entry.aligned)})
            for shard in held
        )
        object.__setattr__(self, "shards", shards)
        total = sum(len(shard.samples) for shard in held)
        if moved := total - sum(self.sizes):
            log.warning(
                "%s: %d of %d %s samples are not aligned with their targets and are left out",
                self.corpus.url,
                moved,
                total,
                self.split,
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples in each shard."""
        return tuple(len(shard.samples) for shard in self.shards)

    @property
    def name(self) -> str:
        """Where the corpus lies."""
        return self.corpus.url

    @property
    def data_id(self) -> str:
        """Id of the corpus."""
        return self.corpus.manifest.id

    @property
    def shortest_frames(self) -> int:
        """Length at 48 kHz of the shortest sample; 0 where there are none."""
        return min((shard.frames_per_sample for shard in self.shards), default=0) if sum(self.sizes) else 0

    def spread(self, samples: int) -> list[Pick]:
        """Return the picks of so many samples, evenly spread over the split; all of them if it has fewer."""
        picks = [Pick(shard, index) for shard, size in enumerate(self.sizes) for index in range(size)]
        count = min(samples, len(picks))
        return [picks[number * len(picks) // count] for number in range(count)]

    def order(self, seed: int, window_shards: int) -> EndlessOrder:
        """Return the order in which samples are seen; weights of parts count for training alone."""
        if not self.corpus.merged:
            return Order(self.sizes, seed, window_shards)
        sized = list(zip(self.holders, self.sizes, strict=True))
        sizes = tuple(tuple(n for holder, n in sized if holder is part) for part in self.corpus.merged)
        weights = (part.weight if self.split == "train" else 1.0 for part in self.corpus.merged)
        return Mixture(sizes, tuple(exact(weight) for weight in weights), seed, window_shards)

    def where(self, pick: Pick) -> str:
        """Name a sample for a message."""
        shard = self.shards[pick.shard]
        place = self.holders[pick.shard].corpus.where(shard)
        return f"{place}, sample {shard.samples[pick.sample].key}"

    def key(self, pick: Pick) -> str:
        """Return a sample's key, or its full name where the corpus is a merged one."""
        return self.holders[pick.shard].key(self.shards[pick.shard].samples[pick.sample])

    def sample_json(self, pick: Pick) -> dict[str, Any]:
        """Read a sample's `KEY.json`.

        Raises:
            OSError: when the shard cannot be read.
            ValueError: when what lies there is not JSON.
        """
        shard = self.shards[pick.shard]
        return self.holders[pick.shard].corpus.sample_json(shard, shard.samples[pick.sample])

    def frames(self, pick: Pick) -> int:
        """Return a sample's length at 48 kHz."""
        return self.shards[pick.shard].frames_per_sample

    def expect(self, stretches: Sequence[Stretch]) -> None:
        """Nothing to prepare: shards are read when asked."""

    def forget(self) -> None:
        """Nothing was prepared."""

    def sample(self, stretch: Stretch) -> Sample:
        """Read a stretch of a sample.

        Raises:
            DamagedError: when it is not there, not whole, or not 48 kHz mono audio of the recorded length.
        """
        return Sample(*self.read(*stretch), self.key(stretch.pick))

    def read(self, pick: Pick, start: int, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read a stretch of a sample's degraded and target waves, each (frames,).

        Raises:
            DamagedError: when it is not there, not whole, or not 48 kHz mono audio of the recorded length.
        """
        shard = self.shards[pick.shard]
        entry = shard.samples[pick.sample]
        corpus = self.holders[pick.shard].corpus
        try:
            parts = [_member(corpus, shard, entry, name) for name in (DEGRADED, TARGET)]
        except OSError as error:
            raise DamagedError(f"cannot be read ({error.strerror or error})") from error
        degraded, target = (_decode(part, shard.frames_per_sample, start, frames) for part in parts)
        return degraded, target


def _member(corpus: Corpus, shard: ShardRecord, entry: SampleEntry, name: str) -> bytes:
    member: Member | None = entry.members.get(name)
    if member is None:
        raise DamagedError(f"has no {name}")
    content = corpus.read(shard, member)
    if len(content) != member.bytes:
        raise DamagedError(f"{name} holds {len(content)} bytes of {member.bytes}")
    return content


def _decode(content: bytes, expected_frames: int, start: int, frames: int) -> NDArray[np.float32]:
    try:
        with _opened(content) as stream:
            if (stream.samplerate, stream.channels, stream.frames) != (SAMPLE_RATE_HZ, 1, expected_frames):
                raise DamagedError(
                    f"is {stream.samplerate} Hz, {stream.channels} channels, {stream.frames} frames, not "
                    f"{SAMPLE_RATE_HZ} Hz mono of {expected_frames} frames"
                )
            stream.seek(start)
            wave: NDArray[np.float32] = stream.read(frames, dtype="float32")
    except RuntimeError as error:  # libsndfile's errors
        raise DamagedError(f"is not readable FLAC ({error})") from error
    if len(wave) != frames:
        raise DamagedError(f"ends after {start + len(wave)} of {expected_frames} frames")
    return wave


@contextmanager
def _opened(content: bytes) -> Iterator[soundfile.SoundFile]:
    """Open a file that is in memory.

    Where the system has files of memory, libsndfile reads one without Python: else it comes back for each 8 KB, and
    takes the interpreter away from the thread that keeps a GPU busy.
    """
    if not hasattr(os, "memfd_create"):
        with soundfile.SoundFile(io.BytesIO(content)) as stream:
            yield stream
        return
    number = os.memfd_create("sample")
    try:
        os.write(number, content)
        os.lseek(number, 0, os.SEEK_SET)
        with soundfile.SoundFile(number, closefd=False) as stream:
            yield stream
    finally:
        os.close(number)


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
