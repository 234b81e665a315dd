"""Noise is delivered at the SNR that was drawn, whatever it is made of, and leaves everything else as it was."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from naive_p56 import active_dbfs
from scipy import signal

from datagen.audio import read_all, resampled
from datagen.degradations.additive.coloured_noise import ColouredNoise, coloured
from datagen.degradations.additive.noise import EnvironmentalNoise, repeated
from datagen.degradations.base import CannotApply, Inputs, Scene
from manifests.errors import UserError
from manifests.source import Source

RATE = 48_000
FRAMES = 6 * RATE
DATA = Path(os.environ.get("SSIFORGE_DATA") or Path(__file__).resolve().parents[2] / ".." / "shared" / "data")


def _frozen(audio: np.ndarray) -> np.ndarray:
    audio = np.ascontiguousarray(audio, np.float32)
    audio.setflags(write=False)
    return audio


def _speech() -> np.ndarray:
    """Syllables of 1/f noise, four a second, with a pause of two seconds."""
    rng = np.random.default_rng(3)
    time_s = np.arange(FRAMES) / RATE
    syllables = np.maximum(np.sin(2 * np.pi * 4 * time_s), 0) ** 2 * ((time_s < 2) | (time_s > 4))
    return _frozen(0.2 * signal.lfilter([1], [1, -0.9], rng.standard_normal(FRAMES)) * syllables)


def _stationary() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(FRAMES) * 0.03


def _clicks() -> np.ndarray:
    noise = np.zeros(FRAMES)
    for at in range(20_000, FRAMES - 5_000, 40_000):
        noise[at : at + 2_000] = np.random.default_rng(at).standard_normal(2_000) * np.exp(
            -np.arange(2_000) / 300
        )
    return noise


def _ends_in_silence() -> np.ndarray:
    return np.where(np.arange(FRAMES) < RATE, _stationary(), 0.0)


def _short() -> np.ndarray:
    return _stationary()[: RATE // 3]


def _source(number: int, **changes: object) -> Source:
    fields: dict[str, object] = {
        "path": f"/noise/{number}.wav",
        "kind": "noise",
        "sha256": f"{number:064d}",
        "rate_hz": 44_100,
        "channels": 2,
        "frames": 44_100 * 30,
        "bandwidth_hz": 20_000.0,
        "recording": str(number),
        "split": "train",
    }
    return Source(**(fields | changes))  # type: ignore[arg-type]


def _scene(*sources: Source) -> Scene:
    return Scene(
        frames=FRAMES, bandwidth_hz=24_000.0, sources=lambda kind: sources if kind == "noise" else ()
    )


@pytest.mark.parametrize("make", [_stationary, _clicks, _ends_in_silence, _short])
@pytest.mark.parametrize("snr_db", [-5.0, 12.0, 30.0])
def test_the_delivered_snr_is_the_drawn_one_for_any_kind_of_noise(make, snr_db):
    speech = _speech()
    values = {"snr_db": snr_db, "relative_db": [0.0], "begin_samples": [0]}
    applied = EnvironmentalNoise.apply(speech, values, Inputs((_frozen(make()),), speech))
    assert applied.measured["snr_db"] == pytest.approx(snr_db, abs=0.01)
    naive = active_dbfs(speech) - active_dbfs(applied.added)
    assert naive == pytest.approx(snr_db, abs=0.1)


def test_plain_rms_would_have_missed_the_snr_of_clicks():
    speech = _speech()
    values = {"snr_db": 10.0, "relative_db": [0.0], "begin_samples": [0]}
    applied = EnvironmentalNoise.apply(speech, values, Inputs((_frozen(_clicks()),), speech))
    assert abs(applied.measured["snr_rms_db"] - 10.0) > 1.0


def test_the_snr_refers_to_the_speech_and_not_to_noise_that_was_there_before():
    speech = _speech()
    noisy = _frozen(speech + np.float32(3.0) * _stationary().astype(np.float32))
    values = {"snr_db": 20.0, "relative_db": [0.0], "begin_samples": [0]}
    applied = EnvironmentalNoise.apply(noisy, values, Inputs((_frozen(_stationary()),), speech))
    assert active_dbfs(speech) - active_dbfs(applied.added) == pytest.approx(20.0, abs=0.1)


def test_sources_are_balanced_by_their_active_levels():
    speech = _speech()
    low = _frozen(np.sin(2 * np.pi * 500 * np.arange(FRAMES) / RATE) * 0.5)
    high = _frozen(np.sin(2 * np.pi * 5_000 * np.arange(FRAMES) / RATE) * 0.001)
    values = {"snr_db": 5.0, "relative_db": [0.0, -6.0], "begin_samples": [0, 0]}
    added = EnvironmentalNoise.apply(speech, values, Inputs((low, high), speech)).added
    spectrum = np.abs(np.fft.rfft(added))
    ratio_db = 20 * np.log10(spectrum[5_000 * FRAMES // RATE] / spectrum[500 * FRAMES // RATE])
    assert ratio_db == pytest.approx(-6.0, abs=0.1)


@pytest.mark.parametrize("stage", ["noise", "coloured"])
def test_speech_and_clips_are_left_alone_and_what_was_added_is_what_changed(stage):
    speech, clip = _speech(), _frozen(_short())
    kept = speech.copy(), clip.copy()
    if stage == "noise":
        values = {"snr_db": 5.0, "relative_db": [0.0], "begin_samples": [-4_321]}
        applied = EnvironmentalNoise.apply(speech, values, Inputs((clip,), speech))
    else:
        applied = ColouredNoise.apply(
            speech, {"snr_db": 5.0, "exponent": 1.0, "noise_seed": 9}, Inputs((), speech)
        )
    assert np.array_equal(speech, kept[0]) and np.array_equal(clip, kept[1])
    assert applied.audio.dtype == applied.added.dtype == np.float32
    assert np.array_equal(applied.audio, speech + applied.added)
    assert applied.delay_samples == 0


def test_a_short_recording_fills_the_sample_without_gap_or_click():
    clip = _frozen(_short())
    noise = repeated(clip, FRAMES, -12_345)
    assert len(noise) == FRAMES
    windows = noise[: FRAMES // 480 * 480].reshape(-1, 480)
    level_db = 20 * np.log10(np.sqrt(np.mean(windows**2, axis=1)) / np.std(clip))
    assert np.abs(level_db).max() < 3.0
    assert np.abs(np.diff(noise)).max() <= np.abs(np.diff(clip)).max() * 1.2


def test_silence_is_refused():
    speech, silence = _speech(), _frozen(np.zeros(FRAMES))
    values = {"snr_db": 5.0, "relative_db": [0.0], "begin_samples": [0]}
    with pytest.raises(CannotApply, match="noise is silent"):
        EnvironmentalNoise.apply(speech, values, Inputs((silence,), speech))
    with pytest.raises(CannotApply, match="speech is silent"):
        EnvironmentalNoise.apply(silence, values, Inputs((_frozen(_stationary()),), silence))


def test_draws_stay_within_the_settings_and_the_files():
    sources = [_source(n) for n in range(6)] + [_source(6, frames=30_000, rate_hz=24_000, channels=1)]
    stage = EnvironmentalNoise(snr_db=(0, 12), sources=(1, 3))
    counts = set()
    for seed in range(300):
        drawn = stage.draw(np.random.default_rng(seed), _scene(*sources))
        counts.add(len(drawn.clips))
        assert 0 <= drawn.values["snr_db"] <= 12
        assert drawn.values["relative_db"][0] == 0 and all(-10 <= x <= 0 for x in drawn.values["relative_db"])
        assert len({clip.sha256 for clip in drawn.clips}) == len(drawn.clips)
        for clip, begin in zip(drawn.clips, drawn.values["begin_samples"], strict=True):
            source = next(s for s in sources if s.sha256 == clip.sha256)
            assert clip.start + clip.frames <= source.frames and clip.channel < source.channels
            length = round(clip.frames * RATE / source.rate_hz)
            assert begin == clip.at and (length >= FRAMES if begin == 0 else -length < begin < 0)
    assert counts == {1, 2, 3}


def test_narrow_recordings_are_not_drawn_when_the_recipe_says_so():
    stage = EnvironmentalNoise(min_bandwidth_hz=16_000)
    scene = _scene(_source(0, bandwidth_hz=7_000.0), _source(1, bandwidth_hz=None), _source(2))
    for seed in range(20):
        drawn = stage.draw(np.random.default_rng(seed), scene)
        assert [clip.sha256 for clip in drawn.clips] == [_source(2).sha256]
    with pytest.raises(UserError, match="16000 Hz"):
        stage.draw(np.random.default_rng(0), _scene(_source(0, bandwidth_hz=7_000.0)))


def test_a_split_without_noise_is_a_clear_error():
    with pytest.raises(UserError, match="no usable noise"):
        EnvironmentalNoise().draw(np.random.default_rng(0), _scene())


@pytest.mark.parametrize("exponent", [-2.0, -1.0, 0.0, 1.0, 2.0])
def test_coloured_noise_has_the_slope_of_its_exponent(exponent):
    noise = coloured(20 * RATE, exponent, 5)
    frequency, power = signal.welch(noise, RATE, nperseg=1 << 15)
    centres = 50.0 * 2.0 ** np.arange(9)
    level_db = [10 * np.log10(power[(frequency > c / 1.19) & (frequency < c * 1.19)].mean()) for c in centres]
    slope_db_per_octave = np.polyfit(np.arange(9), level_db, 1)[0]
    assert slope_db_per_octave == pytest.approx(-10 * math.log10(2) * exponent, abs=0.15)


def test_coloured_noise_is_a_function_of_its_seed_and_has_its_snr():
    speech = _speech()
    stage = ColouredNoise()
    drawn = stage.draw(np.random.default_rng(0), _scene())
    assert 10 <= drawn.values["snr_db"] <= 50 and -2 <= drawn.values["exponent"] <= 2
    once = ColouredNoise.apply(speech, drawn.values, Inputs((), speech))
    again = ColouredNoise.apply(speech, drawn.values, Inputs((), speech))
    other = ColouredNoise.apply(speech, drawn.values | {"noise_seed": 1}, Inputs((), speech))
    assert np.array_equal(once.audio, again.audio) and not np.array_equal(once.audio, other.audio)
    naive = active_dbfs(speech) - active_dbfs(once.added)
    assert naive == pytest.approx(drawn.values["snr_db"], abs=0.1)


def _response(number: int, room: str | None, rt60_s: float | None, **changes: object) -> Source:
    fields = {
        "kind": "rir",
        "room": room,
        "rt60_s": rt60_s,
        "recording": None,
        "rate_hz": 48_000,
        "frames": 9_600,
    }
    return _source(number, **(fields | changes))


def _roomy(own: Source | None, *responses: Source) -> Scene:
    pools = {"noise": tuple(_source(n) for n in range(4)), "rir": responses, "speech": ()}
    return Scene(FRAMES, 24_000.0, lambda kind: pools[kind], rir=own)


def _heard_through(scene: Scene, **settings: object) -> list[tuple[str, str]]:
    """Hash and relation of the responses that 200 noises come through."""
    stage = EnvironmentalNoise(**({"room_share": 1.0, "sources": 1} | settings))
    found = []
    for seed in range(200):
        drawn = stage.draw(np.random.default_rng(seed), scene)
        found += [
            (clip.sha256, relation)
            for clip, relation in zip(
                drawn.clips[1:], filter(None, drawn.values["room_relations"]), strict=True
            )
        ]
    return found


def test_a_noise_is_in_the_talkers_room_but_not_where_the_talker_is():
    hall = [_response(n, "hall", 1.2) for n in (10, 11, 12)]
    found = _heard_through(_roomy(hall[0], *hall, _response(13, "closet", 0.2)))
    assert {sha for sha, _ in found} == {hall[1].sha256, hall[2].sha256}
    assert {relation for _, relation in found} == {"same"}


def test_where_the_room_has_no_other_place_another_room_that_reverberates_alike_is_taken():
    hall = _response(10, "hall", 1.2, channels=2)
    others = (_response(11, "closet", 0.2), _response(12, "church", 1.5), _response(13, "cave", None))
    found = _heard_through(_roomy(hall, hall, *others))
    assert set(found) == {(others[1].sha256, "alike")}


def test_a_talker_without_a_room_leaves_every_room_to_the_noise():
    responses = (_response(10, "hall", 1.2), _response(11, "closet", 0.2))
    found = _heard_through(_roomy(None, *responses))
    assert set(found) == {(response.sha256, "any") for response in responses}


def test_a_noise_stays_dry_where_there_is_no_response_but_the_talkers_own():
    hall = _response(10, "hall", 1.2)
    assert _heard_through(_roomy(None)) == []
    assert _heard_through(_roomy(hall, hall)) == []


def test_rooms_are_drawn_as_often_as_asked_and_leave_other_draws_alone():
    scene = _roomy(None, _response(10, "hall", 1.2))
    assert 70 < len(_heard_through(scene, room_share=0.5)) < 130
    dry = EnvironmentalNoise().draw(np.random.default_rng(3), scene)
    assert set(dry.values) == {"snr_db", "relative_db", "begin_samples"}


def test_a_noise_in_a_room_is_what_convolution_makes_of_it_and_rings_from_the_first_sample():
    speech = _speech()
    rng = np.random.default_rng(2)
    response = np.zeros(24_000)
    response[200] = 1.0
    response[201:] = 0.05 * rng.standard_normal(23_799) * 10 ** (-3 * np.arange(23_799) / 24_000)
    response = _frozen(response)
    # A noise that stops when the sample begins is still heard in it.
    clip = np.zeros(FRAMES + 24_000 + 96)
    clip[:24_096] = rng.standard_normal(24_096)
    clip = _frozen(clip)
    values = {"snr_db": 5.0, "relative_db": [0.0], "begin_samples": [0], "room_relations": ["any"]}
    applied = EnvironmentalNoise.apply(speech, values, Inputs((clip, response), speech))
    expected = signal.fftconvolve(clip, response)[200 + 24_096 :][:FRAMES]
    gain = float(np.dot(applied.added, expected) / np.dot(expected, expected))
    assert (
        np.abs(applied.added[:12_000] - gain * expected[:12_000]).max() < 0.02 * gain * np.abs(expected).max()
    )
    assert active_dbfs(speech) - active_dbfs(applied.added) == pytest.approx(5.0, abs=0.1)


def test_self_noise_is_white_and_as_loud_against_the_recordings_as_drawn():
    speech = _speech()
    tone = _frozen(0.1 * np.sin(2 * np.pi * 500 * np.arange(FRAMES) / RATE))
    values = {"snr_db": 5.0, "relative_db": [0.0], "begin_samples": [0], "self_noise_seed": 4}
    for level_db in (-10.0, 0.0):
        applied = EnvironmentalNoise.apply(
            speech, values | {"self_noise_db": level_db}, Inputs((tone,), speech)
        )
        spectrum = np.abs(np.fft.rfft(applied.added.astype(np.float64))) ** 2
        at = 500 * FRAMES // RATE
        ratio_db = 10 * np.log10((spectrum.sum() - spectrum[at]) / spectrum[at])
        assert ratio_db == pytest.approx(level_db, abs=0.1)
        assert applied.measured["self_noise_db"] == pytest.approx(level_db, abs=0.01)
        assert active_dbfs(speech) - active_dbfs(applied.added) == pytest.approx(5.0, abs=0.1)
        low, high = spectrum[at + 9 : len(spectrum) // 2].mean(), spectrum[len(spectrum) // 2 :].mean()
        assert 10 * np.log10(low / high) == pytest.approx(0.0, abs=0.1)


def test_self_noise_is_drawn_as_often_as_asked_and_within_its_range():
    stage = EnvironmentalNoise(self_noise_share=0.6, self_noise_db=(-10, 0))
    drawn = [stage.draw(np.random.default_rng(seed), _scene(_source(0))).values for seed in range(300)]
    levels = [values["self_noise_db"] for values in drawn if "self_noise_db" in values]
    assert 150 < len(levels) < 210
    assert -10 <= min(levels) < -9 and -1 < max(levels) <= 0


def test_severity_rises_as_the_snr_falls():
    severities = [EnvironmentalNoise.severity({"snr_db": snr}, {}) for snr in (40, 20, 0, -5)]
    assert severities == sorted(severities) and severities[0] == 0 and severities[-1] == 1


@pytest.mark.skipif(not (DATA / "noise").is_dir(), reason="../shared/data is not there")
def test_recorded_noises_are_delivered_at_their_snr():
    speech = _speech()
    files = sorted((DATA / "noise").glob("**/*.ogg"))[:: 409 // 20] + sorted(
        (DATA / "noise").glob("**/*.wav")
    )
    for path in files:
        audio, rate = read_all(str(path))
        clip = _frozen(resampled(np.ascontiguousarray(audio[:, 0]), rate, RATE))
        values = {"snr_db": 7.0, "relative_db": [0.0], "begin_samples": [-100]}
        applied = EnvironmentalNoise.apply(speech, values, Inputs((clip,), speech))
        naive = active_dbfs(speech) - active_dbfs(applied.added)
        assert naive == pytest.approx(7.0, abs=0.1), path
