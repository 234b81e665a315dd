"""What every stage makes of one voice, band by band and moment by moment: libraries may round, but not change it.

A digest of bytes would break with every new codec or FFT library. So the digest here is the energy of the output in
eight moments and twelve bands, in dB. After a change that is meant, write it anew:

    python tests/degradations/test_golden.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
from stage_cases import Case, cases, inputs_for
from stage_signals import speech_like

from datagen.alignment import without_delay

GOLDEN = Path(__file__).with_name("golden.json")
MOMENTS = 8
EDGES_HZ = np.geomspace(60.0, 24_000.0, 13)
FLOOR_DB = -90.0
"""Bands that are quieter than this against the loudest do not count."""
TOLERANCE_DB = 0.5
CODEC_TOLERANCE_DB = 1.5
"""Codecs may decide differently for a bit or two from version to version."""


def energies_db(audio: np.ndarray) -> list[list[float]]:
    """Energy in dB, (moments, bands), relative to full scale."""
    result = []
    for part in np.array_split(audio.astype(np.float64), MOMENTS):
        power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2 / len(part) ** 2
        hz = np.fft.rfftfreq(len(part), 1 / 48_000)
        bands = [
            power[(hz >= low) & (hz < high)].sum() for low, high in zip(EDGES_HZ, EDGES_HZ[1:], strict=False)
        ]
        result.append([round(10 * float(np.log10(max(band, 1e-12))), 2) for band in bands])
    return result


def digest_of(case: Case) -> dict:
    audio = speech_like(2.0, 120.0, 11)
    drawn = case.draws(audio, 1)[0]
    applied = case.stage.apply(audio, drawn.values, inputs_for(drawn, audio))
    kept = without_delay(np.asarray(applied.audio, np.float32), applied.delay_samples, len(audio))
    return {"settings": case.settings, "energies_db": energies_db(kept)}


def _key(parameter) -> str:
    return str(parameter.id)


@pytest.mark.parametrize(("key", "case"), [(_key(p), p.values[0]) for p in cases()], ids=map(_key, cases()))
def test_the_sound_is_what_it_was(key, case):
    expected = json.loads(GOLDEN.read_text())[key]
    found = digest_of(case)
    assert found["settings"] == expected["settings"]
    then, now = np.array(expected["energies_db"]), np.array(found["energies_db"])
    counts = then > then.max() + FLOOR_DB
    tolerance = CODEC_TOLERANCE_DB if "codec" in case.name or "opus" in case.name else TOLERANCE_DB
    assert np.abs(now - then)[counts].max() <= tolerance


def test_the_golden_file_holds_nothing_else():
    assert set(json.loads(GOLDEN.read_text())) == {_key(p) for p in cases()}


if __name__ == "__main__":
    content = {_key(p): digest_of(p.values[0]) for p in cases()}
    GOLDEN.write_text(
        "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in content.items()) + "\n}\n"
    )
