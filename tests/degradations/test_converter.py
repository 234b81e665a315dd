"""The converter clips, saturates, quantises and shifts by what was drawn, without tones that no converter makes."""

import numpy as np
import pytest
from scipy import signal
from stage_signals import RATE_HZ, lag_samples, recorded, scene_of, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.converter.bit_depth import BitDepth
from datagen.degradations.converter.clipping import Clipping
from datagen.degradations.converter.dc_offset import DcOffset
from datagen.degradations.converter.overdrive import Overdrive
from datagen.degradations.converter.waveshaping import shaped
from manifests.keyed import generator

SPEECH = speech_like(3.0)
SCENE = scene_of(SPEECH)
AMPLITUDE = 0.5


def sine(hz: float) -> np.ndarray:
    """One second without a phase at which all samples coincide."""
    return (AMPLITUDE * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ + 0.3)).astype(np.float32)


def clip(audio: np.ndarray, kind: str = "hard", oversample: int = 4, restore_level: bool = False, **asked):
    values = {"kind": kind, "oversample": oversample, "restore_level": restore_level, **asked}
    return Clipping.apply(audio, values, Inputs())


def sdr_db(clean: np.ndarray, distorted: np.ndarray) -> float:
    clean, distorted = clean.astype(np.float64), distorted.astype(np.float64)
    return 10 * np.log10(np.sum(clean**2) / np.sum((clean - distorted) ** 2))


def between_samples(audio: np.ndarray, times: int) -> np.ndarray:
    """The waveform between the samples, by zeros in the spectrum: not the resampler that the stages use."""
    return signal.resample(audio.astype(np.float64), times * len(audio))


# --- clipping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2, 0.6])
def test_clipping_the_samples_hits_exactly_the_share_that_was_drawn(share):
    applied = clip(SPEECH, oversample=1, share=share)
    ceiling = np.abs(applied.audio).max()
    assert abs(np.count_nonzero(np.abs(applied.audio) == ceiling) - share * len(SPEECH)) <= 1
    assert applied.measured["clipped_share"] == pytest.approx(share, abs=1.01 / len(SPEECH))
    below = np.abs(SPEECH) < ceiling
    assert np.array_equal(applied.audio[below], SPEECH[below])


@pytest.mark.parametrize("oversample", [2, 4])
@pytest.mark.parametrize("share", [0.003, 0.05, 0.3])
def test_the_waveform_lies_beyond_the_ceiling_for_the_share_that_was_drawn(share, oversample, voice):
    applied = clip(voice, oversample=oversample, share=share)
    # What was cut off is flat: most of the samples that moved inwards by a lot lie at the ceiling.
    moved = np.abs(voice) - np.abs(applied.audio)
    ceiling = np.median(np.abs(applied.audio)[moved > 0.3 * moved.max()])
    waveform = np.abs(between_samples(voice, 4))
    assert np.mean(waveform > ceiling) == pytest.approx(share, rel=0.12)


def closed_form_ceiling(audio: np.ndarray, asked_db: float) -> float:
    """From sorted magnitudes and sums of what lies above: n c^2 - 2 c sum|x| + sum x^2 is what a ceiling takes."""
    magnitude = np.sort(np.abs(audio.astype(np.float64)))[::-1]
    count = np.arange(1, len(magnitude) + 1)
    first, second = np.cumsum(magnitude), np.cumsum(magnitude**2)
    allowed = second[-1] / 10 ** (asked_db / 10)
    taken = second - 2 * magnitude * first + count * magnitude**2
    last = np.searchsorted(taken, allowed) - 1
    n, s1, s2 = count[last], first[last], second[last] - allowed
    return (s1 - np.sqrt(s1**2 - n * s2)) / n


@pytest.mark.parametrize("asked_db", [3.0, 10.0, 20.0, 30.0])
def test_the_ceiling_of_a_ratio_is_the_one_of_the_closed_form(asked_db, voice):
    applied = clip(voice, oversample=1, sdr_db=asked_db)
    assert np.abs(applied.audio).max() == pytest.approx(closed_form_ceiling(voice, asked_db), rel=2e-3)


@pytest.mark.parametrize("oversample", [1, 2, 4])
@pytest.mark.parametrize("softness", [None, 0.1, 1.0])
@pytest.mark.parametrize("asked_db", [3.0, 12.0, 30.0])
def test_clipping_leaves_the_ratio_that_was_drawn(asked_db, softness, oversample):
    hiss = 0.02 * generator("hiss").standard_normal(len(SPEECH))
    for audio in (SPEECH, (SPEECH + hiss).astype(np.float32), hiss.astype(np.float32)):
        how = {"kind": "hard"} if softness is None else {"kind": "soft", "softness": softness}
        applied = clip(audio, oversample=oversample, sdr_db=asked_db, **how)
        assert sdr_db(audio, applied.audio) == pytest.approx(asked_db, abs=0.5)
        assert applied.measured["clip_sdr_db"] == pytest.approx(sdr_db(audio, applied.audio), abs=0.01)


def test_soft_clipping_bends_only_the_share_that_was_drawn():
    applied = clip(SPEECH, "soft", oversample=1, share=0.1, softness=0.5)
    changed = np.count_nonzero(applied.audio != SPEECH)
    assert changed == pytest.approx(0.1 * len(SPEECH), abs=0.002 * len(SPEECH))
    order = np.argsort(SPEECH, kind="stable")
    assert (np.diff(applied.audio[order]) >= -1e-7).all()


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.95), (0.0, 0.9), (0.1, 1.0), (0.0713, 0.9377)])
def test_asymmetric_clipping_cuts_at_the_quantiles_of_numpy(low, high):
    applied = clip(SPEECH, "asymmetric", oversample=1, low_quantile=low, high_quantile=high)
    limits = np.quantile(SPEECH, [low, high]).astype(np.float32)
    assert np.array_equal(applied.audio, np.clip(SPEECH, *limits))
    assert applied.measured["clipped_share"] == pytest.approx(low + 1 - high, abs=1e-3)
    assert applied.measured["low_quantile"] == pytest.approx(low, abs=1e-3)
    assert applied.measured["high_quantile"] == pytest.approx(high, abs=1e-3)


@pytest.mark.parametrize("oversample", [1, 2, 4])
@pytest.mark.parametrize("kind", ["hard", "soft", "asymmetric"])
def test_the_level_comes_back_when_asked(kind, oversample):
    asked = {"low_quantile": 0.05, "high_quantile": 0.97} if kind == "asymmetric" else {"share": 0.1}
    applied = clip(SPEECH, kind, oversample, restore_level=True, softness=0.2, **asked)
    assert applied.audio.std() == pytest.approx(SPEECH.std(), rel=1e-3)
    assert applied.measured["restored_db"] > 0.0


def test_what_is_far_from_the_ceiling_stays_as_it_was_to_the_bit():
    audio = SPEECH.copy()
    loudest = int(np.argmax(np.abs(audio)))
    audio[loudest - 2_000 : loudest + 2_000] *= 3.0
    applied = clip(audio, share=0.002)
    far = np.abs(np.arange(len(audio)) - loudest) > 2_500
    assert np.array_equal(applied.audio[far], audio[far])
    assert not np.array_equal(applied.audio, audio)


def test_more_clipping_is_worse_and_a_soft_knee_less_so():
    def severity(share, **how):
        values = {"kind": "hard", **how}
        return Clipping.severity(values, clip(SPEECH, share=share, **values).measured)

    assert severity(0.001) < severity(0.01) < severity(0.1) < severity(0.25) <= 1.0
    assert severity(0.1, kind="soft", softness=1.0) < severity(0.1, kind="soft", softness=0.2) < severity(0.1)


@pytest.mark.parametrize("oversample", [1, 4])
def test_silence_and_a_square_wave_cannot_be_clipped(oversample):
    square = np.where(np.arange(RATE_HZ) // 100 % 2, 0.5, -0.5).astype(np.float32)
    for audio in (np.zeros(RATE_HZ, np.float32), square):
        with pytest.raises(CannotApply, match="stand"):
            clip(audio, oversample=1, share=0.01)
        with pytest.raises(CannotApply):
            clip(audio, oversample=oversample, sdr_db=10.0)


# --- harmonics -------------------------------------------------------------------------------------

SHAPERS = {
    "hard": lambda audio, times: clip(audio, oversample=times, sdr_db=8.0),
    "soft": lambda audio, times: clip(audio, "soft", times, sdr_db=8.0, softness=0.3),
    "tanh": lambda audio, times: drive(audio, "tanh", 20.0, times),
    "sigmoid": lambda audio, times: drive(audio, "sigmoid", 20.0, times),
    "diode": lambda audio, times: drive(audio, "diode", 20.0, times, asymmetry_db=8.0, upper_first=True),
}


def drive(audio, curve, drive_db, oversample=4, **more):
    values = {"curve": curve, "drive_db": drive_db, "oversample": oversample, **more}
    return Overdrive.apply(audio, values, Inputs())


def aliases_db(audio: np.ndarray, hz: int) -> float:
    """Energy of everything that is no harmonic of `hz`, and no DC, relative to all of it."""
    power = np.abs(np.fft.rfft(audio.astype(np.float64) * signal.windows.blackmanharris(len(audio)))) ** 2
    wanted = np.zeros(len(power), bool)
    for harmonic in range(0, RATE_HZ // 2, hz):
        wanted[max(0, harmonic - 6) : harmonic + 7] = True
    return 10 * np.log10(power[~wanted].sum() / power.sum())


@pytest.mark.parametrize("shaper", SHAPERS)
def test_oversampling_makes_no_tones_beside_the_harmonics(shaper):
    """A 5 kHz sine has harmonics at 5, 10, 15 and 20 kHz below 24 kHz; the others fold to where none belongs."""
    tone = sine(5_001.0)
    found = [aliases_db(SHAPERS[shaper](tone, times).audio, 5_001) for times in (1, 2, 4)]
    assert found[0] > -30.0
    assert found[1] < found[0] - 12.0
    assert found[2] < found[1] - 12.0
    assert found[2] < -48.0


def test_the_harmonics_are_those_of_fourier():
    """Of a clipped sine, by integration over a million points of one period."""
    tone = sine(1_000.0)
    applied = clip(tone, oversample=4, sdr_db=10.0)
    ceiling = closed_form_ceiling(tone, 10.0)
    angle = 2 * np.pi * (np.arange(1_000_000) + 0.5) / 1_000_000
    cut = np.clip(AMPLITUDE * np.sin(angle), -ceiling, ceiling)
    spectrum = np.abs(np.fft.rfft(applied.audio.astype(np.float64))) / (RATE_HZ / 2)
    for harmonic in (1, 3, 5, 7, 9):
        expected = abs(2 * np.mean(cut * np.sin(harmonic * angle)))
        assert spectrum[1_000 * harmonic] == pytest.approx(expected, rel=0.02, abs=2e-4)
    assert spectrum[2_000] < 1e-5


@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("frames", [1, 480, 16_384, 16_385, 48_001])
def test_a_straight_curve_changes_nothing_and_delays_nothing(frames, times):
    audio = SPEECH[40_000 : 40_000 + frames]
    assert np.array_equal(shaped(audio, lambda waveform: waveform, times), audio)
    assert len(shaped(audio, np.tanh, times)) == frames


@pytest.mark.parametrize("shaper", SHAPERS)
def test_no_curve_delays(shaper, voice):
    for times in (1, 2, 4):
        applied = SHAPERS[shaper](voice, times)
        assert applied.delay_samples == 0.0
        assert abs(lag_samples(voice, applied.audio)) < 0.1


# --- overdrive -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "bent"),
    [
        ("tanh", np.tanh),
        ("sigmoid", lambda x: x / np.sqrt(1 + x**2)),
    ],
)
def test_overdrive_bends_as_its_formula_says(curve, bent):
    applied = drive(SPEECH, curve, 14.0, oversample=1)
    x = SPEECH.astype(np.float64)
    knee = np.quantile(np.abs(x), 0.999) / 10 ** (14 / 20)
    expected = bent(x / knee)
    expected *= x.std() / expected.std()
    assert np.abs(applied.audio - expected).max() < 0.002 * np.abs(expected).max()


def test_a_diode_makes_even_harmonics_and_no_mean():
    tone = sine(500.0)
    upper = drive(tone, "diode", 12.0, asymmetry_db=10.0, upper_first=True).audio
    lower = drive(-tone, "diode", 12.0, asymmetry_db=10.0, upper_first=False).audio
    assert np.abs(upper + lower).max() < 1e-5
    middle = upper[RATE_HZ // 4 : -RATE_HZ // 4]
    # The upper half-wave is flat, and the mean is taken away from both.
    assert np.mean(middle > 0.8 * middle.max()) > 1.5 * np.mean(middle < 0.8 * middle.min())
    assert abs(middle.mean()) < 0.01 * middle.std()
    spectrum = np.abs(np.fft.rfft(upper.astype(np.float64)))
    assert spectrum[1_000] > 0.05 * spectrum[500]
    straight = np.abs(np.fft.rfft(drive(tone, "tanh", 12.0).audio.astype(np.float64)))
    assert straight[1_000] < 1e-4 * straight[500]


@pytest.mark.parametrize("curve", ["tanh", "sigmoid", "diode"])
@pytest.mark.parametrize("drive_db", [2.0, 10.0, 20.0, 30.0])
def test_the_drive_is_measured_and_the_level_restored(curve, drive_db, voice):
    more = {"asymmetry_db": 10.0, "upper_first": True} if curve == "diode" else {}
    for oversample in (1, 2, 4):
        applied = drive(voice, curve, drive_db, oversample, **more)
        assert applied.measured["drive_db"] == pytest.approx(drive_db, abs=0.5)
        assert applied.audio.std() == pytest.approx(voice.std(), rel=1e-4)


def test_a_drive_that_was_not_delivered_breaks_its_promise():
    delivered = dict(drive(SPEECH, "tanh", 12.0).measured)
    assert Overdrive.broken_promises({"drive_db": 12.0}, delivered) == ()
    assert Overdrive.broken_promises({"drive_db": 13.0}, delivered) == ("drive_db",)


def test_more_drive_is_worse():
    def severity(drive_db):
        return Overdrive.severity({}, drive(SPEECH, "tanh", drive_db).measured)

    rising = [severity(drive_db) for drive_db in (0.0, 5.0, 10.0, 20.0, 30.0)]
    assert rising == sorted(set(rising))
    assert all(0.0 < found <= 1.0 for found in rising)


# --- bit depth -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4.0, 5.5, 8.0, 11.3, 14.0])
@pytest.mark.parametrize("dithered", [False, True])
def test_samples_are_whole_steps_of_two_to_the_bits(bits, dithered):
    dither = {"dither_seed": 3} if dithered else {}
    audio = SPEECH * np.float32(2.0)
    applied = BitDepth.apply(audio, {"bits": bits, **dither}, Inputs())
    step = 2.0 / 2.0**bits
    steps = applied.audio.astype(np.float64) / step
    assert np.abs(steps - np.rint(steps)).max() < 2e-3
    assert np.abs(applied.audio - audio).max() <= (1.5 if dithered else 0.5) * step * 1.001
    assert applied.measured["bits"] == pytest.approx(bits, abs=0.001)
    assert applied.measured["snr_db"] == pytest.approx(sdr_db(audio, applied.audio), abs=0.01)


def test_the_noise_of_a_quantiser_is_that_of_the_textbook():
    """q^2 / 12 without dither on a busy signal; q^2 / 4 with triangular dither, whatever the signal."""
    step = 2.0**-9
    busy = (0.1 * generator("busy").standard_normal(RATE_HZ)).astype(np.float32)
    bare = BitDepth.apply(busy, {"bits": 10.0}, Inputs()).audio - busy
    assert np.var(bare.astype(np.float64)) == pytest.approx(step**2 / 12, rel=0.03)
    slow = sine(3.0) * np.float32(0.04)
    dithered = BitDepth.apply(slow, {"bits": 10.0, "dither_seed": 5}, Inputs()).audio - slow
    assert np.var(dithered.astype(np.float64)) == pytest.approx(step**2 / 4, rel=0.03)
    bare = BitDepth.apply(slow, {"bits": 10.0}, Inputs()).audio - slow
    assert abs(np.corrcoef(dithered, slow)[0, 1]) < 0.01
    # Without dither the error of a slow tone repeats with it: it is made of tones.
    flattest, peak = (np.sort(np.abs(np.fft.rfft(error)))[-1] for error in (dithered, bare))
    assert peak > 5 * flattest


def test_eight_bits_still_hit_quiet_speech_and_too_few_are_refused():
    quiet = SPEECH * np.float32(10 ** (-20 / 20))
    assert BitDepth.apply(quiet, {"bits": 9.0}, Inputs()).measured["snr_db"] > 3.0
    with pytest.raises(CannotApply, match="too quiet for 4.0 bits"):
        BitDepth.apply(quiet, {"bits": 4.0}, Inputs())
    with pytest.raises(CannotApply, match="too quiet"):
        BitDepth.apply(quiet * np.float32(1e-3), {"bits": 8.0, "dither_seed": 1}, Inputs())
    with pytest.raises(CannotApply, match="too loud"):
        BitDepth.apply(SPEECH * np.float32(30.0), {"bits": 16.0}, Inputs())


def test_dither_keeps_what_bare_rounding_loses():
    """A tone of less than half a step vanishes without dither, and is still there with it (on a louder hum)."""
    step = 2.0**-7
    tone, hum = sine(2_000.0) * np.float32(0.4 * step / AMPLITUDE), sine(50.0) * np.float32(0.4)
    bare = np.rint(tone / step)
    assert not bare.any()
    applied = BitDepth.apply(tone + hum, {"bits": 8.0, "dither_seed": 2}, Inputs())
    kept = 2 * np.abs(np.fft.rfft(applied.audio))[2_000] / RATE_HZ
    assert kept == pytest.approx(0.4 * step, rel=0.05)


def test_bits_beyond_a_file_s_sixteen_are_not_drawn():
    stage = BitDepth(bits=[8, 24])
    drawn = [stage.draw(generator("bits", number), SCENE).values["bits"] for number in range(500)]
    assert 8.0 <= min(drawn) < 8.2
    assert 15.8 < max(drawn) <= 16.0
    with pytest.raises(ValueError, match="must begin at or below 16"):
        BitDepth(bits=[18, 24])


# --- DC offset -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.2, -0.03, 0.001])
def test_an_offset_moves_the_mean_and_nothing_else(offset):
    voice = recorded(1, 3.0)
    applied = DcOffset.apply(voice, {"offset": offset}, Inputs())
    assert applied.audio - voice == pytest.approx(offset, abs=1e-6)
    assert applied.measured["offset"] == pytest.approx(offset, abs=1e-6)


def test_offsets_come_with_either_sign_and_log_uniform():
    drawn = np.array([DcOffset().draw(generator("dc", n), SCENE).values["offset"] for n in range(1_000)])
    assert 0.45 < np.mean(drawn > 0.0) < 0.55
    spread = np.histogram(np.log10(np.abs(drawn)), bins=5, range=(-3.0, np.log10(0.2)))[0]
    assert spread.sum() == 1_000
    assert spread.min() > 150
    assert 0.0 < DcOffset.severity({}, {"offset": -0.01}) < DcOffset.severity({}, {"offset": 0.2}) < 0.3


@pytest.mark.parametrize(
    ("given", "by"),
    [
        ({"share": 0.1}, ("share",)),
        ({"sdr_db": [3, 10]}, ("sdr",)),
        ({"share": 0.1, "sdr_db": 9}, ("share", "sdr")),
        ({"share": 0.1, "by": ["sdr"]}, ("sdr",)),
        ({"kinds": ["hard"], "ceiling_dbfs": -6}, ("ceiling",)),
        ({}, ("share", "sdr")),
    ],
)
def test_clipping_is_asked_for_by_what_is_given(given, by):
    assert Clipping(**given).by == by
