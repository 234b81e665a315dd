"""What each codec promises is kept and noticed when it is not; long files, loud ones, and two codecs in a row."""

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
import soxr
from stage_signals import lag_samples, recorded, speech_like

from datagen.alignment import without_delay
from datagen.degradations.base import Inputs
from datagen.degradations.codec.codec import Codec, codec_severity, follows_the_signal, through_codec
from datagen.degradations.codec.ffmpeg import Trip, as_int16, there_and_back
from datagen.degradations.codec.mix import CodecMix, every_codec
from datagen.degradations.codec.sndfile import BLOCK_S, FileTrip, there_and_back_in_a_file, vorbis_pages
from datagen.degradations.codec.tandem import Tandem
from datagen.degradations.codec.telephone import AMR_MODES_KBPS, MSBC_KBPS, sbc_kbps
from manifests.keyed import generator

DRAWS = 6
SHARES_OF_THE_MIX = {"opus": 0.2, "mp3": 0.06, "aac and vorbis": 0.06, "telephone": 0.08}
"""Of the challenge's chains: how often each family is met, of 0.4 with any codec."""


def drawn(name: str, count: int = DRAWS) -> list[dict]:
    settings = every_codec().present()[name]
    return [{"codec": name, **settings.draw(generator("promise", name, number))} for number in range(count)]


def opus(**other) -> dict:
    values = {"codec": "opus", "rate_hz": 48_000, "bitrate_kbps": 24.0, "bandwidth_hz": 20_000}
    return {**values, "application": "audio", "complexity": 2, "rate_mode": "cbr", **other}


# --- promises -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CodecMix.model_fields)
def test_codecs_keep_their_promises_on_real_voices_of_any_length(name):
    for number, values in enumerate(drawn(name)):
        for seconds in (0.4, 3.0):
            applied = Codec.apply(recorded(number, 4.0)[: round(seconds * 48_000)], values, Inputs())
            assert Codec.broken_promises(values, dict(applied.measured)) == (), (values, applied.measured)


@pytest.mark.parametrize("name", sorted(set(CodecMix.model_fields) - {"opus", "aac", "mp3_vbr", "vorbis"}))
def test_packets_of_one_size_carry_the_bitrate_of_the_standard(name, speech):
    for values in drawn(name):
        measured = Codec.apply(speech, values, Inputs()).measured["bitrate_kbps"]
        # Frames of speech codecs end in the middle of a byte: G.723.1 sends 189 bits in 24 bytes.
        assert measured == pytest.approx(
            values["bitrate_kbps"], rel=0.03 if name[:2] in ("am", "g7") else 0.001
        )


def test_opus_with_packets_of_one_size_delivers_the_bitrate(speech):
    for bitrate_kbps in (6.0, 13.3, 24.0, 64.0):
        for application in ("voip", "audio", "lowdelay"):
            values = opus(bitrate_kbps=bitrate_kbps, application=application)
            measured = Codec.apply(speech, values, Inputs()).measured
            # Rounded to whole bytes each 20 ms: 0.4 kbit/s.
            assert measured["bitrate_kbps"] == pytest.approx(bitrate_kbps, abs=0.4)


def test_a_codec_that_follows_the_signal_saves_in_pauses(speech):
    pausing = np.concatenate((speech[:96_000], np.zeros(192_000, np.float32)))
    values = opus(rate_mode="vbr")
    assert follows_the_signal(values)
    assert not follows_the_signal(opus())
    talking = Codec.apply(speech, values, Inputs()).measured["bitrate_kbps"]
    assert Codec.apply(pausing, values, Inputs()).measured["bitrate_kbps"] < 0.7 * talking


@pytest.mark.parametrize(
    ("values", "measured", "broken"),
    [
        (opus(), {"bitrate_kbps": 24.6, "bandwidth_hz": 20_000}, ()),
        (opus(), {"bitrate_kbps": 25.0, "bandwidth_hz": 8_000}, ("bitrate_kbps",)),
        (opus(), {"bitrate_kbps": 20.0, "bandwidth_hz": 20_000}, ("bitrate_kbps",)),
        (opus(rate_mode="vbr"), {"bitrate_kbps": 12.0, "bandwidth_hz": 4_000}, ()),
        (opus(rate_mode="vbr"), {"bitrate_kbps": 40.0, "bandwidth_hz": 20_000}, ("bitrate_kbps",)),
        (opus(bandwidth_hz=8_000), {"bitrate_kbps": 24.0, "bandwidth_hz": 12_000}, ("bandwidth_hz",)),
        (opus(), {}, ("bitrate_kbps", "bandwidth_hz")),
        ({"codec": "vorbis", "rate_hz": 48_000, "quality": 3.0}, {"bitrate_kbps": 70.0}, ()),
    ],
)
def test_what_was_not_delivered_is_named(values, measured, broken):
    assert Codec.broken_promises(values, measured) == broken


@pytest.mark.parametrize("name", CodecMix.model_fields)
def test_nothing_is_left_above_half_the_rate_of_the_codec(name, speech):
    for values in drawn(name):
        if values["rate_hz"] < 48_000:
            power = np.abs(np.fft.rfft(Codec.apply(speech, values, Inputs()).audio)) ** 2
            above = power[round(0.55 * values["rate_hz"] / 24_000 * len(power)) :].sum()
            assert above < 1e-5 * power.sum(), values


def test_the_families_come_as_often_as_they_are_met():
    weights = {name: settings.weight for name, settings in every_codec().present().items()}
    found = {
        "opus": weights.pop("opus"),
        "mp3": weights.pop("mp3") + weights.pop("mp3_vbr"),
        "aac and vorbis": weights.pop("aac") + weights.pop("vorbis"),
        "telephone": sum(weights.values()),
    }
    total = sum(found.values())
    for family, share in SHARES_OF_THE_MIX.items():
        assert found[family] / total == pytest.approx(share / 0.4)


# --- each codec against something else ------------------------------------------------------------


def test_gsm_is_what_another_decoder_makes_of_it(speech):
    """libsndfile wrote it; FFmpeg's own decoder of the standard must agree to the bit."""
    import av

    narrow = soxr.resample(speech, 48_000, 8_000)
    ours, packets = there_and_back_in_a_file(narrow, FileTrip("WAV", "GSM610", 8_000))
    decoder = av.CodecContext.create("gsm_ms", "r")
    decoder.sample_rate, decoder.layout = 8_000, "mono"
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    theirs = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    assert np.array_equal(as_int16(ours), theirs[: len(ours)])


@pytest.mark.parametrize(("bitrate_kbps", "subtype"), [(32, "G721_32"), (24, "G723_24"), (40, "G723_40")])
@pytest.mark.parametrize("hz", [200, 500, 1_700])
def test_g726_is_as_good_as_another_encoder_of_the_standard(bitrate_kbps, subtype, hz):
    """libsndfile brings Sun's code for G.721 and G.723, which G.726 took over."""
    tone = (0.3 * np.sin(2 * np.pi * hz * np.arange(8_000) / 8_000)).astype(np.float32)
    memory = io.BytesIO()
    soundfile.write(memory, as_int16(tone), 8_000, subtype, format="AU")
    theirs, _ = soundfile.read(io.BytesIO(memory.getvalue()), dtype="float32")
    bits = {"bits_per_coded_sample": str(bitrate_kbps // 8)}
    ours, _ = there_and_back(tone, Trip("g726", "g726", "s16", 8_000, bitrate_kbps, {}, bits))

    def snr_db(decoded):
        error = decoded[: len(tone)] - tone
        return 10 * np.log10(np.sum(tone**2) / np.sum(error**2))

    assert snr_db(ours) == pytest.approx(snr_db(theirs), abs=0.5)


@pytest.mark.parametrize(
    ("bitpool", "rate_hz", "kbps"),
    [(19, 44_100, 127), (18, 48_000, 132), (31, 44_100, 193), (29, 48_000, 198)],
)
def test_sbc_has_the_bitrates_of_the_bluetooth_specification(bitpool, rate_hz, kbps, speech):
    """A2DP, table 4.7: recommended sets of parameters for mono."""
    assert round(sbc_kbps(bitpool, rate_hz)) == kbps
    values = {"codec": "sbc", "rate_hz": rate_hz, "bitrate_kbps": sbc_kbps(bitpool, rate_hz)}
    assert Codec.apply(speech, values, Inputs()).measured["bitrate_kbps"] == pytest.approx(kbps, abs=0.5)


def test_msbc_sends_57_bytes_each_7_5_ms(speech):
    assert pytest.approx(57 * 8 / 7.5) == MSBC_KBPS
    values = {"codec": "sbc", "rate_hz": 16_000, "bitrate_kbps": MSBC_KBPS}
    assert Codec.apply(speech, values, Inputs()).measured["bitrate_kbps"] == pytest.approx(MSBC_KBPS)


def test_adpcm_costs_four_bits_a_sample_and_a_header(speech):
    for kind in ("ima", "ms"):
        for rate_hz in (8_000, 44_100):
            settings = CodecMix(adpcm={"kinds": [kind], "rates_hz": [rate_hz]})
            values = settings.draw(generator(1))
            assert 4.0 * rate_hz / 1_000 < values["bitrate_kbps"] < 4.15 * rate_hz / 1_000
            measured = Codec.apply(speech, values, Inputs()).measured["bitrate_kbps"]
            assert measured == pytest.approx(values["bitrate_kbps"], rel=1e-3)


@pytest.mark.parametrize("name", ["vorbis", "mp3_vbr"])
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_more_quality_costs_more_and_is_nearer(name, rate_hz, speech):
    ends = (0.0, 3.0, 6.0, 9.9) if name == "vorbis" else (9.9, 6.0, 3.0, 0.0)
    bitrates, errors = [], []
    for quality in ends:
        values = {"codec": name, "rate_hz": rate_hz, "quality": quality}
        applied = Codec.apply(speech, values, Inputs())
        bitrates.append(applied.measured["bitrate_kbps"])
        kept = without_delay(applied.audio, applied.delay_samples, len(speech))
        gain = np.dot(kept, speech) / np.dot(kept, kept)  # LAME turns the level down a little
        errors.append(float(np.sum((gain * kept - speech) ** 2)))
    assert bitrates == sorted(bitrates)
    assert errors == sorted(errors, reverse=True)


def test_vorbis_spends_what_its_tables_say(speech):
    """libvorbis aims at 48, 80, 110 and 240 kbit/s a channel at qualities 0, 3, 6 and 10, 44.1 and 48 kHz."""
    for quality, kbps in ((0.0, 48), (3.0, 80), (6.0, 110), (10.0, 240)):
        values = {"codec": "vorbis", "rate_hz": 48_000, "quality": quality}
        measured = Codec.apply(recorded(0, 4.0), values, Inputs()).measured["bitrate_kbps"]
        assert measured == pytest.approx(kbps, rel=0.3)


def test_the_headers_of_a_vorbis_file_are_not_counted():
    quiet = np.zeros(48_000, np.float32)
    memory = io.BytesIO()
    soundfile.write(memory, quiet, 48_000, "VORBIS", format="OGG")
    content = memory.getvalue()
    assert len(content) > 3_000
    assert sum(map(len, vorbis_pages(content))) < 500


# --- long, loud -----------------------------------------------------------------------------------

ENCODE_LONG = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from stage_signals import speech_like
from datagen.degradations.base import Inputs
from datagen.degradations.codec.codec import Codec
for seconds in (60, 120):
    audio = np.tile(speech_like(6.0), seconds // 6)
    for quality in (0.0, 10.0):
        values = {{"codec": "vorbis", "rate_hz": 48_000, "quality": quality}}
        assert len(Codec.apply(audio, values, Inputs()).audio) >= len(audio)
print("done")
"""


@pytest.mark.faults
def test_minutes_of_vorbis_do_not_end_the_process(request):
    """libvorbis takes a write on its stack: one of more than 40 s is a segmentation fault, hence a process."""
    code = ENCODE_LONG.format(tests=str(request.path.parent))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (run.returncode, run.stdout.strip()) == (0, "done"), run.stderr


def test_a_block_fits_on_the_stack_of_a_small_thread():
    """Threads of some systems have 512 KB; the block is the reason that it is enough."""
    audio = speech_like(6.0)
    results = []
    before = threading.stack_size(512 * 1_024)
    try:
        thread = threading.Thread(
            target=lambda: results.append(
                there_and_back_in_a_file(audio, FileTrip("OGG", "VORBIS", 48_000, quality=3.0))
            )
        )
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert BLOCK_S <= 1.0
    assert len(results[0][0]) == len(audio)


@pytest.mark.parametrize("name", CodecMix.model_fields)
def test_what_exceeds_full_scale_is_clipped_and_does_not_wrap(name):
    """A tone at twice full scale comes back as a loud tone; wrapped integers would be noise."""
    tone = (2.0 * np.sin(2 * np.pi * 500 * np.arange(48_000) / 48_000)).astype(np.float32)
    for values in drawn(name, 2):
        applied = Codec.apply(tone, values, Inputs())
        kept = without_delay(applied.audio, applied.delay_samples, len(tone))
        assert np.corrcoef(kept[4_800:-4_800], tone[4_800:-4_800])[0, 1] > 0.8, values


@pytest.mark.parametrize("name", CodecMix.model_fields)
def test_the_first_sample_comes_out(name):
    """A tone from the very first sample is there from about the first sample on."""
    tone = (0.2 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 48_000 + 0.5)).astype(np.float32)
    for values in drawn(name, 3):
        applied = Codec.apply(tone, values, Inputs())
        kept = without_delay(applied.audio, applied.delay_samples, len(tone))
        first = slice(0, 1_440)
        assert np.std(kept[first]) > 0.3 * np.std(tone[first]), values


# --- severity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [opus(bitrate_kbps=kbps) for kbps in (64, 32, 16, 8)],
        [{"codec": "mp3", "rate_hz": 22_050, "bitrate_kbps": kbps} for kbps in (128, 64, 32, 16)],
        [{"codec": "mp3_vbr", "rate_hz": 48_000, "quality": quality} for quality in (0.0, 5.0, 9.9)],
        [{"codec": "aac", "rate_hz": 32_000, "bitrate_kbps": kbps} for kbps in (96, 48, 24)],
        [{"codec": "vorbis", "rate_hz": 32_000, "quality": quality} for quality in (10.0, 5.0, 0.0)],
        [{"codec": "g722", "rate_hz": 16_000, "bitrate_kbps": kbps} for kbps in (64, 56, 48)],
        [{"codec": "g726", "rate_hz": 8_000, "bitrate_kbps": kbps} for kbps in (40, 32, 24, 16)],
        [{"codec": "amr_nb", "rate_hz": 8_000, "bitrate_kbps": kbps} for kbps in reversed(AMR_MODES_KBPS)],
        [
            {"codec": "adpcm", "rate_hz": rate_hz, "bitrate_kbps": 4 * rate_hz / 1_000}
            for rate_hz in (44_100, 22_050, 8_000)
        ],
        [
            {"codec": "sbc", "rate_hz": 48_000, "bitrate_kbps": sbc_kbps(bitpool, 48_000)}
            for bitpool in (31, 18, 6)
        ],
        # One bitrate each, from the best to the worst.
        [
            {"codec": "g711", "rate_hz": 8_000, "bitrate_kbps": 64},
            {"codec": "gsm", "rate_hz": 8_000, "bitrate_kbps": 13},
            {"codec": "g723_1", "rate_hz": 8_000, "bitrate_kbps": 6.3},
        ],
    ],
    ids=lambda values: "-".join(dict.fromkeys(one["codec"] for one in values)),
)
def test_fewer_bits_or_less_quality_is_worse(values):
    severities = [codec_severity(one, {}) for one in values]
    assert severities == sorted(severities)
    assert len(set(severities)) == len(severities)
    assert 0.0 < severities[0] < severities[-1] <= 1.0


# --- tandem ---------------------------------------------------------------------------------------


def tandem_draws(count: int, **settings) -> list[dict]:
    return [Tandem(**settings).draw(generator("tandem", number), None).values for number in range(count)]


def test_a_tandem_is_the_one_codec_after_the_other(speech):
    first = opus(application="voip")
    second = {"codec": "g711", "rate_hz": 8_000, "bitrate_kbps": 64, "law": "A"}
    values = {f"first_{name}": value for name, value in first.items()}
    values |= {f"second_{name}": value for name, value in second.items()}
    once = through_codec(speech, first)
    twice = through_codec(once.audio, second)
    tandem = Tandem.apply(speech, values, Inputs())
    assert np.array_equal(tandem.audio, twice.audio)
    assert tandem.measured["first_mode"] == once.measured["mode"]
    assert tandem.measured["second_bitrate_kbps"] == 64.0
    assert abs(tandem.delay_samples - once.delay_samples - twice.delay_samples) <= 1
    assert Tandem.severity(values, {}) > max(codec_severity(first, {}), codec_severity(second, {}))


def test_no_lag_is_left_by_any_two_codecs():
    for number, values in enumerate(tandem_draws(30)):
        audio = speech_like(3.0, 100.0 + 5 * number, number) if number % 2 else recorded(number, 3.0)
        applied = Tandem.apply(audio, values, Inputs())
        kept = without_delay(applied.audio, applied.delay_samples, len(audio))
        assert abs(lag_samples(audio, kept)) <= 0.5, values
        assert Tandem.broken_promises(values, dict(applied.measured)) == (), (values, applied.measured)


def test_a_tandem_is_drawn_from_both_of_its_mixes():
    values = tandem_draws(40, first={"sbc": {}}, second={"opus": {}, "gsm": {"weight": 4}})
    assert {one["first_codec"] for one in values} == {"sbc"}
    assert {one["second_codec"] for one in values} == {"opus", "gsm"}


def test_either_codec_of_a_tandem_may_break_its_promise():
    values = {"first_codec": "g711", "first_rate_hz": 8_000, "first_bitrate_kbps": 64}
    values |= {f"second_{name}": value for name, value in opus().items()}
    measured = {"first_bitrate_kbps": 64.0, "second_bitrate_kbps": 32.0, "second_bandwidth_hz": 20_000}
    assert Tandem.broken_promises(values, measured) == ("second_bitrate_kbps",)
    assert set(Tandem.promises) >= {"first_bitrate_kbps", "second_bitrate_kbps", "second_bandwidth_hz"}
