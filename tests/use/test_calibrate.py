"""Calibrating: the share of the input that a finished model leaves in is measured, chosen and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpora import voice

from manifests.corpus import Corpus
from manifests.errors import UserError
from pipelines.evaluation.calibrate import Trial, best, calibrate
from pipelines.evaluation.samples import HeldOut
from pipelines.quality.metrics import level_error_db
from training.bundle import load_bundle
from training.enhance import enhance_array
from training.models import finishing
from training.models.finishing import kept
from training.models.repair import MOST_MAKEUP_DB
from training.models.stft import analyse, decompress, synthesise

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_calibrated_model_mixes_its_levelled_input_in_and_names_its_parent(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    parent = make_bundle(tmp_path / "joint", "joint")
    done = calibrate(str(tmp_path / "joint"), corpus.url, tmp_path / "calibrated", shares=[0.4])
    assert ([t.name for t in done.trials], done.chosen.share, done.heard) == (["input", "0.4"], 0.4, ())
    assert [len(trial.ovrls) for trial in done.trials] == [2, 2]
    before, after = load_bundle(tmp_path / "joint"), load_bundle(tmp_path / "calibrated")
    assert after.info.parents == {"joint": parent.id}
    assert after.info.id != parent.id

    wave = torch.from_numpy(voice(1, 0.5)).unsqueeze(0)
    with torch.inference_mode():
        spectrum = analyse(wave)
        dry = decompress(before.model.repair.levelled(spectrum), 0.5)
        wet = kept(before.model.enhance_spectrum(spectrum), dry, 1.0)
    mixed = synthesise(0.6 * wet + 0.4 * dry, wave.shape[1])
    assert (after.enhance(wave) - 10.0 ** (done.makeup_db / 20.0) * mixed).abs().max() < 1e-5


def test_of_what_is_mostly_noise_no_share_is_left_in(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "CLEAN_DB", 101.0)  # all that there is counts as noise
    monkeypatch.setattr(finishing, "NOISY_DB", 100.0)
    make_bundle(tmp_path / "joint", "joint")
    done = calibrate(str(tmp_path / "joint"), corpus.url, tmp_path / "calibrated", shares=[0.0, 0.4])
    _, none, some = done.trials
    assert (some.sig, some.bak, *some.ovrls) == pytest.approx((none.sig, none.bak, *none.ovrls), abs=1e-3)
    assert done.info.repair["by_noise"] is True
    before, after = load_bundle(tmp_path / "joint"), load_bundle(tmp_path / "calibrated")
    wave = voice(1, 0.5)
    own = 10.0 ** (done.makeup_db / 20.0) * enhance_array(before, wave)
    assert np.abs(enhance_array(after, wave) - own).max() < 1e-5


def test_the_level_is_that_of_the_targets_on_average(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    def mean_error_db(folder: Path) -> float:
        bundle = load_bundle(folder)
        samples = HeldOut(corpus, "val", None, None, print)
        with torch.inference_mode():
            waves = [
                (sample.target, bundle.enhance(torch.from_numpy(sample.degraded)[None])[0].numpy())
                for sample in samples
            ]
        return sum(level_error_db(target, wave) for target, wave in waves) / len(waves)

    make_bundle(tmp_path / "joint", "joint")
    done = calibrate(str(tmp_path / "joint"), corpus.url, tmp_path / "calibrated", shares=[0.2])
    before_db = mean_error_db(tmp_path / "joint")
    assert 0.2 < abs(before_db) < MOST_MAKEUP_DB and abs(done.makeup_db) > 0.2
    assert abs(mean_error_db(tmp_path / "calibrated")) < 0.05


def test_a_model_that_is_far_off_gets_no_more_than_some_decibels(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(tmp_path / "joint", "joint")
    monkeypatch.setattr("pipelines.evaluation.calibrate.level_error_db", lambda target, wave: -20.0)
    done = calibrate(str(tmp_path / "joint"), corpus.url, tmp_path / "calibrated", shares=[0.2])
    assert done.makeup_db == load_bundle(tmp_path / "calibrated").info.repair["makeup_db"] == MOST_MAKEUP_DB


def test_recordings_are_listened_to_as_well(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any], ssiforge: Run
) -> None:
    make_bundle(tmp_path / "joint", "joint")
    (tmp_path / "calls").mkdir()
    soundfile.write(tmp_path / "calls" / "a.wav", 0.3 * voice(1, 1.5), 48_000)
    (tmp_path / "calls" / "b.wav").write_bytes(b"no audio")
    code, out, err = ssiforge(
        "calibrate", "--model", tmp_path / "joint", "--corpus", corpus.url, "--out", tmp_path / "new",
        "--shares", "0,0.5", "--recordings", tmp_path / "calls",
    )  # fmt: skip
    assert code == 0
    assert "mean of 2 samples" in out and "mean of 1 recordings" in out and out.count("<- chosen") == 2
    assert "b.wav" in out + err
    (tmp_path / "calls" / "a.wav").unlink()
    code, out, err = ssiforge(
        "calibrate", "--model", tmp_path / "joint", "--corpus", corpus.url, "--out", tmp_path / "newer",
        "--shares", "0,0.5", "--recordings", tmp_path / "calls",
    )  # fmt: skip
    assert code != 0 and "not a single recording can be scored" in err
    assert not (tmp_path / "newer" / "model.json").exists()


def test_a_share_that_harms_recordings_is_not_chosen() -> None:
    before = Trial("input", None, sig=3.0, bak=3.0, ovrl=2.5)
    better, safer = Trial("0.1", 0.1, 3.1, 3.5, 2.8), Trial("0.7", 0.7, 3.1, 3.2, 2.6)
    heard = (
        Trial("input", None, 3.5, 3.6, 3.0),
        Trial("0.1", 0.1, 3.4, 3.9, 3.1),
        Trial("0.7", 0.7, 3.5, 3.7, 3.1),
    )
    assert best((before, better, safer)) is better
    assert best((before, better, safer), heard) is safer


def test_the_best_overall_score_wins_among_shares_that_do_no_harm() -> None:
    before = Trial("input", None, sig=3.0, bak=3.0, ovrl=2.5)
    harmful = Trial("0", 0.0, sig=2.8, bak=4.0, ovrl=2.9)
    good = Trial("0.3", 0.3, sig=3.1, bak=3.5, ovrl=2.8)
    timid = Trial("0.6", 0.6, sig=3.1, bak=3.1, ovrl=2.6)
    assert best((before, harmful, good, timid)) is good
    # Where all harm, the least harm wins.
    worse = Trial("0.3", 0.3, sig=2.9, bak=3.5, ovrl=2.4)
    assert best((before, harmful, worse)) is worse


def test_of_shares_that_cannot_be_told_apart_the_one_that_leaves_most_is_chosen() -> None:
    before = Trial("input", None, 3.0, 3.0, 2.5, (2.4, 2.5, 2.6))
    top = Trial("0.1", 0.1, 3.1, 3.5, 2.80, (2.7, 2.8, 2.9))
    alike = Trial("0.4", 0.4, 3.1, 3.4, 2.79, (2.75, 2.75, 2.87))
    worse = Trial("0.6", 0.6, 3.1, 3.2, 2.70, (2.6, 2.7, 2.8))
    assert best((before, worse, top, alike)) is alike


def test_mistakes_are_named(tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]) -> None:
    make_bundle(tmp_path / "m", "student")
    with pytest.raises(UserError, match="holds a model already"):
        calibrate(str(tmp_path / "m"), corpus.url, tmp_path / "m")
    with pytest.raises(UserError, match="numbers from 0 to below 1"):
        calibrate(str(tmp_path / "m"), corpus.url, tmp_path / "new", shares=[1.0])
    with pytest.raises(UserError, match="--split dev: no such split"):
        calibrate(str(tmp_path / "m"), corpus.url, tmp_path / "new", split="dev")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written to"):
        calibrate(str(tmp_path / "m"), corpus.url, tmp_path / "file", shares=[0.0])
