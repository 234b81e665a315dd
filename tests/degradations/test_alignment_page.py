"""The page on alignment covers all codecs and stages, and what measured it measures right."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from stage_signals import speech_like

from datagen.degradations import stage_class
from datagen.degradations.codec.codec import DELAY_SAMPLES, LOOKED_UP
from datagen.degradations.codec.mix import CodecMix
from datagen.degradations.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
LARGEST_LAG_SAMPLES = 0.5


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("alignment")


@pytest.fixture(scope="module")
def measuring(script: ModuleType) -> ModuleType:
    return importlib.import_module("alignment_measured")


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    page = (ROOT / "docs" / "alignment.md").read_text()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if "| `" in line]


def test_every_codec_and_every_stage_is_on_the_page(rows):
    named = {row[0].strip("`") for row in rows}
    assert set(CodecMix.model_fields) <= named
    assert set(BUILT_IN) - {"codec"} <= named, "run: python benchmarks/alignment.py"


def test_no_lag_of_half_a_sample_is_left_anywhere(rows):
    measured = [row for row in rows if len(row) == 8]
    assert len(measured) > 250
    for row in measured:
        assert abs(float(row[6])) <= abs(float(row[7])) <= LARGEST_LAG_SAMPLES, row


def test_stages_without_one_lag_are_few_and_say_why(rows, script):
    left_out = {row[0].strip("`") for row in rows if len(row) == 2}
    moving = {name for name in BUILT_IN if stage_class(name).warps_time}
    assert left_out == moving | set(script.NOT_ONE_LAG) | set(script.NEEDS_A_CHOICE)


def test_the_delays_on_the_page_are_those_of_the_table(rows):
    for row in rows:
        name = row[0].strip("`")
        if name in CodecMix.model_fields and name not in LOOKED_UP:
            at_48k = DELAY_SAMPLES[name] * 48_000 / int(row[2])
            # Up to a frame of zeros is put in front where the delay would not be whole at 48 kHz.
            assert at_48k <= float(row[4]) < at_48k + 161, row
        elif name == "opus":
            table = 120 if "lowdelay" in row[1] else 312
            assert all(abs(float(delay) - table) <= 5 for delay in re.findall(r"[\d.]+", row[4])), row


@pytest.mark.parametrize("shift", [-7.0, -0.31, 0.0, 0.25, 0.5, 12.68, 1_105.0])
def test_a_lag_is_measured_to_a_hundredth_of_a_sample(measuring, shift):
    """Against an exact delay: a linear phase."""
    voice = np.pad(speech_like(2.0), 3_000).astype(np.float64)
    spectrum = np.fft.rfft(voice) * np.exp(-2j * np.pi * np.fft.rfftfreq(len(voice)) * shift)
    moved = np.fft.irfft(spectrum, len(voice))
    assert measuring.lag_samples(voice.astype(np.float32), moved.astype(np.float32)) == pytest.approx(
        shift, abs=0.01
    )


def test_a_stage_that_hides_its_delay_shows_in_the_table(script, measuring, monkeypatch):
    """Measured through the engine: with a wrong table the lag is the difference."""
    monkeypatch.setitem(DELAY_SAMPLES, "g722", 21)
    values = {"codec": "g722", "rate_hz": 16_000, "bitrate_kbps": 64}
    row = measuring.measured(
        stage_class("codec")(), lambda number: (values, ()), "", [speech_like(2.0, 120.0, 4)], {}
    )
    assert row.worst == pytest.approx(3.0, abs=0.6)
    assert script.page([row], [row], "1 voice").count("`codec`") == 3
