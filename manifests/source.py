"""The catalogue: one row a source file, with what was measured of it and which split it belongs to.

Identity is by content: paths and file times are carried for finding files again and never enter a digest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from manifests.canonical import digest
from manifests.errors import UserError
from manifests.files import write_atomically

Kind = Literal["speech", "noise", "rir"]
KINDS: tuple[Kind, ...] = ("speech", "noise", "rir")

_NOT_IDENTITY = ("path", "bytes", "mtime_ns")


@dataclass(frozen=True, slots=True)
class Source:
    """One source file. What does not apply to its kind, or could not be measured, is None."""

    path: str
    """Absolute path or URI."""
    kind: str
    sha256: str = ""
    bytes: int = 0
    mtime_ns: int = 0
    rate_hz: int = 0
    channels: int = 0
    frames: int = 0
    """Length in samples per channel at `rate_hz`."""
    seconds: float = 0.0
    bandwidth_hz: float | None = None
    """Where the spectrum ends, whatever the header says."""
    active_level_dbfs: float | None = None
    """ITU-T P.56 active level of the channel mean."""
    clipped_share: float | None = None
    dc_offset: float | None = None
    silence_share: float | None = None
    speaker: str | None = None
    recording: str | None = None
    room: str | None = None
    direct_path_frame: int | None = None
    """For RIRs: frame of the direct path, at `rate_hz`."""
    rt60_s: float | None = None
    drr_db: float | None = None
    licence: str = "unknown"
    split: str | None = None
    refused: str | None = None
    """Why the file is not used; None for a usable one."""

    @property
    def group(self) -> str:
        """What must not be shared between splits: the speaker, the noise recording or the room."""
        return self.speaker or self.recording or self.room or ""

    @property
    def name(self) -> str:
        """File name without its folder."""
        return self.path.replace("\\", "/").rsplit("/", 1)[-1]

    def identity(self) -> dict[str, Any]:
        """Return the row without what depends on where the file lies."""
        return {key: value for key, value in asdict(self).items() if key not in _NOT_IDENTITY}


class Catalogue:
    """An immutable set of sources, with the look-ups that planning needs.

    Rows are kept sorted by (kind, sha256), so the order of scanning changes nothing.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources: tuple[Source, ...] = tuple(sorted(sources, key=lambda s: (s.kind, s.sha256, s.path)))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Source]:
        return iter(self.sources)

    @cached_property
    def usable(self) -> tuple[Source, ...]:
        """Rows that were not refused."""
        return tuple(source for source in self.sources if source.refused is None)

    @cached_property
    def by_sha256(self) -> dict[str, Source]:
        """Usable rows by content hash."""
        return {source.sha256: source for source in self.usable}

    def of(self, kind: Kind, split: str) -> tuple[Source, ...]:
        """Usable rows of one kind in one split, in catalogue order."""
        return tuple(s for s in self.usable if s.kind == kind and s.split == split)

    @cached_property
    def digest(self) -> str:
        """Identity of the usable rows: independent of paths and of the order of scanning."""
        return digest([source.identity() for source in self.usable])

    def extended(self, more: Iterable[Source]) -> "Catalogue":
        """Return a catalogue with further rows."""
        return Catalogue((*self.sources, *more))


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Write the catalogue as Parquet, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    # `float | None` stands for a nullable column, which Parquet columns are anyway.
    schema = pa.schema([(f.name, types[(*get_args(f.type), f.type)[0]]) for f in fields(Source)])
    table = pa.Table.from_pylist([asdict(source) for source in catalogue], schema=schema)
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_atomically(path, memoryview(content.getvalue()))


def read_catalogue(path: Path) -> Catalogue:
    """Read a catalogue written by `ssiforge scan`.

    Raises:
        UserError: when the file is missing or is not a catalogue.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"{path}: no such catalogue; make one with 'ssiforge scan --out {path}'")
    try:
        # Not pq.read_table: it imports pandas where that is installed, 40 MB in every worker.
        rows = pq.ParquetFile(path).read(use_threads=False).to_pylist()
        return Catalogue(Source(**row) for row in rows)
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a catalogue made by 'ssiforge scan'") from error
