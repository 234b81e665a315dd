"""A corpus on disk: `corpus.json`, and beside each shard the record that makes it exist.

```
corpus/
  corpus.json  plan.json  recipe.yaml  sources.parquet  samples.parquet  quarantine.jsonl  progress.json
  train/shard-000000.tar  train/shard-000000.json   (val/, test/ alike)
```

A merged corpus has no shards of its own, but parts that have (`manifests/parts.py`).
"""

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manifests.canonical import digest
from manifests.errors import UserError
from manifests.parts import Part, merged_id
from manifests.recipe import SPLITS, Split
from manifests.sample import KEY_PATTERN
from manifests.store import Place, Store, open_store

FORMAT = 1
CORPUS_FILE = "corpus.json"
RECIPE_FILE = "recipe.yaml"
SOURCES_FILE = "sources.parquet"
SAMPLES_FILE = "samples.parquet"
QUARANTINE_FILE = "quarantine.jsonl"
PLAN_FILE = "plan.json"
"""What the corpus is going to be: written first, so that a begun corpus is recognised."""
WITHDRAWALS_FILE = "withdrawals.ndjson"
"""What was taken out of the versions of a corpus before this one: a line a version; only where there were any."""
PROGRESS_FILE = "progress.json"
"""How far the last job came; no part of the corpus."""
ROOMS_FOLDER = "rooms"
"""Simulated rooms, where workers on other machines read them; no part of the corpus either."""
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
    """Name of the recipe; of a merged corpus, those of its parts."""
    recipe_digest: str
    """Empty for a merged corpus, whose parts have their own."""
    catalogue_digest: str
    """Digest of the catalogue rows used."""
    seed: int
    """Of every draw; 0 for a merged corpus."""
    code_version: str
    sample_rate_hz: int
    frames_per_sample: int
    """Of a merged corpus, those of its shortest samples."""
    samples: dict[Split, int]
    hours: float
    parts: tuple[Part, ...] = ()
    """Of a merged corpus: those that hold its samples, by id."""
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
    lost_shards: dict[str, str] = {}
    """Shards that were given up, with the reason; their samples are in no other shard."""
    grown_from: str = ""
    """Id of the corpus that this one was before it was made larger."""
    replaces: str = ""
    """Id of the version before, from which sources were withdrawn (`withdrawals.ndjson` says which)."""
    environment: dict[str, str]
    timings: dict[str, float]
    """Of the last run that rendered something: `wall_s`, and the `samples` that it wrote, which may be some of all. No
    part of the identity."""
    stage_seconds: dict[str, float] = {}
    """Seconds that its workers spent by stage and part; likewise."""
    files: dict[str, str] = {}
    """SHA-256 of every other file, by its path within the corpus: records and tables. No part of the identity."""
    checksum: str = ""
    """Digest of all other fields."""

    def shards_in_order(self) -> list[tuple[str, str]]:
        """Path and SHA-256 of each shard: by split (train, val, test), then number."""
        return sorted(self.shards.items(), key=lambda item: _shard_order(item[0]))

    def written(self, without: Set[str] = frozenset()) -> bytes:
        """Return the one form in which the manifest is written: a checksum of fields does not cover their spacing.

        Args:
            without: fields that there were not yet.
        """
        return self.model_dump_json(indent=2, exclude=set(without)).encode() + b"\n"

    @property
    def forms(self) -> tuple[bytes, ...]:
        """The forms in which it may lie there: as written now, or before there were fields that it has no use for."""
        return tuple(self.written(unknown) for unknown in _UNKNOWN_ONCE if unknown <= self._unused)

    def sealed(self) -> "CorpusManifest":
        """Return the manifest with its checksum filled in."""
        return self.model_copy(update={"checksum": self._digest()})

    @property
    def intact(self) -> bool:
        """Whether nothing was changed since it was sealed."""
        return self.checksum == self._digest()

    def _digest(self) -> str:
        # Corpora made before there were these fields stay intact.
        return digest(self.model_dump(mode="json", exclude={"checksum"} | self._unused))

    @property
    def _unused(self) -> set[str]:
        return {name for name in ("parts", "replaces") if not getattr(self, name)}


_UNKNOWN_ONCE = (frozenset[str](), frozenset({"replaces"}), frozenset({"replaces", "parts"}))
"""Fields that manifests lack which were written before there were any of them: none, the last, all."""


def corpus_id(recipe_digest: str, catalogue_digest: str, seed: int, shards: dict[str, str]) -> str:
    """Identity of a corpus: recipe, catalogue rows used, seed and shard hashes. No path, host or clock."""
    return digest({"recipe": recipe_digest, "catalogue": catalogue_digest, "seed": seed, "shards": shards})


@dataclass(frozen=True)
class Corpus:
    """A finished corpus, opened for reading."""

    store: Store
    manifest: CorpusManifest
    shards: tuple[ShardRecord, ...]
    """In order: split (train, val, test), then number. A merged corpus has none of its own."""
    merged: tuple["OpenPart", ...] = ()
    """Parts of a merged corpus, in its order."""

    @property
    def parts(self) -> tuple["OpenPart", ...]:
        """The corpora that hold its samples: the parts of a merged corpus, or just this one."""
        return self.merged or (OpenPart(self),)

    @property
    def url(self) -> str:
        """Where it lies, as a user would write it."""
        return self.store.url

    def of(self, split: str) -> tuple[ShardRecord, ...]:
        """Shards of one split."""
        return tuple(shard for shard in self.shards if shard.split == split)

    def samples_of(self, split: str) -> int:
        """Samples of one split, of all parts together."""
        return sum(len(shard.samples) for part in self.parts for shard in part.corpus.of(split))

    def where(self, shard: ShardRecord) -> str:
        """Path or URI of a shard."""
        return self.store.where(shard.tar_name)

    def read(self, shard: ShardRecord, member: Member) -> bytes:
        """Read a member of a shard by its place in the tar; short where the shard is.

        Raises:
            OSError: when the shard cannot be read.
        """
        return self.store.read(shard.tar_name, member.offset, member.bytes)

    def sample_json(self, shard: ShardRecord, entry: SampleEntry) -> dict[str, Any]:
        """Read a sample's `KEY.json`.

        Raises:
            OSError: when the shard cannot be read.
            ValueError: when what lies there is not JSON.
        """
        content: dict[str, Any] = json.loads(self.read(shard, entry.members["json"]))
        return content

    def sha256(self, shard: ShardRecord) -> str:
        """Hash a shard as it lies there now."""
        return self.store.sha256(shard.tar_name)


@dataclass(frozen=True)
class OpenPart:
    """A corpus as a part of a merged one, or as the whole of itself."""

    corpus: Corpus
    named: Part | None = None
    """As the merged corpus names it."""

    @property
    def weight(self) -> float:
        """How often its training samples are seen an epoch, relative to their number."""
        return self.named.weight if self.named else 1.0

    def key(self, entry: SampleEntry) -> str:
        """Return what a sample is called: by its full name, where keys of other parts may be alike."""
        return self.named.key(entry.key) if self.named else entry.key

    def shard_name(self, shard: ShardRecord) -> str:
        """Return what a shard is called: its name, behind the part's id where the corpus is a merged one."""
        return f"{self.named.corpus}/{shard.tar_name}" if self.named else shard.tar_name


def record_name(tar_name: str) -> str:
    """Return the path of a shard's commit record, given that of its tar."""
    return tar_name.removesuffix(".tar") + ".json"


def read_shard_record(store: Store, name: str) -> ShardRecord:
    """Read one commit record.

    Raises:
        UserError: when the record cannot be read.
    """
    try:
        return ShardRecord.model_validate_json(store.read(name))
    except (FileNotFoundError, ValidationError) as error:
        raise UserError(f"{store.where(name)}: not a shard record of this format") from error


def read_manifest(place: Place | Store) -> CorpusManifest:
    """Read `corpus.json`.

    Raises:
        UserError: when there is no finished corpus, or the place cannot be reached.
    """
    store = open_store(place) if isinstance(place, Place) else place
    try:
        return CorpusManifest.model_validate_json(store.read(CORPUS_FILE))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{store.url}: holds no {CORPUS_FILE}, so it is not a finished corpus") from error
    except ValidationError as error:
        raise UserError(f"{store.where(CORPUS_FILE)}: not a corpus manifest of this format") from error
    except OSError as error:
        raise UserError(f"{store.where(CORPUS_FILE)}: cannot be read ({error.strerror or error})") from error


def is_corpus(place: Place) -> bool:
    """Whether a finished corpus lies at a place; False as well where that cannot be found out."""
    try:
        return open_store(place).size(CORPUS_FILE) is not None
    except (OSError, UserError):
        return False


def open_corpus(place: Place) -> Corpus:
    """Open a finished corpus and check that its records agree with its manifest.

    Shard contents are not re-hashed here (`ssiforge verify` does that); sizes are compared.

    Args:
        place: its folder or URI.

    Raises:
        UserError: when something is missing or differs.
    """
    store = open_store(place)
    manifest = read_manifest(store)
    sizes = store.names() if manifest.shards else {}
    shards = tuple(open_shard(store, name, sha256, sizes) for name, sha256 in manifest.shards_in_order())
    if not has_its_id(manifest):
        raise UserError(f"{store.where(CORPUS_FILE)}: its id does not match its content")
    return Corpus(store, manifest, shards, tuple(_open_part(store, part) for part in manifest.parts))


def _open_part(store: Store, part: Part) -> OpenPart:
    place, _ = read_part(store, part)
    try:
        return OpenPart(open_corpus(place.url), part)
    except UserError as error:
        raise UserError(f"{store.url}: its part {part.name} is damaged: {error}") from error


def read_part(store: Store, part: Part) -> tuple[Store, CorpusManifest]:
    """Find a part of a merged corpus, and check that it is the one that was merged.

    Args:
        store: of the merged corpus.
        part: as its manifest names it.

    Raises:
        UserError: when the part is not there, or another corpus is.
    """
    try:
        held = open_store(part.place_in(store))
        manifest = read_manifest(held)
    except UserError as error:
        raise UserError(
            f"{store.url}: its part {part.name} cannot be found: {error}; "
            "if it was moved, run 'ssiforge merge' again with where it is now"
        ) from error
    if manifest.id != part.corpus:
        how = "was made larger since" if manifest.grown_from == part.corpus else "is another corpus now"
        raise UserError(
            f"{store.url}: its part {part.name} at {held.url} {how} (corpus {manifest.id}, not {part.corpus}); "
            "run 'ssiforge merge' again, into another place"
        )
    if manifest.parts:
        raise UserError(f"{store.url}: its part {part.name} at {held.url} is itself a merged corpus")
    return held, manifest


def open_shard(store: Store, name: str, sha256: str, sizes: Mapping[str, int]) -> ShardRecord:
    """Read the record of a shard that a manifest names, and check that the two and the tar's size agree.

    Args:
        store: of the corpus.
        name: of the tar, within the corpus.
        sha256: which the manifest names.
        sizes: of all files of the corpus.

    Raises:
        UserError: when something is missing or differs.
    """
    record = read_shard_record(store, record_name(name))
    if record.tar_name != name or record.sha256 != sha256:
        raise UserError(f"{store.where(record.record_name)}: does not belong to this corpus")
    held = sizes.get(name, 0)
    if held != record.bytes:
        raise UserError(
            f"{store.where(name)}: missing or truncated ({held} of {record.bytes} bytes); "
            "run 'ssiforge generate' again to render it"
        )
    return record


def has_its_id(manifest: CorpusManifest) -> bool:
    """Whether a manifest's id is the digest of what it names."""
    if manifest.parts:
        return manifest.id == merged_id(manifest.parts)
    return manifest.id == corpus_id(
        manifest.recipe_digest, manifest.catalogue_digest, manifest.seed, manifest.shards
    )


def changed_files(store: Store, manifest: CorpusManifest) -> Iterator[str]:
    """Name the records and tables that are missing, or not what they were when the corpus was finished."""
    if not manifest.intact or store.read(CORPUS_FILE) not in manifest.forms:
        yield f"{CORPUS_FILE}: its content changed since it was written"
    for name, sha256 in manifest.files.items():
        try:
            if store.sha256(name) != sha256:
                yield f"{name}: its content changed since it was written"
        except (FileNotFoundError, NotADirectoryError):
            yield f"{name}: is missing"
        except OSError as error:
            yield f"{name}: cannot be read ({error.strerror or error})"


def _shard_order(name: str) -> tuple[int, int, str]:
    split, _, rest = name.partition("/")
    # Numbers have six digits and may grow: a longer name is a higher number.
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), len(rest), rest)
