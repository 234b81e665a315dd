"""A source file: what was measured of it and which split it belongs to.

Identity is by content: paths and file times are carried for finding files again and never enter a digest.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

Kind = Literal["speech", "noise", "rir"]
KINDS: tuple[Kind, ...] = ("speech", "noise", "rir")

WITHDRAWN = "withdrawn"
"""Refused because it was taken down: its row stays where samples were drawn by it, it is never read again."""

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
        return {name: getattr(self, name) for name in _IDENTITY}


_IDENTITY = tuple(field.name for field in fields(Source) if field.name not in _NOT_IDENTITY)
