"""The shipped recipes draw what their sources say: how often, from where to where, and how it is spread.

The numbers here are those of the challenges' own configurations, written down from their code and YAML, not read from
our recipes.
"""

import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.stats import kstest

from datagen.degradations import bind, stage_class
from datagen.degradations.base import Inputs, Scene
from datagen.level import with_active_level
from datagen.plan import is_excluded, material, plan
from manifests.catalogue import Catalogue, read_catalogue
from manifests.documents import check, load_document, shipped_names
from manifests.keyed import generator
from manifests.recipe import Recipe
from manifests.sample import StageSpec
from manifests.source import Source

DRAWS = 1_500
SIGMAS = 4.5
SURE = 1e-4
"""Below this p-value a spread is not what it should be."""


@dataclass(frozen=True)
class Expected:
    """What is known of one stage, by label."""

    share: float
    """In how many of the samples."""
    uniform: dict[str, tuple[float, float]] = field(default_factory=dict)
    log_uniform: dict[str, tuple[float, float]] = field(default_factory=dict)
    always: dict[str, Any] = field(default_factory=dict)
    one_of: dict[str, set[Any]] = field(default_factory=dict)


DISTORTED = 0.9
"""Share of the samples of `ssi48k` that other stages than the last may degrade."""

RECIPES: dict[str, dict[str, Expected]] = {
    # DEGRADATIONS.md B2, 2024: noise always, SNR U(-5, 20); RIR .5; one of none, bandwidth, clipping by quantiles.
    "urgent2024": {
        "room": Expected(0.5),
        "noise": Expected(1.0, uniform={"snr_db": (-5, 20)}),
        "bandwidth_loss": Expected(
            1 / 3, one_of={"rate_hz": {8_000, 16_000, 22_050, 24_000, 32_000, 44_100}}
        ),
        "clipping": Expected(
            1 / 3,
            uniform={"low_quantile": (0.0, 0.1), "high_quantile": (0.9, 1.0)},
            always={"kind": "asymmetric", "oversample": 1, "restore_level": False},
        ),
    },
    # B2, 2025/2026: wind .05 instead of noise at U(-10, 15); 0 to 3 of four with .25, .40, .20, .15: each in
    # (.4 + 2 x .2 + 3 x .15) / 4 of the samples; codec half MP3 and half Ogg, that half Vorbis and half Opus.
    "urgent2026": {
        "room": Expected(0.5),
        "noise": Expected(0.95, uniform={"snr_db": (-5, 20)}),
        "wind": Expected(
            0.05,
            uniform={"snr_db": (-10, 15)},
        ),
        "bandwidth_loss": Expected(
            0.3125, one_of={"rate_hz": {8_000, 16_000, 22_050, 24_000, 32_000, 44_100}}
        ),
        "clipping": Expected(0.3125, uniform={"low_quantile": (0.0, 0.1), "high_quantile": (0.9, 1.0)}),
        "codec": Expected(0.3125, one_of={"codec": {"mp3_vbr", "vorbis", "opus"}}),
        "packet_loss": Expected(
            0.3125, uniform={"loss_share": (0.05, 0.25)}, always={"packet_ms": 20, "concealment": "zero"}
        ),
    },
    # B3: SNR -5 to 20, level -35 to -15 dBFS, a RIR always, T60 .3 to 1.3 s.
    "dns": {
        "room": Expected(1.0),
        "noise": Expected(1.0, uniform={"snr_db": (-5, 20)}),
        "final_level": Expected(1.0, uniform={"active_level_dbfs": (-35, -15)}),
    },
    # B1, the table's rows in order.
    "ssi2024-official": {
        "gain_step": Expected(0.2, uniform={"step_db": (-18, 18)}),
        "noise": Expected(0.5, uniform={"snr_db": (-5, 20)}),
        "bandpass": Expected(0.2, always={"family": "butter", "order": 7}),
        "level": Expected(0.2, uniform={"gain_db": (-10, 10)}),
        "freeverb": Expected(0.2, uniform={"room_size": (0.01, 0.3), "mix": (0.3, 0.6)}),
        "microphone_eq": Expected(0.5),
        "highpass": Expected(0.7, always={"family": "butter", "order": 1}),
        "lowpass": Expected(0.7, always={"family": "butter", "order": 1}),
        # p .1 and U(8, 24): what a 16-bit file cannot hold is left out.
        "bit_depth": Expected(0.1 * 7.8 / 16, uniform={"bits": (8, 15.8)}),
        "expander": Expected(1.0, uniform={"ratio": (1.4, 2.1), "threshold_dbfs": (-10, 0)}),
        "level#2": Expected(1.0, uniform={"gain_db": (11, 26)}),
        "clipping": Expected(0.25, always={"ceiling_dbfs": -6.0, "kind": "hard"}),
        "level#3": Expected(0.25, uniform={"gain_db": (-5, 0)}),
        # "resample p .4 unless GSM (p .25)" is .3 of all samples.
        "codec": Expected(0.25, always={"codec": "gsm"}),
        "bandwidth_loss": Expected(0.3, uniform={"rate_hz": (3_000, 32_000)}),
        "phaser": Expected(0.02, uniform={"rate_hz": (100, 500)}),
        "overdrive": Expected(0.01, uniform={"drive_db": (2, 10)}),
    },
    # Section 1, column p; a tenth of the samples is undistorted but for its level.
    "ssi48k": {
        "level": Expected(DISTORTED * 0.3, uniform={"gain_db": (-10, 10)}),
        "gain_step": Expected(
            DISTORTED * 0.1, uniform={"step_db": (-18, 18)}, log_uniform={"ramp_ms": (5, 3_000)}
        ),
        "level_drift": Expected(DISTORTED * 0.05),
        "room": Expected(DISTORTED * 0.5),
        "noise": Expected(DISTORTED * 0.6, uniform={"snr_db": (-5, 30)}),
        "interfering_talker": Expected(DISTORTED * 0.05, uniform={"sir_db": (0, 30)}),
        "babble": Expected(DISTORTED * 0.05),
        "short_events": Expected(DISTORTED * 0.1),
        "coloured_noise": Expected(DISTORTED * 0.2, uniform={"exponent": (-2, 2), "snr_db": (10, 50)}),
        "mains_hum": Expected(DISTORTED * 0.05, uniform={"snr_db": (15, 45)}),
        "wind": Expected(DISTORTED * 0.03, uniform={"snr_db": (-10, 15)}),
        "microphone_eq": Expected(DISTORTED * 0.4),
        "highpass": Expected(DISTORTED * 0.16, log_uniform={"cutoff_hz": (20, 300)}),
        "lowpass": Expected(DISTORTED * 0.16, log_uniform={"cutoff_hz": (2_000, 20_000)}),
        "bandpass": Expected(DISTORTED * 0.08),
        "notch": Expected(DISTORTED * 0.08 / 3),
        "comb": Expected(DISTORTED * 0.08 / 3),
        "spectral_holes": Expected(DISTORTED * 0.08 / 3),
        "air_absorption": Expected(DISTORTED * 0.05, log_uniform={"distance_m": (1, 20)}),
        "dc_offset": Expected(DISTORTED * 0.02),
        "clipping": Expected(
            DISTORTED * 0.2, log_uniform={"share": (0.001, 0.2)}, uniform={"sdr_db": (3, 30)}
        ),
        "overdrive": Expected(DISTORTED * 0.05, uniform={"drive_db": (2, 30)}),
        "bit_depth": Expected(DISTORTED * 0.05, uniform={"bits": (4, 14)}),
        "clock_drift": Expected(DISTORTED * 0.03),
        "agc": Expected(DISTORTED * 0.05),
        "compressor": Expected(DISTORTED * 0.025),
        "expander": Expected(DISTORTED * 0.025),
        "limiter": Expected(DISTORTED * 0.025),
        "noise_gate": Expected(DISTORTED * 0.025),
        "noise_suppressor": Expected(DISTORTED * 0.1 * 2 / 3),
        "half_duplex": Expected(DISTORTED * 0.1 / 3),
        "bandwidth_loss": Expected(DISTORTED * 0.3),
        "codec": Expected(DISTORTED * 0.40),
        "tandem": Expected(DISTORTED * 0.03),
        "packet_loss": Expected(DISTORTED * 0.1, log_uniform={"loss_share": (0.01, 0.25)}),
        "opus_packet_loss": Expected(DISTORTED * 0.1, log_uniform={"loss_share": (0.01, 0.25)}),
        "jitter": Expected(DISTORTED * 0.05),
        "comfort_noise": Expected(DISTORTED * 0.03),
        "coloured_noise#2": Expected(DISTORTED * 0.1, uniform={"snr_db": (20, 50)}),
        "final_level": Expected(1.0, uniform={"active_level_dbfs": (-44, -16)}),
    },
}


@pytest.fixture(scope="module")
def catalogue(catalogue_path: Path) -> Catalogue:
    """The demo's talkers as full-band ones, all in one split, and four rooms."""
    speech = [
        replace(source, split="train", bandwidth_hz=24_000.0)
        for source in read_catalogue(catalogue_path).usable
    ]
    rooms = [
        Source(
            f"{n}.wav",
            "rir",
            f"{n:064x}",
            frames=9_600,
            channels=1,
            rate_hz=48_000,
            room=f"r{n // 2}",
            rt60_s=0.4 + 0.2 * (n // 2),
            drr_db=3.0,
            split="train",
        )
        for n in range(8)
    ]
    return Catalogue([*speech, *rooms])


@lru_cache
def drawn_by(name: str, catalogue: Catalogue) -> dict[str, list[StageSpec]]:
    """By label, what the stages of a recipe drew for `DRAWS` samples; two tests look at those of `ssi48k`."""
    document = load_document(name, "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    pool = material(catalogue, bound.recipe, "train")
    drawn: dict[str, list[StageSpec]] = {}
    for index in range(DRAWS):
        for stage in plan(pool, bound, 5, index).stages:
            drawn.setdefault(stage.label, []).append(stage)
    return drawn


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_draws_what_its_source_says(name, catalogue):
    drawn = drawn_by(name, catalogue)
    assert set(drawn) == set(RECIPES[name])
    for label, expected in RECIPES[name].items():
        share = len(drawn[label]) / DRAWS
        sigma = sqrt(expected.share * (1.0 - expected.share) / DRAWS)
        assert abs(share - expected.share) <= SIGMAS * sigma + 1e-12, label
        values = [stage.values for stage in drawn[label]]
        for key, (low, high) in expected.uniform.items():
            _is_uniform([v[key] for v in values if v.get(key) is not None], low, high, f"{label}.{key}")
        for key, (low, high) in expected.log_uniform.items():
            logs = [log(v[key]) for v in values if v.get(key) is not None]
            _is_uniform(logs, log(low), log(high), f"{label}.{key}")
        for key, value in expected.always.items():
            assert all(v[key] == value for v in values), f"{label}.{key}"
        for key, choices in expected.one_of.items():
            assert {v[key] for v in values} == choices, f"{label}.{key}"


def _is_uniform(values: list[float], low: float, high: float, what: str) -> None:
    assert low - 1e-9 <= min(values) and max(values) <= high + 1e-9, what
    assert kstest(values, "uniform", (low, high - low)).pvalue > SURE, what


def test_about_five_stages_degrade_a_distorted_sample_of_the_default_recipe(catalogue):
    document = load_document("ssi48k", "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    degradations = sum(bound.shares().values()) - 1.0  # the final level is none
    assert 4.5 < degradations / DISTORTED < 5.5


@pytest.mark.parametrize("name", shipped_names("recipes"))
def test_every_shipped_recipe_binds_says_where_it_comes_from_and_excludes_nothing(name):
    document = load_document(name, "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    assert bound.recipe.description
    stages = [choice.stage for step in bound.steps for choice in step.choices if choice.stage is not None]
    assert not any(is_excluded(stage, bound.recipe) for stage in stages)
    path = Path(__file__).parents[2] / "manifests" / "recipes" / f"{name}.yaml"
    assert path.read_text().startswith("#")


def test_the_default_recipe_draws_in_telephone_and_music_codecs_as_often_as_the_catalogue_says(catalogue):
    # Section 1: Opus .2, MP3 .06, AAC and Vorbis .06, telephone codecs (with headsets) .08, of all samples.
    names = [stage.values["codec"] for stage in drawn_by("ssi48k", catalogue)["codec"]]
    shares = {name: names.count(name) / DRAWS for name in set(names)}
    telephone = sum(
        shares.get(name, 0) for name in ("g711", "g722", "g723_1", "g726", "gsm", "amr_nb", "adpcm", "sbc")
    )
    for found, asked in (
        (shares["opus"], DISTORTED * 0.2),
        (shares["mp3"] + shares["mp3_vbr"], DISTORTED * 0.06),
        (shares["aac"] + shares["vorbis"], DISTORTED * 0.06),
        (telephone, DISTORTED * 0.08),
    ):
        assert abs(found - asked) <= SIGMAS * np.sqrt(asked * (1 - asked) / DRAWS)


@pytest.mark.parametrize(("ratio", "stretch"), [(1.4, 1.32), (2.1, 1.89)])
def test_the_official_expander_stretches_the_level_differences_of_speech(ratio, stretch):
    """The number that the recipe's header gives: levels of 20 ms frames after against before, in dB per dB."""
    folder = (
        Path(os.environ.get("SSIFORGE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "speech"
    )
    files = sorted([*folder.glob("voicebank-p808/*.wav"), *folder.glob("vctk*/*.wav")])
    if not files:
        pytest.skip("real speech is not there (../shared/data or SSIFORGE_DATA)")
    expander = stage_class("expander")(
        ratio=ratio, threshold_dbfs=-5, attack_ms=1, release_ms=100, restore_level=0
    )
    slopes = []
    for file in files:
        audio, _ = soundfile.read(file, dtype="float32", always_2d=True)
        speech = with_active_level(np.ascontiguousarray(audio[:480_000, 0]), -27.0)
        scene = Scene(len(speech), 24_000.0, lambda kind: ())
        values = expander.draw(generator(1), scene).values
        before, after = map(_frame_levels_db, (speech, expander.apply(speech, values, Inputs()).audio))
        spoken = before > before.max() - 35.0
        slopes.append(np.polyfit(before[spoken], after[spoken], 1)[0])
    assert np.median(slopes) == pytest.approx(stretch, abs=0.02)


def _frame_levels_db(audio: np.ndarray) -> np.ndarray:
    frames = audio[: len(audio) // 960 * 960].reshape(-1, 960)
    return 10.0 * np.log10(np.square(frames).mean(axis=1) + 1e-12)


def test_noise_comes_through_the_talker_s_room_from_another_place(catalogue):
    document = load_document("conference", "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    pool = material(catalogue, bound.recipe, "train")
    rooms = {source.sha256: source.room for source in pool.rir}
    met = 0
    for index in range(300):
        stages = {stage.label: stage for stage in plan(pool, bound, 5, index).stages}
        if "room" in stages and any(
            stages["noise"].values.get("room_relations") or () if "noise" in stages else ()
        ):
            talker = stages["room"].clips[0].sha256
            for clip in stages["noise"].clips:
                if clip.sha256 in rooms:
                    assert rooms[clip.sha256] == rooms[talker]
                    assert clip.sha256 != talker
                    met += 1
    assert met > 20
