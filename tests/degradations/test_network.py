"""Calls: what Opus conceals and repairs, what jitter buffers move, what pauses are filled with, how clocks differ."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import welch
from stage_signals import RATE_HZ, lag_samples, recorded, scene_of, speech_like

from datagen.alignment import without_delay
from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.converter.clock_drift import ClockDrift
from datagen.degradations.network import libopus
from datagen.degradations.network.comfort_noise import FRAME_SAMPLES, ComfortNoise
from datagen.degradations.network.jitter import FADE_SAMPLES, Jitter
from datagen.degradations.network.libopus import OpusDecoder, OpusEncoder
from datagen.degradations.network.opus_packet_loss import OpusPacketLoss
from datagen.lateness import lateness
from datagen.level import rms_dbfs
from datagen.time_map import Piece, TimeMap
from manifests.errors import UserError
from manifests.keyed import generator

SPEECH = speech_like(4.0)
SIZE = 960


# --- Opus -----------------------------------------------------------------------------------------


def call(**changes):
    drawn = {
        "packet_ms": 20,
        "application": "voip",
        "bitrate_kbps": 32.0,
        "bandwidth_hz": 20_000,
        "complexity": 5,
        "fec": False,
        "dtx": False,
        "move_to": 0.5,
        "loss_share": 0.1,
        "mean_burst_packets": 1.0,
    }
    return drawn | {"bursts": [[30, 1], [60, 1], [90, 1], [120, 1]]} | changes


def received(audio, **changes):
    applied = OpusPacketLoss.apply(audio, call(**changes), Inputs())
    return without_delay(applied.audio, applied.delay_samples, len(audio)), applied.measured


def encoder(**changes):
    settings = {
        "application": "audio",
        "bitrate_kbps": 32.0,
        "bandwidth_hz": 20_000,
        "complexity": 3,
        "expected_loss_percent": 10,
        "fec": False,
        "dtx": False,
    }
    return OpusEncoder(**(settings | changes))


def test_packets_decode_to_what_ffmpeg_makes_of_them():
    """The bare decoder, without a loss, against another program's use of the same library."""
    import av

    packets = encoder().packets(SPEECH[: 100 * SIZE], SIZE)
    ours = np.zeros(100 * SIZE, np.float32)
    decoder = OpusDecoder()
    for number, packet in enumerate(packets):
        decoder.decode(packet, ours[number * SIZE : (number + 1) * SIZE])
    theirs = av.CodecContext.create("libopus", "r")
    theirs.sample_rate, theirs.layout = RATE_HZ, "mono"
    frames = []
    for packet in packets:
        wrapped = av.Packet(packet)
        wrapped.time_base = Fraction(1, RATE_HZ)
        frames += [frame.to_ndarray().reshape(-1) for frame in theirs.decode(wrapped)]
    found = np.concatenate(frames)
    if found.dtype == np.int16:
        found = found / 32_768.0
    assert np.abs(found - ours[: len(found)]).max() <= 1.0 / 32_768


def test_the_look_ahead_is_the_documented_one():
    assert encoder(application="voip").lookahead_samples == 312
    assert encoder(application="lowdelay").lookahead_samples == 120


def test_up_to_the_first_loss_nothing_is_changed():
    """Packet 60 holds 1.2 s to 1.22 s: what it is made of reaches the listener one look-ahead earlier."""
    late = received(SPEECH, bursts=[[150, 1]])[0]
    early = received(SPEECH, bursts=[[60, 3], [150, 1]])[0]
    changed = np.flatnonzero(np.abs(late - early) > 1e-4)
    # The phase of the encoder's high-pass is taken out in one FFT, which smears a little to both sides.
    assert changed.min() > 60 * SIZE - 312 - 400
    assert np.abs(late - early)[60 * SIZE : 63 * SIZE].max() > 0.01


@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
@pytest.mark.parametrize("packet_ms", [10, 20, 40, 60])
def test_length_and_place_are_kept_whatever_the_packets(application, packet_ms):
    voice = recorded(0, 4.0)
    packets = 4_000 // packet_ms
    bursts = [[packets // 4, 1], [packets // 2, 2], [3 * packets // 4, 1]]
    decoded, measured = received(voice, application=application, packet_ms=packet_ms, bursts=bursts)
    assert len(decoded) == len(voice)
    assert abs(lag_samples(voice, decoded)) <= 0.5
    assert measured["loss_share"] == pytest.approx(4 / -(-(len(voice) + 312) // (48 * packet_ms)))
    assert measured["mean_burst_packets"] == pytest.approx(4 / 3)
    assert measured["mode"] == ("celt" if application == "lowdelay" else measured["mode"])


def test_a_short_gap_is_filled_and_a_long_one_fades_away():
    # Packet 28 is in the middle of a syllable.
    decoded = received(SPEECH, bursts=[[28, 32]], fec=False)[0]
    whole = received(SPEECH, bursts=[[190, 1]])[0]
    first = slice(28 * SIZE, 29 * SIZE)
    assert rms_dbfs(decoded[first]) == pytest.approx(rms_dbfs(whole[first]), abs=6.0)
    assert rms_dbfs(decoded[50 * SIZE : 59 * SIZE]) < rms_dbfs(decoded[first]) - 30.0


def test_what_the_next_packet_carries_repairs_the_loss():
    voice = recorded(0, 4.0)
    whole = received(voice, bursts=[[195, 1]], fec=True)[0]
    bursts = [[number, 1] for number in range(8, 192, 4)]
    settings = {"bursts": bursts, "loss_share": 0.25, "bitrate_kbps": 40.0}
    plain, without = received(voice, **settings)
    repaired, measured = received(voice, **settings, fec=True)
    assert without["repaired_share"] == 0.0
    assert measured["repaired_share"] > 0.3

    def distance(audio):
        spectra = [np.abs(np.fft.rfft(x.reshape(-1, SIZE) * np.hanning(SIZE))) for x in (audio, whole)]
        decibels = [20 * np.log10(s[:, 2:160] + 1e-3) for s in spectra]
        lost = [number for number, _ in bursts]
        return np.sqrt(np.mean(np.square(decibels[0] - decibels[1])[lost]))

    assert distance(repaired) < 0.8 * distance(plain)
    assert OpusPacketLoss.severity(call(), measured) < OpusPacketLoss.severity(call(), without)


def test_only_the_last_of_a_burst_can_be_repaired():
    measured = received(recorded(0, 4.0), bursts=[[60, 4], [100, 4]], fec=True, loss_share=0.2)[1]
    assert measured["repaired_share"] <= 2 / 8


def test_pauses_are_not_sent_with_dtx():
    voice = np.concatenate((SPEECH[: RATE_HZ // 2], np.zeros(2 * RATE_HZ, np.float32), SPEECH[:RATE_HZ]))
    voice += 1e-4 * generator("room").standard_normal(len(voice), dtype=np.float32)
    always = received(voice, bursts=[[10, 1]])[1]
    paused = received(voice, bursts=[[10, 1]], dtx=True)[1]
    assert always["unsent_share"] == 0.0
    assert 0.2 < paused["unsent_share"] < 0.8
    assert paused["delivered_kbps"] < 0.8 * always["delivered_kbps"]


def test_threads_do_not_disturb_each_other():
    stage = OpusPacketLoss(complexity=0)
    drawn = [stage.draw(generator("threads", number), scene_of(SPEECH)).values for number in range(8)]
    alone = [stage.apply(SPEECH, values, Inputs()).audio.tobytes() for values in drawn]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda values: stage.apply(SPEECH, values, Inputs()).audio.tobytes(), drawn)
    assert list(together) == alone


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(libopus, "_bundled", lambda: None)
    libopus.library.cache_clear()
    try:
        with pytest.raises(UserError, match="needs libopus"):
            OpusPacketLoss().draw(generator("missing"), scene_of(SPEECH))
    finally:
        libopus.library.cache_clear()


def test_a_setting_that_opus_refuses_is_a_refusal_in_words():
    with pytest.raises(CannotApply, match="libopus"):
        encoder(complexity=11)


# --- jitter ---------------------------------------------------------------------------------------


def events(*moves):
    drawn = [{"kind": kind, "at_s": at_s, "moved_ms": ms} for kind, at_s, ms in moves]
    return {"events": drawn, "event_count": len(drawn)}


def test_a_stretch_goes_on_in_the_same_pitch():
    """A tone of 7 ms: 30 ms are asked for, four or five periods are repeated, and no join can be seen."""
    period = 336
    tone = (0.5 * np.sin(2 * np.pi * np.arange(2 * RATE_HZ) / period)).astype(np.float32)
    for kind, ms in (("stretch", 30.0), ("skip", -30.0)):
        applied = Jitter.apply(tone, events((kind, 1.0, ms)), Inputs())
        moved = applied.time_map.pieces[1].at - applied.time_map.pieces[1].source
        assert moved % period in (0, 1, period - 1)
        assert abs(moved - ms * 48) <= 240
        assert np.abs(np.diff(applied.audio)[:90_000]).max() < 1.02 * np.abs(np.diff(tone)).max()


def test_a_stutter_says_a_packet_twice():
    applied = Jitter.apply(SPEECH, events(("stutter", 1.2, 40.0)), Inputs())
    at = round(1.2 * RATE_HZ)
    assert np.array_equal(applied.audio[:at], SPEECH[:at])
    again = slice(at + FADE_SAMPLES, at + 1_920)
    assert np.array_equal(applied.audio[again], SPEECH[again.start - 1_920 : again.stop - 1_920])
    assert np.array_equal(applied.audio[at + 1_920 :], SPEECH[at : len(SPEECH) - 1_920])


def test_what_one_search_was_off_the_next_makes_up_for():
    moves = [("stretch", 0.5 + 0.2 * n, 20.0) for n in range(5)] + [
        ("skip", 1.6 + 0.2 * n, -20.0) for n in range(5)
    ]
    applied = Jitter.apply(SPEECH, events(*moves), Inputs())
    offsets_ms = [(piece.at - piece.source) / 48 for piece in applied.time_map.pieces[1:]]
    assert np.abs(np.array(offsets_ms) - [20, 40, 60, 80, 100, 80, 60, 40, 20, 0]).max() <= 5.01
    assert applied.measured["event_count"] == 10
    assert applied.measured["largest_offset_ms"] == pytest.approx(max(offsets_ms))


def test_the_audio_is_the_map_applied():
    stage = Jitter(events_per_minute=60)
    for number in range(5):
        drawn = stage.draw(generator("map", number), scene_of(SPEECH)).values
        applied = stage.apply(SPEECH, drawn, Inputs())
        again = TimeMap(tuple(Piece(*piece) for piece in applied.time_map.plain()), FADE_SAMPLES)
        assert np.array_equal(again.applied(SPEECH), applied.audio)


def test_jitter_draws_stay_within_their_bounds():
    scene = scene_of(np.zeros(10 * RATE_HZ, np.float32))
    counts, kinds, at_ends = [], set(), []
    for number in range(500):
        v = Jitter(max_offset_ms=100).draw(generator("jitter", number), scene).values
        offsets = np.cumsum([event["moved_ms"] for event in v["events"]])
        times = [event["at_s"] for event in v["events"]]
        assert np.abs(offsets).max() <= 100.0 + 1e-9
        assert v["largest_offset_ms"] == pytest.approx(np.abs(offsets).max())
        assert all(9.99 <= abs(event["moved_ms"]) <= 120.01 for event in v["events"])
        assert all((event["kind"] == "skip") == (event["moved_ms"] < 0) for event in v["events"])
        assert min(np.diff(times), default=1.0) > 0.1
        assert 0.1 < times[0] <= times[-1] < 9.9
        counts.append(v["event_count"])
        kinds |= {event["kind"] for event in v["events"]}
        if v["event_count"] > 1:
            at_ends.append(abs(offsets[-1]))
    assert np.mean(counts) == pytest.approx(33 / 6, rel=0.05)
    assert kinds == {"stretch", "skip", "stutter"}
    assert np.mean(np.array(at_ends) < 10.0) > 0.8  # brought back, unless it was nearly there already


def test_a_clip_too_short_for_an_event_is_refused():
    with pytest.raises(CannotApply, match="too short"):
        Jitter.apply(SPEECH[:4_800].copy(), events(("stretch", 0.05, 120.0)), Inputs())
    with pytest.raises(CannotApply, match="too short"):
        Jitter.apply(SPEECH[:4_800].copy(), events(("stutter", 0.05, 60.0)), Inputs())


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [-300.0, -40.0, 10.0, 120.0])
def test_the_drift_is_found_again_in_real_speech(ppm):
    voice = np.concatenate([recorded(number, 10.0) for number in range(4)])[: 10 * RATE_HZ]
    applied = ClockDrift.apply(voice, {"drift_ppm": ppm}, Inputs())
    assert applied.measured["drift_ppm"] == pytest.approx(ppm, abs=0.5)
    assert len(applied.audio) == len(voice)
    # Independently: the last two seconds are early by ppm of nine seconds.
    ends = slice(8 * RATE_HZ, 10 * RATE_HZ)
    assert lag_samples(voice[ends], applied.audio[ends]) == pytest.approx(
        -9 * 0.048 * ppm, abs=0.06 * abs(ppm)
    )


def test_a_receiver_that_plays_faster_raises_the_pitch():
    n = np.arange(4 * RATE_HZ)
    tone = np.sin(2 * np.pi * 1_000.0 * n / RATE_HZ).astype(np.float32)
    played = ClockDrift.apply(tone + SPEECH, {"drift_ppm": 300.0}, Inputs()).audio
    faster = np.sin(2 * np.pi * 1_000.3 * n / RATE_HZ)
    slower = np.sin(2 * np.pi * 999.7 * n / RATE_HZ)
    assert abs(np.dot(played, faster)) > 2.0 * abs(np.dot(played, slower))


def test_both_signs_are_drawn_alike():
    drawn = [
        ClockDrift().draw(generator("sign", n), scene_of(SPEECH)).values["drift_ppm"] for n in range(1_000)
    ]
    assert 0.45 < np.mean(np.array(drawn) > 0) < 0.55
    assert min(map(abs, drawn)) >= 10.0
    assert max(map(abs, drawn)) <= 300.0


def test_silence_at_one_end_tells_no_drift():
    with pytest.raises(CannotApply, match="nothing to be heard"):
        ClockDrift.apply(np.zeros(RATE_HZ, np.float32), {"drift_ppm": 100.0}, Inputs())


def test_a_stretch_is_found_where_it_is():
    other = np.concatenate((np.zeros(1_234, np.float32), 0.3 * SPEECH))
    assert lateness(SPEECH, other, 60_000, 4_800, 2_000) == 1_234
    assert lateness(other, SPEECH, 60_000, 4_800, 2_000) == -1_234


# --- comfort noise --------------------------------------------------------------------------------

WORD = slice(1 * RATE_HZ, 2 * RATE_HZ)
"""A second of tone between pauses of a second, at whole frames."""


def word_in_noise(noise_dbfs: float = -60.0) -> np.ndarray:
    rng = generator("word")
    white = rng.standard_normal(3 * RATE_HZ, dtype=np.float32)
    brown = np.fft.irfft(np.fft.rfft(white) / np.maximum(np.fft.rfftfreq(len(white), 1 / RATE_HZ), 200.0))
    audio = (brown / brown.std() * 10 ** (noise_dbfs / 20)).astype(np.float32)
    audio[WORD] += 0.1 * np.sin(2 * np.pi * 500 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    return audio


def filled(audio, **changes):
    values = {
        "level_offset_db": 0.0,
        "threshold_db": 15.0,
        "hangover_frames": 0,
        "late_frames": 0,
        "noise_seed": 5,
    }
    return ComfortNoise.apply(audio, values | changes, Inputs((), audio))


def test_words_are_sent_untouched_and_pauses_replaced():
    audio = word_in_noise()
    applied = filled(audio, hangover_frames=3)
    kept = applied.audio == audio
    assert kept[WORD.start : WORD.stop + 3 * FRAME_SAMPLES].all()
    assert not kept[: WORD.start - 500].any()
    assert not kept[WORD.stop + 4 * FRAME_SAMPLES :].any()
    assert applied.measured["replaced_share"] == pytest.approx((100 - 3) / 150)
    assert applied.measured["lost_onset_ms"] == 0.0


@pytest.mark.parametrize("offset_db", [-12.0, 0.0, 6.0])
def test_the_noise_has_level_and_spectrum_of_the_pause(offset_db):
    audio = word_in_noise()
    applied = filled(audio, level_offset_db=offset_db)
    pause = slice(2_000, WORD.start - 2_000)
    assert rms_dbfs(applied.audio[pause]) - rms_dbfs(audio[pause]) == pytest.approx(offset_db, abs=0.5)
    assert applied.measured["level_offset_db"] == pytest.approx(offset_db, abs=0.1)
    hz, before = welch(audio[pause], RATE_HZ, nperseg=960)
    after = welch(applied.audio[pause], RATE_HZ, nperseg=960)[1]
    for low, high in ((100, 400), (400, 1_600), (1_600, 6_400), (6_400, 20_000)):
        band = (hz >= low) & (hz < high)
        assert 10 * np.log10(after[band].mean() / before[band].mean()) == pytest.approx(offset_db, abs=1.5)


def test_the_noise_is_stationary_and_new():
    audio = word_in_noise()
    other = filled(audio, noise_seed=6).audio
    one = filled(audio).audio
    pause = slice(2_000, WORD.start - 2_000)
    assert abs(np.corrcoef(one[pause], audio[pause])[0, 1]) < 0.1
    assert abs(np.corrcoef(one[pause], other[pause])[0, 1]) < 0.1
    levels = [rms_dbfs(part) for part in np.array_split(one[pause], 8)]
    assert max(levels) - min(levels) < 3.0


def test_a_late_detector_loses_the_beginning_of_the_word():
    audio = word_in_noise()
    applied = filled(audio, late_frames=3)
    assert applied.measured["lost_onset_ms"] == 60.0
    lost = slice(WORD.start, WORD.start + 3 * FRAME_SAMPLES - 300)
    assert rms_dbfs(applied.audio[lost]) < -55.0
    assert np.array_equal(applied.audio[lost.stop + 300 : WORD.stop], audio[lost.stop + 300 : WORD.stop])


def test_digital_silence_is_not_left_silent():
    audio = word_in_noise(-200.0)
    applied = filled(audio)
    assert rms_dbfs(applied.audio[2_000 : WORD.start - 2_000]) == pytest.approx(-85.0, abs=0.5)


def test_going_over_to_the_noise_does_not_click():
    audio = word_in_noise(-50.0)
    steps = np.abs(np.diff(filled(audio, hangover_frames=2).audio))
    for edge in (WORD.start, WORD.stop + 2 * FRAME_SAMPLES):
        assert steps[edge - 300 : edge + 300].max() <= np.abs(np.diff(audio)).max() * 1.2


def test_a_pause_is_found_in_a_background_louder_than_the_threshold():
    """As after a room or in noise: the detector listens for the quietest stretch, and says what it is set to."""
    audio = word_in_noise(-34.0)
    applied = filled(audio, threshold_db=32.0, hangover_frames=3)
    kept = applied.audio == audio
    assert kept[WORD.start : WORD.stop + 3 * FRAME_SAMPLES].all()
    assert applied.measured["replaced_share"] > 0.02
    assert 5.0 < applied.measured["threshold_db"] < 15.0
    assert filled(word_in_noise(-60.0), threshold_db=32.0).measured["threshold_db"] == pytest.approx(32.0)


def test_speech_without_a_pause_is_refused():
    with pytest.raises(CannotApply, match="no pause"):
        filled(word_in_noise()[WORD].copy())
    with pytest.raises(CannotApply, match="silent"):
        filled(np.zeros(RATE_HZ, np.float32))
