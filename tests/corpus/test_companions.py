"""`companions.json` names what the files beside a corpus were, whatever job wrote them last or was killed at it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import pipelines.corpus.companions
import pipelines.generation.generate
import pipelines.scoring.score
from manifests.catalogue import read_catalogue
from manifests.errors import UserError
from pipelines.corpus.companion_seals import SEALS_FILE
from pipelines.corpus.companions import COMPANION_FILES
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.governance.withdraw import withdraw
from pipelines.merging.merge import merge
from pipelines.scoring.runners import on_processes
from pipelines.scoring.score import score
from pipelines.verify import verify

Again = Callable[..., object]
METRIC = ["level_error_db"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "c"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=6, seed=3)
    return out


@pytest.fixture
def corpus(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "c"))


@pytest.fixture
def again(small_recipe: Path, catalogue_path: Path) -> Again:
    """The command that made a corpus, or makes it larger."""

    def run(place: Path, samples: int = 6) -> object:
        return generate(str(small_recipe), catalogue_path, place, InProcess(), samples=samples, seed=3)

    return run


def found(place: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    checked = verify(place)
    return checked.problems, checked.remarks


def changed(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b"0")
    path.write_bytes(content[:at] + b"1" + content[at + 1 :])


def test_whatever_job_wrote_last_everything_is_sealed(
    corpus: Path, again: Again, small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    generate(str(small_recipe), catalogue_path, tmp_path / "other", InProcess(), samples=3, seed=4)
    noise = next(source.sha256 for source in read_catalogue(corpus / "sources.parquet").of("noise", "train"))
    score(corpus, on_processes(0), METRIC)
    withdraw([noise], corpus, tmp_path / "withdrawn", InProcess())
    merge([corpus, tmp_path / "other"], tmp_path / "merged", copy=True)
    places = [corpus, tmp_path / "withdrawn", tmp_path / "merged"]
    assert [found(place) for place in places] == [((), ())] * 3
    again(corpus, samples=9)
    assert found(corpus) == ((), ())
    assert "scores.parquet" in json.loads((corpus / SEALS_FILE).read_text())["files"]


def test_a_corpus_of_before_there_were_seals_is_sound_and_the_next_run_seals_it(
    corpus: Path, again: Again
) -> None:
    (corpus / SEALS_FILE).unlink()
    problems, (remark,) = found(corpus)
    assert problems == ()
    assert all(name in remark for name in (*COMPANION_FILES, "lineage.ndjson", "ssiforge generate"))
    again(corpus)
    assert found(corpus) == ((), ())


def test_what_was_changed_by_hand_is_named_until_it_is_deleted(corpus: Path, again: Again) -> None:
    card = corpus / "README.md"
    before = card.read_bytes()
    card.write_bytes(before + b"mine\n")
    again(corpus)
    assert found(corpus)[0] == ("README.md: its content changed since it was written",)
    card.unlink()
    assert found(corpus)[0] == ("README.md: is missing",)
    again(corpus)
    assert (found(corpus), card.read_bytes()) == (((), ()), before)


def test_files_of_another_corpus_are_not_taken_for_those_of_this_one(
    corpus: Path, made: Path, again: Again
) -> None:
    again(corpus, samples=9)
    for name in (*COMPANION_FILES, "lineage.ndjson", SEALS_FILE):
        shutil.copy(made / name, corpus / name)
    (problem,) = found(corpus)[0]
    assert problem.startswith(f"{SEALS_FILE}: names the files of another corpus")
    again(corpus, samples=9)
    assert found(corpus) == ((), ())


def dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_killed_between_a_file_and_its_seal_nothing_is_wrong_and_the_next_run_finishes(
    corpus: Path, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.corpus.companions, "seal", dies)
    with pytest.raises(KeyboardInterrupt):
        again(corpus, samples=9)
    monkeypatch.undo()
    problems, remarks = found(corpus)
    assert problems == () and "README.md" in remarks[0]
    again(corpus, samples=9)
    assert found(corpus) == ((), ())


def test_killed_between_removing_them_and_the_manifest_none_is_missed(
    corpus: Path, again: Again, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipelines.generation.generate, "finish", dies)
    with pytest.raises(KeyboardInterrupt):
        again(corpus, samples=9)
    monkeypatch.undo()
    assert not (corpus / "README.md").exists()
    problems = "\n".join(found(corpus)[0])
    assert "plan.json" in problems and not any(name in problems for name in COMPANION_FILES)


def test_killed_between_scores_and_their_seal_score_goes_on(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(corpus, on_processes(0), METRIC)
    monkeypatch.setattr(pipelines.scoring.score, "seal", dies)
    with pytest.raises(KeyboardInterrupt):
        score(corpus, on_processes(0), ["si_sdr_db"])
    monkeypatch.undo()
    problems, remarks = found(corpus)
    assert problems == () and "scores.parquet" in remarks[0] and "ssiforge score" in remarks[0]
    score(corpus, on_processes(0), METRIC)
    assert found(corpus) == ((), ())


def test_the_log_may_go_on_but_not_change_and_no_job_hides_that_it_did(corpus: Path, again: Again) -> None:
    log = corpus / "lineage.ndjson"
    told = log.read_bytes()
    log.write_bytes(told + told.splitlines(keepends=True)[0])  # a job that was killed before it sealed this
    assert found(corpus) == ((), ())
    log.write_bytes(told + b"no event\n")
    assert found(corpus)[0] == ("lineage.ndjson: its content changed since it was written",)
    log.write_bytes(told)
    changed(log)
    again(corpus, samples=9)
    assert found(corpus)[0] == ("lineage.ndjson: its content changed since it was written",)
    log.unlink()
    again(corpus, samples=9)
    assert found(corpus) == ((), ())


def test_scores_that_were_changed_are_not_gone_on_with(corpus: Path) -> None:
    score(corpus, on_processes(0), METRIC)
    table = corpus / "scores.parquet"
    changed(table)
    assert found(corpus)[0] == ("scores.parquet: its content changed since it was written",)
    with pytest.raises(UserError, match=r"scores\.parquet: its content changed .* remove it"):
        score(corpus, on_processes(0), METRIC)
    table.unlink()
    score(corpus, on_processes(0), METRIC)
    assert found(corpus) == ((), ())
