"""What an `evaluation.json` says of where its scores come from; it may be anybody's file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.canonical import digest
from pipelines.models.folders import EVALUATION_FILE

SIZE_LIMIT_BYTES = 2**28
RECORDINGS = "recordings"
"""Stands for the split where a folder of recordings was evaluated."""


@dataclass(frozen=True)
class Provenance:
    """Where the scores of one model come from."""

    bundle_id: str
    stage: str
    corpus_id: str
    """Empty for a folder of recordings."""
    split: str
    samples: int
    keep: str
    selection: str
    """Digest of the samples that were selected; empty for all."""
    scores_digest: str
    code_version: str
    packages: Mapping[str, str]

    @property
    def id(self) -> str:
        """Identity: the same scores of the same model on the same samples."""
        return evaluation_id(self.bundle_id, self.scores_digest, self.corpus_id, self.split, self.selection)


def evaluation_id(bundle_id: str, scores: str, corpus_id: str, split: str, selection: str) -> str:
    """Return the identity of the evaluation of one model, as MLflow's tags and `evaluation.json` both give it."""
    return digest(
        {"model": bundle_id, "scores": scores, "corpus": corpus_id, "split": split, "selection": selection}
    )


def read_provenance(folder: Path) -> Iterator[Provenance]:
    """Return the record of each model in an evaluation; nothing where the file is none of ours."""
    path = folder / EVALUATION_FILE
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            return
        said = json.loads(path.read_bytes())
        selection = said.get("selection") or {}
        records = [_record(said, selection, model) for model in said["models"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    yield from records


def _record(said: Mapping[str, Any], selection: Mapping[str, Any], model: Mapping[str, Any]) -> Provenance:
    packages = said.get("packages") or {}
    return Provenance(
        str(model["bundle_id"]),
        str(model["stage"]),
        str(said["corpus_id"] or ""),
        str(said["split"] or RECORDINGS),
        int(said["samples"]),
        str(selection.get("expression", "")),
        str(selection.get("digest", "")),
        str(said["scores_digest"]),
        str(said.get("code_version", "")),
        {str(name): str(version) for name, version in packages.items()},
    )
