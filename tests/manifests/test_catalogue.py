"""A catalogue is the same whether made of a list, mapped from a file or extended: rows, order, digest, look-ups."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_sources import names, sources

from manifests.canonical import digest
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.errors import UserError
from manifests.recipe import SPLITS
from manifests.source import KINDS, Source
from manifests.sources import sources_of

WHATEVER = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "cache"))


def mapped(rows: Iterable[Source], folder: Path) -> Catalogue:
    write_catalogue(Catalogue(rows), folder / "sources.parquet")
    return read_catalogue(folder / "sources.parquet")


def in_order(rows: Iterable[Source]) -> list[Source]:
    return sorted(rows, key=lambda source: (source.kind, source.sha256, source.path))


def row(number: int, kind: str = "speech", **values: object) -> Source:
    return Source(path=f"/{number}.wav", kind=kind, sha256=f"{number:064x}", seconds=1.0 + number, **values)


@WHATEVER
@given(rows=st.lists(sources, max_size=12))
def test_rows_come_back_as_they_were_in_their_order(rows, tmp_path):
    for catalogue in (Catalogue(rows), mapped(rows, tmp_path)):
        assert list(catalogue) == in_order(rows)
        assert catalogue.sources == in_order(rows)
        assert [catalogue.sources[i] for i in range(-len(rows), 0)] == in_order(rows)
        assert catalogue.sources[1:9:3] == tuple(in_order(rows)[1:9:3])
        assert len(catalogue) == len(rows)
        usable = [source for source in in_order(rows) if source.refused is None]
        assert catalogue.usable == usable
        assert catalogue.refused == [source for source in in_order(rows) if source.refused is not None]
        assert catalogue.digest == digest([source.identity() for source in usable])
        for kind in KINDS:
            assert catalogue.of_kind(kind) == [s for s in in_order(rows) if s.kind == kind]
            for split in SPLITS:
                assert catalogue.of(kind, split) == [s for s in usable if (s.kind, s.split) == (kind, split)]


@WHATEVER
@given(rows=st.lists(sources, max_size=12))
def test_content_hashes_find_what_a_dict_of_the_usable_rows_finds(rows, tmp_path):
    expected = {source.sha256: source for source in in_order(rows) if source.refused is None}
    for catalogue in (Catalogue(rows), mapped(rows, tmp_path)):
        found = catalogue.by_sha256
        assert dict(found) == expected
        assert list(found) == list(expected)
        assert len(found) == len(expected)
        for sha256 in {source.sha256 for source in rows} | {"not there", "0000", ""}:
            assert (sha256 in found) == (sha256 in expected)
            assert found.get(sha256) == expected.get(sha256)
    with pytest.raises(KeyError):
        found["not there"]


def test_of_several_rows_with_one_content_the_last_usable_one_is_found(tmp_path):
    same = [
        Source("/a", "noise", "5", recording="a"),
        Source("/b", "speech", "5", speaker="b"),
        Source("/c", "speech", "5", speaker="c"),
        Source("/d", "speech", "5", refused="silent"),
        Source("/e", "rir", "6"),
        Source("/f", "speech", "7", refused="silent"),
    ]
    for catalogue in (Catalogue(same), mapped(same, tmp_path)):
        assert catalogue.by_sha256["5"].path == "/c"
        assert list(catalogue.by_sha256) == ["5", "6"]
        assert "7" not in catalogue.by_sha256


@WHATEVER
@given(rows=st.lists(sources, max_size=8), more=st.lists(sources, max_size=5))
def test_an_extended_catalogue_is_one_of_all_rows(rows, more, tmp_path):
    expected = Catalogue([*in_order(rows), *more])
    for catalogue in (Catalogue(rows), mapped(rows, tmp_path)):
        extended = catalogue.extended(more)
        assert extended.sources == expected.sources
        assert extended.digest == expected.digest
        assert dict(extended.by_sha256) == dict(expected.by_sha256)
        assert list(catalogue) == in_order(rows)


def test_the_tables_of_other_kinds_are_shared_when_a_catalogue_is_extended(tmp_path):
    catalogue = mapped([row(n) for n in range(10)], tmp_path)
    extended = catalogue.extended([row(n, "rir", room="r") for n in range(3)])
    before, after = ({table.kind: table for table in held._tables} for held in (catalogue, extended))
    assert after["speech"] is before["speech"]
    assert len(after["rir"]) == 3


@WHATEVER
@given(
    rows=st.lists(sources, max_size=12).map(lambda rows: [dataclasses.replace(r, kind="rir") for r in rows]),
    name=names,
    low=st.floats(-10, 10),
    shuffled=st.booleans(),
)
def test_what_is_chosen_is_what_a_loop_would_choose(rows, name, low, shuffled, tmp_path):
    """Of all rows of a catalogue, of some, and of sources in an order of their own."""
    if shuffled:
        pool, plain = sources_of(rows), rows
    else:
        kept = mapped(rows, tmp_path).of_kind("rir").kept(lambda of: of("usable"))
        pool, plain = kept, [source for source in in_order(rows) if source.refused is None]
    assert list(pool) == plain
    assert pool.within("bandwidth_hz", low, 1e9) == [
        s for s in plain if s.bandwidth_hz is not None and low <= s.bandwidth_hz <= 1e9
    ]
    for column in ("speaker", "room"):
        assert pool.named(column, name) == [s for s in plain if getattr(s, column) == name]
        assert list(pool.names(column)) == sorted({getattr(s, column) for s in plain} - {None, ""})
        less = pool.names(column).without(name or "")
        assert list(less) == sorted({getattr(s, column) for s in plain} - {None, "", name})
    for prefix in {"a", "ann", (name or "x")[:1]}:
        starts = [(s.room or "").startswith(prefix) and s.room is not None for s in plain]
        chosen = [s for s, does in zip(plain, starts, strict=True) if does]
        others = [s for s, does in zip(plain, starts, strict=True) if not does]
        assert pool.starting_with("room", prefix) == chosen
        assert pool.starting_with("room", prefix, False) == others
    for sha256 in {s.sha256 for s in rows} | {"?"}:
        assert pool.with_sha256(sha256) == [s for s in plain if s.sha256 == sha256]
        assert pool.without_sha256(sha256) == [s for s in plain if s.sha256 != sha256]
    distances = [np.inf if s.rt60_s is None else abs(s.rt60_s - low) for s in plain]
    nearest = [s for s, d in zip(plain, distances, strict=True) if d == min(distances)]
    assert pool.nearest("rt60_s", low) == nearest
    if plain:
        assert pool.highest("bandwidth_hz") == max(plain, key=lambda s: s.bandwidth_hz or 0.0)


def test_sources_in_an_order_of_their_own_are_chosen_by_their_own_values():
    given = [row(n, bandwidth_hz=float(n), room="r", rt60_s=n / 10) for n in (0, 2, 1, 3)]
    pool = sources_of(given)
    assert list(pool) == given
    assert pool.within("bandwidth_hz", 2.0) == [given[1], given[3]]
    assert pool.values("bandwidth_hz", 0, 4).tolist() == [0.0, 2.0, 1.0, 3.0]
    assert pool.nearest("rt60_s", 0.14) == [given[2]]
    assert pool.highest("seconds") == given[3]
    assert pool.named("room", "r") == given


def test_values_of_many_blocks_are_chosen_as_those_of_few(tmp_path):
    rows = [row(n, bandwidth_hz=float(n % 977), split="train", speaker=f"s{n % 31}") for n in range(10_000)]
    pool = mapped(rows, tmp_path).of("speech", "train").within("bandwidth_hz", 500.0)
    plain = [source for source in rows if source.bandwidth_hz >= 500.0]
    assert list(pool) == plain
    assert pool.values("seconds", 4_000, 4_500).tolist() == [s.seconds for s in plain[4_000:4_500]]
    assert pool.named("speaker", "s7") == [s for s in plain if s.speaker == "s7"]
    assert pool.highest("bandwidth_hz") == max(plain, key=lambda s: s.bandwidth_hz)
    with pytest.raises(IndexError):
        pool[len(plain)]


# --- files that others have written -----------------------------------------------------------------


def _written(folder: Path, table: pa.Table) -> Path:
    pq.write_table(table, folder / "given.parquet")
    return folder / "given.parquet"


def _table(rows: list[Source]) -> pa.Table:
    return pa.Table.from_pylist([dataclasses.asdict(source) for source in rows])


def test_rows_in_any_order_types_that_hold_the_same_and_missing_columns_are_read(tmp_path):
    rows = [row(n, kind, room="r", licence="x") for n in (3, 1, 2) for kind in ("speech", "rir", "noise")]
    table = _table(rows).drop_columns(["rt60_s", "licence", "speaker", "mtime_ns"])
    table = table.set_column(
        table.column_names.index("kind"), "kind", table["kind"].dictionary_encode()
    ).set_column(table.column_names.index("rate_hz"), "rate_hz", table["rate_hz"].cast(pa.int16()))
    expected = in_order(dataclasses.replace(source, licence="unknown") for source in rows)
    assert list(read_catalogue(_written(tmp_path, table))) == expected


def test_a_catalogue_of_no_rows_is_empty(tmp_path):
    catalogue = mapped([], tmp_path)
    assert len(catalogue) == 0
    assert not catalogue.usable
    assert catalogue.digest == digest([])
    assert len(catalogue.of("speech", "train")) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.drop_columns(["path"]),
        lambda table: table.append_column("colour", pa.array(["red"] * len(table))),
        lambda table: table.set_column(0, "path", pa.array([None, "b"])),
        lambda table: table.set_column(
            table.column_names.index("frames"), "frames", pa.array([1, None], pa.int64())
        ),
        lambda table: table.set_column(
            table.column_names.index("seconds"), "seconds", pa.array([1.0, float("nan")])
        ),
        lambda table: table.set_column(
            table.column_names.index("seconds"), "seconds", pa.array(["long", "short"])
        ),
    ],
)
def test_what_no_catalogue_holds_is_refused_in_one_sentence(spoil, tmp_path):
    path = _written(tmp_path, spoil(_table([row(1), row(2)])))
    with pytest.raises(UserError, match=r"given.parquet: not a catalogue made by 'ssiforge scan'$"):
        read_catalogue(path)


def test_a_file_that_is_no_parquet_or_missing_is_refused(tmp_path):
    (tmp_path / "s.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(UserError, match="not a catalogue"):
        read_catalogue(tmp_path / "s.parquet")
    (tmp_path / "s.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="not a catalogue"):
        read_catalogue(tmp_path / "s.parquet")
    with pytest.raises(UserError, match="no such catalogue"):
        read_catalogue(tmp_path / "t.parquet")
    assert not list((tmp_path / "cache").rglob("*.arrays"))
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_catalogue_is_written_some_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("manifests.catalogue_parquet.ROWS_AT_ONCE", 7)
    rows = in_order(row(n, kind) for n in range(20) for kind in KINDS)
    catalogue = mapped(rows, tmp_path)
    assert pq.ParquetFile(tmp_path / "sources.parquet").num_row_groups == 9
    assert list(catalogue) == rows
