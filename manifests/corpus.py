"""A corpus on disk: `corpus.json`, and beside each shard the record that makes it exist.

```
corpus/
  corpus.json  plan.json  recipe.yaml  sources.parquet  samples.parquet  quarantine.jsonl
  train/shard-000000.tar  train/shard-000000.json   (val/, test/ alike)
```
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manifests.canonical import digest, file_sha256
from manifests.errors import UserError
from manifests.recipe import SPLITS, Split
from manifests.sample import KEY_PATTERN

FORMAT = 1
CORPUS_FILE = "corpus.json"
RECIPE_FILE = "recipe.yaml"
SOURCES_FILE = "sources.parquet"
SAMPLES_FILE = "samples.parquet"
QUARANTINE_FILE = "quarantine.jsonl"
PLAN_FILE = "plan.json"
"""What the corpus is going to be: written first, so that a begun corpus is recognised."""
TABLES = (PLAN_FILE, RECIPE_FILE, SOURCES_FILE, SAMPLES_FILE, QUARANTINE_FILE)
"""Everything beside the shards and their records."""


class _Recorded(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Recorded):
    """A file inside a shard's tar: where its bytes lie, and whether they are still the same."""

    offset: int
    """First byte of the content within the tar."""
    bytes: int


class SampleEntry(_Recorded):
    """One sample of a shard."""

    key: str = Field(pattern=KEY_PATTERN)
    """Names files too, so it must not lead out of a folder."""
    index: int
    attempt: int
    spec_digest: str
    members: dict[str, Member]
    """By extension: `degraded.flac`, `target.flac`, `json`, and stems."""
    aligned: bool = True
    """False where a stage moved the degraded speech in time and its target was left in place."""


class Failure(_Recorded):
    """A draw that could not be rendered and was drawn again."""

    key: str
    attempt: int
    stage: str
    reason: str
    sources: tuple[str, ...] = ()
    """Content hashes of the sources involved."""


class ShardRecord(_Recorded):
    """The commit record of a shard. Written last: a shard without a valid one does not exist."""

    format: int = FORMAT
    name: str = Field(pattern=KEY_PATTERN)
    """`shard-000012`."""
    split: Split
    plan_digest: str
    """Digest of what the shard was asked to be; a rerun compares it to decide what is missing."""
    sha256: str
    bytes: int
    frames_per_sample: int
    samples: tuple[SampleEntry, ...]
    failures: tuple[Failure, ...] = ()
    drawn: dict[str, int] = {}
    """How often each stage fired in this shard."""
    environment: dict[str, str]
    """Python, platform and versions of every library that touches audio."""

    @property
    def tar_name(self) -> str:
        """Path of the tar, relative to the corpus."""
        return f"{self.split}/{self.name}.tar"

    @property
    def record_name(self) -> str:
        """Path of this record, relative to the corpus."""
        return f"{self.split}/{self.name}.json"


class CorpusManifest(_Recorded):
    """The content of `corpus.json`."""

    format: int = FORMAT
    id: str
    recipe: str
    """Name of the recipe."""
    recipe_digest: str
    catalogue_digest: str
    """Digest of the catalogue rows used."""
    seed: int
    code_version: str
    sample_rate_hz: int
    frames_per_sample: int
    samples: dict[Split, int]
    hours: float
    shards: dict[str, str]
    """SHA-256 of each tar, by its path within the corpus."""
    splits: dict[Split, dict[str, int]]
    """Speakers, noise recordings and rooms in each split."""
    licences: dict[str, int]
    """Number of samples that hold material under each licence."""
    stages: dict[str, dict[str, float]]
    """For each stage: how often the recipe asks for it, and how often it was drawn."""
    tolerances: dict[str, dict[str, int]] = {}
    """For each drawn value that a stage promises to deliver: how often it was checked, and how often it was out."""
    failures: dict[str, int]
    """Failed draws by reason."""
    environment: dict[str, str]
    timings: dict[str, float]
    """Wall seconds of the last run that rendered something; no part of the identity."""
    files: dict[str, str] = {}
    """SHA-256 of every other file, by its path within the corpus: records and tables. No part of the identity."""
    checksum: str = ""
    """Digest of all other fields."""

    def shards_in_order(self) -> list[tuple[str, str]]:
        """Path and SHA-256 of each shard: by split (train, val, test), then number."""
        return sorted(self.shards.items(), key=lambda item: _shard_order(item[0]))

    def written(self) -> bytes:
        """Return the one form in which the manifest is written: a checksum of fields does not cover their spacing."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    def sealed(self) -> "CorpusManifest":
        """Return the manifest with its checksum filled in."""
        return self.model_copy(update={"checksum": self._digest()})

    @property
    def intact(self) -> bool:
        """Whether nothing was changed since it was sealed."""
        return self.checksum == self._digest()

    def _digest(self) -> str:
        return digest(self.model_dump(mode="json", exclude={"checksum"}))


def corpus_id(recipe_digest: str, catalogue_digest: str, seed: int, shards: dict[str, str]) -> str:
    """Identity of a corpus: recipe, catalogue rows used, seed and shard hashes. No path, host or clock."""
    return digest({"recipe": recipe_digest, "catalogue": catalogue_digest, "seed": seed, "shards": shards})


@dataclass(frozen=True)
class Corpus:
    """A finished corpus, opened for reading."""

    root: Path
    manifest: CorpusManifest
    shards: tuple[ShardRecord, ...]
    """In order: split (train, val, test), then number."""

    def of(self, split: str) -> tuple[ShardRecord, ...]:
        """Shards of one split."""
        return tuple(shard for shard in self.shards if shard.split == split)


def read_shard_record(path: Path) -> ShardRecord:
    """Read one commit record.

    Raises:
        UserError: when the record cannot be read.
    """
    try:
        return ShardRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not a shard record of this format") from error


def read_manifest(root: Path) -> CorpusManifest:
    """Read `corpus.json`.

    Raises:
        UserError: when `root` holds no finished corpus.
    """
    path = root / CORPUS_FILE
    if not path.is_file():
        raise UserError(f"{root}: holds no {CORPUS_FILE}, so it is not a finished corpus")
    try:
        return CorpusManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not a corpus manifest of this format") from error


def open_corpus(root: Path) -> Corpus:
    """Open a finished corpus and check that its records agree with its manifest.

    Shard contents are not re-hashed here (`ssiforge verify` does that); sizes are compared.

    Raises:
        UserError: when something is missing or differs.
    """
    manifest = read_manifest(root)
    shards = tuple(open_shard(root, name, sha256) for name, sha256 in manifest.shards_in_order())
    if not has_its_id(manifest):
        raise UserError(f"{root / CORPUS_FILE}: its id does not match its content")
    return Corpus(root, manifest, shards)


def open_shard(root: Path, name: str, sha256: str) -> ShardRecord:
    """Read the record of a shard that a manifest names, and check that the two and the tar's size agree.

    Raises:
        UserError: when something is missing or differs.
    """
    record = read_shard_record((root / name).with_suffix(".json"))
    tar = root / name
    if record.tar_name != name or record.sha256 != sha256:
        raise UserError(f"{root / record.record_name}: does not belong to this corpus")
    held = tar.stat().st_size if tar.is_file() else 0
    if held != record.bytes:
        raise UserError(
            f"{tar}: missing or truncated ({held} of {record.bytes} bytes); "
            "run 'ssiforge generate' again to render it"
        )
    return record


def has_its_id(manifest: CorpusManifest) -> bool:
    """Whether a manifest's id is the digest of what it names."""
    return manifest.id == corpus_id(
        manifest.recipe_digest, manifest.catalogue_digest, manifest.seed, manifest.shards
    )


def changed_files(root: Path, manifest: CorpusManifest) -> Iterator[str]:
    """Name the records and tables that are missing, or not what they were when the corpus was finished."""
    if not manifest.intact or (root / CORPUS_FILE).read_bytes() != manifest.written():
        yield f"{CORPUS_FILE}: its content changed since it was written"
    for name, sha256 in manifest.files.items():
        path = root / name
        if not path.is_file():
            yield f"{name}: is missing"
        elif file_sha256(path) != sha256:
            yield f"{name}: its content changed since it was written"


def _shard_order(name: str) -> tuple[int, str]:
    split, _, rest = name.partition("/")
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), rest)


def read_sample_json(root: Path, shard: ShardRecord, entry: SampleEntry) -> dict[str, Any]:
    """Read a sample's `KEY.json` out of its shard by byte offset."""
    member = entry.members["json"]
    with (root / shard.tar_name).open("rb") as stream:
        stream.seek(member.offset)
        content: dict[str, Any] = json.loads(stream.read(member.bytes))
    return content
