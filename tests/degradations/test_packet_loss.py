"""A channel loses as many packets as it says, in such bursts, anywhere; what is lost is concealed without a seam."""

from collections import Counter
from itertools import product
from math import comb

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare
from stage_signals import RATE_HZ, scene_of, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.network.gilbert_elliott import composition, lose
from datagen.degradations.network.packet_loss import PacketLoss
from manifests.keyed import generator

SPEECH = speech_like(3.0)
PACKETS = 500
"""Of 20 ms in 10 s."""
SCENE = scene_of(np.zeros(10 * RATE_HZ, np.float32))
LIKELY = 1e-4
"""Probability of a right plan to look as odd as this."""


def values(**changes):
    drawn = {
        "packet_ms": 20,
        "loss_share": 0.1,
        "mean_burst_packets": 2.0,
        "concealment": "zero",
        "move_to": 0.5,
    }
    return drawn | {"bursts": [[20, 1], [50, 3]]} | changes


def plans(count=400, **settings):
    stage = PacketLoss(packet_ms=[20], **settings)
    return [stage.draw(generator("plans", number), SCENE).values for number in range(count)]


# --- the channel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("mean_burst", [1.0, 2.5, 6.0])
def test_every_plan_loses_the_share_that_was_asked_for(share, mean_burst):
    drawn = plans(loss_share=share, mean_burst_packets=mean_burst)
    for v in drawn:
        lost = sum(count for _, count in v["bursts"])
        assert lost == round(share * PACKETS)
        assert v["loss_share"] == lost / PACKETS
        assert v["mean_burst_packets"] == lost / len(v["bursts"])
    bursts = sum(len(v["bursts"]) for v in drawn)
    # One burst in a hundred plans or so runs over the end, goes on at the beginning, and counts as two.
    assert sum(v["loss_share"] for v in drawn) * PACKETS / bursts == pytest.approx(mean_burst, rel=0.03)


def test_a_share_between_two_whole_packets_is_right_on_average():
    drawn = plans(2_000, loss_share=0.0133, mean_burst_packets=1)  # 6.65 packets
    assert {round(v["loss_share"] * PACKETS) for v in drawn} == {6, 7}
    assert np.mean([v["loss_share"] for v in drawn]) == pytest.approx(0.0133, rel=0.01)


def test_bursts_lie_one_after_the_other_within_the_clip():
    for v in plans(loss_share=[0.01, 0.5], mean_burst_packets=[1, 10]):
        starts = [first for first, _ in v["bursts"]]
        ends = [first + count for first, count in v["bursts"]]
        assert all(start > end for start, end in zip(starts[1:], ends[:-1], strict=True))
        assert starts[0] >= 0
        assert ends[-1] <= PACKETS


def test_every_packet_is_as_likely_to_be_lost_as_any_other():
    """The first and the last ones too: a plan that may not run over the end spares them."""
    hits = np.zeros(PACKETS)
    drawn = plans(3_000, loss_share=0.1, mean_burst_packets=4)
    for v in drawn:
        for first, count in v["bursts"]:
            hits[first : first + count] += 1
    # Neighbours are lost together, so only packets further apart than bursts are counted as independent.
    for offset in (0, 1, 29):
        assert chisquare(hits[offset::30]).pvalue > LIKELY
    edges = np.concatenate((hits[:10], hits[-10:])).mean() / len(drawn)
    assert edges == pytest.approx(0.1, rel=0.1)


def test_burst_lengths_are_geometric():
    """Given n lost packets in k bursts, P(length j) = C(n - j - 1, k - 2) / C(n - 1, k - 1)."""
    lost, bursts = 60, 15
    lengths = Counter()
    for number in range(1_000):
        inner = lose(generator("geometric", number), 10_000, lost, bursts, 500)
        lengths.update(count for _, count in inner)
    total = lengths.total()
    expected = [total * comb(lost - j - 1, bursts - 2) / comb(lost - 1, bursts - 1) for j in range(1, 13)]
    found = [lengths[j] for j in range(1, 13)]
    assert chisquare([*found, total - sum(found)], [*expected, total - sum(expected)]).pvalue > LIKELY
    # With many packets that is the geometric law of the chain itself.
    assert expected[0] / total == pytest.approx(1 / 4, rel=0.06)


def test_all_compositions_are_equally_likely_also_with_a_limit():
    for total, parts, longest in ((8, 3, 8), (10, 4, 4), (11, 5, 3)):
        every = [c for c in product(range(1, longest + 1), repeat=parts) if sum(c) == total]
        rng = generator("compositions", total)
        found = Counter(
            tuple(map(int, composition(rng, total, parts, longest))) for _ in range(40 * len(every))
        )
        assert set(found) == set(every)
        assert chisquare([found[c] for c in every]).pvalue > LIKELY


def test_no_burst_is_longer_than_allowed():
    drawn = lose(generator("long"), 100_000, 30_000, 1_600, 20)
    assert max(count for _, count in drawn) == 20
    assert sum(count for _, count in drawn) == 30_000


def test_losses_as_in_the_urgent_challenge():
    """Share even in 5 to 25 %, bursts even in 1 to 9 packets; there, 15.1 % asked for became 14.0 %."""
    drawn = plans(2_000, loss_share=[0.05, 0.25], burst_lengths="uniform", max_burst_packets=9)
    shares = np.array([v["loss_share"] for v in drawn])
    assert shares.mean() == pytest.approx(0.15, rel=0.02)
    assert np.abs(np.histogram(shares, 10, (0.05, 0.25))[0] / len(shares) - 0.1).max() < 0.03
    lengths = Counter(count for v in drawn for _, count in v["bursts"])
    assert set(lengths) == set(range(1, 10))
    assert np.abs(np.array([lengths[j] for j in range(1, 10)]) / lengths.total() - 1 / 9).max() < 0.01


def test_the_shortest_clips_lose_something_and_not_everything():
    for packets in range(2, 12):
        for number in range(50):
            v = PacketLoss(loss_share=[0.01, 0.5]).draw_losses(generator("short", number), packets)
            assert 1 <= sum(count for _, count in v["bursts"]) < packets


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"loss_share": 0.6, "mean_burst_packets": 1}, "would need longer bursts"),
        ({"mean_burst_packets": [2, 30]}, "beyond max_burst_packets"),
        ({"burst_lengths": "uniform", "max_burst_packets": 1, "loss_share": 0.7}, "would need longer bursts"),
    ],
)
def test_what_no_channel_does_is_refused(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        PacketLoss(**settings)


# --- what is lost ---------------------------------------------------------------------------------


def test_what_is_measured_is_what_is_gone():
    applied = PacketLoss.apply(SPEECH, values(), Inputs())
    packets = len(SPEECH) / 960
    assert applied.measured["loss_share"] == pytest.approx(4 / packets)
    assert applied.measured["mean_burst_packets"] == 2.0
    gone = np.flatnonzero(applied.audio != SPEECH)
    assert gone.min() >= 20 * 960
    assert gone.max() < 53 * 960
    assert not applied.audio[50 * 960 : 53 * 960].any()
    assert np.array_equal(applied.audio[21 * 960 : 50 * 960], SPEECH[21 * 960 : 50 * 960])


@pytest.mark.parametrize("packet_ms", [5, 10, 20, 30, 40, 60])
@pytest.mark.parametrize("concealment", ["zero", "hold", "repeat"])
def test_the_share_is_found_in_the_audio_whatever_conceals_it(concealment, packet_ms):
    stage = PacketLoss(packet_ms=[packet_ms], concealments=[concealment], loss_share=[0.05, 0.4])
    for number in range(5):
        drawn = stage.draw(generator("found", number), scene_of(SPEECH)).values
        measured = stage.apply(SPEECH, drawn, Inputs()).measured
        assert measured["loss_share"] == pytest.approx(drawn["loss_share"])
        assert measured["mean_burst_packets"] == pytest.approx(drawn["mean_burst_packets"])


def test_losses_that_would_hit_only_silence_are_moved_to_signal():
    audio = np.zeros(3 * RATE_HZ, np.float32)
    audio[RATE_HZ : RATE_HZ + 9_600] = SPEECH[30_000:39_600]
    drawn = values(bursts=[[0, 5], [100, 2]], loss_share=7 / 150, mean_burst_packets=3.5)
    for move_to in (0.0, 0.3, 0.999):
        measured = PacketLoss.apply(audio, drawn | {"move_to": move_to}, Inputs()).measured
        assert measured["lost_active_share"] > 0.0
        assert measured["loss_share"] == pytest.approx(7 / 150)
        assert measured["mean_burst_packets"] == 3.5


def test_what_cannot_be_lost_is_refused():
    with pytest.raises(CannotApply, match="no packet carries signal"):
        PacketLoss.apply(np.zeros(RATE_HZ, np.float32), values(), Inputs())
    with pytest.raises(CannotApply, match="no packet would arrive"):
        PacketLoss.apply(SPEECH[:960].copy(), values(bursts=[[0, 1]]), Inputs())


# --- what is played instead -----------------------------------------------------------------------


def _largest_step(audio):
    return np.abs(np.diff(audio)).max()


@pytest.mark.parametrize("packet_ms", [5, 10, 20, 30, 40, 60])
@pytest.mark.parametrize("concealment", ["hold", "repeat"])
def test_concealment_has_no_seam(concealment, packet_ms):
    """A tone that is lost in the middle never moves faster than the tone itself does, by much."""
    tone = (0.5 * np.sin(2 * np.pi * 171.3 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    bursts = [[7, 1], [9, 4]]
    drawn = values(concealment=concealment, packet_ms=packet_ms, bursts=bursts)
    limit = 2.0 if packet_ms > 5 else 3.0  # 5 ms leave half as much time for a crossfade
    assert _largest_step(PacketLoss.apply(tone, drawn, Inputs()).audio) < limit * _largest_step(tone)
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
        return PacketLoss.severity(values(), {"loss_share": share, "mean_burst_packets": burst})

    assert (
        severity(0.01, 1)
        < severity(0.05, 1)
        < severity(0.05, 4)
        < severity(0.25, 4)
        < severity(0.25, 10)
        == 1.0
    )
