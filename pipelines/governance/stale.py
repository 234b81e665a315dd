"""Models that heard what was withdrawn later: found, and marked in MLflow and beside the bundles themselves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from manifests.errors import JobError, UserError
from manifests.store import Place
from pipelines.arrow_values import strings
from pipelines.lineage.known_corpora import known_corpora
from pipelines.lineage.known_online import known_online
from pipelines.lineage.records import ModelRecord, collect
from pipelines.lineage.walk import Walk
from pipelines.models.folders import found_below
from pipelines.models.stale_mark import stale_reasons, stale_tag, tagged_reasons, write_stale
from pipelines.onnx_export.record import ExportRecord
from pipelines.tracking.records import stored_records
from pipelines.tracking.registry import BUNDLE_PATH, logged_models
from pipelines.tracking.store import BUNDLE_TAG, STALE_TAG, open_existing_store, pages
from training.bundle import is_bundle, read_info


@dataclass(frozen=True)
class Heard:
    """A model that was trained on some sources, or made from one that was."""

    bundle_id: str
    record: ModelRecord | None
    """None for a model that is only mentioned by others."""
    exports: tuple[ExportRecord, ...] = ()
    """Files that were made of it."""

    @property
    def label(self) -> str:
        """A short name."""
        return f"{self.record.stage} {self.bundle_id[:8]}" if self.record else self.bundle_id[:8]


@dataclass(frozen=True)
class Marked:
    """A model, and where its mark is, or would be."""

    bundle_id: str
    label: str
    registered: tuple[str, ...]
    """Versions that carry the tag."""
    folders: tuple[str, ...]
    """Bundles with a `stale.json`: in folders, and in MLflow's own where they lie on this machine."""
    exports: tuple[str, ...] = ()
    """Exported files of it, wherever they are; folders that are known have a `stale.json`."""
    unwritten: tuple[str, ...] = ()
    """Bundles that should have one, and why they have none."""


def who_heard(
    hashes: Iterable[str],
    corpora: Sequence[Place],
    folders: Sequence[Path],
    say: Callable[[str], None] = lambda line: None,
) -> list[Heard]:
    """Find every known model that was trained on any of some sources, or made from a model that was.

    Args:
        hashes: of the sources.
        corpora: places to look into, besides those that MLflow recorded or that lie in `folders`.
        folders: in which bundles and corpora are looked for.
        say: told which records lie there and cannot be read: a model of theirs is not found.
    """
    found, stored = found_below(folders), stored_records()
    records = collect(stored, found)
    walk = Walk(records, known_corpora(corpora, stored, found), known_online(stored, found), found)
    for sha256 in hashes:
        walk.around_source(sha256)
    for said in dict.fromkeys(found.not_read):
        say(f"not read: {said}")
    ids = sorted(node.id for node in walk.graph.nodes.values() if node.kind == "model")
    exports = {
        bundle_id: tuple(export for export in records.exports.values() if export.bundle_id == bundle_id)
        for bundle_id in ids
    }
    return [Heard(bundle_id, records.models.get(bundle_id), exports[bundle_id]) for bundle_id in ids]


def who_else_holds(
    hashes: frozenset[str], besides: Sequence[str], corpora: Sequence[Place], folders: Sequence[Path]
) -> dict[str, int]:
    """Find other corpora that hold any of some sources; return the number of such samples by place.

    Args:
        hashes: of the sources.
        besides: ids of corpora that are known to.
        corpora: places to look into, besides those that MLflow recorded or that lie in `folders`.
        folders: in which corpora are looked for.
    """
    known = known_corpora(corpora, stored_records(), found_below(folders))
    counts = {
        corpus.place: sum(corpus.samples_with_any(strings(hashes)).values())
        for corpus in known
        if not corpus.manifest.parts and corpus.manifest.id not in besides
    }
    return {place: count for place, count in counts.items() if count}


def where_marked(heard: Sequence[Heard]) -> list[Marked]:
    """Say where models would be marked; changes nothing."""
    client = open_existing_store() if heard else None
    return [_known(client, model).marked for model in heard]


def mark(heard: Sequence[Heard], sentence: str) -> list[Marked]:
    """Mark models as stale, for one more reason.

    Raises:
        JobError: when MLflow does not take the marks.
    """
    if not heard:
        return []
    from mlflow.exceptions import MlflowException

    try:
        client = open_existing_store()
        return [_mark(client, model, sentence) for model in heard]
    except MlflowException as error:
        raise JobError(
            f"MLflow does not take the marks of stale models ({error.message}); run the same command again to go on"
        ) from error


@dataclass(frozen=True)
class _Known:
    """Where a model is known."""

    marked: Marked
    versions: list[Any]
    """MLflow's records of its registered versions."""
    logged: list[Any]
    """MLflow's records of the model itself."""


def _known(client: Any | None, heard: Heard) -> _Known:
    versions: list[Any] = []
    logged: list[Any] = []
    if client is not None:
        versions = pages(client.search_model_versions, f"tags.`{BUNDLE_TAG}` = '{heard.bundle_id}'")
        logged = logged_models(client, heard.bundle_id)
    places = [Path(folder) for folder in (heard.record.folders if heard.record else ())]
    places += [place for model in logged if (place := _local_bundle(str(model.artifact_location)))]
    names = tuple(sorted(f"{version.name}/{version.version}" for version in versions))
    held = tuple(str(place) for place in places if _is_bundle_of(place, heard.bundle_id))
    exports = tuple(
        str(Path(folder) / one.file) if folder else one.title
        for one in heard.exports
        for folder in one.folders or ("",)
    )
    return _Known(Marked(heard.bundle_id, heard.label, names, held, exports), versions, logged)


def _mark(client: Any, heard: Heard, sentence: str) -> Marked:
    known = _known(client, heard)
    for version in known.versions:
        said = stale_tag({*tagged_reasons(version.tags), sentence})
        client.set_model_version_tag(version.name, version.version, STALE_TAG, said)
    for model in known.logged:
        said = stale_tag({*tagged_reasons(model.tags), sentence})
        client.set_logged_model_tags(model.model_id, {STALE_TAG: said})
    marked, unwritten = [], []
    for place in known.marked.folders:
        try:
            write_stale(Path(place), heard.bundle_id, {*stale_reasons(Path(place)), sentence})
        except OSError as error:  # somebody else's folder: the others are marked all the same
            unwritten.append(f"{place} ({error.strerror or error})")
        else:
            marked.append(place)
    for folder in sorted({folder for export in heard.exports for folder in export.folders}):
        try:
            write_stale(Path(folder), heard.bundle_id, {*stale_reasons(Path(folder)), sentence})
        except OSError as error:
            unwritten.append(f"{folder} ({error.strerror or error})")
    return replace(known.marked, folders=tuple(marked), unwritten=tuple(unwritten))


def _local_bundle(location: str) -> Path | None:
    """Return the bundle of a logged model, if MLflow's artifacts lie on this machine."""
    parts = urlsplit(location)
    return Path(url2pathname(parts.path)) / BUNDLE_PATH if parts.scheme in ("", "file") else None


def _is_bundle_of(place: Path, bundle_id: str) -> bool:
    try:
        return is_bundle(place) and read_info(place).id == bundle_id
    except UserError:  # damaged, or of another format
        return False
