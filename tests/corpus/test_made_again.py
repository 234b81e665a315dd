"""What a corpus keeps, its recipe and its catalogue, makes it again, as its card says."""

from pathlib import Path

import pytest

from manifests.catalogue import read_catalogue
from manifests.corpus import open_corpus
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.governance.withdraw import withdraw

SAMPLES = 12
RECIPE = """
name: roomy
seconds: 1.0
splits: {train: 0.6, val: 0.2, test: 0.2}
output: {samples_per_shard: 4}
rooms: {count: 4, rt60_s: [0.15, 0.3], seed: 9}
stages:
  - {stage: room, p: 1.0}
  - {stage: noise, p: 0.8, snr_db: [0, 20]}
  - {stage: final_level}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, catalogue_path: Path, cache: Path) -> Path:
    root = tmp_path_factory.mktemp("roomy")
    (root / "roomy.yaml").write_text(RECIPE)
    generate(str(root / "roomy.yaml"), catalogue_path, root / "c", InProcess(), SAMPLES, cache=cache)
    return root / "c"


def again(corpus: Path, out: Path, cache: Path) -> str:
    kept = str(corpus / "recipe.yaml"), corpus / "sources.parquet"
    return generate(*kept, out, InProcess(), SAMPLES, cache=cache).manifest.id


def test_a_corpus_with_simulated_rooms(corpus: Path, cache: Path, tmp_path: Path) -> None:
    assert again(corpus, tmp_path / "again", cache) == open_corpus(corpus).manifest.id
    assert fingerprint(tmp_path / "again") == fingerprint(corpus)


def test_a_corpus_from_which_a_simulated_room_was_withdrawn(
    corpus: Path, cache: Path, tmp_path: Path
) -> None:
    rows = read_catalogue(corpus / "sources.parquet").of("rir", "train")
    gone = next(row.sha256 for row in rows)
    done = withdraw([gone], corpus, tmp_path / "without", InProcess()).manifest
    assert again(tmp_path / "without", tmp_path / "again", cache) == done.id
