"""Corpora are read by the official packages of others: mlcroissant, datasets, webdataset, huggingface_hub."""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fsspec
import mlcroissant
import pyarrow.parquet as pq
import pytest
import soundfile
from markdown_it import MarkdownIt

from manifests.corpus import open_corpus, read_manifest
from manifests.store import open_store
from pipelines.corpus.croissant import described
from pipelines.corpus.dataset_card import dataset_card
from pipelines.corpus.hub_licences import hub_licences, spdx_url
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.merging.merge import merge
from pipelines.scanning.scan import scan

SAMPLES = 12
IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = '"><script>'
LICENCE = '[free](javascript:alert(1)) "</td>| --- license: mit'
OURS = ("croissant.json", "croissant.parquet", "README.md", "ATTRIBUTION.tsv", "lineage.ndjson")


@pytest.fixture(scope="module")
def hostile_catalogue(tmp_path_factory: pytest.TempPathFactory, material_folder: Path) -> Path:
    """Recordings, a talker and a licence whose names are markup."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(material_folder / "speech", root / "speech")
    shutil.copytree(material_folder / "noise", root / "noise")
    talker = sorted((root / "speech").iterdir())[0]
    talker.rename(talker.with_name(SCRIPT))
    for noise in sorted((root / "noise").iterdir()):
        noise.rename(noise.with_name(f"{IMAGE}{noise.name}"))
    folders = {kind: [str(root / kind)] for kind in ("speech", "noise")}
    scan(folders, root / "sources.parquet", workers=1, licence=LICENCE)
    return root / "sources.parquet"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, hostile_catalogue: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "c"
    generate(str(small_recipe), hostile_catalogue, out, InProcess(), samples=SAMPLES, seed=5)
    return out


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, hostile_catalogue: Path) -> Path:
    """A corpus of 5 samples whose recipe lacks a stage."""
    out = tmp_path_factory.mktemp("corpus") / "other"
    overrides = ("name=other", "stages.0.p=0")
    generate(str(small_recipe), hostile_catalogue, out, InProcess(), samples=5, seed=6, overrides=overrides)
    return out


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Hugging Face datasets, offline, with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        import datasets

        datasets.disable_progress_bars()
        yield datasets


def records(corpus: Path) -> list[dict[str, Any]]:
    """What mlcroissant makes of a corpus, field names without the record set's, bytes as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value.decode() if isinstance(value, bytes) else value

    dataset = mlcroissant.Dataset(corpus / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    return [
        {name.removeprefix("samples/"): plain(value) for name, value in record.items()}
        for record in dataset.records("samples")
    ]


def audio(corpus: Path, address: str) -> bytes:
    """Open an address of the index, relative to the corpus."""
    member, _, shard = address.partition("::")
    place = shard if "://" in shard else str(corpus / shard)
    with fsspec.open(f"{member}::{place}") as stream:
        content: bytes = stream.read()
    return content


def alike(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; `datasets` keeps ten decimals of a number."""
    if isinstance(value, float) and isinstance(other, float):
        return abs(value - other) < 1e-9
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(alike(value[name], other[name]) for name in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(alike, value, other))
    return bool(value == other) and type(value) is type(other)


# --- Croissant ------------------------------------------------------------------------------------


def test_croissant_has_a_record_for_each_sample_with_what_its_json_says(corpus: Path) -> None:
    opened = open_corpus(corpus)
    held = {record["key"]: record for record in records(corpus)}
    assert len(held) == SAMPLES == sum(opened.manifest.samples.values())
    for shard in opened.shards:
        for entry in shard.samples:
            said, record = opened.sample_json(shard, entry), held[entry.key]
            assert (record["split"], record["shard"]) == (shard.split, shard.tar_name)
            assert record["speaker"] == said["speaker"]
            assert record["licences"] == said["licences"]
            assert record["stages"] == [stage["label"] for stage in said["stages"]]
            for axis, severity in said["severity"].items():
                assert record[f"severity.{axis}"] == pytest.approx(severity)
            for name, value in said["measured"].items():
                assert record[f"measured.{name}"] == pytest.approx(value), name
            for name in ("degraded", "target"):
                content = opened.read(shard, entry.members[f"{name}.flac"])
                assert audio(corpus, record[f"{name}_audio"]) == content


def test_croissant_says_where_it_comes_from_and_what_to_mind(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    content = json.loads((corpus / "croissant.json").read_text())
    assert content["identifier"] == manifest.id
    assert content["license"] == [LICENCE]
    labels = [entity["prov:label"] for entity in content["prov:wasDerivedFrom"]]
    assert any(manifest.catalogue_digest in label for label in labels)
    assert any(manifest.recipe_digest in label for label in labels)
    metadata = mlcroissant.Dataset(corpus / "croissant.json").metadata
    assert "Voices are personal data" in str(metadata.personal_sensitive_information)
    assert metadata.data_limitations and metadata.data_use_cases
    assert "noise" in content["rai:dataManipulationProtocol"]


def test_what_was_before_and_what_is_not_certain_is_said(corpus: Path) -> None:
    manifest, schema = read_manifest(corpus), pq.read_schema(corpus / "croissant.parquet")
    later = manifest.model_copy(update={"replaces": "before", "licences": {"MIT": 1, "GPL": 1, "Mine": 2}})
    *_, last = described(later, schema, "0" * 64)["prov:wasDerivedFrom"]
    assert (last["prov:label"], last["prov:value"]) == (
        "ssiforge corpus before",
        "sources were withdrawn from",
    )
    card = dataset_card(later, ("json",))
    assert "| replaces | before, from which sources were withdrawn |" in card
    assert "2 of the licences above are texts that name no licence for certain" in card
    plain = dataset_card(manifest.model_copy(update={"licences": {"MIT": 1}}), ("json",))
    assert "replaces" not in plain and "for certain" not in plain


def test_croissant_of_thirty_thousand_shards_is_as_small(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    shards = {f"train/shard-{number:06d}.tar": "0" * 64 for number in range(30_000)}
    schema = pq.read_schema(corpus / "croissant.parquet")
    small, large = (
        json.dumps(described(each, schema, "0" * 64))
        for each in (manifest, manifest.model_copy(update={"shards": shards}))
    )
    assert large == small


@pytest.mark.parametrize("copy", [True, False])
def test_a_merged_corpus_describes_all_its_samples(
    corpus: Path, other: Path, tmp_path: Path, copy: bool
) -> None:
    merge([corpus, other], tmp_path / "both", copy=copy)
    held = records(tmp_path / "both")
    assert len({record["key"] for record in held}) == SAMPLES + 5
    for record in held:
        wave, rate_hz = soundfile.read(BytesIO(audio(tmp_path / "both", record["target_audio"])))
        assert (len(wave), rate_hz) == (48_000, 48_000)
    card = (tmp_path / "both" / "README.md").read_text()
    assert ("\nconfigs:" in card) == copy


# --- Hugging Face and webdataset ------------------------------------------------------------------


def test_a_folder_loads_as_a_data_set_whose_json_is_whole(corpus: Path, datasets: Any) -> None:
    opened = open_corpus(corpus)
    loaded = datasets.load_dataset(str(corpus))
    assert {split: len(rows) for split, rows in loaded.items()} == opened.manifest.samples
    for shard in opened.shards:
        rows = {row["__key__"]: row for row in loaded[shard.split]}
        for entry in shard.samples:
            row = rows[entry.key]
            assert alike(row["json"], opened.sample_json(shard, entry))
            for name in ("degraded.flac", "target.flac"):
                assert row[name] == opened.read(shard, entry.members[name])


def test_shards_load_as_webdataset_with_the_features_of_the_card(corpus: Path, datasets: Any) -> None:
    from datasets import DatasetInfo
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(corpus / "README.md").data.to_dict()
    features = DatasetInfo._from_yaml_dict(card["dataset_info"]).features
    files = {"train": str(corpus / "train" / "shard-*.tar")}
    for streaming in (False, True):
        loaded = datasets.load_dataset(
            "webdataset", data_files=files, features=features, split="train", streaming=streaming
        )
        keys = [row["json"]["key"] for row in loaded]
        assert len(set(keys)) == read_manifest(corpus).samples["train"]


def test_stock_webdataset_reads_a_corpus(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDS_SECURE", "1")
    import webdataset

    for split, count in read_manifest(corpus).samples.items():
        shards = [str(path) for path in sorted((corpus / split).glob("*.tar"))]
        found = list(webdataset.WebDataset(shards, shardshuffle=False))
        assert len(found) == count
        assert all(json.loads(sample["json"])["key"] == sample["__key__"] for sample in found)


def test_the_cards_front_matter_is_what_hubs_expect(corpus: Path) -> None:
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(corpus / "README.md").data
    assert data.license == "other"
    assert data.task_categories == ["audio-to-audio"]
    assert data.size_categories == ["n<1K"]
    assert data.pretty_name.startswith("small, 0.00 h")
    assert "this makes it again:" in (corpus / "README.md").read_text()


def test_hubs_know_licences_by_their_names() -> None:
    assert hub_licences(["CC-BY-4.0", "GPL-3.0-or-later", "CC0-1.0", "unknown"]) == [
        "cc-by-4.0",
        "cc0-1.0",
        "gpl-3.0",
        "unknown",
    ]
    assert hub_licences(["Julia / GPL 3+", "GPL-3.0", "ODC-By-1.0"]) == ["gpl-3.0", "odc-by"]
    assert hub_licences(["Public Domain", "CC-BY-1.0", "CC-BY-4.0 OR MIT", "bsd"]) == ["other"]
    assert hub_licences([]) == ["unknown"]
    assert spdx_url("CC-BY-4.0") == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert spdx_url("GPL V3+") == "https://spdx.org/licenses/GPL-3.0-or-later.html"
    assert spdx_url("Public Domain") == "Public Domain"


def test_names_that_are_markup_stay_names(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    assert list(manifest.licences) == [LICENCE]
    assert SCRIPT in {record["speaker"] for record in records(corpus)}
    reason = f"{IMAGE}|{SCRIPT}"
    hostile = {
        "stages": {reason: {"asked": 1.0, "drawn": 1.0}},
        "recipe": reason,
        "environment": {reason: reason},
    }
    for card in (
        (corpus / "README.md").read_text(),
        dataset_card(manifest.model_copy(update=hostile), ("json",)),
    ):
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.partition("\n---\n")[2])
        assert "<img" not in html and "<script" not in html and 'href="javascript' not in html
        rows = [line for line in html.splitlines() if "free" in line]
        assert len(rows) == 1 and "alert(1)" in rows[0]


# --- how they come about --------------------------------------------------------------------------


def test_the_same_corpus_says_the_same_anywhere(
    corpus: Path, small_recipe: Path, hostile_catalogue: Path, tmp_path: Path
) -> None:
    """In a bucket, and on sources that were moved; times stand in one file alone."""
    moved = tmp_path / "moved"
    shutil.copytree(hostile_catalogue.parent, moved)
    scan(
        {kind: [str(moved / kind)] for kind in ("speech", "noise")},
        moved / "again.parquet",
        workers=1,
        licence=LICENCE,
    )
    bucket = f"memory://{uuid.uuid4().hex}/corpus"
    generate(str(small_recipe), moved / "again.parquet", bucket, InProcess(), samples=SAMPLES, seed=5)
    store = open_store(bucket)
    for name in ("lineage.parquet", *OURS):
        if name != "lineage.ndjson":
            assert store.read(name) == (corpus / name).read_bytes(), name
    assert store.size("lineage.ndjson")


def test_what_is_missing_is_written_by_the_next_run(
    corpus: Path, other: Path, small_recipe: Path, hostile_catalogue: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(corpus, tmp_path / "c"))
    merge([corpus, other], tmp_path / "both")
    for place in (again, tmp_path / "both"):
        before = {name: (place / name).read_bytes() for name in OURS}
        for name in OURS:
            (place / name).unlink()
        if place == again:
            done = generate(str(small_recipe), hostile_catalogue, again, InProcess(), samples=SAMPLES, seed=5)
            assert done.rendered_shards == 0
        else:
            merge([corpus, other], place)
        for name in OURS[:-1]:
            assert (place / name).read_bytes() == before[name]
        kinds = [json.loads(line)["eventType"] for line in (place / "lineage.ndjson").open()]
        assert kinds == ["START", "COMPLETE"]


def test_a_corpus_that_grew_says_so_even_when_it_was_cut_short(
    corpus: Path,
    small_recipe: Path,
    hostile_catalogue: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pipelines.generation.generate

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    grown = Path(shutil.copytree(corpus, tmp_path / "c"))
    arguments = (str(small_recipe), hostile_catalogue, grown, InProcess())
    monkeypatch.setattr(pipelines.generation.generate, "write_companions", dies)
    with pytest.raises(KeyboardInterrupt):
        generate(*arguments, samples=2 * SAMPLES, seed=5)
    monkeypatch.undo()
    generate(*arguments, samples=2 * SAMPLES, seed=5)
    assert len(records(grown)) == 2 * SAMPLES
    assert f"| samples | {2 * SAMPLES} of 1 s |" in (grown / "README.md").read_text()
    assert "cut into other shards" in (grown / "README.md").read_text()
    kinds = [json.loads(line)["eventType"] for line in (grown / "lineage.ndjson").open()]
    assert kinds == ["START", "COMPLETE", "START", "ABORT", "COMPLETE"]


def test_making_corpora_needs_none_of_the_readers() -> None:
    source = "import sys, pipelines.corpus.companions; print({m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout
    for name in ("mlcroissant", "datasets", "huggingface_hub", "openlineage", "torch", "mlflow", "pyarrow"):
        assert f"'{name}'" not in loaded, name
