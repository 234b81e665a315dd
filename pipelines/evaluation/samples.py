"""What an evaluation listens to: the samples of a corpus, or a folder of recordings without references."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from datagen.audio import AudioError, read_recording
from manifests.corpus import Corpus
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.selection import Selection
from manifests.wording import how_many
from pipelines.quality.conditions import conditions_of
from pipelines.quality.scores import Sample
from training.order import Pick
from training.shards import Reader
from training.source import DamagedError


class Heard(Protocol):
    """Samples to be gone through once; those that cannot be read are said and left out."""

    total: int
    """How many there are, readable or not."""

    def __iter__(self) -> Iterator[Sample]:
        """Read them in order."""
        ...

    def notes(self) -> list[str]:
        """Say, when they were read, what must be known of them."""
        ...


class HeldOut:
    """The samples of a split in the order of its shards; those that are not aligned with their targets are left out."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        selection: Selection | None,
        limit: int | None,
        say: Callable[[str], None],
    ) -> None:
        reader = Reader(corpus, split, selection)  # type: ignore[arg-type]  # checked against SPLITS
        picks = [Pick(number, place) for number, size in enumerate(reader.sizes) for place in range(size)]
        if selection is not None:
            held = selection.record.samples[split]
        else:
            held = sum(len(shard.samples) for part in corpus.parts for shard in part.corpus.of(split))
        self._reader = reader
        self._picks = picks[:limit]
        self._say = say
        self._split = split
        self._moved = held - len(picks)
        self.total = len(self._picks)

    def __iter__(self) -> Iterator[Sample]:
        """Read them in order."""
        for pick in self._picks:
            try:
                degraded, target = self._reader.read(pick, 0, self._reader.frames(pick))
                described = self._reader.sample_json(pick)
            except (DamagedError, OSError, ValueError) as error:
                self._say(f"{self._reader.where(pick)}: {error}")
                continue
            conditions = tuple(conditions_of(described))
            yield Sample(self._reader.key(pick), degraded, target, conditions, described.get("speaker"))

    def notes(self) -> list[str]:
        """Say what was left out, and whether models have heard these samples."""
        found = []
        if self._moved:
            found.append(
                f"{self._moved} samples were moved in time: they have no aligned target, and are left out"
            )
        if self._split != "test":
            found.append(f"these are samples of the {self._split} split: training looks at them")
        return found


class Recordings:
    """Recordings of any rate and number of channels, at 48 kHz and mixed down; to be gone through once."""

    def __init__(self, root: Path, files: Sequence[Path], say: Callable[[str], None]) -> None:
        self._root = root
        self._files = files
        self._say = say
        self._resampled = 0
        self._mixed_down = 0
        self.total = len(files)

    def __iter__(self) -> Iterator[Sample]:
        """Read them in order."""
        for path in self._files:
            try:
                wave, rate_hz, channels = read_recording(str(path))
            except AudioError as error:
                self._say(f"{path}: {error}")
                continue
            self._resampled += rate_hz != SAMPLE_RATE_HZ
            self._mixed_down += channels > 1
            yield Sample(path.relative_to(self._root).as_posix(), wave, None)

    def notes(self) -> list[str]:
        """Say what was done to those that were read."""
        found = [
            "recordings have no references: DNSMOS predicts what listeners would say of them; level, bandwidth and "
            "noise floor describe them, and no value of these is better than another"
        ]
        if self._resampled:
            found.append(f"{how_many(self._resampled, 'recording')} of another rate resampled to 48 kHz")
        if self._mixed_down:
            found.append(
                f"{how_many(self._mixed_down, 'recording')} of several channels mixed down before enhancing "
                "('ssiforge enhance' enhances each channel alone)"
            )
        return found
