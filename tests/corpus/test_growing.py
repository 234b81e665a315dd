"""A corpus can be made larger: what it holds stays as it is, and the new samples are those of a larger corpus."""

import json
import shutil
from pathlib import Path

import pytest

from manifests.corpus import Corpus, open_corpus
from manifests.errors import UserError
from pipelines.executors import InProcess
from pipelines.generation.generate import Generated, fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.verify import verify

SMALL, LARGE = 15, 38


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "first"
    _generate(small_recipe, catalogue_path, out, SMALL)
    return out


@pytest.fixture(scope="module")
def grown(
    first: Path, tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path
) -> Path:
    out = Path(shutil.copytree(first, tmp_path_factory.mktemp("corpus") / "grown"))
    _generate(small_recipe, catalogue_path, out, LARGE)
    return out


def _generate(recipe: Path, sources: Path, out: Path, samples: int) -> Generated:
    return generate(str(recipe), sources, out, InProcess(), samples=samples, seed=2)


def _audio_by_key(corpus: Corpus) -> dict[str, tuple[bytes, bytes]]:
    return {
        entry.key: tuple(corpus.read(shard, entry.members[f"{name}.flac"]) for name in ("degraded", "target"))
        for shard in corpus.shards
        for entry in shard.samples
    }  # type: ignore[return-value]


def test_old_shards_stay_byte_for_byte_and_new_ones_are_added(first: Path, grown: Path) -> None:
    before, after = fingerprint(first), fingerprint(grown)
    assert before.items() < after.items()
    assert verify(grown, rerender=6).problems == ()
    manifest = open_corpus(grown).manifest
    assert sum(manifest.samples.values()) == LARGE
    assert manifest.grown_from == open_corpus(first).manifest.id != manifest.id
    assert [sum(step.values()) for step in json.loads((grown / "plan.json").read_bytes())["steps"]] == [
        SMALL,
        LARGE,
    ]


def test_its_samples_are_those_of_a_corpus_that_was_made_as_large_at_once(
    grown: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    _generate(small_recipe, catalogue_path, tmp_path / "c", LARGE)
    assert _audio_by_key(open_corpus(grown)) == _audio_by_key(open_corpus(tmp_path / "c"))


def test_growing_that_was_interrupted_goes_on(
    first: Path, grown: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = Path(shutil.copytree(first, tmp_path / "c"))

    class StopsEarly(InProcess):
        def run(self, job, tasks):  # type: ignore[no-untyped-def]
            for number, outcome in enumerate(super().run(job, tasks)):
                if number == 2:
                    raise KeyboardInterrupt
                yield outcome

    with pytest.raises(KeyboardInterrupt):
        generate(str(small_recipe), catalogue_path, out, StopsEarly(), samples=LARGE, seed=2)
    done = generate(str(small_recipe), catalogue_path, out, LocalProcesses(2), samples=LARGE, seed=2)
    assert done.kept_shards > len(open_corpus(first).shards)
    assert fingerprint(out) == fingerprint(grown)
    assert done.manifest == open_corpus(grown).manifest.model_copy(
        update={name: getattr(done.manifest, name) for name in ("timings", "stage_seconds", "checksum")}
    )


def test_asking_again_changes_nothing_and_asking_for_less_is_refused(
    grown: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    before = fingerprint(grown)
    assert _generate(small_recipe, catalogue_path, grown, LARGE).rendered_shards == 0
    with pytest.raises(UserError, match=f"holds {LARGE} samples and {SMALL} are asked for; .* made larger"):
        _generate(small_recipe, catalogue_path, grown, SMALL)
    assert fingerprint(grown) == before


def test_a_corpus_of_other_draws_is_not_grown_into(
    first: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    with pytest.raises(UserError, match=r"differs in recipe stages\.0\.p \(there 0\.8, now 0\.5\)"):
        generate(
            str(small_recipe),
            catalogue_path,
            first,
            InProcess(),
            LARGE,
            seed=2,
            overrides=("stages.0.p=0.5",),
        )
    with pytest.raises(UserError, match=r"differs in seed \(there 2, now 3\)"):
        generate(str(small_recipe), catalogue_path, first, InProcess(), LARGE, seed=3)
