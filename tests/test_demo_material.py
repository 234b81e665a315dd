"""The demo's material is the same on every run, so that its corpus is too."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from manifests.canonical import file_sha256
from manifests.keyed import generator
from pipelines.built_in.noises import KINDS
from pipelines.built_in.voices import SENTENCES, TALKERS


def voices_of_a_fresh_process(folder: Path) -> dict[str, str]:
    code = (
        "import sys, pathlib\n"
        "from pipelines.built_in.voices import write_voices\n"
        "list(write_voices(pathlib.Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    return {str(p.relative_to(folder)): file_sha256(p) for p in sorted(folder.rglob("*.flac"))}


def test_voices_are_the_same_in_every_process_and_after_an_interruption(tmp_path: Path) -> None:
    first = voices_of_a_fresh_process(tmp_path / "a")
    assert len(first) == len(set(first.values())) == len(TALKERS) * len(SENTENCES)
    time.sleep(1.1)  # eSpeak NG's own seed is the clock, in seconds
    assert voices_of_a_fresh_process(tmp_path / "b") == first
    for path in sorted((tmp_path / "b").rglob("*.flac"))[5::3]:
        path.unlink()
    assert voices_of_a_fresh_process(tmp_path / "b") == first


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_noise_depends_on_its_key_alone(kind) -> None:
    first, again, other = (kind(generator("demo noise", kind.__name__, number)) for number in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
