"""Models that heard what was withdrawn later: marked in MLflow's registry and beside the bundles themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.canonical import canonical_json
from manifests.files import write_atomically
from manifests.store import Place
from pipelines.known_corpora import known_corpora
from pipelines.known_online import known_online
from pipelines.lineage_records import Records, collect
from pipelines.lineage_walk import Walk
from pipelines.mlflow_records import stored_records
from pipelines.model_folders import found_below
from pipelines.registry import BUNDLE_PATH
from pipelines.stale_mark import STALE_FILE, stale_reasons
from pipelines.tracking import BUNDLE_TAG, STALE_TAG, all_experiment_ids, open_existing_store, pages
from training.bundle import is_bundle, read_info


@dataclass(frozen=True)
class Marked:
    """A model that was marked."""

    bundle_id: str
    label: str
    registered: tuple[str, ...]
    """Versions that carry the tag."""
    folders: tuple[str, ...]
    """Bundles with a `stale.json`."""


def mark_stale(
    hashes: Iterable[str], corpora: Sequence[Place], folders: Sequence[Path], replaced: str, reason: str
) -> list[Marked]:
    """Mark every known model that was trained on any of some sources, or made from a model that was.

    Args:
        hashes: of the sources.
        corpora: places to look into, besides those that MLflow recorded or that lie below the current folder.
        folders: in which bundles are looked for.
        replaced: id of the corpus from which they were withdrawn.
        reason: as the user gave it.
    """
    client = open_existing_store()
    found, stored = found_below(folders), stored_records()
    records = collect(stored, found)
    walk = Walk(records, known_corpora(corpora, stored, found), known_online(stored, found))
    for sha256 in hashes:
        walk.around_source(sha256)
    heard = sorted(node.id for node in walk.graph.nodes.values() if node.kind == "model")
    sentence = f"trained on data withdrawn from corpus {replaced}" + (f": {reason}" if reason else "")
    return [_mark(client, records, bundle_id, sentence) for bundle_id in heard]


def _mark(client: Any | None, records: Records, bundle_id: str, sentence: str) -> Marked:
    model = records.models.get(bundle_id)
    places = [Path(folder) for folder in (model.folders if model else ())]
    versions: list[str] = []
    if client is not None:
        places += _artifacts(client, bundle_id)
        quoted = f"tags.`{BUNDLE_TAG}` = '{bundle_id}'"
        for version in pages(client.search_model_versions, quoted):
            client.set_model_version_tag(
                version.name, version.version, STALE_TAG, _joined(version.tags, sentence)
            )
            versions.append(f"{version.name}/{version.version}")
    marked = [place for place in places if is_bundle(place) and read_info(place).id == bundle_id]
    for place in marked:
        reasons = sorted({*stale_reasons(place), sentence})
        write_atomically(
            place / STALE_FILE, canonical_json({"bundle_id": bundle_id, "reasons": reasons}) + b"\n"
        )
    label = f"{model.stage} {bundle_id[:8]}" if model else bundle_id[:8]
    return Marked(bundle_id, label, tuple(sorted(versions)), tuple(map(str, marked)))


def _joined(tags: dict[str, str], sentence: str) -> str:
    held = [said for said in tags.get(STALE_TAG, "").split("; ") if said]
    return "; ".join(sorted({*held, sentence}))


def _artifacts(client: Any, bundle_id: str) -> list[Path]:
    """Bundles in MLflow's own folders, where they lie on this machine."""
    experiments = all_experiment_ids(client)
    query = f"tags.`{BUNDLE_TAG}` = '{bundle_id}'"
    models = pages(client.search_logged_models, experiments, filter_string=query) if experiments else []
    places = [str(model.artifact_location) for model in models]
    return [
        Path(place.removeprefix("file://")) / BUNDLE_PATH
        for place in places
        if "://" not in place or place.startswith("file://")
    ]
