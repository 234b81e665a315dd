"""Codecs deliver what was drawn, on time: every codec at every rate and a low and a high bitrate."""

import numpy as np
import pytest
import soxr
from scipy import signal
from stage_signals import aligned, lag_samples, recorded, scene_of, speech_like

from datagen.degradations.base import Inputs
from datagen.degradations.codec.codec import DELAY_SAMPLES, Codec
from datagen.degradations.codec.ffmpeg import Trip, there_and_back
from datagen.degradations.codec.mix import CodecMix
from datagen.degradations.codec.phase import AMR_HIGHPASS, opus_voip_highpass, without_phase_of
from datagen.degradations.codec.settings import MP3_BITRATES_KBPS, MP3_RATES_HZ, mp3_version
from datagen.degradations.codec.sndfile import FileTrip, there_and_back_in_a_file
from datagen.degradations.codec.telephone import (
    AMR_MODES_KBPS,
    G723_1_KBPS,
    GSM_KBPS,
    MSBC_KBPS,
    adpcm_block,
    sbc_kbps,
)
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
                    "rate_mode": "vbr",
                }
    for rate_mode in ("constrained_vbr", "cbr"):
        yield {
            "codec": "opus",
            "rate_hz": 48_000,
            "bitrate_kbps": 16.0,
            "bandwidth_hz": 8_000,
            "application": "audio",
            "complexity": 3,
            "rate_mode": rate_mode,
        }


def _mp3():
    for rate_hz in MP3_RATES_HZ:
        table = MP3_BITRATES_KBPS[mp3_version(rate_hz)]
        for bitrate_kbps in (next(kbps for kbps in table if kbps >= 16), 64, table[-1]):
            yield {"codec": "mp3", "rate_hz": rate_hz, "bitrate_kbps": bitrate_kbps, "effort": 8}
        for quality in (0.0, 5.5, 9.9):
            yield {"codec": "mp3_vbr", "rate_hz": rate_hz, "quality": quality}


def _aac():
    for rate_hz in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        most = 96.0 if rate_hz >= 16_000 else 48.0
        for bitrate_kbps, coder in ((16.0, "fast"), (most, "fast"), (32.0, "twoloop")):
            yield {"codec": "aac", "rate_hz": rate_hz, "bitrate_kbps": bitrate_kbps, "coder": coder}


def _vorbis():
    for rate_hz in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        for quality in (0.0, 3.5, 10.0):
            yield {"codec": "vorbis", "rate_hz": rate_hz, "quality": quality}


def _telephone():
    for law in ("mu", "A"):
        yield {"codec": "g711", "rate_hz": 8_000, "bitrate_kbps": 64, "law": law}
    for bitrate_kbps in (48, 56, 64):
        yield {"codec": "g722", "rate_hz": 16_000, "bitrate_kbps": bitrate_kbps}
    for bitrate_kbps in AMR_MODES_KBPS:
        yield {"codec": "amr_nb", "rate_hz": 8_000, "bitrate_kbps": bitrate_kbps}
    for bitrate_kbps in (16, 24, 32, 40):
        yield {"codec": "g726", "rate_hz": 8_000, "bitrate_kbps": bitrate_kbps}
    yield {"codec": "g723_1", "rate_hz": 8_000, "bitrate_kbps": G723_1_KBPS}
    yield {"codec": "gsm", "rate_hz": 8_000, "bitrate_kbps": GSM_KBPS}
    for rate_hz in (8_000, 11_025, 16_000, 22_050, 44_100):
        for kind in ("ima", "ms"):
            size, samples = adpcm_block(kind, rate_hz)
            bitrate_kbps = size * 8 * rate_hz / samples / 1_000
            yield {"codec": "adpcm", "rate_hz": rate_hz, "bitrate_kbps": bitrate_kbps, "kind": kind}
    yield {"codec": "sbc", "rate_hz": 16_000, "bitrate_kbps": MSBC_KBPS}
    for rate_hz in (32_000, 44_100, 48_000):
        for bitpool in (6, 19, 31):
            yield {"codec": "sbc", "rate_hz": rate_hz, "bitrate_kbps": sbc_kbps(bitpool, rate_hz)}


EVERY_SETTING = [
    pytest.param(values, id="-".join(str(value) for value in values.values()))
    for values in (*_opus(), *_mp3(), *_aac(), *_vorbis(), *_telephone())
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
@pytest.mark.parametrize("codec", CodecMix.model_fields)
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
        ("aac", Trip("aac", "aac", "fltp", 8_000, 32.0), 1_024),
        ("g711", Trip("pcm_alaw", "pcm_alaw", "s16", 8_000), 0),
        ("g722", Trip("g722", "g722", "s16", 16_000), 22),
        # Above its high-pass, AMR is late by its look-ahead of 5 ms (3GPP TS 26.090, section 4.4).
        ("amr_nb", Trip("libopencore_amrnb", "amrnb", "s16", 8_000, 12.2), 40),
        # ITU-T G.723.1: frames of 30 ms, with a look-ahead of 7.5 ms.
        ("g723_1", Trip("g723_1", "g723_1", "s16", 8_000, 6.3), 60),
        # ITU-T G.726 and the ADPCM of IMA and Microsoft predict from the past alone.
        ("g726", Trip("g726", "g726", "s16", 8_000, 40.0, {}, {"bits_per_coded_sample": "5"}), 0),
        (
            "adpcm",
            Trip("adpcm_ima_wav", "adpcm_ima_wav", "s16p", 22_050, None, {}, {"bits_per_coded_sample": "4"}),
            0,
        ),
        ("adpcm", Trip("adpcm_ms", "adpcm_ms", "s16", 22_050), 0),
        # Bluetooth A2DP, appendix B: a cosine-modulated filter bank of 8 bands with 80 taps; such a bank of M
        # bands and L taps delays by L - M + 1 samples there and back.
        ("sbc", Trip("sbc", "sbc", "s16", 48_000, 228.0), 73),
        ("sbc", Trip("sbc", "sbc", "s16", 16_000, None, {"msbc": "1"}), 73),
        # What LAME puts before is marked in its first frame, and taken away by the decoder.
        ("mp3", Trip("libmp3lame", "mp3float", "fltp", 8_000, 64.0), 0),
        ("mp3", Trip("libmp3lame", "mp3float", "fltp", 44_100, 128.0), 0),
        # ETSI EN 300 961: frames of 20 ms, without look-ahead. Vorbis I, section A.2: the granule
        # position counts samples from the first that was put in.
        ("gsm", FileTrip("WAV", "GSM610", 8_000), 0),
        ("vorbis", FileTrip("OGG", "VORBIS", 8_000, quality=5.0), 0),
        ("vorbis", FileTrip("OGG", "VORBIS", 48_000, quality=5.0), 0),
    ],
)
def test_the_table_of_delays_agrees_with_the_standards_and_with_the_codec(name, trip, reference_delay):
    audio = soxr.resample(speech_like(3.0), 48_000, trip.rate_hz)
    if name == "amr_nb":
        audio = signal.sosfiltfilt(signal.butter(4, 1_000, "highpass", fs=8_000, output="sos"), audio)
        audio = audio.astype(np.float32)
    sent = np.concatenate((audio, np.zeros(4_096, np.float32)))
    passed = there_and_back if isinstance(trip, Trip) else there_and_back_in_a_file
    decoded, _ = passed(sent, trip)
    assert DELAY_SAMPLES[name] == reference_delay
    assert abs(lag_samples(audio, decoded) - reference_delay) < 0.5


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
        "rate_mode": "vbr",
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
