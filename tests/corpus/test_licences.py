"""Only allowed licences are drawn, and who is to be named is written down."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.degradations import bind
from datagen.plan import material, plan
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import open_corpus
from manifests.documents import check, load_document
from manifests.errors import UserError
from manifests.licence_names import AllowedLicences
from manifests.recipe import Recipe
from pipelines.corpus.attribution import COLUMNS
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.licence_choice import of_allowed_licences
from pipelines.merging.merge import merge

LICENCES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "A. Person / GPL V3+", "unknown", "Public Domain")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, catalogue_path: Path) -> Path:
    """The catalogue with licences dealt out; each split keeps speech and noise of the first two."""
    dealt: dict[tuple[str, str | None], int] = {}
    rows = []
    for row in read_catalogue(catalogue_path).sources:
        number = dealt.get((row.kind, row.split), 0)
        dealt[row.kind, row.split] = number + 1
        rows.append(replace(row, licence=LICENCES[number % len(LICENCES)]))
    path = tmp_path_factory.mktemp("licences") / "sources.parquet"
    write_catalogue(rows, path)
    return path


@settings(max_examples=40, deadline=None)
@given(
    names=st.sets(st.sampled_from(["CC-BY-*", "GPL-*-or-later", "unknown", *LICENCES]), min_size=1),
    index=st.integers(0, 10_000),
    seed=st.integers(0, 99),
)
def test_no_plan_names_a_source_of_another_licence(
    mixed: Path, small_recipe: Path, names: set[str], index: int, seed: int
) -> None:
    allowed = AllowedLicences.parse(sorted({*names, "CC0-1.0"}))
    assert allowed is not None
    document = load_document(str(small_recipe), "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    all_rows = read_catalogue(mixed)
    left: Catalogue = of_allowed_licences(all_rows, allowed)
    spec = plan(material(left, bound.recipe, "train"), bound, seed, index)
    licences = {all_rows.by_sha256[clip.sha256].licence for clip in spec.clips}
    assert licences and allowed.refused(licences) == []


def test_texts_that_are_no_licence_are_refused_by_name_and_number_until_they_are_named_as_shown(
    mixed: Path,
) -> None:
    texts = {"Public Domain": 'All mine, "all"', "CC-BY-NC-4.0": "odd\x1b[2J", "unknown": ""}
    rows = [replace(row, licence=texts.get(row.licence, row.licence)) for row in read_catalogue(mixed).usable]
    catalogue, said = Catalogue(rows), list[str]()

    def left(*names: str) -> Counter[str]:
        allowed = AllowedLicences.parse(names)
        assert allowed is not None
        return Counter(row.licence for row in of_allowed_licences(catalogue, allowed, said.append).usable)

    every = Counter(row.licence for row in rows)
    text, odd = texts["Public Domain"], texts["CC-BY-NC-4.0"]
    assert left("CC-BY-*", "unknown") == {"CC-BY-4.0": every["CC-BY-4.0"], "": every[""]}
    gone = len(rows) - every["CC-BY-4.0"] - every[""]
    assert said[0].startswith(f"licences: {gone} of {len(rows)} sources are not drawn")
    assert f"GPL-3.0-or-later {every['A. Person / GPL V3+']}" in said[0] and "mine" not in said[0]
    assert said[1].startswith(f"licences: {every[text] + every[odd]} of these")
    named = {name: int(count) for count, _, name in (line.strip().partition("  ") for line in said[2:])}
    assert named == {'"All mine, ""all"""': every[text], "odd [2J": every[odd]}
    assert left('MIT, "All mine, ""all"""') == {text: every[text]}
    assert left("unrecognised") == {text: every[text], odd: every[odd]}


def test_a_corpus_holds_only_what_is_allowed_says_what_is_not_drawn_and_remembers_the_list(
    mixed: Path, small_recipe: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    out = tmp_path / "c"

    def run(*allowed: str) -> str:
        return generate(
            str(small_recipe), mixed, out, InProcess(), 8, say=said.append, allow_licences=allowed
        ).manifest.id

    identity = run("CC-BY-*,CC0-1.0")
    assert set(open_corpus(out).manifest.licences) <= {"CC0-1.0", "CC-BY-4.0"}
    refused = [row for row in read_catalogue(mixed).usable if row.licence not in ("CC0-1.0", "CC-BY-4.0")]
    assert any(f"{len(refused)} of" in line and "not drawn" in line for line in said)
    before = fingerprint(out)
    assert run("CC0-1.0", "CC-BY-*") == identity
    for other in ((), ("CC0-1.0",), ("CC-BY-*,CC0-1.0,unknown",)):
        with pytest.raises(UserError, match="differs in allow_licences"):
            run(*other)
    assert fingerprint(out) == before
    unrestricted = generate(str(small_recipe), mixed, tmp_path / "all", InProcess(), 8).manifest
    assert unrestricted.id != identity
    with pytest.raises(UserError, match="no usable speech"):
        generate(str(small_recipe), mixed, tmp_path / "no", InProcess(), 8, allow_licences=("MIT",))


def test_attribution_names_each_source_that_is_heard_once_with_its_licence_and_samples(
    mixed: Path, small_recipe: Path, tmp_path: Path
) -> None:
    rows = [
        replace(row, speaker=row.speaker and f"=HYPERLINK({row.speaker})\t<b>\n", licence="x\u202ey\tz")
        for row in read_catalogue(mixed).sources
    ]
    write_catalogue(rows, tmp_path / "odd.parquet")
    folders = {str(Path(row.path).parent) for row in rows}
    places = [tmp_path / "a", tmp_path / "b"]
    for seed, place in enumerate(places):
        generate(str(small_recipe), tmp_path / "odd.parquet", place, InProcess(), 8, seed=seed)
    merge(places, tmp_path / "merged")
    for place, corpora in ((places[0], places[:1]), (tmp_path / "merged", places)):
        lines = (place / "ATTRIBUTION.tsv").read_text().splitlines()
        assert not any(folder in line for folder in folders for line in lines)
        assert lines[0].split("\t") == list(COLUMNS)
        cells = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines[1:]]
        samples = [
            content
            for corpus in map(open_corpus, corpora)
            for shard in corpus.shards
            for content in (corpus.sample_json(shard, entry) for entry in shard.samples)
        ]
        heard = [{source["sha256"] for source in sample["sources"]} for sample in samples]
        assert {cell["sha256"] for cell in cells} == set().union(*heard) and len(cells) == len(
            set().union(*heard)
        )
        for cell in cells:
            assert int(cell["samples"]) == sum(cell["sha256"] in each for each in heard)
            assert cell["licence"] == "x y z" and cell["spdx"] == ""
            assert not cell["by"].startswith("=")
