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
import pyarrow.parquet as pq
import pytest
import soundfile
from pages import Page
from PIL import Image
from scipy import stats

from datagen.level import scaled
from manifests.corpus import read_manifest
from manifests.errors import UserError
from manifests.sample import AXES
from manifests.store import open_store
from pipelines.executors import InProcess
from pipelines.figures import FLOOR_DB, TOP_DB
from pipelines.generate import generate
from pipelines.merge import merge
from pipelines.recording_measures import flat_top_share
from pipelines.report.choice import SEVERITIES_SHOWN, chosen_samples
from pipelines.report.corpus_report import corpus_page, write_report
from pipelines.report.differences import Difference
from pipelines.report.material import read_names
from pipelines.report.media import opus, palette, spectrogram_png
from pipelines.report.scales import bin_edges, coordinate, figure, percent, ticks
from pipelines.report.summary import MEASURES, SEVERITIES, STAGE_COUNT, Measure, Summary, read_summary
from pipelines.scan import scan

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 48_000
IMAGE = "<img src=x onerror=alert(1)>.wav"
SPEAKER = '"><script>'
LICENCE = "</td><svg onload=alert(2)>\u202e'&amp;"
RECIPE = """
name: hostile
seconds: 1.0
splits: {train: 0.6, val: 0.2, test: 0.2}
output: {samples_per_shard: 4}
undistorted: 0.25
stages:
  - {stage: noise, p: 0.8, snr_db: [0, 20]}
  - {stage: clipping, p: 0.3}
  - {stage: codec, p: 0.5, codecs: {mp3: {}, opus: {}}}
  - {stage: final_level, active_level_dbfs: [-36, -20]}
"""
SAMPLES = 24
MEASURED_COLUMNS = {m.column for m in (*MEASURES, *SEVERITIES)} - {STAGE_COUNT.column}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, material_folder: Path) -> Path:
    """A corpus of sources whose names are markup; one of them is refused."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(material_folder / "speech", root / "speech")
    shutil.copytree(material_folder / "noise", root / "noise")
    talkers = sorted((root / "speech").iterdir())
    for number, talker in enumerate(talkers):
        for recording in talker.iterdir():
            audio, rate_hz = soundfile.read(recording)
            recording.unlink()
            soundfile.write(talker / f"{recording.stem}{IMAGE}", audio, rate_hz)
        talker.rename(talker.with_name(f"{number}{SPEAKER}"))
    (root / "noise" / f"broken{IMAGE}").write_bytes(b"no audio")
    for recording in sorted((root / "noise").glob("noise*.wav")):
        recording.rename(recording.with_name(f"{recording.stem}{IMAGE}"))
    folders: Any = {"speech": [str(root / "speech")], "noise": [str(root / "noise")]}
    scan(folders, root / "sources.parquet", workers=1, licence=LICENCE)
    (root / "recipe.yaml").write_text(RECIPE)
    out = root / "corpus"
    generate(str(root / "recipe.yaml"), root / "sources.parquet", out, InProcess(), samples=SAMPLES, seed=3)
    return out


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


def test_spectrograms_share_one_scale_of_levels() -> None:
    """A full-scale bin is the lightest colour, silence the darkest; 20 dB less is less light."""
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 4_000 * time_s).astype(np.float32)
    shades = [np.asarray(Image.open(io.BytesIO(spectrogram_png(scaled(tone, db))))) for db in (-25.0, -45.0)]
    loud, soft = (int(shade.max()) for shade in shades)
    assert loud - soft == pytest.approx(20.0 / 3.0, abs=1.01)
    assert not np.asarray(Image.open(io.BytesIO(spectrogram_png(np.zeros(RATE_HZ, np.float32))))).any()
    assert len(palette()) == 3 * (round((TOP_DB - FLOOR_DB) / 3.0) + 1)
    assert opus(tone) == opus(tone)


def test_refused_sources_and_failures_are_told(hostile: Path, content: bytes) -> None:
    text = Page.parsed(content).text
    assert "Sources that were refused" in text
    assert text.count(f"broken{IMAGE}") == 1
    names = read_names(open_store(hostile), ["nothing"])
    assert names == {}


# --- against ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_distances_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = np.round(rng.normal(0.0, 1.0, 200 + seed), 1)
    b = np.round(rng.normal(0.3 * seed, 1.0 + seed, 150), 1)
    found = Difference(Measure("x", "x", "dB"), a, b)
    assert found.ks == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(a, b))


def test_differences_are_said_in_words() -> None:
    level = Measure("x", "Level", "dBFS")
    values = np.linspace(-30.0, -20.0, 400)
    assert Difference(level, values, values).in_words() == "alike"
    assert (
        Difference(level, values, values + 12.0).in_words()
        == "very different: in B the median is 12 dB higher"
    )
    assert Difference(level, values, values[::100]).in_words() == "too few values to tell them apart"
    assert Difference(level, values, values - 3.0).in_words() == "different: in B the median is 3 dB lower"


def test_two_corpora_are_compared(hostile: Path, tmp_path: Path, ssiforge: Run) -> None:
    root = hostile.parent
    other = tmp_path / "other"
    overrides = ("stages.0.snr_db=[30, 40]", "stages.2.p=0.0")
    generate(
        str(root / "recipe.yaml"),
        root / "sources.parquet",
        other,
        InProcess(),
        samples=30,
        seed=4,
        overrides=overrides,
    )
    code, _, errors = ssiforge(
        "report", hostile, "--against", other, "--out", tmp_path / "page", "--samples", 1
    )
    assert code == 0, errors
    page = Page.parsed((tmp_path / "page" / "index.html").read_bytes())
    page.check_safe()
    page.check_usable()
    assert re.search(
        r"SNR, dB\n.*?\nvery different: in B the median is 2\d(\.\d)? dB higher", page.text, re.DOTALL
    )
    assert any(a.get("class") == "line-b" for a in page.of("path"))
    assert "Severity of coloration: " in page.text  # without codecs, fewer samples have any
    row = re.search(r"\ncodec\ncoloration\n(.*?)\nfinal level\n", page.text, re.DOTALL)
    assert row is not None
    assert row[1].split("\n")[0] == "37.5 %"
    assert "0.0 %" in row[1].split("\n")


@pytest.fixture
def without_dnsmos(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second a clip, and has tests of its own."""
    from pipelines.dnsmos import Dnsmos

    monkeypatch.setattr("pipelines.report.recordings.dnsmos", lambda audio: Dnsmos(3.0, 3.0, 3.0, 3.0))


def test_recordings_are_measured_as_the_corpus_is(
    hostile: Path, tmp_path: Path, ssiforge: Run, without_dnsmos: None
) -> None:
    """The corpus's own clips, 12 dB down: nothing else differs, and the page says just that."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for path in hostile.glob("*/*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".degraded.flac"):
                    held = tar.extractfile(member)
                    assert held is not None
                    audio, _ = soundfile.read(io.BytesIO(held.read()), dtype="float32")
                    name = folder / f"{member.name}{SPEAKER}.wav"
                    soundfile.write(name, scaled(audio, -12.0), RATE_HZ, subtype="FLOAT")
    (folder / f"{IMAGE}").write_bytes(b"none")
    code, _, errors = ssiforge(
        "report", hostile, "--against", folder, "--out", tmp_path / "page", "--samples", 0
    )
    assert code == 0, errors
    assert f"{IMAGE}: " in errors
    page = Page.parsed((tmp_path / "page" / "index.html").read_bytes())
    page.check_safe()
    assert f"B are real recordings: {SAMPLES} recordings of {SAMPLES + 1}" in page.text
    words = dict(re.findall(r"\n([^\n]+)\n[^\n]+\n[^\n]+\n[^\n]+\n[\d.]+\n[\d.]+ %\n([^\n]+)", page.text))
    assert words["Active level, dBFS"] == "very different: in B the median is 12 dB lower"
    assert words["Bandwidth, kHz"] == words["DNSMOS overall, MOS"] == "alike"


def test_flat_tops_are_what_clipping_leaves() -> None:
    rng = np.random.default_rng(0)
    speech = np.convolve(rng.standard_normal(RATE_HZ), np.hanning(40) / 20, "same").astype(np.float32)
    limit = float(np.quantile(np.abs(speech), 0.95))
    clipped = np.clip(speech, -limit, limit)
    for gain_db in (0.0, -20.0):  # turned down afterwards, it is still clipped
        assert flat_top_share(scaled(clipped, gain_db)) == pytest.approx(0.05, abs=0.01)
    assert flat_top_share(speech) < 0.001
    assert flat_top_share(np.zeros(100, np.float32)) == 0.0


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


def test_a_damaged_sample_is_named(hostile: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(hostile, tmp_path / "broken"))
    for tar in broken.glob("*/*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(UserError, match=r"\.tar: train-\d+ is damaged"):
        corpus_page(open_store(broken), None, 1, print)


# --- scales -----------------------------------------------------------------------------------------


def test_bins_hold_every_value_and_end_on_round_numbers() -> None:
    rng = np.random.default_rng(1)
    for scale in (1e-3, 1.0, 24_000.0):
        values = rng.normal(scale, scale, 500)
        edges = bin_edges([values])
        assert np.histogram(values, edges)[0].sum() == 500
        assert len(edges) <= 35
        step = float(np.diff(edges)[0])
        assert np.allclose(edges / step, np.round(edges / step))
    assert bin_edges([np.array([1.0, 2.0, 4.0])], whole=True).tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert len(bin_edges([np.array([3.0])])) == 2
    assert len(bin_edges([np.zeros(0)])) > 1


def test_numbers_are_written_for_people() -> None:
    assert [figure(v) for v in (0.0, 12345.6, -21.34, 0.0421, 0.5, float("nan"))] == [
        "0",
        "12 346",
        "-21.3",
        "0.0421",
        "0.5",
        "–",
    ]
    assert [percent(share) for share in (0.0, 0.0001, 0.1234, 1.0)] == [
        "0.0 %",
        "< 0.1 %",
        "12.3 %",
        "100.0 %",
    ]
    assert ticks(0.0, 10.0) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert [coordinate(v) for v in (-0.01, 3.0, 2.55)] == ["0", "3", "2.5"]
