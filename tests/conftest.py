"""Material that many tests share: talkers, noises and a catalogue of them, made once a session."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PRA_NUM_THREADS", "1")

SENTENCES_EACH = 3

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ssiforge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return its exit code and what it wrote to stdout and stderr."""
    from pipelines.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ssiforge", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return code, output.out, output.err

    return run


@pytest.fixture(scope="session")
def material_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `speech/TALKER/*.flac` of synthetic voices and a folder `noise/*.wav`."""
    from pipelines.built_in.voices import SENTENCES, TALKERS, Synthesizer

    root = tmp_path_factory.mktemp("material")
    synthesizer = Synthesizer()
    for talker in TALKERS:
        folder = root / "speech" / talker.name
        folder.mkdir(parents=True)
        for number, sentence in enumerate(SENTENCES[:SENTENCES_EACH]):
            audio = synthesizer.speak(talker, sentence)
            soundfile.write(folder / f"{number}.flac", audio, synthesizer.rate_hz, subtype="PCM_16")
    rng = np.random.default_rng(1)
    (root / "noise").mkdir()
    for number in range(6):
        slope = np.cumsum(rng.standard_normal(3 * 48_000)) if number % 2 else rng.standard_normal(3 * 48_000)
        noise = slope - np.linspace(slope[0], slope[-1], len(slope))
        noise = 0.2 * noise / np.abs(noise).max()
        soundfile.write(root / "noise" / f"noise{'abcdef'[number]}.wav", noise, 48_000, subtype="PCM_16")
    return root


@pytest.fixture(scope="session")
def catalogue_path(material_folder: Path) -> Path:
    """The catalogue of `material_folder`."""
    from pipelines.scanning.scan import scan

    out = material_folder / "sources.parquet"
    scan(
        {"speech": [str(material_folder / "speech")], "noise": [str(material_folder / "noise")]},
        out,
        workers=2,
    )
    return out


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of 1 s samples with quick stages, four to a shard."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(
        """
name: small
seconds: 1.0
splits: {train: 0.6, val: 0.2, test: 0.2}
output: {samples_per_shard: 4}
stages:
  - {stage: noise, p: 0.8, snr_db: [0, 20]}
  - one_of:
      - {stage: none}
      - {stage: bandwidth_loss, rates_hz: [8000, 16000]}
      - {stage: clipping}
  - {stage: final_level, active_level_dbfs: [-36, -20]}
"""
    )
    return path
