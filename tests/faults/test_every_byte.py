"""Every byte of a finished corpus matters: whichever one changes, `verify` names its file."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from manifests.catalogue import read_catalogue, write_catalogue
from manifests.corpus import CORPUS_FILE, PROGRESS_FILE, changed_files, read_manifest
from manifests.errors import UserError
from manifests.source import Source
from manifests.store import open_store
from pipelines.corpus.companion_seals import SEALS_FILE, broken_seals
from pipelines.corpus.companions import COMPANION_FILES
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.openlineage.log import LINEAGE_FILE
from pipelines.scoring.runners import on_processes
from pipelines.scoring.score import score
from pipelines.scoring.table import SCORES_FILE
from pipelines.verify import verify

TRIALS = 200
SEED = 7_041

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    root = tmp_path_factory.mktemp("every byte")
    refused = Source(
        path="/nowhere/a.wav", kind="noise", refused="empty file"
    )  # so that the quarantine holds a line
    write_catalogue(read_catalogue(catalogue_path).extended([refused]), root / "sources.parquet")
    generate(str(small_recipe), root / "sources.parquet", root / "c", InProcess(), samples=6, seed=1)
    score(root / "c", on_processes(0), ["level_error_db"])
    assert verify(root / "c").problems == ()
    return root / "c"


@contextmanager
def flipped(path: Path, position: int, bits: int) -> Iterator[None]:
    """Change one byte of a file in place, and put it back."""
    with path.open("r+b") as stream:
        stream.seek(position)
        (byte,) = stream.read(1)
        stream.seek(position)
        stream.write(bytes([byte ^ bits]))
    try:
        yield
    finally:
        with path.open("r+b") as stream:
            stream.seek(position)
            stream.write(bytes([byte]))


def any_flip(rng: np.random.Generator) -> int:
    """One bit, or any change of a byte."""
    return 1 << int(rng.integers(8)) if rng.random() < 0.7 else int(rng.integers(1, 256))


def named(corpus: Path) -> str:
    try:
        return "\n".join(verify(corpus).problems)
    except UserError as error:  # corpus.json may not even be JSON any more
        return str(error)


def test_one_changed_byte_anywhere_is_found_and_its_file_named(corpus: Path) -> None:
    # How far the last job came is no part of the corpus.
    files = sorted(path for path in corpus.rglob("*") if path.is_file() and path.name != PROGRESS_FILE)
    assert {path.suffix for path in files} == {
        *(".tar", ".json", ".jsonl", ".parquet", ".yaml"),
        *(".tsv", ".md", ".ndjson"),
    }
    assert {path.name for path in files} >= {*COMPANION_FILES, LINEAGE_FILE, SCORES_FILE, SEALS_FILE}
    rng = np.random.default_rng(SEED)
    missed = []
    for trial in range(TRIALS):
        path = files[trial % len(files)]
        position, bits = int(rng.integers(path.stat().st_size)), any_flip(rng)
        name = str(path.relative_to(corpus))
        with flipped(path, position, bits):
            if name not in named(corpus):
                missed.append(f"{name}: byte {position} ^ {bits:#04x}")
    print(f"\nseed {SEED}: {TRIALS} trials over {len(files)} files")
    assert missed == []
    assert verify(corpus).problems == ()


@pytest.mark.parametrize("name", [CORPUS_FILE, SEALS_FILE])
def test_no_byte_of_what_names_the_others_can_change_unseen(corpus: Path, name: str) -> None:
    """JSON means the same with a tab for a space, or 1.50 for 1.5; the manifest and the seals have one form only."""
    path, store = corpus / name, open_store(corpus)
    rng = np.random.default_rng(SEED)
    unseen = []
    for position, byte in enumerate(path.read_bytes()):
        for bits in {any_flip(rng), byte ^ ord("\t") if byte in b" \n" else byte ^ ord("0")} - {0}:
            with flipped(path, position, bits):
                try:
                    manifest = read_manifest(store)
                    problem = next(chain(changed_files(store, manifest), broken_seals(store, manifest)), "")
                except UserError as error:
                    problem = str(error)
            if name not in problem:
                unseen.append(f"byte {position} ^ {bits:#04x}")
    assert unseen == []
