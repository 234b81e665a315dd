"""Every stage can be said in a sentence, with what was drawn and what was measured."""

import re

import pytest
from stage_cases import Case, cases
from stage_signals import speech_like

from datagen.degradations.registry import BUILT_IN
from manifests.sample import StageRecord
from pipelines.report.words import SENTENCES, in_span, stage_in_words, value_title


def record(stage: str, values: dict, measured: dict | None = None) -> StageRecord:
    return StageRecord(
        label=stage, stage=stage, values=values, measured=measured or {}, package="p 1", code_digest="0"
    )


@pytest.mark.parametrize("case", cases())
def test_every_stage_has_a_sentence_for_whatever_it_draws(case: Case) -> None:
    """A renamed value would leave a sentence without a field, and the stage with a list of values instead."""
    assert case.name in SENTENCES
    for drawn in case.draws(speech_like(1.5), 2):
        said = stage_in_words(record(case.name, drawn.values))
        listed = stage_in_words(record("someones_own", drawn.values)).partition(": ")[2]
        assert not listed or listed not in said
        assert not re.search(r"[{}\[\]]|None|nan|_", said), said


def test_no_sentence_is_left_of_a_stage_that_is_gone() -> None:
    assert set(SENTENCES) == set(BUILT_IN)


@pytest.mark.parametrize(
    ("stage", "values", "measured", "said"),
    [
        (
            "noise",
            {"begin_samples": [0, 5], "snr_db": 7.31},
            {"snr_db": 7.22},
            "noise from 2 sources at 7.3 dB SNR (measured 7.2)",
        ),
        (
            "noise",
            {"begin_samples": [0], "snr_db": 7.31},
            {"snr_db": 7.3},
            "noise from 1 source at 7.3 dB SNR",
        ),
        (
            "room",
            {"rt60_s": 0.52},
            {"rt60_s": 0.5198, "drr_db": -3.25},
            "room with an RT60 of 0.52 s and a DRR of -3.2 dB",
        ),
        ("room", {"rt60_s": 0.52}, {}, "room with an RT60 of 0.52 s"),
        (
            "codec",
            {"codec": "opus", "bitrate_kbps": 32.4, "bandwidth_hz": 8000, "rate_hz": 48000},
            {"bandwidth_hz": 4000, "bitrate_kbps": 31.249},
            "Opus at 32.4 kbit/s (measured 31.2), audio band 8 kHz (measured 4), sampled at 48 kHz",
        ),
        ("codec", {"codec": "g711", "law": "mu", "rate_hz": 8000}, {}, "G.711, mu-law, sampled at 8 kHz"),
        (
            "packet_loss",
            {"loss_share": 0.0231, "mean_burst_packets": 2.0, "packet_ms": 20, "concealment": "zero"},
            {"loss_share": 0.0311},
            "packet loss: 2.3 % lost (measured 3.1), in bursts of 2 × 20 ms on average, concealed by silence",
        ),
        (
            "coloured_noise",
            {"exponent": 1.0, "snr_db": 20.0},
            {},
            "coloured noise of -3.0 dB per octave at 20.0 dB SNR",
        ),
        (
            "agc",
            {"target_dbfs": -18.0, "rise_db": 6.2, "rise_db_per_s": 25.2},
            {},
            "automatic gain control to -18.0 dBFS, at most 6.2 dB up, by 25.2 dB/s",
        ),
        (
            "lowpass",
            {"family": "cheby2", "order": 6, "cutoff_hz": 4340.0},
            {},
            "low-pass (Chebyshev II, order 6) at 4.34 kHz",
        ),
        (
            "clipping",
            {"kind": "asymmetric", "low_quantile": 0.0721, "high_quantile": 0.956},
            {},
            "asymmetric clipping below the quantile of 7.2 % and above that of 95.6 %",
        ),
        (
            "someones_own",
            {"snr_db": 3.0, "depth": 0.25, "noise_seed": 3, "curve": [1, 2]},
            {"depth": 0.5},
            "someones own: depth 0.25 (measured 0.5), SNR 3.0 dB",
        ),
        ("someones_own", {}, {}, "someones own"),
    ],
)
def test_golden_sentences(stage: str, values: dict, measured: dict, said: str) -> None:
    assert stage_in_words(record(stage, values, measured)) == said


def test_spans_have_one_unit() -> None:
    assert in_span("cutoff_hz", (57.6, 132.0, 1348.0)) == "0.132 kHz (0.0576 to 1.35)"
    assert in_span("snr_db", (-2.06, 7.3, 24.0)) == "7.3 dB (-2.1 to 24.0)"
    assert in_span("loss_share", (0.01, 0.05, 0.2)) == "5 % (1 to 20)"
    assert [value_title(name) for name in ("snr_db", "low_quantile")] == ["SNR", "low quantile"]
