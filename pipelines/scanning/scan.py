"""Scan: folders of audio -> the catalogue of sources, measured, grouped, licensed and split."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.file_identity import identity_of_file
from datagen.folders import audio_files
from datagen.provenance import Found, provenance
from datagen.split import assign_splits, without_duplicates
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.errors import UserError
from manifests.folder import Folder
from manifests.source import KINDS, Kind, Source
from pipelines.corpus.openlineage import catalogue_outputs
from pipelines.corpus.openlineage_jobs import SCAN_JOB, telling
from pipelines.progress import JobProgress
from pipelines.scanning.examiners import Task, examined

LINEAGE_SUFFIX = ".lineage.ndjson"
"""Of the file with a scan's events, beside the catalogue."""
_FROM_THIS_RUN = ("duplicate of ",)
"""Beginnings of reasons that depend on the other files."""


@dataclass(frozen=True)
class ScanSummary:
    """What a scan did."""

    out: Path
    catalogue: Catalogue
    examined: int
    """Files that were read."""
    reused: int
    """Files that had not changed since the catalogue was last written, and were not read."""

    @property
    def refused(self) -> Sequence[Source]:
        """Rows with a reason why they are not used."""
        return self.catalogue.refused


def scan(
    roots: Mapping[Kind, Sequence[str]],
    out: Path,
    workers: int = 2,
    licence: str | None = None,
    speaker_from: str = "folder",
    table: Path | None = None,
    full: bool = False,
) -> ScanSummary:
    """Scan folders and write the catalogue.

    Files whose path, size and time are those in an existing catalogue at `out` are not read again; groups, licences
    and splits are always worked out anew.

    Args:
        roots: for each kind, folders or fsspec URIs.
        out: where the catalogue is written, atomically.
        workers: processes.
        licence: of files for which no table and no LICENSE file says otherwise.
        speaker_from: `folder`, `file`, or a regular expression with one group for the path below the scanned folder.
        table: a table of speakers, recordings, rooms and licences; see `datagen.provenance`.
        full: read every file again.

    Raises:
        UserError: when there is nothing to scan, nothing usable, or an option is wrong.
    """
    _check_out(out)
    rules = provenance(licence, speaker_from, table)
    found, unnameable = _found(roots)
    facts = {task: rules.facts(file, task[1]) for task, file in found.items()}
    known = {} if full or not out.exists() else _known(out)
    reused = {task: row for task in found if (row := _unchanged(task, known))}
    missing = [task for task in found if task not in reused]
    # What a scan reads is known by content only when it was read: files of the same names are the same asking.
    asked = sorted([kind, Path(path).name] for path, kind in found)
    events = out.with_suffix(LINEAGE_SUFFIX).name
    with telling(Folder(out.parent), SCAN_JOB, asked, (), events) as told:
        rows = {**reused, **_examined_with_progress(missing, len(reused), workers)}
        sources = without_duplicates(replace(rows[task], **facts[task]) for task in found)
        catalogue = Catalogue((*assign_splits(sources), *unnameable))
        _check_usable(catalogue, roots)
        try:
            write_catalogue(catalogue, out)
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror})") from error
        told.outputs = catalogue_outputs(catalogue, catalogue.digest)
    return ScanSummary(out, catalogue, len(missing), len(reused))


def _check_out(out: Path) -> None:
    if out.is_dir():
        raise UserError(
            f"{out}: is a folder; name a file for the catalogue, such as {out / 'sources.parquet'}"
        )
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder, so {out.name} cannot be written there")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out.parent}: cannot be written to, so neither can {out.name}")


def _found(roots: Mapping[Kind, Sequence[str]]) -> tuple[dict[Task, Found], list[Source]]:
    """List the files of all kinds, and refuse those whose names no table can hold.

    The same file may serve as two kinds.
    """
    found: dict[Task, Found] = {}
    unnameable = []
    for kind in KINDS:
        for root in roots.get(kind, ()):
            files = audio_files(root)
            if not files:
                raise UserError(f"{root}: holds no audio files")
            for file in files:
                printable = file.path.encode("utf-8", "backslashreplace").decode()
                if printable == file.path:
                    found.setdefault((file.path, kind), file)
                else:
                    unnameable.append(
                        Source(path=printable, kind=kind, refused="its name is not valid UTF-8")
                    )
    if not found and not unnameable:
        raise UserError("nothing to scan: give at least one folder with --speech, --noise or --rir")
    return found, unnameable


def _known(out: Path) -> dict[Task, Source]:
    return {(source.path, source.kind): source for source in read_catalogue(out)}  # type: ignore[misc]


def _unchanged(task: Task, known: Mapping[Task, Source]) -> Source | None:
    row = known.get(task)
    if row is None or not row.sha256 or not row.mtime_ns:
        return None
    if identity_of_file(row.path) != (row.bytes, row.mtime_ns):
        return None
    stale = row.refused is not None and row.refused.startswith(_FROM_THIS_RUN)
    return replace(row, refused=None) if stale else row


def _examined_with_progress(tasks: Sequence[Task], reused: int, workers: int) -> dict[Task, Source]:
    if not tasks:
        return {}
    rows = {}
    refused = 0
    with JobProgress("scan", len(tasks), "files") as progress:
        for task, source in examined(tasks, workers):
            rows[task] = source
            refused += source.refused is not None
            note = f"{refused} refused" if refused else ""
            progress.advance(
                1, f"{note}{', ' if note and reused else ''}{f'{reused} unchanged' if reused else ''}"
            )
    return rows


def _check_usable(catalogue: Catalogue, roots: Mapping[Kind, Sequence[str]]) -> None:
    for kind in KINDS:
        rows = catalogue.of_kind(kind)
        if rows and all(source.refused for source in rows):
            folders = ", ".join(roots[kind])
            raise UserError(
                f"{folders}: none of {len(rows)} {kind} files can be used; the first, {rows[0].path}: {rows[0].refused}"
            )
