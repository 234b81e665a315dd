"""A corpus in an object store is the corpus that a folder would hold, and appears shard by shard, record last."""

import json
import socket
import threading
import uuid
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import open_corpus, read_manifest
from manifests.errors import JobError, UserError
from manifests.object_store import ObjectStore
from manifests.store import open_store
from pipelines.corpus.folder import corpus_folder
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.verify import verify

SAMPLES = 12


@pytest.fixture
def bucket() -> str:
    return f"memory://{uuid.uuid4().hex}/corpus"


@pytest.fixture(scope="module")
def in_a_folder(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "c"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=SAMPLES, seed=5)
    return out


def test_a_bucket_and_a_folder_hold_the_same_corpus(
    bucket: str, in_a_folder: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    done = generate(str(small_recipe), catalogue_path, bucket, InProcess(), samples=SAMPLES, seed=5)
    assert fingerprint(bucket) == fingerprint(in_a_folder)
    assert done.manifest.id == read_manifest(in_a_folder).id
    assert set(open_store(bucket).names()) == {
        str(path.relative_to(in_a_folder)) for path in in_a_folder.rglob("*") if path.is_file()
    }
    assert verify(bucket, rerender=4).problems == ()
    shard = open_corpus(bucket).shards[0]
    assert open_corpus(bucket).sample_json(shard, shard.samples[0])["key"] == shard.samples[0].key
    again = generate(str(small_recipe), catalogue_path, bucket, InProcess(), samples=SAMPLES, seed=5)
    assert (again.rendered_shards, again.manifest) == (0, done.manifest)


def test_a_file_uri_is_a_folder(
    tmp_path: Path, in_a_folder: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    place = f"file://{tmp_path}/c"
    generate(str(small_recipe), f"file://{catalogue_path}", place, InProcess(), samples=SAMPLES, seed=5)
    assert fingerprint(tmp_path / "c") == fingerprint(in_a_folder)
    assert verify(place).problems == ()


def test_a_record_is_written_after_its_shard_and_without_it_the_shard_does_not_exist(
    bucket: str, in_a_folder: Path, small_recipe: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    write = ObjectStore.write

    def watched(self: ObjectStore, name: str, content: bytes) -> None:
        if name.startswith("train/shard-"):
            tar = name.replace(".json", ".tar")
            assert self.size(tar) == json.loads(content)["bytes"]
            order.append(name)
            if len(order) == 2:
                raise OSError(None, "the network went away", self.where(name))
        write(self, name, content)

    monkeypatch.setattr(ObjectStore, "write", watched)
    with pytest.raises((JobError, OSError)):
        generate(str(small_recipe), catalogue_path, bucket, _Once(), samples=SAMPLES, seed=5)
    monkeypatch.setattr(ObjectStore, "write", write)
    assert open_store(bucket).size(order[1]) is None
    with pytest.raises(UserError, match="not a finished corpus"):
        open_corpus(bucket)
    done = generate(str(small_recipe), catalogue_path, bucket, InProcess(), samples=SAMPLES, seed=5)
    assert done.kept_shards == 1
    assert fingerprint(bucket) == fingerprint(in_a_folder)


class _Once(InProcess):
    """Tries nothing twice, as if it were killed."""

    def run(self, job, tasks):  # type: ignore[no-untyped-def]
        loaded = job.load()
        for task in tasks:
            yield loaded.render(task)


def test_two_jobs_cannot_write_one_prefix_and_a_dead_one_does_not_block_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.corpus.lock.RENEWED_EVERY_S", 0.2)
    with corpus_folder(bucket), pytest.raises(UserError, match="another job is writing this corpus"):  # noqa: SIM117
        with corpus_folder(bucket):
            raise AssertionError("held twice")
    gone = {"owner": "x", "host": socket.gethostname(), "process": 2**22 + 1, "renewed": 0}
    open_store(bucket).write(".lock", json.dumps(gone).encode())
    with corpus_folder(bucket) as store:
        assert json.loads(store.read(".lock"))["owner"] != "x"
    assert open_store(bucket).names() == {}


def test_a_lock_of_another_machine_is_watched_and_taken_over_when_nobody_renews_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.corpus.lock.WATCHED_FOR_S", 1.0)
    claim = {"owner": "x", "host": "elsewhere", "process": 1, "renewed": 0}
    store = open_store(bucket)
    store.write(".lock", json.dumps(claim).encode())
    with corpus_folder(bucket):
        assert json.loads(store.read(".lock"))["owner"] != "x"
    store.write(".lock", json.dumps(claim).encode())
    renewing = threading.Timer(0.3, store.write, (".lock", json.dumps(claim | {"renewed": 1}).encode()))
    renewing.start()
    with pytest.raises(UserError, match=r"another job is writing this corpus \(elsewhere, process 1\)"):  # noqa: SIM117
        with corpus_folder(bucket):
            raise AssertionError("taken from a living owner")
    renewing.join()


def _in_a_bucket(catalogue_path: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Copy all sources into memory, and a catalogue that leads there; return it, and the URIs by hash."""
    store = open_store(f"memory://{uuid.uuid4().hex}")
    rows, places = [], {}
    for source in read_catalogue(catalogue_path):
        name = f"{source.kind}/{source.sha256[:8]}{Path(source.path).suffix}"
        store.write(name, Path(source.path).read_bytes())
        places[source.sha256] = store.where(name)
        rows.append(replace(source, path=store.where(name)))
    write_catalogue(Catalogue(rows), tmp_path / "remote.parquet")
    return tmp_path / "remote.parquet", places


def test_sources_in_a_bucket_are_fetched_once_and_give_the_same_corpus(
    in_a_folder: Path,
    tmp_path: Path,
    small_recipe: Path,
    catalogue_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "cache"))
    from datagen import source_cache

    source_cache._share.cache_clear()
    remote, _ = _in_a_bucket(catalogue_path, tmp_path)
    fetched: list[str] = []
    fetch = ObjectStore.fetch

    def counted(self: ObjectStore, name: str, path: Path) -> None:
        fetched.append(name)
        fetch(self, name, path)

    monkeypatch.setattr(ObjectStore, "fetch", counted)
    generate(str(small_recipe), remote, tmp_path / "c", InProcess(), samples=SAMPLES, seed=5)
    assert fingerprint(tmp_path / "c") == fingerprint(in_a_folder)
    assert 0 < len(fetched) == len(set(fetched))


def test_the_cache_of_sources_is_bounded_and_speech_does_not_drive_noise_out(
    tmp_path: Path, catalogue_path: Path
) -> None:
    from datagen.source_cache import Share

    remote, _ = _in_a_bucket(catalogue_path, tmp_path)
    sources = [source for source in read_catalogue(remote) if source.kind == "noise"]
    bound = 3 * max(source.bytes for source in sources) + 1
    share = Share(tmp_path / "cache", bound)
    for source in sources * 2:
        assert share.file(source).stat().st_size == source.bytes
        held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
        assert held <= bound
    assert len(sources) > 3


def test_a_source_that_changed_in_its_bucket_is_noticed(
    tmp_path: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datagen.source_cache import Share, SourceChanged

    remote, places = _in_a_bucket(catalogue_path, tmp_path)
    source = next(iter(read_catalogue(remote)))
    place, _, name = places[source.sha256].rpartition("/")
    open_store(place).write(name, b"x" * source.bytes)
    with pytest.raises(SourceChanged, match="changed since it was scanned"):
        Share(tmp_path / "cache", 10**9).file(source)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s4://bucket/corpus", "s4://bucket/corpus: cannot be used"),
        ("gs://bucket/corpus", "the client for gs:// is not installed; pip install 'ssiforge"),
        ("az://bucket/corpus", "the client for az:// is not installed; pip install 'ssiforge"),
    ],
)
def test_a_place_that_cannot_be_used_is_said_in_a_sentence(
    ssiforge, small_recipe: Path, catalogue_path: Path, place: str, said: str
) -> None:
    client = {"gs": "gcsfs", "az": "adlfs"}.get(place.partition("://")[0])
    if client and find_spec(client):
        pytest.skip(f"{client} is installed here")
    code, _, errors = ssiforge(
        "generate", small_recipe, "--sources", catalogue_path, "--out", place, "--samples", 4
    )
    assert code == 2
    assert said in errors


def test_a_commands_uri_reaches_it_unharmed(
    ssiforge, bucket: str, small_recipe: Path, catalogue_path: Path
) -> None:
    arguments = ("--sources", catalogue_path, "--out", bucket, "--samples", 4, "--workers", 0)
    code, out, _ = ssiforge("generate", small_recipe, *arguments)
    assert (code, out.startswith(f"{bucket}: corpus ")) == (0, True)
    code, out, _ = ssiforge("verify", bucket)
    assert (code, out.startswith(f"{bucket}: sound")) == (0, True)
