"""A corpus beside another one, and beside real recordings: right in numbers and in words."""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile_names import IMAGE, SAMPLES, SPEAKER
from pages import Page
from scipy import stats

from datagen.level import scaled
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.report.against_recordings import HEARD, Ranges, _nearest
from pipelines.report.differences import Difference
from pipelines.report.recordings import BANDWIDTH, LEVEL, Clip
from pipelines.report.summary import Measure

Run = Callable[..., tuple[int, str, str]]
RATE_HZ = 48_000


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
    overrides = ("stages.0.snr_db=[30, 40]", "stages.1.p=0.0", "stages.2.p=0.0")
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
    often = page.text.partition("\nHow often\n")[2].partition("\nHow much")[0]
    assert "Severity of coloration: " in often  # without codecs and clipping, no sample has any
    # As many samples have noise, within what chance explains.
    assert "SNR" not in often and "noisiness" not in often
    row = re.search(r"\ncodec\ncoloration\n(.*?)\nfinal level\n", page.text, re.DOTALL)
    assert row is not None
    assert row[1].split("\n")[0] == "37.5 %"
    assert "0.0 %" in row[1].split("\n")
    assert re.search(r"\ncodec: in \d\d\.\d % of A's samples, 0\.0 % of B's\n", page.text)
    assert "\nclipping\ncoloration\n" in page.text
    assert "4 instead of 3" in page.text  # the seeds
    lines = re.findall(r"\n([-+] .*)", page.text)
    # A range is one line, before and after.
    assert {"-  snr_db: [0.0, 20.0]", "+  snr_db: [30.0, 40.0]"} <= set(lines)


@pytest.fixture
def without_dnsmos(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second a clip, and has tests of its own."""
    from pipelines.quality.dnsmos import Dnsmos

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
    whole = min(folder.glob(f"*{SPEAKER}.wav"))
    (folder / "cut off.wav").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, _, errors = ssiforge(
        "report", hostile, "--against", folder, "--out", tmp_path / "page", "--samples", 0
    )
    assert code == 0, errors
    assert f"{IMAGE}: " in errors and "cut off.wav: " in errors
    page = Page.parsed((tmp_path / "page" / "index.html").read_bytes())
    page.check_safe()
    assert f"B are real recordings: {SAMPLES} recordings of {SAMPLES + 2}" in page.text
    assert (
        "% of samples"
        not in page.text.partition("\nAgainst recordings\n")[2].partition("\nDistributions\n")[0]
    )
    assert "\n% of clips, and of recordings\n" in page.text
    assert f"\nB: {SAMPLES} recordings of {SAMPLES + 2}\n" in page.text  # what a colour stands for
    words = dict(re.findall(r"\n([^\n]+)\n[^\n]+\n[^\n]+\n[^\n]+\n[\d.]+\n[\d.]+ %\n([^\n]+)", page.text))
    assert words["Active level, dBFS"] == "very different: in B the median is 12 dB lower"
    assert re.search(
        rf"\n\d+ of {SAMPLES} recordings\n lie where the middle 90 % of A's clips lie", page.text
    )
    players = [a["aria-label"] for a in page.of("audio")]
    assert len(players) == 2 * HEARD
    for recording, twin in zip(players[::2], players[1::2], strict=True):
        assert recording.endswith(f"{SPEAKER}.wav") and re.fullmatch(
            r"degraded clip of (train|val|test)-\d+", twin
        )
    assert words["Bandwidth, kHz"] == words["DNSMOS overall, MOS"] == "alike"


def clips(measure: Measure, values: list[float]) -> list[Clip]:
    return [Clip(f"clip {number}", "", {measure.column: value}) for number, value in enumerate(values)]


def test_recordings_lie_inside_or_outside_of_the_middle_of_a() -> None:
    here = clips(LEVEL, [float(value) for value in range(101)])
    ranges = Ranges.of(here)
    assert ranges.spans == {LEVEL: (5.0, 95.0)}
    inside, below, without = clips(LEVEL, [50.0, 4.9]) + [Clip("silent", "", {})]
    assert [ranges.outside(clip) for clip in (inside, below, without)] == [[], [LEVEL], []]
    assert ranges.inside_all(here) == 91
    assert ranges.inside_all([inside, below, without]) == 2


def test_the_likest_clip_is_near_in_every_measure_in_its_own_unit() -> None:
    """A kilohertz counts more than a decibel where bandwidths differ less than levels."""
    here = [
        Clip(f"{level} {khz}", "", {LEVEL.column: float(level), BANDWIDTH.column: float(khz)})
        for level in range(-40, -10, 5)
        for khz in (4, 5, 6)
    ]
    recording = Clip("b", "", {LEVEL.column: -26.0, BANDWIDTH.column: 4.1})
    assert here[_nearest(recording, here)].name == "-25 4"
    assert here[_nearest(Clip("b", "", {BANDWIDTH.column: 5.9}), here)].name.endswith(" 6")
