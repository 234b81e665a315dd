"""Noise suppressor, half duplex, Freeverb and phaser against their definitions, sample by sample where there is one."""

import numpy as np
import pytest
from scipy.signal import lfilter, stft
from stage_signals import RATE_HZ, lag_samples, scene_of, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.device import phaser
from datagen.degradations.device.half_duplex import HalfDuplex
from datagen.degradations.device.noise_suppressor import NoiseSuppressor, _Suppressor
from datagen.degradations.device.phaser import Phaser, shifted
from datagen.degradations.room.conditioning import LEAD_SAMPLES
from datagen.degradations.room.freeverb import ALLPASS_DELAYS, COMB_DELAYS, Freeverb
from datagen.level import active_level_dbfs
from manifests.keyed import generator


def _noise(frames, rms, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    return (rms * rng.standard_normal(frames)).astype(np.float32)


def _power_db(part, whole):
    return 10 * np.log10(
        np.sum(np.square(part, dtype=np.float64)) / np.sum(np.square(whole, dtype=np.float64))
    )


# --- noise suppressor -----------------------------------------------------------------------------

GATE = {"floor_db": 20.0, "window_ms": 24, "smoothing": "none"}


@pytest.mark.parametrize("window_ms", [20, 23, 32, 40])
@pytest.mark.parametrize("seconds", [0.05, 1.0, 2.7])
def test_with_every_gate_open_the_signal_is_reconstructed(window_ms, seconds):
    audio = speech_like(3.0)[: round(seconds * RATE_HZ)]
    result, lost_db = _Suppressor(audio, audio, 48 * window_ms, "none").suppressed(0.0, 0.1)
    assert np.abs(result - audio).max() < 1e-6
    assert lost_db < -100.0


def test_pieces_of_a_long_signal_join_without_a_seam(monkeypatch):
    audio = speech_like(4.0)
    whole, _ = _Suppressor(audio, audio, 1_152, "none").suppressed(100.0, 0.1)
    monkeypatch.setattr("datagen.degradations.device.noise_suppressor.KEPT_FRAMES", 1)
    monkeypatch.setattr("datagen.degradations.device.noise_suppressor.CHUNK_FRAMES", 37)
    pieces, _ = _Suppressor(audio, audio, 1_152, "none").suppressed(100.0, 0.1)
    assert np.abs(pieces - whole).max() < 1e-6


@pytest.mark.parametrize("smoothing", ["none", "time", "frequency"])
@pytest.mark.parametrize("distortion_db", [-25.0, -16.0, -9.0])
def test_as_much_of_the_speech_is_lost_as_was_drawn(smoothing, distortion_db, voice):
    values = {**GATE, "smoothing": smoothing, "speech_distortion_db": distortion_db}
    applied = NoiseSuppressor.apply(voice, values, Inputs((), voice))
    assert _power_db(voice - applied.audio, voice) == pytest.approx(distortion_db, abs=1.0)
    assert abs(lag_samples(voice, applied.audio)) < 0.2


def test_what_was_added_does_not_count_as_speech_that_is_lost(voice):
    """Removing loud noise is no distortion: the speech alone, sent through the same gains, loses what was drawn."""
    noise = _noise(len(voice), 10 ** (active_level_dbfs(voice) / 20 - 0.25))
    values = {**GATE, "speech_distortion_db": -15.0}
    applied = NoiseSuppressor.apply(voice + noise, values, Inputs((), voice))
    assert applied.measured["speech_distortion_db"] == pytest.approx(-15.0, abs=1.0)
    assert applied.measured["removed_db"] > -12.0
    suppressor = _Suppressor(voice + noise, voice, 48 * 24, "none")
    threshold = 10 ** (applied.measured["threshold_over_noise_db"] / 10)
    total, _ = suppressor.suppressed(threshold, 0.1)
    assert np.array_equal(total, applied.audio)
    # The gains are linear in what they are applied to: speech and noise add up to the result.
    parts = [_Suppressor(voice + noise, part, 48 * 24, "none") for part in (voice, noise)]
    losses = [part.suppressed(threshold, 0.1)[1] for part in parts]
    assert losses[0] == pytest.approx(-15.0, abs=1.0)
    assert losses[1] > losses[0] + 6.0


def test_pauses_go_down_to_the_floor():
    speech = speech_like(3.0).copy()
    speech[RATE_HZ : 2 * RATE_HZ] = 0.0
    noisy = speech + _noise(len(speech), 3e-4)
    values = {"floor_db": 15.0, "window_ms": 20, "smoothing": "time", "speech_distortion_db": -14.0}
    applied = NoiseSuppressor.apply(noisy, values, Inputs((), speech))
    pause = slice(round(1.2 * RATE_HZ), round(1.8 * RATE_HZ))
    assert _power_db(applied.audio[pause], noisy[pause]) == pytest.approx(-15.0, abs=0.3)


def test_unsmoothed_gains_leave_musical_noise():
    """Single cells stand out of what is left: the levels of cells spread further than those of the noise."""
    speech = speech_like(3.0).copy()
    speech[RATE_HZ:] *= np.float32(0.0)
    noisy = speech + _noise(len(speech), 4e-3)

    def spread_db(audio):
        cells = np.abs(stft(audio[round(1.2 * RATE_HZ) :], RATE_HZ, nperseg=960)[2])
        return np.percentile(20 * np.log10(cells + 1e-9), 99.5) - np.percentile(
            20 * np.log10(cells + 1e-9), 50
        )

    spreads = {}
    for smoothing in ("none", "frequency"):
        suppressor = _Suppressor(noisy, speech, 960, smoothing)
        spreads[smoothing] = spread_db(suppressor.suppressed(25.0, 0.05)[0])
    assert spreads["none"] > spread_db(noisy) + 10.0
    assert spreads["none"] > spreads["frequency"] + 5.0


def test_a_floor_that_allows_less_than_was_drawn_is_refused(speech):
    values = {**GATE, "floor_db": 3.0, "speech_distortion_db": -5.0}
    with pytest.raises(CannotApply, match="no threshold distorts"):
        NoiseSuppressor.apply(speech, values, Inputs((), speech))


# --- half duplex ----------------------------------------------------------------------------------


def test_the_near_end_goes_down_and_comes_back_along_lines():
    values = {"attenuation_db": 20.0, "attenuated_share": 0.25, "intervals_s": [[0.5, 1.0]]}
    values |= {"attack_ms": 40.0, "release_ms": 100.0}
    flat = np.full(2 * RATE_HZ, 0.1, np.float32)
    applied = HalfDuplex.apply(flat, values, Inputs())
    gain = 20 * np.log10(applied.audio / 0.1)
    at = {s: gain[round(s * RATE_HZ)] for s in (0.479, 0.49, 0.5, 0.521, 0.949, 1.0, 1.025, 1.051)}
    expected = {0.479: 0, 0.49: -5, 0.5: -10, 0.521: -20, 0.949: -20, 1.0: -10, 1.025: -5, 1.051: 0}
    assert at == pytest.approx(expected, abs=0.3)
    assert np.array_equal(applied.audio[: round(0.47 * RATE_HZ)], flat[: round(0.47 * RATE_HZ)])
    assert applied.measured["attenuation_db"] == pytest.approx(20.0, abs=0.01)
    assert applied.measured["attenuated_share"] == pytest.approx(0.25, abs=0.006)


def test_the_share_of_many_short_intervals_is_measured_to_the_millisecond():
    """Each has two edges somewhere within a frame of 10 ms, whose loss is that of its louder part."""
    starts = 0.0137 + 0.1 * np.arange(15)
    values = {
        "attenuation_db": 40.0,
        "attenuated_share": 15 * 0.055 / 2.0,
        "attack_ms": 5.0,
        "release_ms": 5.0,
    }
    values["intervals_s"] = [[float(start), float(start + 0.055)] for start in starts]
    applied = HalfDuplex.apply(_noise(2 * RATE_HZ, 0.1), values, Inputs())
    assert applied.measured["attenuated_share"] == pytest.approx(values["attenuated_share"], abs=0.01)
    assert HalfDuplex.broken_promises(values, applied.measured) == ()


@pytest.mark.parametrize("seconds", [0.5, 3.0, 10.0, 120.0])
def test_drawn_intervals_make_up_the_share(seconds):
    stage = HalfDuplex()
    scene = scene_of(np.zeros(round(seconds * RATE_HZ), np.float32))
    shares = []
    for number in range(300):
        values = stage.draw(generator("duplex", number), scene).values
        intervals = np.array(values["intervals_s"])
        lengths = intervals[:, 1] - intervals[:, 0]
        assert lengths.sum() == pytest.approx(values["attenuated_share"] * seconds, abs=2e-4 * len(lengths))
        assert lengths.min() > 0.199
        assert lengths.max() < 2.001
        assert (intervals[1:, 0] >= intervals[:-1, 1] - 1e-3).all()
        assert intervals[0, 0] >= 0.0
        assert intervals[-1, 1] <= seconds + 1e-3
        shares.append(values["attenuated_share"])
    if seconds >= 10.0:
        assert (min(shares), max(shares)) == (pytest.approx(0.05, abs=0.01), pytest.approx(0.4, abs=0.01))


def test_turning_down_a_pause_is_refused(speech):
    quiet = speech.copy()
    quiet[RATE_HZ : 2 * RATE_HZ] = 0.0
    values = {"attenuation_db": 20.0, "attenuated_share": 0.1, "intervals_s": [[1.2, 1.7]]}
    with pytest.raises(CannotApply, match="nobody speaks"):
        HalfDuplex.apply(quiet, values | {"attack_ms": 5.0, "release_ms": 50.0}, Inputs())


# --- freeverb -------------------------------------------------------------------------------------


def _freeverb_by_samples(frames, room_size, mix, damping):
    """The published structure with its circular buffers, one sample at a time, for an impulse."""
    combs = [np.zeros(round(n * 48_000 / 44_100)) for n in COMB_DELAYS]
    allpasses = [np.zeros(round(n * 48_000 / 44_100)) for n in ALLPASS_DELAYS]
    stores, out = [0.0] * 8, []
    for t in range(frames):
        dry = float(t == 0)
        wet = 0.0
        for i, buffer in enumerate(combs):
            heard = buffer[t % len(buffer)]
            stores[i] = heard * (1 - 0.4 * damping) + stores[i] * 0.4 * damping
            buffer[t % len(buffer)] = 0.015 * dry + stores[i] * (0.28 * room_size + 0.7)
            wet += heard
        for buffer in allpasses:
            stored = buffer[t % len(buffer)]
            buffer[t % len(buffer)] = wet + 0.5 * stored
            wet = stored - wet
        out.append(wet * 3 * 0.33 * mix / 0.5 + dry * 2 * 0.4 * (1 - mix) / 0.5)
    return np.array(out)


@pytest.mark.parametrize(("room_size", "mix", "damping"), [(0.3, 0.45, 0.5), (0.01, 0.6, 0.0)])
def test_freeverb_is_the_published_structure(room_size, mix, damping):
    impulse = np.zeros(9_000, np.float32)
    impulse[0] = 1.0
    values = {"room_size": room_size, "mix": mix, "damping": damping}
    applied = Freeverb.apply(impulse, values, Inputs())
    assert applied.audio == pytest.approx(_freeverb_by_samples(9_000, room_size, mix, damping), abs=2e-6)


def test_the_direct_sound_of_freeverb_is_not_delayed_and_stands_alone_for_25_ms(voice):
    values = {"room_size": 0.2, "mix": 0.45, "damping": 0.5}
    wet = Freeverb.apply(voice, values, Inputs()).audio
    assert wet[:1_214] == pytest.approx(0.88 * voice[:1_214], abs=1e-6)
    assert wet[2_400:] != pytest.approx(0.88 * voice[2_400:], abs=1e-3)


def test_without_damping_freeverb_decays_as_its_combs_do():
    """A comb of N samples and feedback g takes 3 N / (-log10 g) samples for 60 dB; the longest is heard last."""
    values = {"room_size": 0.3, "mix": 0.5, "damping": 0.0}
    impulse = np.zeros(RATE_HZ, np.float32)
    impulse[0] = 1.0
    measured_s = Freeverb.apply(impulse, values, Inputs()).measured["rt60_s"]
    shortest, longest = (3 * n / -np.log10(0.784) / 44_100 for n in (COMB_DELAYS[0], COMB_DELAYS[-1]))
    assert shortest < measured_s < longest * 1.05


def test_the_target_of_freeverb_is_dry_early_or_reverberant(voice):
    values = {"room_size": 0.3, "mix": 0.5, "damping": 0.5}
    dry, early, reverberant = (
        Freeverb.on_target(voice, values, Inputs(), kind, 50.0) for kind in ("dry", "early", "reverberant")
    )
    assert dry is voice
    level = active_level_dbfs(voice)
    assert [active_level_dbfs(x) for x in (early, reverberant)] == pytest.approx([level] * 2, abs=0.01)
    assert _power_db(early - voice, voice) < _power_db(reverberant - voice, voice) < 0.0
    assert LEAD_SAMPLES > 0


# --- phaser ---------------------------------------------------------------------------------------

SWEEP = {"rate_hz": 200.0, "centre_hz": 1_300.0, "sweep_octaves": 2.0, "mix": 0.4, "phase_turns": 0.1}


def _ladder_by_samples(audio, sine, cosine):
    out = audio.astype(np.float64)
    for _ in range(6):
        memory, left = 0.0, []
        for value, s, c in zip(out, sine, cosine, strict=True):
            left.append(s * value + c * memory)
            memory = c * value - s * memory
        out = np.array(left)
    return out


def test_a_resting_phaser_is_six_first_order_all_passes():
    """H = (k + 1/z) / (1 + k / z), whose phase passes 90 degrees at the corner."""
    warped = np.tan(np.pi * 1_000 / RATE_HZ)
    k = (warped - 1) / (warped + 1)
    sine = np.full(8_000, k, np.float32)
    impulse = np.zeros(8_000, np.float32)
    impulse[700] = 1.0
    expected = impulse.astype(np.float64)
    for _ in range(6):
        expected = lfilter([k, 1.0], [1.0, k], expected)
    assert shifted(impulse, sine, np.sqrt(1 - sine**2), 1_000) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("rate_hz", [0.7, 300.0])
def test_a_moving_phaser_is_the_ladder_sample_by_sample(rate_hz, voice):
    audio = voice[RATE_HZ : RATE_HZ + 6_000]
    values = {**SWEEP, "rate_hz": rate_hz}
    sine, cosine = phaser._ladder(len(audio), values)
    out = _ladder_by_samples(audio, sine.astype(np.float64), cosine.astype(np.float64))
    expected = 0.6 * audio + 0.4 * out
    result = Phaser.apply(audio, values, Inputs()).audio
    assert result == pytest.approx(expected, abs=1e-5)


def test_the_share_of_the_shifted_signal_is_found_from_energies(voice, monkeypatch):
    whole = Phaser.apply(voice, SWEEP, Inputs())
    assert whole.measured["mix"] == pytest.approx(0.4, abs=0.001)
    monkeypatch.setattr(phaser, "PIECE_SEGMENTS", 9)
    assert np.abs(Phaser.apply(voice, SWEEP, Inputs()).audio - whole.audio).max() < 1e-5


def test_what_lies_above_the_sweep_is_not_delayed():
    hiss = _noise(RATE_HZ, 0.1)
    spectrum = np.fft.rfft(hiss)
    spectrum[:14_000] = 0.0
    high = np.fft.irfft(spectrum, len(hiss)).astype(np.float32)
    slow = {**SWEEP, "rate_hz": 0.5, "centre_hz": 600.0, "sweep_octaves": 1.0}
    assert abs(lag_samples(high, Phaser.apply(high, slow, Inputs()).audio)) < 0.1


def test_a_fast_phaser_puts_side_bands_around_a_tone():
    t = np.arange(RATE_HZ) / RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 1_000 * t)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(Phaser.apply(tone, SWEEP, Inputs()).audio * np.hanning(RATE_HZ)))
    lines = np.zeros(len(spectrum), bool)
    for k in range(-5, 40):
        lines[max(0, 1_000 + 200 * k - 3) : 1_000 + 200 * k + 4] = True
    assert spectrum[1_200] > 0.02 * spectrum[1_000]
    assert np.sum(spectrum[~lines] ** 2) < 1e-4 * np.sum(spectrum**2)
