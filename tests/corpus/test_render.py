"""What the engine promises whatever the stages do."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from datagen.chain import SampleFailed
from datagen.degradations import BoundRecipe, bind
from datagen.plan import material, plan
from datagen.render import Rendered, apply_stage, render, spec_of
from manifests.catalogue import Catalogue, read_catalogue
from manifests.documents import check, parse_document
from manifests.recipe import Recipe
from manifests.sample import SampleRecord, StageSpec
from manifests.source import Source

pytestmark = pytest.mark.usefixtures("user_stages")


def bound(stages: str, **fields: str) -> BoundRecipe:
    extra = "".join(f"{key}: {value}\n" for key, value in fields.items())
    document = parse_document(f"name: test\nseconds: 2\n{extra}stages:\n{stages}", "test.yaml")
    return bind(check(Recipe, document.content, document), document)


@pytest.fixture
def catalogue(catalogue_path: Path) -> Catalogue:
    return read_catalogue(catalogue_path)


def rendered(recipe: BoundRecipe, catalogue: Catalogue, index: int = 0) -> Rendered:
    spec = plan(material(catalogue, recipe.recipe, "train"), recipe, 1, index)
    return render(spec, catalogue.by_sha256)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("does_nothing", "fired and changed nothing"),
        ("writes_into_its_input", "read-only"),
        ("delays_silently", "lags the talker by 500"),
        ("yields_nan", "not finite"),
    ],
)
def test_a_faulty_stage_fails_the_sample_with_its_reason(
    catalogue: Catalogue, stage: str, reason: str
) -> None:
    with pytest.raises(SampleFailed, match=reason):
        rendered(bound(f"  - {{stage: {stage}}}"), catalogue)


def test_a_declared_delay_is_removed(catalogue: Catalogue) -> None:
    sample = rendered(bound("  - {stage: delays_and_says_so}"), catalogue)
    assert np.array_equal(
        sample.degraded[:-500], np.rint(sample.target * 16384)[:-500] / 32768
    ) or np.allclose(sample.degraded, sample.target * 0.5, atol=1.0 / 32768)
    assert sample.record.stages[0].delay_samples == 500
    assert sample.record.measured["residual_lag_samples"] == pytest.approx(0.0, abs=0.01)


def test_the_target_is_the_dry_talker_whatever_the_stages_do(catalogue: Catalogue) -> None:
    clean = rendered(bound("  - {stage: halve}"), catalogue)
    stages = "  - {stage: noise, snr_db: 0}\n  - {stage: clipping, kinds: [hard], share: 0.2}\n  - {stage: lowpass}\n"
    dirty = rendered(bound(stages), catalogue)
    assert np.array_equal(clean.target, dirty.target)
    assert dirty.record.measured["target_active_level_dbfs"] == pytest.approx(-26.0, abs=0.05)


def test_the_target_level_is_the_recipe_s(catalogue: Catalogue) -> None:
    sample = rendered(bound("  - {stage: halve}", target="{active_level_dbfs: -32}"), catalogue)
    assert sample.record.measured["target_active_level_dbfs"] == pytest.approx(-32.0, abs=0.05)


@pytest.mark.parametrize("rate_hz", [48_000, 44_100, 16_000])
@pytest.mark.parametrize("speed", [0.8, 1.0, 1.3])
def test_speech_is_played_as_fast_as_drawn_its_pitch_with_it(
    tmp_path: Path, rate_hz: int, speed: float
) -> None:
    """A tone every half second: when it comes, and how high it is, follow the speed in both signals."""
    seconds = np.arange(6 * rate_hz) / rate_hz
    tone = np.where(seconds % 0.5 < 0.2, 0.1 * np.sin(2 * np.pi * 1000.0 * seconds), 0.0)
    soundfile.write(tmp_path / "tone.flac", tone, rate_hz)
    status = (tmp_path / "tone.flac").stat()
    source = Source(
        str(tmp_path / "tone.flac"),
        "speech",
        "0" * 64,
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        rate_hz=rate_hz,
        frames=len(tone),
        seconds=6.0,
        active_level_dbfs=-23.0,
        split="train",
    )
    recipe = bound("  - {stage: halve}", speech=f"{{speed: {speed}}}")
    catalogue = Catalogue([source])
    sample = rendered(recipe, catalogue)
    (clip,) = sample.record.speech
    at = (clip.start / rate_hz + np.arange(96_000) / 48_000 * speed) % 0.5
    inside = (at > 0.02) & (at < 0.18)
    outside = (at > 0.22) & (at < 0.48)
    assert np.abs(sample.target[outside]).max() < 0.01 * np.abs(sample.target).max()
    assert np.square(sample.target[inside][480:-480]).mean() > 0.1 * sample.target.max() ** 2
    spectrum = np.abs(np.fft.rfft(sample.target * np.hanning(96_000)))
    assert np.argmax(spectrum) / 2.0 == pytest.approx(1000.0 * speed, abs=5.0)
    assert np.corrcoef(sample.degraded, sample.target)[0, 1] > 0.99999
    again = render(spec_of(sample.record), catalogue.by_sha256)
    assert np.array_equal(again.target, sample.target)


def test_stems_add_up_to_the_degraded_signal(catalogue: Catalogue) -> None:
    recipe = bound("  - {stage: noise, snr_db: 5}", output="{stems: [dry, noise]}")
    sample = rendered(recipe, catalogue)
    both = sample.stems["dry"] + sample.stems["noise"]
    assert np.abs(both - sample.degraded).max() <= 2.0 / 32768


def test_stems_of_24_bits_add_up_256_times_as_well(catalogue: Catalogue) -> None:
    output = "{bits: 24, stems: [reverberant, noise]}"
    recipe = bound("  - {stage: noise, snr_db: 5}\n", output=output, target="{kind: reverberant}")
    sample = rendered(recipe, catalogue)
    both = sample.stems["reverberant"] + sample.stems["noise"]
    assert np.abs(both - sample.degraded).max() <= 2.0 / (1 << 23)
    assert sample.record.measured["target_active_level_dbfs"] == pytest.approx(-26.0, abs=0.05)


def test_stems_do_not_clip_where_a_later_stage_turns_down_what_was_added(catalogue: Catalogue) -> None:
    stages = "  - {stage: noise, snr_db: -30}\n  - {stage: final_level, active_level_dbfs: -30}\n"
    quiet = rendered(bound(stages, output="{stems: [reverberant, noise]}"), catalogue)
    gain_db = quiet.record.measured["stem_gain_db"]
    assert quiet.record.measured["guard_gain_db"] == 0.0
    assert gain_db < -3.0
    assert 0.9 < np.abs(quiet.stems["noise"]).max() < 1.0
    # Both by the same gain: their ratio is the SNR, and their sum what the next stage was given.
    both = quiet.stems["noise"] + quiet.stems["reverberant"]
    gain = float(np.dot(both, quiet.degraded) / np.dot(both, both))
    assert np.abs(gain * both - quiet.degraded).max() <= 2.0 / 32768
    plain = rendered(bound(stages), catalogue)
    assert np.array_equal(plain.degraded, quiet.degraded)
    assert "stem_gain_db" not in plain.record.measured


def test_a_record_is_enough_to_render_the_sample_again(catalogue: Catalogue) -> None:
    recipe = bound(
        "  - {stage: noise}\n  - {stage: codec}\n  - {stage: packet_loss}\n  - {stage: final_level}"
    )
    sample = rendered(recipe, catalogue, 3)
    record = SampleRecord.model_validate_json(sample.record.model_dump_json())
    again = render(spec_of(record), catalogue.by_sha256)
    assert np.array_equal(again.degraded, sample.degraded)
    assert again.record == sample.record


def test_the_user_s_package_is_named_in_the_record(catalogue: Catalogue) -> None:
    stage = rendered(bound("  - {stage: halve}"), catalogue).record.stages[0]
    assert stage.package == "faulty-stages 1.2.3"
    assert len(stage.code_digest) == 32


def test_every_drawn_number_is_in_the_record_with_its_source_and_licence(catalogue: Catalogue) -> None:
    sample = rendered(bound("  - {stage: noise, snr_db: [3, 9]}"), catalogue)
    stage = sample.record.stages[0]
    assert 3 <= stage.values["snr_db"] <= 9
    assert stage.measured["snr_db"] == pytest.approx(stage.values["snr_db"], abs=0.1)
    used = {source.sha256 for source in sample.record.sources}
    assert {clip.sha256 for clip in (*sample.record.speech, *stage.clips)} == used
    assert all(source.licence for source in sample.record.sources)
    assert sample.record.severity["noisiness"] > 0


def test_a_sample_that_would_clip_is_turned_down_and_says_so(catalogue: Catalogue) -> None:
    sample = rendered(bound("  - {stage: level, gain_db: 30}"), catalogue)
    assert np.abs(sample.degraded).max() < 1.0
    assert sample.record.measured["guard_gain_db"] < -1.0


def _with_a_hole(value: float) -> np.ndarray:
    speech = np.full(4_800, 0.1, np.float32)
    speech[2_000] = value
    return speech


@pytest.mark.parametrize(
    ("speech", "reason"),
    [
        (np.zeros(0, np.float32), "lasts 0.0 ms"),
        (np.full(100, 0.1, np.float32), "lasts 2.1 ms"),
        (_with_a_hole(np.nan), "NaN"),
        (_with_a_hole(np.inf), "NaN"),
        (_with_a_hole(3e20), "NaN"),
    ],
)
def test_no_stage_is_handed_what_makes_an_encoder_abort_the_process(speech, reason):
    values = {"codec": "mp3", "rate_hz": 44_100, "bitrate_kbps": 64}
    stage = StageSpec(label="codec", stage="codec", values=values, package="test 0", code_digest="0" * 32)
    with pytest.raises(SampleFailed, match=f"speech: .*{reason}"):
        apply_stage(stage, speech, {})
