"""The page of a corpus: right, the same every time, safe with every name, and readable without a browser's help."""

import base64
import io
import json
import re
import shutil
import tarfile
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from hostile_names import IMAGE, SAMPLES, SPEAKER
from pages import Page

from manifests.corpus import read_manifest
from manifests.errors import UserError
from manifests.sample import AXES
from manifests.source import WITHDRAWN
from manifests.store import open_store
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.merging.merge import merge
from pipelines.report.choice import SEVERITIES_SHOWN, chosen_samples
from pipelines.report.corpus_report import corpus_page, write_report
from pipelines.report.corpus_sections import cost, licences
from pipelines.report.material import read_kinds, read_names, read_recipe
from pipelines.report.page import Section, page
from pipelines.report.scales import figure
from pipelines.report.summary import MEASURES, SEVERITIES, STAGE_COUNT, Summary, read_summary

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 48_000
MEASURED_COLUMNS = {m.column for m in (*MEASURES, *SEVERITIES)} - {STAGE_COUNT.column}


@pytest.fixture(scope="module")
def content(hostile: Path) -> bytes:
    return corpus_page(open_store(hostile), None, 6, print)


@pytest.fixture(scope="module")
def summary(hostile: Path) -> Summary:
    return read_summary(hostile / "samples.parquet")


@pytest.fixture(scope="module")
def records(hostile: Path) -> list[dict[str, Any]]:
    """Every sample's KEY.json, from the tars."""
    found = []
    for path in sorted(hostile.glob("*/*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]  # type: ignore[arg-type]
    return found


# --- safe and usable ------------------------------------------------------------------------------


def test_names_that_are_markup_appear_as_text_and_do_nothing(content: bytes) -> None:
    page = Page.parsed(content)
    page.check_safe()
    assert IMAGE in page.text
    assert f"broken{IMAGE}" in page.text
    assert SPEAKER in page.text
    assert "</td><svg onload=alert(2)>" in page.text
    assert "\u202e" not in content.decode()


def test_it_is_read_without_seeing_and_used_without_a_mouse(content: bytes) -> None:
    page = Page.parsed(content)
    page.check_usable()
    (form,) = page.of("form")
    assert "hidden" in form  # without scripts there is nothing to filter with, and every sample is shown
    assert not any("hidden" in attributes for attributes in page.of("article"))
    assert {a["name"] for a in page.elements_with("name", "select", "input")} == {
        "stage",
        "axis",
        "level",
        "split",
    }


def test_samples_say_what_filters_look_for(content: bytes, records: list[dict[str, Any]]) -> None:
    page = Page.parsed(content)
    by_key = {record["key"]: record for record in records}
    shown = re.findall(r"<h3><span>([^<]+)</span>", content.decode())
    assert len(shown) == 6
    for key, article in zip(shown, page.of("article"), strict=True):
        assert (article["data-stages"] or "").split("\n") == [s["label"] for s in by_key[key]["stages"]]
        assert json.loads(article["data-severity"] or "") == by_key[key]["severity"]
        assert article["data-split"] == by_key[key]["split"]


# --- the same ---------------------------------------------------------------------------------------


def test_a_corpus_has_one_page_wherever_it_lies(hostile: Path, content: bytes, tmp_path: Path) -> None:
    moved = shutil.copytree(hostile, tmp_path / "elsewhere")
    where, size = write_report(str(moved), None, None, 6, print)
    assert Path(where) == moved / "report" / "index.html"
    assert Path(where).read_bytes() == content
    assert size == len(content)
    assert read_manifest(moved) == read_manifest(hostile)


def test_the_page_of_a_corpus_in_a_bucket_is_the_same(hostile: Path, content: bytes) -> None:
    bucket = f"memory://{uuid.uuid4().hex}/corpus"
    store = open_store(bucket)
    for path in hostile.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(hostile).as_posix(), path.read_bytes())
    write_report(bucket, None, None, 6, print)
    assert store.read("report/index.html") == content


# --- right ------------------------------------------------------------------------------------------


def test_the_summary_agrees_with_every_sample(
    hostile: Path, summary: Summary, records: list[dict[str, Any]]
) -> None:
    fired = Counter(label for record in records for label in {stage["label"] for stage in record["stages"]})
    assert dict(zip(summary.labels, summary.fired.sum(axis=0).tolist(), strict=True)) == dict(fired)
    assert summary.samples == SAMPLES
    by_key = {record["key"]: record for record in records}
    keys = pq.read_table(hostile / "samples.parquet", columns=["key"])["key"].to_pylist()
    for row, key in enumerate(keys):
        labels = {label for label, here in zip(summary.labels, summary.fired[row], strict=True) if here}
        assert labels == {stage["label"] for stage in by_key[key]["stages"]}
        assert summary.columns["severity.noisiness"][row] == by_key[key]["severity"]["noisiness"]
    for column in MEASURED_COLUMNS & set(summary.columns):
        group, name = column.split(".")
        expected = sorted(v for r in records if (v := r[group].get(name)) is not None)
        held = summary.columns[column]
        assert sorted(held[np.isfinite(held)].tolist()) == pytest.approx(expected)
    codecs = Counter(s["values"]["codec"] for r in records for s in r["stages"] if "codec" in s["values"])
    assert {name: uses for name, (uses, _) in summary.codecs.items()} == dict(codecs)
    for name, (_, rates) in summary.codecs.items():
        measured = [
            s["measured"]["bitrate_kbps"]
            for r in records
            for s in r["stages"]
            if s["values"].get("codec") == name
        ]
        assert sorted(rates.tolist()) == pytest.approx(sorted(measured))
    hours = Counter(record["speaker"] for record in records)
    assert {talker.name: talker.samples for talker in summary.talkers} == dict(hours)
    assert sum(talker.hours for talker in summary.talkers) == pytest.approx(SAMPLES / 3600.0)
    assert summary.sources == len({source["sha256"] for record in records for source in record["sources"]})


def test_stages_together_are_counted(summary: Summary, records: list[dict[str, Any]]) -> None:
    together = summary.together()
    sets = [{stage["label"] for stage in record["stages"]} for record in records]
    for row, first in enumerate(summary.labels):
        has = [one for one in sets if first in one]
        for column, second in enumerate(summary.labels):
            expected = len(has) / len(sets) if row == column else sum(second in one for one in has) / len(has)
            assert together[row, column] == pytest.approx(expected)


def test_what_was_asked_counts_undistorted_samples(hostile: Path, content: bytes) -> None:
    stages = read_manifest(hostile).stages
    assert {label: shares["asked"] for label, shares in stages.items()} == pytest.approx(
        {"noise": 0.6, "clipping": 0.225, "codec": 0.375, "final_level": 1.0}
    )
    assert "≠ " not in Page.parsed(content).text.replace("≠ marks", "")


def test_what_was_drawn_stands_beside_what_was_delivered(
    hostile: Path, content: bytes, records: list[dict[str, Any]]
) -> None:
    promised = read_manifest(hostile).tolerances
    found = {f"{p.label}.{p.name}": p for p in read_summary(hostile / "samples.parquet", promised).promises}
    assert {"noise.snr_db", "final_level.active_level_dbfs"} <= set(found) <= set(promised)
    stages = [stage for record in records for stage in record["stages"] if stage["label"] == "noise"]
    drawn, delivered = (
        np.array([stage[side]["snr_db"] for stage in stages]) for side in ("values", "measured")
    )
    snr = found["noise.snr_db"]
    assert snr.drawn == pytest.approx(np.quantile(drawn, (0.05, 0.5, 0.95)))
    assert snr.delivered == pytest.approx(np.quantile(delivered, (0.05, 0.5, 0.95)))
    assert snr.off == pytest.approx(np.quantile(np.abs(drawn - delivered), 0.95))
    low, middle, high = snr.drawn
    assert f"\nnoise\nSNR\n{middle:.1f} dB ({low:.1f} to {high:.1f})\n" in Page.parsed(content).text


def test_cost_is_told_by_stage_and_by_use(hostile: Path, summary: Summary) -> None:
    manifest = read_manifest(hostile).model_copy(update={"stage_seconds": {"noise": 3.0, "measure": 1.2}})
    uses = int(summary.fired[:, summary.labels.index("noise")].sum())
    told = Page.parsed(page("", "", [Section("cost", "Cost", cost(manifest, summary))])).text
    assert f"\nnoise\n3.0\n71.4 %\n{3000 / uses:.0f}\nmeasuring\n1.2\n28.6 %\n{1200 / SAMPLES:.0f}\n" in told


@pytest.mark.parametrize("before", ["replaces", "grown_from"])
def test_no_speed_is_told_of_a_corpus_of_which_a_part_alone_was_rendered(
    hostile: Path, summary: Summary, before: str
) -> None:
    update = {"stage_seconds": {"noise": 3.0, "measure": 1.2}, "timings": {"wall_s": 2.5}, before: "c" * 32}
    manifest = read_manifest(hostile).model_copy(update=update)
    told = Page.parsed(page("", "", [Section("cost", "Cost", cost(manifest, summary))])).text
    assert "The workers spent 4.2 s together, on the shards alone that " in told and "c" * 32 in told
    assert "took 2.5 s." in told and "\nnoise\n3.0\n71.4 %\nmeasuring\n1.2\n28.6 %\n" in told
    assert "as fast as real time" not in told and "ms a sample" not in told


def test_the_cost_of_a_corpus_that_was_gone_on_with_is_of_the_last_run_alone(
    hostile: Path, summary: Summary
) -> None:
    timings = {"wall_s": 2.5, "samples": float(SAMPLES - 4)}
    update = {"stage_seconds": {"noise": 3.0, "measure": 1.2}, "timings": timings}
    manifest = read_manifest(hostile).model_copy(update=update)
    told = Page.parsed(page("", "", [Section("cost", "Cost", cost(manifest, summary))])).text
    speech_s = (SAMPLES - 4) * 3600.0 * manifest.hours / SAMPLES
    assert f"spent 4.2 s together on the {SAMPLES - 4} samples that the last run rendered" in told
    assert f"rendered: {figure(speech_s / 4.2)} times as fast as real time" in told
    assert "time of the 4 others" in told and "ms a sample" not in told


def test_licences_that_nobody_told_are_told(hostile: Path) -> None:
    manifest = read_manifest(hostile)
    unknown = manifest.model_copy(update={"licences": {"unknown": 6, "CC0-1.0": SAMPLES}})
    assert "25.0 % of the samples hold material whose licence nobody has told" in licences(unknown)
    assert "nobody has told" not in licences(manifest)


def test_chosen_samples_are_of_every_stage_and_severity(summary: Summary) -> None:
    chosen = chosen_samples(summary, 16)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 16
    assert summary.fired[chosen].any(axis=0).all()
    assert chosen_samples(summary, SAMPLES + 1) == list(range(SAMPLES))
    assert chosen_samples(summary, 0) == []
    severities = np.stack([summary.columns[f"severity.{axis}"] for axis in AXES])
    wanted = {int(severities.max(axis=0).argmin())}
    for severity in severities[severities.any(axis=1)]:
        wanted |= {int(np.abs(severity - level).argmin()) for level in SEVERITIES_SHOWN}
    assert chosen_samples(summary, len(wanted)) == sorted(wanted)


def test_players_play_the_clips(hostile: Path, content: bytes) -> None:
    page = Page.parsed(content)
    players, pictures = page.of("audio"), [a for a in page.of("image") if a.get("class") != "scale"]
    assert len(players) == len(pictures) == 12
    first = re.search(r"<h3><span>([^<]+)</span>", content.decode())
    assert first is not None
    clip = _decoded(players[0]["src"])
    for path in hostile.glob("*/*.tar"):
        with tarfile.open(path) as tar:
            if f"{first[1]}.degraded.flac" in tar.getnames():
                held = tar.extractfile(f"{first[1]}.degraded.flac")
                assert held is not None
                audio = soundfile.read(io.BytesIO(held.read()))[0]
    assert len(clip) == len(audio) == RATE_HZ
    assert np.corrcoef(clip, audio)[0, 1] > 0.95


def _decoded(uri: str | None) -> np.ndarray:
    kind, _, coded = (uri or "").partition(";base64,")
    assert kind == "data:audio/webm"
    with av.open(io.BytesIO(base64.b64decode(coded))) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_refused_sources_and_failures_are_told(hostile: Path, content: bytes) -> None:
    text = Page.parsed(content).text
    assert "Sources that were refused" in text
    assert text.count(f"broken{IMAGE}") == 1
    names = read_names(open_store(hostile), ["nothing"])
    assert names == {}


def test_what_was_withdrawn_is_in_no_catalogue_any_more(hostile: Path, tmp_path: Path) -> None:
    shutil.copy(hostile / "sources.parquet", tmp_path)
    before = {one.kind: one.files for one in read_kinds(open_store(str(tmp_path)))}
    rows = pq.read_table(tmp_path / "sources.parquet")
    refused = [WITHDRAWN if kind == "noise" else None for kind in rows["kind"].to_pylist()]
    marked = rows.set_column(rows.column_names.index("refused"), "refused", pa.array(refused, pa.string()))
    pq.write_table(marked, tmp_path / "sources.parquet")
    assert {one.kind: one.files for one in read_kinds(open_store(str(tmp_path)))} == {
        kind: files for kind, files in before.items() if kind != "noise"
    }


def test_the_recipe_stands_there_with_all_its_settings_a_range_a_line(hostile: Path, content: bytes) -> None:
    written = (hostile / "recipe.yaml").read_text()
    shown = Page.parsed(content).text.partition("The recipe in full\n")[2].partition("\nDistributions\n")[0]
    assert yaml.safe_load(shown) == yaml.safe_load(written)
    assert "  snr_db: [0.0, 20.0]\n" in shown
    assert shown.count("\n") < 0.6 * written.count("\n")


def test_a_recipe_that_is_no_yaml_any_more_is_shown_as_it_stands(tmp_path: Path) -> None:
    assert read_recipe(open_store(str(tmp_path))) == ""
    (tmp_path / "recipe.yaml").write_text("name: [")
    assert read_recipe(open_store(str(tmp_path))) == "name: ["


# --- other places, and what is no corpus -----------------------------------------------------------


def test_a_merged_corpus_shows_samples_of_all_its_parts(hostile: Path, tmp_path: Path) -> None:
    root = hostile.parent
    second = tmp_path / "second"
    generate(str(root / "recipe.yaml"), root / "sources.parquet", second, InProcess(), samples=8, seed=9)
    merge([str(hostile), str(second)], str(tmp_path / "both"))
    where, _ = write_report(str(tmp_path / "both"), tmp_path / "page", None, 12, print)
    page = Page.parsed(Path(where).read_bytes())
    page.check_safe()
    assert len(page.of("article")) == 12
    for part in read_manifest(tmp_path / "both").parts:
        assert f"Degraded clip of {part.name}-" in str(page.of("audio"))
        assert part.name in page.text


def test_what_is_no_corpus_is_refused(hostile: Path, tmp_path: Path, ssiforge: Run) -> None:
    assert ssiforge("report", tmp_path)[0] == 2
    code, _, errors = ssiforge("report", hostile, "--against", tmp_path)
    assert (code, "holds neither a corpus nor audio files" in errors) == (2, True)
    broken = Path(shutil.copytree(hostile, tmp_path / "broken"))
    (broken / "samples.parquet").unlink()
    code, _, errors = ssiforge("report", broken)
    assert (code, "samples.parquet: missing" in errors) == (2, True)
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, _, errors = ssiforge("report", hostile, "--out", blocked, "--samples", 0)
    assert (code, str(blocked) in errors) == (2, True)


@pytest.mark.parametrize("name", ["samples.parquet", "sources.parquet", "quarantine.jsonl"])
def test_a_damaged_table_or_log_is_named(hostile: Path, tmp_path: Path, ssiforge: Run, name: str) -> None:
    broken = Path(shutil.copytree(hostile, tmp_path / "broken"))
    content = (broken / name).read_bytes()
    (broken / name).write_bytes(content[: len(content) * 2 // 3])
    for arguments in [(broken,)] + [(hostile, "--against", broken)] * (name == "samples.parquet"):
        code, _, errors = ssiforge("report", *arguments, "--out", tmp_path / "page", "--samples", 0)
        assert code == 2 and re.match(rf"ssiforge: \S*{name}(, line \d+)?: damaged", errors), errors


def test_a_damaged_sample_is_named(hostile: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(hostile, tmp_path / "broken"))
    for tar in broken.glob("*/*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(UserError, match=r"\.tar: train-\d+ is damaged"):
        corpus_page(open_store(broken), None, 1, print)
