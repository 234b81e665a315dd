"""The samples that a page shows, to look at and to listen to."""

import json
from collections.abc import Mapping, Sequence
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
)
from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import AXES, SampleRecord
from manifests.store import Store
from pipelines.report.markup import Html, join, tag
from pipelines.report.media import MOST_SECONDS, Audio, excerpt, level_scale, panel, player
from pipelines.report.words import stage_in_words, stage_title

KINDS = {"speech": "speech", "noise": "noise", "rir": "room"}


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
        return read_shard_record(self._part(corpus), name.removesuffix(".tar") + ".json")


def _read(store: Store, shard: ShardRecord, entry: SampleEntry, name: str) -> bytes:
    member = entry.members[name]
    return store.read(shard.tar_name, member.offset, member.bytes)


def samples_section(samples: Sequence[Shown], names: Mapping[str, str]) -> Html:
    """Return samples with players and pictures, and a form that filters them.

    Args:
        samples: to show.
        names: file name of each source, by content hash.
    """
    return join(
        _filters(samples),
        tag("div", level_scale(), class_="levels"),
        tag("div", [_sample(sample, names) for sample in samples], class_="samples"),
    )


def _filters(samples: Sequence[Shown]) -> Html:
    """Return the form, which only scripts show: without them all samples are there."""
    labels = sorted({stage.label for sample in samples for stage in sample.record.stages})
    splits = sorted({sample.record.split for sample in samples})

    def choice(name: str, title: str, every: str, values: Sequence[tuple[str, str]]) -> Html:
        options = [tag("option", text, value=value) for value, text in (("", every), *values)]
        return tag("label", title, tag("select", options, name=name))

    return tag(
        "form",
        choice("stage", "Stage", "any", [(label, stage_title(label)) for label in labels]),
        choice("axis", "Severity of", "the worst axis", [(axis, axis) for axis in AXES]),
        tag(
            "label",
            tag("span", "is at least ", tag("output", "0.00", id="level-value")),
            tag("input", type="range", name="level", min=0, max=1, step=0.05, value=0),
        ),
        choice("split", "Split", "any", [(split, split) for split in splits]),
        tag("button", "Show all", type="reset"),
        tag("p", id="shown", class_="note", role="status"),
        id="filters",
        class_="filters",
        hidden=True,
        aria_label="Filter the samples",
    )


def _sample(sample: Shown, names: Mapping[str, str]) -> Html:
    record = sample.record
    length_s = record.frames / SAMPLE_RATE_HZ
    cut = f", the first {MOST_SECONDS:g} s of it" if length_s > MOST_SECONDS else ""
    moved = "" if record.aligned else "; moved in time against its target"
    words = [stage_in_words(stage) for stage in record.stages]
    return tag(
        "article",
        tag(
            "h3",
            tag("span", sample.key),
            tag("small", f"{record.split}, {record.speaker}, {length_s:g} s{cut}{moved}"),
        ),
        tag(
            "div",
            _clip(sample.key, "Degraded", sample.degraded),
            _clip(sample.key, "Target", sample.target),
            class_="pair",
        ),
        tag(
            "ul",
            [tag("li", f"{axis} ", tag("b", f"{record.severity[axis]:.2f}")) for axis in AXES],
            class_="severity",
            aria_label="Severity on the axes of P.804, 0 to 1",
        ),
        tag("ol", [tag("li", text) for text in words])
        if words
        else tag("p", "No stage: the clip is its target."),
        tag(
            "details",
            tag("summary", "Sources and licences"),
            tag("ul", [tag("li", line) for line in _sources(record, names)]),
        ),
        class_="card sample",
        data_stages="\n".join(stage.label for stage in record.stages),
        data_severity=json.dumps({axis: record.severity[axis] for axis in AXES}),
        data_split=record.split,
    )


def _clip(key: str, name: str, audio: Audio) -> Html:
    what = f"{name} clip of {key}"
    return tag(
        "figure",
        tag("figcaption", name),
        panel(audio, f"Waveform and spectrogram: {what}, {len(audio) / SAMPLE_RATE_HZ:g} s, 0 to 24 kHz"),
        player(audio, what),
    )


def _sources(record: SampleRecord, names: Mapping[str, str]) -> list[str]:
    return [
        f"{KINDS.get(source.kind, source.kind)}: {names.get(source.sha256) or source.sha256[:12]}"
        f" ({source.group or 'no name'}; licence: {source.licence})"
        for source in record.sources
    ]
