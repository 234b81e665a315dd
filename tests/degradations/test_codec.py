"""Codecs deliver what was drawn, on time: every codec at every rate and a low and a high bitrate."""

import numpy as np
import pytest
import soxr
from scipy import signal
from stage_signals import aligned, lag_samples, recorded, scene_of, speech_like

from datagen.degradations.base import Inputs
from datagen.degradations.codec import DELAY_SAMPLES, Codec
from datagen.degradations.codec_av import Trip, there_and_back
from datagen.degradations.codec_phase import AMR_HIGHPASS, opus_voip_highpass, without_phase_of
from datagen.degradations.codec_settings import AMR_MODES_KBPS, MP3_BITRATES_KBPS
from manifests.keyed import generator


def _opus():
    for application in ("voip", "audio", "lowdelay"):
        for bandwidth_hz in (4_000, 8_000, 12_000, 20_000):
            for bitrate_kbps, complexity in ((6.0, 0), (12.0, 10), (20.0, 2), (32.0, 5), (64.0, 0)):
                yield {
                    "codec": "opus",
                    "rate_hz": 48_000,
                    "bitrate_kbps": bitrate_kbps,
                    "bandwidth_hz": bandwidth_hz,
                    "application": application,
                    "complexity": complexity,
                }


def _mp3():
    for rate_hz in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        table = MP3_BITRATES_KBPS["mpeg1" if rate_hz >= 32_000 else "mpeg2"]
        for bitrate_kbps in (next(kbps for kbps in table if kbps >= 16), 64, 128):
            yield {"codec": "mp3", "rate_hz": rate_hz, "bitrate_kbps": bitrate_kbps, "effort": 8}


def _aac():
    for rate_hz in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        for bitrate_kbps, coder in ((16.0, "fast"), (96.0, "fast"), (32.0, "twoloop")):
            yield {"codec": "aac", "rate_hz": rate_hz, "bitrate_kbps": bitrate_kbps, "coder": coder}


def _telephone():
    for law in ("mu", "A"):
        yield {"codec": "g711", "rate_hz": 8_000, "bitrate_kbps": 64, "law": law}
    for bitrate_kbps in (48, 56, 64):
        yield {"codec": "g722", "rate_hz": 16_000, "bitrate_kbps": bitrate_kbps}
    for bitrate_kbps in AMR_MODES_KBPS:
        yield {"codec": "amr_nb", "rate_hz": 8_000, "bitrate_kbps": bitrate_kbps}


EVERY_SETTING = [
    pytest.param(values, id="-".join(str(value) for value in values.values()))
    for values in (*_opus(), *_mp3(), *_aac(), *_telephone())
]


@pytest.mark.parametrize("values", EVERY_SETTING)
def test_no_lag_is_left(values, voice):
    applied = Codec.apply(voice, values, Inputs())
    assert abs(lag_samples(voice, aligned(applied, len(voice)))) <= 0.5


@pytest.mark.parametrize("talker", range(6))
def test_no_lag_is_left_on_any_voice_by_the_codecs_that_high_pass(talker):
    """Their filters shift the lowest harmonics, and with them the best match, by another amount for each voice."""
    audio = recorded(talker, 4.0)
    for values in (
        {"codec": "amr_nb", "rate_hz": 8_000, "bitrate_kbps": 4.75},
        {"codec": "amr_nb", "rate_hz": 8_000, "bitrate_kbps": 12.2},
        *(values for values in _opus() if values["application"] == "voip" and values["bitrate_kbps"] == 20.0),
    ):
        applied = Codec.apply(audio, values, Inputs())
        assert abs(lag_samples(audio, aligned(applied, len(audio)))) <= 0.5, values


@pytest.mark.parametrize(
    ("rate_hz", "sections"),
    [(8_000, AMR_HIGHPASS), (48_000, (opus_voip_highpass(48_000),))],
    ids=["amr", "opus"],
)
def test_taking_out_a_phase_leaves_the_magnitude_and_no_delay(rate_hz, sections):
    """The same as filtering with the magnitude alone, which is what filtering forwards and backwards gives."""
    audio = speech_like(3.0)[:: 48_000 // rate_hz]
    root = np.abs(signal.sosfreqz(np.array(sections), 2 * np.pi * np.fft.rfftfreq(4 * len(audio)))[1])
    expected = np.fft.irfft(np.fft.rfft(audio, 4 * len(audio)) * root)[: len(audio)]
    filtered = signal.sosfilt(np.array(sections), audio).astype(np.float32)
    assert np.abs(without_phase_of(filtered, sections, rate_hz) - expected).max() < 1e-4
    assert abs(lag_samples(audio, without_phase_of(filtered, sections, rate_hz))) < 0.05


@pytest.mark.parametrize("frames", [2_400, 47_999, 48_001, 100_003])
@pytest.mark.parametrize("codec", ["opus", "mp3", "aac", "g711", "g722", "amr_nb"])
def test_the_last_sample_comes_out(codec, frames):
    """A tone to the very end is still there after the delay is removed."""
    audio = (0.2 * np.sin(2 * np.pi * 440 * np.arange(frames) / 48_000)).astype(np.float32)
    stage = Codec(codecs={codec: {}})
    for number in range(4):
        values = stage.draw(generator("end", codec, number), scene_of(audio)).values
        kept = aligned(Codec.apply(audio, values, Inputs()), frames)
        last = slice(frames - 960, None)
        assert np.std(kept[last]) > 0.3 * np.std(audio[last]), values


@pytest.mark.parametrize(
    ("name", "trip", "reference_delay"),
    [
        # What the authors of each codec say: the Opus API (OPUS_GET_LOOKAHEAD), the transform length of AAC-LC,
        # PCM, and the two 24-tap filter banks of ITU-T G.722 (22 samples at 16 kHz).
        ("opus", Trip("libopus", "libopus", "flt", 48_000, 64.0, {"application": "audio"}), 312),
        ("opus lowdelay", Trip("libopus", "libopus", "flt", 48_000, 64.0, {"application": "lowdelay"}), 120),
        ("aac", Trip("aac", "aac", "fltp", 48_000, 96.0), 1_024),
        ("g711", Trip("pcm_alaw", "pcm_alaw", "s16", 8_000), 0),
        ("g722", Trip("g722", "g722", "s16", 16_000), 22),
        # Above its high-pass, AMR is late by its look-ahead of 5 ms (3GPP TS 26.090, section 4.4).
        ("amr_nb", Trip("libopencore_amrnb", "amrnb", "s16", 8_000, 12.2), 40),
    ],
)
def test_the_table_of_delays_agrees_with_the_standards_and_with_the_codec(name, trip, reference_delay):
    audio = soxr.resample(speech_like(3.0), 48_000, trip.rate_hz)
    if name == "amr_nb":
        audio = signal.sosfiltfilt(signal.butter(4, 1_000, "highpass", fs=8_000, output="sos"), audio)
        audio = audio.astype(np.float32)
    decoded, _ = there_and_back(np.concatenate((audio, np.zeros(4_096, np.float32))), trip)
    assert DELAY_SAMPLES[name] == reference_delay
    assert abs(lag_samples(audio, decoded) - reference_delay) < 0.5


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        ({"codec": "mp3", "rate_hz": 44_100, "bitrate_kbps": 64, "effort": 9}, 0.05),
        ({"codec": "aac", "rate_hz": 32_000, "bitrate_kbps": 48.0, "coder": "fast"}, 0.15),
        ({"codec": "g711", "rate_hz": 8_000, "bitrate_kbps": 64, "law": "mu"}, 0.02),
        ({"codec": "amr_nb", "rate_hz": 8_000, "bitrate_kbps": 12.2}, 0.1),
    ],
)
def test_the_bitrate_that_was_drawn_is_delivered(values, tolerance, speech):
    measured = Codec.apply(speech, values, Inputs()).measured
    assert measured["bitrate_kbps"] == pytest.approx(values["bitrate_kbps"], rel=tolerance)


def test_a_codec_at_eight_kilohertz_leaves_nothing_above_four(speech):
    for values in (*_telephone(),):
        if values["rate_hz"] == 8_000:
            power = np.abs(np.fft.rfft(Codec.apply(speech, values, Inputs()).audio)) ** 2
            above = power[round(4_400 / 24_000 * len(power)) :].sum()
            assert above < 1e-5 * power.sum()


def test_opus_says_what_it_chose_to_do(speech):
    values = {
        "codec": "opus",
        "rate_hz": 48_000,
        "bitrate_kbps": 32.0,
        "bandwidth_hz": 8_000,
        "complexity": 0,
    }
    assert Codec.apply(speech, values | {"application": "lowdelay"}, Inputs()).measured["mode"] == "celt"
    speaking = Codec.apply(speech, values | {"application": "voip"}, Inputs()).measured
    assert (speaking["mode"], speaking["bandwidth_hz"]) == ("silk", 8_000)


def test_fewer_bits_and_less_band_are_worse(speech):
    def severity(**values):
        return Codec.severity(values, {})

    opus = [
        severity(codec="opus", rate_hz=48_000, bandwidth_hz=20_000, bitrate_kbps=k) for k in (64, 32, 16, 6)
    ]
    assert opus == sorted(opus)
    assert len(set(opus)) == 4
    bands = [
        severity(codec="opus", rate_hz=48_000, bandwidth_hz=b, bitrate_kbps=24)
        for b in (20_000, 8_000, 4_000)
    ]
    assert bands == sorted(bands)
    amr = [severity(codec="amr_nb", rate_hz=8_000, bitrate_kbps=k) for k in reversed(AMR_MODES_KBPS)]
    assert amr == sorted(amr)
