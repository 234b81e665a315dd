"""A thousand draws stay within what the recipe says, and reach all of it."""

import math
from collections import Counter

import numpy as np
import pytest
from stage_signals import scene_of

from datagen.degradations import stage_class
from datagen.degradations.base import Scene
from datagen.degradations.codec.settings import MP3_BITRATES_KBPS
from datagen.degradations.codec.telephone import AMR_MODES_KBPS
from datagen.degradations.microphone.filters import FAMILIES
from manifests.keyed import generator

DRAWS = 1_000
SCENE = scene_of(np.zeros(480_000, np.float32))


def drawn(name: str, scene: Scene = SCENE, **settings) -> list[dict]:
    stage = stage_class(name)(**settings)
    return [stage.draw(generator("draws", name, number), scene).values for number in range(DRAWS)]


def _spread(values, low, high, logarithmic=False):
    """Within the range, and each tenth of it is hit about a tenth of the time."""
    values = np.array(values)
    assert values.min() >= low - 1e-9
    assert values.max() <= high + 1e-9
    if logarithmic:
        values, low, high = np.log(values), math.log(low), math.log(high)
    share = np.histogram(values, bins=10, range=(low, high))[0] / len(values)
    assert np.abs(share - 0.1).max() < 0.04


def test_level():
    _spread([v["gain_db"] for v in drawn("level", gain_db=[-30, 6])], -30, 6)


def test_gain_step():
    values = drawn(
        "gain_step", step_db=[-12, 12], ramp_ms=[10, 1_000], start_share=[0.1, 0.5], ends_early=0.3
    )
    _spread([v["step_db"] for v in values], -12, 12)
    _spread([v["ramp_ms"] for v in values], 10, 1_000, logarithmic=True)
    _spread([v["start_s"] for v in values], 1.0, 5.0)
    ended = [v for v in values if v["end_s"] is not None]
    assert 0.25 < len(ended) / DRAWS < 0.35
    assert all(v["start_s"] <= v["end_s"] <= 10.0 for v in ended)


def test_microphone_eq():
    values = drawn("microphone_eq", peaks=[0, 7])
    assert {len(v["peaks"]) for v in values} == set(range(8))
    _spread([v["low_shelf_db"] for v in values], -12, 12)
    _spread([v["high_shelf_hz"] for v in values], 4_500, 16_000, logarithmic=True)
    peaks = [peak for v in values for peak in v["peaks"]]
    _spread([peak["hz"] for peak in peaks], 100, 16_000, logarithmic=True)
    _spread([peak["q"] for peak in peaks], 0.5, 5, logarithmic=True)


def test_filters():
    values = drawn("lowpass", cutoff_hz=[2_000, 16_000])
    _spread([v["cutoff_hz"] for v in values], 2_000, 16_000, logarithmic=True)
    assert {v["order"] for v in values if v["family"] != "brickwall"} == set(range(1, 21))
    assert set(Counter(v["family"] for v in values)) == set(FAMILIES)
    _spread([v["cutoff_hz"] for v in drawn("highpass", cutoff_hz=[20, 300])], 20, 300, logarithmic=True)


def test_a_low_pass_cuts_into_speech_that_ends_early():
    narrow = scene_of(np.zeros(480_000, np.float32), bandwidth_hz=7_500.0)
    assert max(v["cutoff_hz"] for v in drawn("lowpass", narrow, cutoff_hz=[2_000, 16_000])) < 7_500


def test_clipping():
    values = drawn("clipping", share=[0.001, 0.2], sdr_db=[3, 30], oversample=[1, 4])
    _spread([v["share"] for v in values if "share" in v], 0.001, 0.2, logarithmic=True)
    _spread([v["sdr_db"] for v in values if "sdr_db" in v], 3.0, 30.0)
    assert {v["kind"] for v in values} == {"hard", "soft", "asymmetric"}
    assert {v["oversample"] for v in values} == {1, 4}
    assert all(("share" in v) + ("sdr_db" in v) == (v["kind"] != "asymmetric") for v in values)
    assert 0.45 < sum(v["restore_level"] for v in values) / DRAWS < 0.55


def test_clipping_as_in_urgent_2024():
    values = drawn(
        "clipping", kinds=["asymmetric"], low_quantile=[0, 0.1], high_quantile=[0.9, 1], restore_level=0
    )
    _spread([v["low_quantile"] for v in values], 0.0, 0.1)
    _spread([v["high_quantile"] for v in values], 0.9, 1.0)


@pytest.mark.parametrize("bandwidth_hz", [24_000.0, 15_000.0, 7_400.0])
def test_only_rates_that_take_something_away_are_drawn(bandwidth_hz):
    scene = scene_of(np.zeros(480_000, np.float32), bandwidth_hz)
    known = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100)
    rates = Counter(v["rate_hz"] for v in drawn("bandwidth_loss", scene, rates_hz=known))
    assert set(rates) == {rate for rate in known if rate / 2 < bandwidth_hz}
    assert min(rates.values()) > 0.7 * DRAWS / len(rates)
    filtered = [v["rate_hz"] for v in drawn("bandwidth_loss", scene) if v["method"] == "soxr"]
    assert max(filtered) < 2 * bandwidth_hz


def test_where_no_standard_rate_takes_something_away_another_one_is_drawn():
    narrow = scene_of(np.zeros(480_000, np.float32), 3_500.0)
    filtered = [v["rate_hz"] for v in drawn("bandwidth_loss", narrow) if v["method"] == "soxr"]
    assert 3_000 <= min(filtered) < max(filtered) < 7_000
    assert {v["rate_hz"] for v in drawn("bandwidth_loss", narrow, rates_hz=[8_000, 16_000])} == {8_000}


def test_codecs_come_by_their_weights():
    mix = {"opus": {"weight": 3}, "mp3": {"weight": 1}, "g711": {"weight": 0}}
    count = Counter(v["codec"] for v in drawn("codec", codecs=mix))
    assert set(count) == {"opus", "mp3"}
    assert 0.7 < count["opus"] / DRAWS < 0.8


def test_codec_settings():
    opus = drawn("codec", codecs={"opus": {"bitrate_kbps": [6, 64]}})
    _spread([v["bitrate_kbps"] for v in opus], 6, 64, logarithmic=True)
    assert {v["bandwidth_hz"] for v in opus} == {4_000, 8_000, 12_000, 20_000}
    # Packets of one size hold whole bytes: at 6.6 kbit/s, 16.5 bytes every 20 ms, 3 % more would be delivered.
    packets = np.array([v["bitrate_kbps"] * 20 / 8 for v in opus if v["rate_mode"] == "cbr"])
    assert np.abs(packets - np.rint(packets)).max() < 1e-6
    for v in drawn("codec", codecs={"mp3": {"bitrate_kbps": [16, 128]}}):
        assert v["bitrate_kbps"] in MP3_BITRATES_KBPS["mpeg1" if v["rate_hz"] >= 32_000 else "mpeg2"]
        assert 16 <= v["bitrate_kbps"] <= 128
    assert {v["bitrate_kbps"] for v in drawn("codec", codecs={"amr_nb": {}})} == set(AMR_MODES_KBPS)


def test_packet_loss():
    values = drawn("packet_loss", loss_share=[0.01, 0.25], mean_burst_packets=[1, 6])
    _spread([v["loss_share"] for v in values], 0.01, 0.25, logarithmic=True)
    _spread([v["mean_burst_packets"] for v in values], 1, 6)
    assert {v["packet_ms"] for v in values} == {10, 20, 40, 60}
    for v in values:
        packets = -(-10_000 // v["packet_ms"])
        ends = [0, *(first + count for first, count in v["bursts"])]
        assert all(first >= end for (first, _), end in zip(v["bursts"], ends, strict=False))
        assert ends[-1] <= packets


def test_final_level():
    _spread([v["active_level_dbfs"] for v in drawn("final_level", active_level_dbfs=[-36, -16])], -36, -16)
