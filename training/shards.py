"""Samples of a finished corpus, read out of its shards by byte offset."""

import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from manifests.corpus import Corpus, Member, OpenPart, SampleEntry, ShardRecord
from manifests.parts import exact
from manifests.recipe import SAMPLE_RATE_HZ, Split
from manifests.selection import Selection
from training.mixture import Mixture
from training.order import EndlessOrder, Order, Pick
from training.source import DamagedError, Sample, Stretch

DEGRADED = "degraded.flac"
TARGET = "target.flac"

log = logging.getLogger(__name__)


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
