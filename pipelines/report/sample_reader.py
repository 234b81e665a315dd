"""Samples opened one by one: of a corpus, the record of a shard and the bytes of the sample are read, nothing else."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from datagen.audio import AudioError, decode_flac
from manifests.corpus import (
    SAMPLES_FILE,
    CorpusManifest,
    SampleEntry,
    ShardRecord,
    read_part,
    read_shard_record,
    record_name,
)
from manifests.errors import UserError
from manifests.sample import SampleRecord
from manifests.store import Store
from pipelines.report.media import Audio, excerpt


@dataclass(frozen=True)
class Shown:
    """One sample."""

    key: str
    record: SampleRecord
    degraded: Audio
    target: Audio


class SampleReader:
    """Opens samples by their row of `samples.parquet`: only the record of a shard, and the bytes of the sample."""

    def __init__(self, store: Store, manifest: CorpusManifest, table: Path) -> None:
        """Read where the samples lie.

        Args:
            store: of the corpus.
            manifest: of the corpus.
            table: its `samples.parquet`, local.
        """
        import pyarrow.parquet as pq

        self._store, self._manifest = store, manifest
        names = [name for name in ("key", "shard", "index", "corpus") if name in pq.read_schema(table).names]
        self._rows = pq.read_table(table, columns=names)
        self._part = cache(self._find_part)
        self._shard = cache(self._find_shard)

    def key(self, row: int) -> str:
        """Return the name of a sample."""
        return str(self._rows["key"][row].as_py())

    def read(self, row: int) -> Shown:
        """Read one sample.

        Raises:
            UserError: when it is not where the table says, or is damaged.
        """
        store, shard, entry, key = self._found(row)
        where = f"{store.where(shard.tar_name)}: {entry.key}"
        try:
            content = {
                name: _read(store, shard, entry, name) for name in ("json", "degraded.flac", "target.flac")
            }
            return Shown(
                key,
                SampleRecord.model_validate_json(content["json"]),
                excerpt(decode_flac(content["degraded.flac"])),
                excerpt(decode_flac(content["target.flac"])),
            )
        except KeyError as error:
            raise UserError(f"{where} has no {error.args[0]}") from error
        except (AudioError, ValidationError) as error:
            raise UserError(f"{where} is damaged; 'ssiforge verify' says more") from error
        except OSError as error:
            raise UserError(f"{where} cannot be read ({error.strerror or error})") from error

    def read_degraded(self, row: int) -> Audio:
        """Read all of a sample's degraded clip.

        Raises:
            UserError: likewise.
        """
        store, shard, entry, _ = self._found(row)
        try:
            return decode_flac(_read(store, shard, entry, "degraded.flac"))
        except (AudioError, KeyError, OSError) as error:
            raise UserError(f"{store.where(shard.tar_name)}: {entry.key} cannot be read ({error})") from error

    def _found(self, row: int) -> tuple[Store, ShardRecord, SampleEntry, str]:
        place = {name: self._rows[name][row].as_py() for name in self._rows.column_names}
        store = self._part(place.get("corpus"))
        shard = self._shard(place.get("corpus"), place["shard"])
        for entry in shard.samples:
            if entry.index == place["index"]:
                return store, shard, entry, place["key"]
        raise UserError(
            f"{self._store.where(SAMPLES_FILE)}: names sample {place['key']}, which {place['shard']} does not hold"
        )

    def _find_part(self, corpus: str | None) -> Store:
        if corpus is None:
            return self._store
        for part in self._manifest.parts:
            if part.corpus == corpus:
                return read_part(self._store, part)[0]
        raise UserError(
            f"{self._store.where(SAMPLES_FILE)}: names part {corpus}, which the corpus does not have"
        )

    def _find_shard(self, corpus: str | None, name: str) -> ShardRecord:
        return read_shard_record(self._part(corpus), record_name(name))


def _read(store: Store, shard: ShardRecord, entry: SampleEntry, name: str) -> bytes:
    member = entry.members[name]
    return store.read(shard.tar_name, member.offset, member.bytes)
