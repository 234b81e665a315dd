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
from manifests.source import Source
from pipelines.models import local_bundles
from pipelines.tracking import ONLINE_SOURCE_TYPE, all_experiment_ids, pages
from training.bundle import read_info


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


def known_online(client: Any | None, folders: Iterable[Path]) -> dict[str, KnownOnline]:
    """Return the fresh samples that MLflow runs and local models name, by data id."""
    named = _in_mlflow(client) if client is not None else []
    for bundle_dir in (found for folder in folders for found in local_bundles(folder)):
        try:
            record = read_info(bundle_dir).online
        except UserError:  # of an older format: nothing can be said about it
            continue
        if record is not None:
            named.append((record, bundle_dir.parent.parent / ONLINE_FOLDER))
    known: dict[str, KnownOnline] = {}
    for record, folder in named:
        place = folder if _holds(folder, record) else None
        held = known.get(record.data_id)
        if held is None or held.place is None:
            known[record.data_id] = KnownOnline(record, place)
    return known


def _in_mlflow(client: Any) -> list[tuple[OnlineRecord, Path]]:
    experiments = all_experiment_ids(client)
    runs = pages(client.search_runs, experiments) if experiments else []
    used = [item.dataset for run in runs if run.inputs for item in run.inputs.dataset_inputs]
    return [
        (OnlineRecord.model_validate_json(dataset.profile), Path(json.loads(dataset.source)["location"]))
        for dataset in used
        if dataset.source_type == ONLINE_SOURCE_TYPE
    ]


def _holds(folder: Path, record: OnlineRecord) -> bool:
    try:
        return read_online(folder) == record
    except UserError:
        return False
