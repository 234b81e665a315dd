"""Packets are lost as often and in such bursts as the channel says, and concealed without a seam."""

import numpy as np
import pytest
from stage_signals import RATE_HZ, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.packet_loss import PacketLoss, gilbert_elliott
from manifests.keyed import generator

SPEECH = speech_like(3.0)


def values(**changes):
    drawn = {
        "packet_ms": 20,
        "loss_share": 0.1,
        "mean_burst_packets": 2.0,
        "concealment": "zero",
        "at_least": 0.5,
    }
    return drawn | {"bursts": [[20, 1], [50, 3]]} | changes


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("mean_burst", [1.0, 2.5, 6.0])
def test_the_channel_loses_what_it_says(share, mean_burst):
    lost, bursts, whole = 0, 0, []
    for number in range(300):
        drawn = gilbert_elliott(generator("channel", number), 1_000, share, mean_burst, 500)
        lost += sum(count for _, count in drawn)
        bursts += len(drawn)
        whole += [count for first, count in drawn if first + count < 1_000 and first > 0]
    assert lost / 300_000 == pytest.approx(share, rel=0.06)
    assert np.mean(whole) == pytest.approx(mean_burst, rel=0.06)


def test_no_burst_is_longer_than_allowed():
    drawn = gilbert_elliott(generator("long"), 100_000, 0.3, 20.0, 8)
    assert max(count for _, count in drawn) == 8


def test_what_is_measured_is_what_is_gone():
    applied = PacketLoss.apply(SPEECH, values(), Inputs())
    packets = len(SPEECH) / 960
    assert applied.measured["lost_share"] == pytest.approx(4 / packets)
    assert applied.measured["mean_burst_packets"] == 2.0
    gone = np.flatnonzero(applied.audio != SPEECH)
    assert gone.min() >= 20 * 960
    assert gone.max() < 53 * 960
    assert not applied.audio[50 * 960 : 53 * 960].any()
    assert np.array_equal(applied.audio[21 * 960 : 50 * 960], SPEECH[21 * 960 : 50 * 960])


def test_a_packet_that_carries_signal_is_always_lost():
    audio = np.zeros(3 * RATE_HZ, np.float32)
    audio[RATE_HZ : RATE_HZ + 9_600] = SPEECH[30_000:39_600]
    applied = PacketLoss.apply(audio, values(bursts=[[0, 5]]), Inputs())
    assert not np.array_equal(applied.audio, audio)
    assert applied.measured["lost_active_share"] > 0.0
    with pytest.raises(CannotApply, match="no packet carries signal"):
        PacketLoss.apply(np.zeros(RATE_HZ, np.float32), values(), Inputs())


def _largest_step(audio):
    return np.abs(np.diff(audio)).max()


@pytest.mark.parametrize("packet_ms", [5, 10, 20, 30, 40, 60])
@pytest.mark.parametrize("concealment", ["hold", "repeat"])
def test_concealment_has_no_seam(concealment, packet_ms):
    """A tone that is lost in the middle never moves faster than the tone itself does, by much."""
    tone = (0.5 * np.sin(2 * np.pi * 171.3 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    bursts = [[7, 1], [9, 4]]
    drawn = values(concealment=concealment, packet_ms=packet_ms, bursts=bursts)
    assert _largest_step(PacketLoss.apply(tone, drawn, Inputs()).audio) < 2.0 * _largest_step(tone)
    hard = PacketLoss.apply(tone, drawn | {"concealment": "zero"}, Inputs()).audio
    assert _largest_step(hard) > 5.0 * _largest_step(tone)


def test_a_repeated_packet_is_heard_again():
    concealed = PacketLoss.apply(SPEECH, values(concealment="repeat", bursts=[[30, 2]]), Inputs()).audio
    before, gap = SPEECH[29 * 960 : 30 * 960], concealed[30 * 960 : 31 * 960 - 120]
    assert np.array_equal(gap[:600], before[120:720])
    assert concealed[30 * 960 : 32 * 960].std() == pytest.approx(before.std(), rel=0.3)


@pytest.mark.parametrize("concealment", ["zero", "hold", "repeat"])
def test_losses_at_both_ends_are_survived(concealment):
    last = len(SPEECH) // 960 - 1
    drawn = values(concealment=concealment, bursts=[[0, 2], [last - 1, 2]])
    applied = PacketLoss.apply(SPEECH, drawn, Inputs())
    assert len(applied.audio) == len(SPEECH)
    assert not applied.audio[: 2 * 960].any()


def test_more_and_longer_gaps_are_worse():
    def severity(share, burst):
        return PacketLoss.severity(values(), {"lost_share": share, "mean_burst_packets": burst})

    assert (
        severity(0.01, 1)
        < severity(0.05, 1)
        < severity(0.05, 4)
        < severity(0.25, 4)
        < severity(0.25, 10)
        == 1.0
    )
