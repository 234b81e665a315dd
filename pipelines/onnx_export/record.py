"""Exported models: which file, by the hash of its content, was made of which model.

`parity.json` beside the files says so, and MLflow's tags of the model do (`ssiforge.export.` and the beginning of the
hash), for when the folder is elsewhere. A file alone names its model too, in its metadata.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manifests.canonical import canonical_json, file_sha256
from manifests.errors import UserError
from pipelines.models.folders import EXPORT_FILE
from pipelines.tracking.store import TAG

ONNX_SUFFIX = ".onnx"
EXPORT_TAG = f"{TAG}export."
MODEL_ID_KEY = "model_id"
"""Of the metadata in an ONNX file."""
_SHOWN_DIGITS = 12
_FACTS = ("code_version", "preset", "opset", "megabytes", "max_difference")
MOST_READ_BYTES = 1 << 24


@dataclass(frozen=True)
class ExportRecord:
    """One exported file."""

    sha256: str
    file: str
    """Its name."""
    bundle_id: str
    """Of the model that it was made of."""
    folders: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """A short name."""
        return f"{self.file} {self.sha256[:_SHOWN_DIGITS]}"


def export_tags(content: Mapping[str, Any]) -> dict[str, str]:
    """Return what MLflow is told of an export.

    Args:
        content: of `parity.json`.
    """
    tags = {}
    for variant in content["variants"]:
        facts = {name: variant.get(name, content.get(name)) for name in ("file", "sha256", *_FACTS)}
        tags[f"{EXPORT_TAG}{variant['sha256'][:_SHOWN_DIGITS]}"] = canonical_json(facts).decode()
    return tags


def tagged_exports(bundle_id: str, tags: Mapping[str, str]) -> Iterator[ExportRecord]:
    """Return the exports of a model that MLflow's tags name."""
    for name, value in tags.items():
        if name.startswith(EXPORT_TAG):
            try:
                said = json.loads(value)
                yield _record(said, said, bundle_id)
            except (ValueError, KeyError, TypeError, AttributeError):  # somebody else's tag
                continue


def read_exports(folder: Path) -> Iterator[ExportRecord]:
    """Return the exports in a folder; nothing where its report is none of ours, or its files are gone."""
    try:
        content = json.loads((folder / EXPORT_FILE).read_bytes()[:MOST_READ_BYTES])
        variants, bundle_id = content["variants"], str(content[MODEL_ID_KEY])
        for variant in variants:
            file = Path(str(variant["file"])).name
            if "sha256" not in variant:  # a report of an earlier version
                variant = {**variant, "sha256": file_sha256(folder / file)}
            yield _record(variant, content, bundle_id, (str(folder.resolve()),))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return


def read_onnx(path: Path) -> ExportRecord:
    """Return what an exported file says of itself.

    Raises:
        UserError: when it is no ONNX file, or not one of `ssiforge export`.
    """
    import onnx

    try:
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    except Exception as error:  # the exceptions of its parser share no base class
        raise UserError(f"{path}: not an ONNX file that can be read") from error
    if not metadata.get(MODEL_ID_KEY):
        raise UserError(
            f"{path}: does not say which model it was made of; 'ssiforge export' writes files that do"
        )
    return _record({"file": path.name, "sha256": file_sha256(path)}, metadata, metadata[MODEL_ID_KEY])


def _record(
    variant: Mapping[str, Any], content: Mapping[str, Any], bundle_id: str, folders: tuple[str, ...] = ()
) -> ExportRecord:
    said = {name: variant.get(name, content.get(name)) for name in _FACTS}
    facts = {name: value for name, value in said.items() if value is not None}
    return ExportRecord(str(variant["sha256"]), str(variant["file"]), bundle_id, folders, facts)
