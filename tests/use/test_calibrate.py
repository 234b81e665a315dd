"""Calibrating: the share of the input that a finished model leaves in is measured, chosen and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_corpora import voice

from manifests.corpus import Corpus
from manifests.errors import UserError
from pipelines.evaluation.calibrate import Trial, best, calibrate
from training.bundle import load_bundle
from training.models.stft import analyse, decompress, synthesise


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
    assert (done.samples, done.chosen.share, [t.name for t in done.trials]) == (2, 0.4, ["input", "0.4"])
    before, after = load_bundle(tmp_path / "joint"), load_bundle(tmp_path / "calibrated")
    assert after.info.parents == {"joint": parent.id}
    assert after.info.id != parent.id

    wave = torch.from_numpy(voice(1, 0.5)).unsqueeze(0)
    with torch.inference_mode():
        levelled = before.model.repair.levelled(analyse(wave))
        dry = synthesise(decompress(levelled, 0.5), wave.shape[1])
    mixed = 0.6 * before.enhance(wave) + 0.4 * dry
    assert (after.enhance(wave) - mixed).abs().max() < 1e-5


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
