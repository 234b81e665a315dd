"""What `samples.parquet` says of a corpus as a whole: columns are read and added up, never rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.sample import AXES
from pipelines.report.charts import Span
from pipelines.report.scales import Values

ROWS_AT_A_TIME = 1 << 16
SURE = 0.95
CODEC_COLUMNS = ("codec", "first_codec", "second_codec")
"""Drawn values that name a codec, of any stage."""


@dataclass(frozen=True)
class Measure:
    """Something that every sample may have a number for."""

    column: str
    title: str
    unit: str
    scale: float = 1.0
    """From what the table holds to the unit."""
    above_zero: bool = False
    """Whether zero means that there is none of it; such samples are counted, and not part of the distribution."""
    whole: bool = False
    """Whether values are counts."""

    @property
    def axis(self) -> str:
        """Title of an axis."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


STAGE_COUNT = Measure("stages", "Number of stages", "", whole=True)
MEASURES = (
    Measure("measured.snr_db", "Speech to all noise, SNR", "dB"),
    Measure("measured.rt60_s", "Reverberation time RT60", "s"),
    Measure("measured.drr_db", "Direct to reverberant energy", "dB"),
    Measure("measured.degraded_bandwidth_hz", "Bandwidth of the degraded clip", "kHz", 0.001),
    Measure("measured.degraded_active_level_dbfs", "Active level of the degraded clip", "dBFS"),
    Measure("measured.clipped_share", "Clipped share", "%", 100.0, above_zero=True),
    Measure("measured.loss_share", "Lost share (packets)", "%", 100.0, above_zero=True),
    STAGE_COUNT,
)
SEVERITIES = tuple(
    Measure(f"severity.{axis}", f"Severity of {axis}", "0 to 1", above_zero=True) for axis in AXES
)


@dataclass(frozen=True)
class Talker:
    """A speaker of a corpus."""

    name: str
    split: str
    samples: int
    hours: float


@dataclass(frozen=True)
class Promise:
    """A value that a stage draws and promises to deliver, over all samples that have it."""

    label: str
    name: str
    drawn: Span
    """5 %, median and 95 % of what was drawn."""
    delivered: Span
    """Likewise, of what was measured in the same samples."""
    off: float
    """How far the two are apart in 95 % of the samples at most."""


@dataclass(frozen=True)
class Summary:
    """A corpus as columns. Arrays have a value for each sample, in the order of the table."""

    labels: tuple[str, ...]
    """Stages that fired anywhere, the most frequent first."""
    fired: NDArray[np.bool_]
    """Which stage fired in which sample, shape (samples, stages)."""
    columns: dict[str, Values]
    """By name of a measure's column; NaN where a sample has no value."""
    codecs: dict[str, tuple[int, Values]]
    """For each codec: how many stages used it, and their measured rates in kbit/s."""
    talkers: tuple[Talker, ...]
    """Those with most hours first."""
    sources: int
    """Different source files used."""
    unaligned: int
    """Samples whose degraded speech was moved in time against the target."""
    promises: tuple[Promise, ...] = ()
    """Of the values that were asked for when it was read."""

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.fired)

    def values(self, measure: Measure) -> Values:
        """Return the finite values of a measure in its unit, without zeros where these mean none."""
        column = self.columns.get(measure.column, np.zeros(0))
        values = column[np.isfinite(column)] * measure.scale
        return values[values > 0.0] if measure.above_zero else values

    def together(self) -> NDArray[np.float64]:
        """Of the samples with a stage (row), the share with another (column); on the diagonal, of all samples."""
        fired = self.fired.astype(np.float32)
        both = (fired.T @ fired).astype(np.float64)
        alone = np.diag(both).copy()
        shares = both / np.maximum(alone[:, None], 1.0)
        np.fill_diagonal(shares, alone / max(self.samples, 1))
        return shares


def read_summary(path: Path, promised: Iterable[str] = ()) -> Summary:
    """Read a `samples.parquet`.

    Args:
        path: of the file, local.
        promised: values, as `noise.snr_db`, of which to say what was drawn and what was delivered.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        names = table.schema_arrow.names
        measured = [m.column for m in (*MEASURES, *SEVERITIES) if m.column in names and m is not STAGE_COUNT]
        codecs = [
            name for name in names if name.rpartition(".")[2] in CODEC_COLUMNS and ".measured." not in name
        ]
        rates = [rate for name in codecs if (rate := _rate_column(name)) in names]
        wanted = [
            "split",
            "speaker",
            "seconds",
            "aligned",
            "stages",
            "source_sha256",
            *measured,
            *codecs,
            *rates,
        ]
        content = table.read(columns=wanted)
        promises = tuple(_promises(table, promised))
    labels, fired = _fired(content["stages"])
    columns = {name: _floats(content[name]) for name in measured}
    columns[STAGE_COUNT.column] = fired.sum(axis=1, dtype=np.float64)
    return Summary(
        labels=labels,
        fired=fired,
        columns=columns,
        codecs=_codecs(content, codecs),
        talkers=tuple(_talkers(content)),
        sources=len(pa.compute.unique(_flat(content["source_sha256"]))),
        unaligned=content.num_rows - int(pa.compute.sum(content["aligned"]).as_py() or 0),
        promises=promises,
    )


def _promises(table: Any, promised: Iterable[str]) -> Iterator[Promise]:
    """Compare what was drawn with what was measured, a value at a time: a corpus may have a hundred of them."""
    import pyarrow as pa

    schema = table.schema_arrow
    for name in promised:
        label, _, value = name.rpartition(".")
        pair = [name, f"{label}.measured.{value}"]
        if not all(
            column in schema.names
            and (pa.types.is_floating(kind := schema.field(column).type) or pa.types.is_integer(kind))
            for column in pair
        ):
            continue
        columns = table.read(columns=pair)
        drawn, delivered = (_floats(columns[column]) for column in pair)
        both = np.isfinite(drawn) & np.isfinite(delivered)
        if both.any():
            drawn, delivered = drawn[both], delivered[both]
            off = float(np.quantile(np.abs(delivered - drawn), SURE))
            yield Promise(label, value, _span(drawn), _span(delivered), off)


def _span(values: Values) -> Span:
    low, middle, high = np.quantile(values, (1.0 - SURE, 0.5, SURE)).tolist()
    return low, middle, high


def _floats(column: Any) -> Values:
    import pyarrow as pa

    values: Values = column.cast(pa.float64()).to_numpy()
    return values


def _flat(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.list_flatten(column)


def _fired(column: Any) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Return the labels and which of them each row's list holds."""
    import pyarrow.compute as pc

    encoded = _flat(column).combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    rows = pc.list_parent_indices(column.combine_chunks()).to_numpy(zero_copy_only=False)
    fired = np.zeros((len(column), len(names)), bool)
    fired[rows, encoded.indices.to_numpy(zero_copy_only=False)] = True
    order = sorted(range(len(names)), key=lambda n: (-int(fired[:, n].sum()), names[n]))
    return tuple(names[n] for n in order), fired[:, order]


def _rate_column(codec: str) -> str:
    """`codec.codec` -> `codec.measured.bitrate_kbps`, `tandem.first_codec` -> `tandem.measured.first_bitrate_kbps`."""
    label, _, name = codec.rpartition(".")
    return f"{label}.measured.{name.removesuffix('codec')}bitrate_kbps"


def _codecs(content: Any, columns: Sequence[str]) -> dict[str, tuple[int, Values]]:
    import pyarrow.compute as pc

    found: dict[str, list[Values]] = {}
    counts: dict[str, int] = {}
    for column in columns:
        used, rate = content[column], _rate_column(column)
        rates = _floats(content[rate]) if rate in content.column_names else np.full(len(used), np.nan)
        for codec in sorted(pc.unique(used.drop_null()).to_pylist()):
            here = pc.fill_null(pc.equal(used, codec), False).to_numpy()
            counts[codec] = counts.get(codec, 0) + int(here.sum())
            found.setdefault(codec, []).append(rates[here & np.isfinite(rates)])
    order = sorted(counts, key=lambda codec: (-counts[codec], codec))
    return {codec: (counts[codec], np.concatenate(found[codec])) for codec in order}


def _talkers(content: Any) -> Iterator[Talker]:
    groups = (
        content.select(["speaker", "split", "seconds"])
        .group_by(["speaker", "split"])
        .aggregate([("seconds", "sum"), ("seconds", "count")])
        .to_pylist()
    )
    groups.sort(key=lambda row: (-row["seconds_sum"], str(row["speaker"]), row["split"]))
    for row in groups:
        yield Talker(row["speaker"] or "", row["split"], row["seconds_count"], row["seconds_sum"] / 3600.0)
