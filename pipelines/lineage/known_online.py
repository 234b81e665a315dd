"""Which fresh samples are known: from the models that heard them, from MLflow, and from the folders of runs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from manifests.catalogue import read_catalogue
from manifests.corpus import SOURCES_FILE
from manifests.errors import UserError
from manifests.online import ONLINE_FOLDER, OnlineRecord, read_online
from manifests.run_record import read_run
from manifests.source import Source
from pipelines.arrow_values import strings
from pipelines.models.folders import Found
from pipelines.tracking.records import Stored
from pipelines.tracking.store import ONLINE_SOURCE_TYPE
from training.bundle_info import read_info


@dataclass(frozen=True)
class KnownOnline:
    """Fresh samples that some run heard."""

    record: OnlineRecord
    place: Path | None
    """`RUN_DIR/online`, which holds the recipe and the catalogue; None where it was not found."""

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Training sources that samples could be drawn from, by content hash; empty where the folder was not found."""
        if self.place is None or not (self.place / SOURCES_FILE).is_file():
            return {}
        catalogue = read_catalogue(self.place / SOURCES_FILE)
        return {
            source.sha256: source
            for kind in ("speech", "noise", "rir")
            for source in catalogue.of(kind, "train")
        }

    def source(self, sha256: str) -> Source | None:
        """Return a source that samples may hold."""
        return self.sources.get(sha256)

    def starting(self, prefix: str) -> set[str]:
        """Return the content hashes of sources that begin so."""
        return {sha256 for sha256 in self.sources if sha256.startswith(prefix)}

    def at(self, path: str) -> dict[str, str]:
        """Return hash and path of the sources whose path is this one, or ends in it after a `/`."""
        tail = "/" + path.lstrip("/")
        rows = self.sources.values()
        return {row.sha256: row.path for row in rows if row.path == path or row.path.endswith(tail)}

    def hashes_with(self, column: str, value: str) -> Any:
        """Return the hashes of the sources of a speaker or under a licence, an Arrow array."""
        return strings(row.sha256 for row in self.sources.values() if getattr(row, column) == value)

    def listed(self, hashes: Any) -> list[Source]:
        """Return the sources with some hashes (an Arrow array)."""
        return [self.sources[sha256] for sha256 in hashes.to_pylist()]


def known_online(stored: Stored | None, found: Found) -> dict[str, KnownOnline]:
    """Return the fresh samples that MLflow runs, local runs and local models name, by data id."""
    named = [*_in_mlflow(stored)] if stored is not None else []
    for folder, run_dir in (
        *((bundle, bundle.parent.parent) for bundle in found.bundles),
        *((stage, stage.parent) for stage in found.runs),
    ):
        try:
            run = read_run(folder)
            record = run.online if run is not None else read_info(folder).online
        except UserError:  # of another format: nothing can be said about it
            continue
        if record is not None:
            named.append((record, run_dir / ONLINE_FOLDER))
    known: dict[str, KnownOnline] = {}
    for record, folder in named:
        place = folder if _holds(folder, record) else None
        held = known.get(record.data_id)
        if held is None or held.place is None:
            known[record.data_id] = KnownOnline(record, place)
    return known


def _in_mlflow(stored: Stored) -> Iterable[tuple[OnlineRecord, Path]]:
    return (
        (OnlineRecord.model_validate_json(dataset.profile), Path(json.loads(dataset.source)["location"]))
        for dataset in stored.datasets
        if dataset.source_type == ONLINE_SOURCE_TYPE
    )


def _holds(folder: Path, record: OnlineRecord) -> bool:
    try:
        return read_online(folder) == record
    except UserError:
        return False
