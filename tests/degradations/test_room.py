"""A room keeps speech aligned with its dry self, keeps its level, and adds the reverberation it claims to add."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from datagen.audio import read_all, resampled
from datagen.degradations.base import CannotApply, Inputs, Scene
from datagen.degradations.room.room import LEAD_SAMPLES, Room, conditioned, convolved
from datagen.level import active_level_dbfs
from datagen.room_simulation import simulate
from manifests.errors import UserError
from manifests.recipe import RoomBank
from manifests.source import Source

RATE = 48_000
CLICK_AT = 12_000
DATA = Path(os.environ.get("SSIFORGE_DATA") or Path(__file__).resolve().parents[2] / ".." / "shared" / "data")
MEASURED_SETS = ("bbc-listening-room", "seminar-room", "web-audio")


def _frozen(audio: np.ndarray) -> np.ndarray:
    audio = np.ascontiguousarray(audio, np.float32)
    audio.setflags(write=False)
    return audio


def _speech() -> np.ndarray:
    """Four syllables a second of noise, for five seconds."""
    time_s = np.arange(5 * RATE) / RATE
    syllables = np.maximum(np.sin(2 * np.pi * 4 * time_s), 0.0) ** 2
    return _frozen(0.1 * np.random.default_rng(3).standard_normal(len(time_s)) * syllables)


def _click() -> np.ndarray:
    click = np.zeros(5 * RATE)
    click[CLICK_AT] = 0.5
    return _frozen(click)


def _decaying(rt60_s: float, *, before: int = 300, drr_db: float = 0.0, seconds: float = 1.2) -> np.ndarray:
    """A direct path at `before`, then exponentially decaying noise of known decay and energy."""
    rng = np.random.default_rng(8)
    rir = np.zeros(before + round(seconds * RATE))
    tail = rng.standard_normal(len(rir) - before - 240)
    tail *= 10 ** (-3 * np.arange(len(tail)) / RATE / rt60_s)
    rir[before + 240 :] = tail * 10 ** (-drr_db / 20) / np.sqrt(np.sum(tail**2))
    rir[before] = 1.0
    return rir


@pytest.fixture(scope="module", params=[0.15, 0.35, 0.8])
def simulated(request: pytest.FixtureRequest) -> np.ndarray:
    room = simulate(RoomBank(rt60_s=request.param, distance_m=(0.3, 2.0), seed=2), 1)
    return _frozen(room.responses[0].rir)


def _measured_responses(folder: str) -> list[tuple[str, np.ndarray]]:
    found = []
    for path in sorted((DATA / "rir" / folder).glob("*.wav"))[::4]:
        audio, rate = read_all(str(path))
        for channel in range(audio.shape[1]):
            mono = np.ascontiguousarray(audio[:, channel])
            found.append((f"{path.name}:{channel}", _frozen(resampled(mono, rate, RATE))))
    return found


def test_reverberant_speech_lags_dry_speech_by_nothing_in_simulated_rooms(simulated):
    speech = _speech()
    applied = Room.apply(speech, {}, Inputs((simulated,), speech))
    correlation = signal.correlate(applied.audio, speech, mode="full", method="fft")
    peak = int(np.argmax(np.abs(correlation)))
    before, at, after = np.abs(correlation[peak - 1 : peak + 2])
    lag = peak - (len(speech) - 1) + 0.5 * (before - after) / (before - 2 * at + after)
    assert applied.delay_samples == 0
    assert abs(lag) < 0.5


@pytest.mark.parametrize("folder", MEASURED_SETS)
def test_the_first_arrival_in_a_measured_room_comes_at_the_moment_of_the_dry_click(folder):
    if not (DATA / "rir" / folder).is_dir():
        pytest.skip("../shared/data is not there")
    for name, rir in _measured_responses(folder):
        heard = np.abs(Room.apply(_click(), {}, Inputs((rir,), _click())).audio)
        strongest = heard.max()
        # Measured direct paths rise within half a millisecond: their peak is at the click, and nothing loud before.
        assert heard[CLICK_AT] == heard[CLICK_AT - 24 : CLICK_AT + 1].max(), name
        assert heard[CLICK_AT] >= heard[CLICK_AT + 1], name
        assert heard[CLICK_AT] >= 0.31 * strongest, name
        assert heard[: CLICK_AT - 24].max() < 0.32 * strongest, name
        assert not heard[: CLICK_AT - LEAD_SAMPLES - 2].max() > 1e-4 * strongest, name


@pytest.mark.parametrize("rt60_s", [0.2, 0.6, 1.0])
def test_level_length_and_inputs_are_kept(rt60_s):
    speech, rir = _speech(), _frozen(_decaying(rt60_s))
    kept = speech.copy(), rir.copy()
    applied = Room.apply(speech, {}, Inputs((rir,), speech))
    assert np.array_equal(speech, kept[0]) and np.array_equal(rir, kept[1])
    assert applied.audio.dtype == np.float32 and applied.audio.shape == speech.shape
    assert active_level_dbfs(applied.audio) == pytest.approx(active_level_dbfs(speech), abs=0.01)


def test_what_is_heard_is_the_convolution_with_the_response():
    speech, rir = _speech()[:30_000], _frozen(_decaying(0.2, before=50, seconds=0.5))
    expected = signal.convolve(speech.astype(np.float64), rir.astype(np.float64), method="direct")[50:30_050]
    heard = convolved(speech, conditioned(rir))
    assert np.abs(heard - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(("rt60_s", "drr_db"), [(0.2, 6.0), (0.5, 0.0), (1.0, -6.0)])
def test_the_measured_values_are_those_of_the_response(rt60_s, drr_db):
    rir = _frozen(_decaying(rt60_s, drr_db=drr_db))
    measured = Room.apply(_speech(), {}, Inputs((rir,), _speech())).measured
    assert measured["rt60_s"] == pytest.approx(rt60_s, rel=0.1)
    assert measured["drr_db"] == pytest.approx(drr_db, abs=0.2)


@pytest.mark.parametrize("wanted_db", [-3.0, 4.0, 15.0])
def test_a_drawn_direct_to_reverberant_ratio_is_delivered(wanted_db):
    rir = _frozen(_decaying(0.5, drr_db=1.0))
    applied = Room.apply(_click(), {"drr_db": wanted_db}, Inputs((rir,), _click()))
    heard = applied.audio.astype(np.float64) ** 2
    direct, late = heard[CLICK_AT - 120 : CLICK_AT + 121].sum(), heard[CLICK_AT + 121 :].sum()
    assert 10 * np.log10(direct / late) == pytest.approx(wanted_db, abs=0.1)
    assert applied.measured["drr_db"] == pytest.approx(wanted_db, abs=0.1)


def test_a_ratio_that_would_bury_the_direct_path_is_refused():
    with pytest.raises(CannotApply, match="louder than the direct path"):
        Room.apply(_speech(), {"drr_db": -40.0}, Inputs((_frozen(_decaying(0.2)),), _speech()))


def test_a_silent_response_is_refused():
    with pytest.raises(CannotApply, match="silent"):
        Room.apply(_speech(), {}, Inputs((_frozen(np.zeros(4_800)),), _speech()))


def test_noise_before_the_direct_path_makes_no_echo_before_it():
    rir = _decaying(0.4, before=4_000)
    rir[:3_990] += 0.03 * np.random.default_rng(1).standard_normal(3_990)
    heard = np.abs(Room.apply(_click(), {}, Inputs((_frozen(rir),), _click())).audio)
    assert heard[: CLICK_AT - LEAD_SAMPLES].max() < 1e-6


def test_a_noisy_tail_decays_into_silence_at_the_rate_of_the_room():
    rir = _decaying(0.5, seconds=2.0)
    rir += 0.0002 * np.random.default_rng(1).standard_normal(len(rir))
    response = conditioned(_frozen(rir)).astype(np.float64)
    block_db = 10 * np.log10(
        np.mean(response[: len(response) // 960 * 960].reshape(-1, 960) ** 2, axis=1) + 1e-20
    )
    assert block_db[-1] < 20 * np.log10(0.0002) - 30
    seconds = np.arange(len(block_db)) * 0.02
    decaying = (seconds > 0.05) & (block_db > block_db[-1])
    slope = np.polyfit(seconds[decaying], block_db[decaying], 1)[0]
    assert -60 / slope == pytest.approx(0.5, rel=0.1)


def test_an_early_target_holds_the_first_50_ms_of_the_room_and_nothing_later():
    rir = _frozen(_decaying(0.6, drr_db=-3.0))
    inputs = Inputs((rir,), _click())
    full = Room.on_target(_click(), {}, inputs, "reverberant", 50.0)
    early = Room.on_target(_click(), {}, inputs, "early", 50.0)
    end = CLICK_AT + 2_400
    assert np.abs(early[end:]).max() < 1e-6 < np.abs(full[end:]).max()
    ratio = early[CLICK_AT] / full[CLICK_AT]
    assert early[: end - 48] == pytest.approx(ratio * full[: end - 48], abs=1e-6)


def test_targets_are_what_the_degraded_speech_contains():
    speech, rir = _speech(), _frozen(_decaying(0.4))
    inputs = Inputs((rir,), speech)
    heard = Room.apply(speech, {}, inputs).audio
    assert Room.on_target(speech, {}, inputs, "reverberant", 50.0) == pytest.approx(heard, abs=1e-6)
    assert Room.on_target(speech, {}, inputs, "dry", 50.0) is speech
    early = Room.on_target(speech, {}, inputs, "early", 50.0)
    assert active_level_dbfs(early) == pytest.approx(active_level_dbfs(speech), abs=0.01)


def _source(number: int, room: str, rt60_s: float | None, channels: int = 1) -> Source:
    return Source(
        path=f"/rir/{number}.wav",
        kind="rir",
        sha256=f"{number:064d}",
        rate_hz=44_100,
        channels=channels,
        frames=20_000 + number,
        room=room,
        rt60_s=rt60_s,
        drr_db=2.0,
        split="train",
    )


RESPONSES = (
    *(_source(n, f"simulated-0123abcd-{n:06d}", 0.1 + 0.1 * n) for n in range(10)),
    _source(10, "hall", 1.8, channels=2),
    _source(11, "office", None),
)


def _draws(stage: Room, count: int = 400) -> list[tuple[Source, int, dict[str, object]]]:
    scene = Scene(RATE, 24_000.0, lambda kind: RESPONSES if kind == "rir" else ())
    found = []
    for seed in range(count):
        drawn = stage.draw(np.random.default_rng(seed), scene)
        (clip,) = drawn.clips
        source = next(s for s in RESPONSES if s.sha256 == clip.sha256)
        assert clip.start == 0 and clip.frames == source.frames and clip.channel < source.channels
        assert drawn.values["room"] == source.room
        found.append((source, clip.channel, drawn.values))
    return found


def test_draws_take_every_response_and_both_channels():
    found = _draws(Room())
    assert {source.sha256 for source, _, _ in found} == {source.sha256 for source in RESPONSES}
    assert {channel for source, channel, _ in found if source.room == "hall"} == {0, 1}
    assert all("drr_db" not in values for _, _, values in found)


def test_draws_keep_to_the_reverberation_and_ratio_that_the_recipe_allows():
    for source, _, values in _draws(Room(rt60_s=(0.3, 0.6), drr_db=(0, 10))):
        assert source.rt60_s is not None and 0.3 <= source.rt60_s <= 0.6
        assert 0 <= values["drr_db"] <= 10


def test_the_share_of_simulated_rooms_is_the_one_asked_for():
    found = _draws(Room(simulated_share=0.25))
    assert np.mean([source.room.startswith("simulated-") for source, _, _ in found]) == pytest.approx(
        0.25, abs=0.07
    )


def test_a_split_without_rooms_is_a_clear_error():
    empty = Scene(RATE, 24_000.0, lambda kind: ())
    with pytest.raises(UserError, match="no room impulse response"):
        Room().draw(np.random.default_rng(0), empty)
    full = Scene(RATE, 24_000.0, lambda kind: RESPONSES)
    with pytest.raises(UserError, match="RT60 of 5 to 6 s"):
        Room(rt60_s=(5, 6)).draw(np.random.default_rng(0), full)


def test_severity_rises_with_reverberation_and_with_distance():
    by_length = [Room.severity({}, {"rt60_s": x, "drr_db": 3.0}) for x in (0.1, 0.3, 0.9, 1.5)]
    by_distance = [Room.severity({}, {"rt60_s": 0.5, "drr_db": x}) for x in (20.0, 10.0, 0.0, -5.0)]
    assert by_length == sorted(set(by_length)) and by_distance == sorted(set(by_distance))
    assert Room.severity({}, {"rt60_s": 1.5, "drr_db": -5.0}) == 1
