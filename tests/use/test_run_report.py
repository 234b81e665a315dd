"""A page on a run or an evaluation says what its files say, holds what it shows; no name acts."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from page_parts import rows, section, words
from PIL import Image
from tiny_runs import BEST_STEP, KEYS, wave, write_run

from manifests.corpus import Corpus
from manifests.errors import UserError
from manifests.run_record import read_run
from pipelines.evaluation.evaluate import evaluate
from pipelines.report.conditions import condition_title
from pipelines.report.forest_chart import _colours
from pipelines.report.run import Sources, report_evaluation, report_of_id, report_run

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&lt;"


class Outline(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def outline(path: Path) -> Outline:
    return Outline(path.read_text("utf-8"))


def held(address: str) -> bytes:
    """What a `data:` address holds."""
    return base64.b64decode(address.partition(";base64,")[2])


@pytest.fixture
def run(tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path / "runs" / "tiny"
    return folder, write_run(folder, corpus, make_bundle)


def test_it_says_how_every_stage_went(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    bundles = write_run(tmp_path, corpus, make_bundle, ended="stopped", message="interrupted after step 40")
    page = outline(report_run(tmp_path))
    text = " ".join(page.text.split())
    assert "Training run tiny" in text and corpus.manifest.id in text
    assert "student: stopped, interrupted after step 40" in text
    assert re.search(r"teacher ?finished ?40 of 40 ?105 367 ?0\.10000 ?30", text)
    assert bundles["teacher"].id in text
    curves = [svg["aria-label"] for svg in page.named("svg")]
    losses = [told for told in curves if told.startswith("loss: ")]
    assert losses == [
        "loss: training from 0.4 at step 5 to 0.05 at step 40, least 0.05, most 0.4; validation from 0.3 at step 10 to "
        f"0.2 at step 40, least 0.1, most 0.3{kept}"
        for kept in (f"; the weights of step {BEST_STEP} were kept", "")
    ]


def played(address: str) -> np.ndarray:
    """What a player plays, shape (N,)."""
    with av.open(io.BytesIO(held(address))) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1)[0]


def test_every_sample_is_heard_before_and_after_as_it_was(run: tuple[Path, Any]) -> None:
    page = outline(report_run(run[0]))
    players = {player["aria-label"]: player["src"] for player in page.named("audio")}
    pictures = [image for image in page.named("image") if image.get("class") != "scale"]
    assert len(players) == len(pictures) == 4 * len(KEYS)
    told = [svg["aria-label"] for svg in page.named("svg")]
    for place, key in enumerate(KEYS):
        expected = {
            "degraded": wave(place),
            f"teacher, step {BEST_STEP}": wave(BEST_STEP + place),
            f"student, step {BEST_STEP}": wave(BEST_STEP + place),
            "target": wave(place + 10),
        }
        for name, wanted in expected.items():
            length = f"{len(wanted) / 48_000:.3g} s"
            assert f"Waveform and spectrogram: {name} of {key}, {length}; 0 to 24 kHz" in told
            got = played(players[f"{name} of {key}"])[: len(wanted)]
            # Opus keeps noise as noise of the same colour, and of a waveform what matters most.
            likeness = {n: float(np.dot(got, w) / np.linalg.norm(w)) for n, w in expected.items()}
            assert likeness[name] == max(likeness.values()) > 0.5 * np.linalg.norm(got)
    for picture in pictures:
        # Noise that fades out: bright on the left, dark on the right.
        shades = np.asarray(Image.open(io.BytesIO(held(picture["href"]))).convert("L"), np.float64)
        assert shades[:, :20].mean() > shades[:, -20:].mean() + 20


def test_the_page_stands_alone(run: tuple[Path, Any]) -> None:
    page = outline(report_run(run[0]))
    addresses = [v for _, attributes in page.elements for k, v in attributes.items() if k in ("src", "href")]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert {"iframe", "object", "embed", "base"}.isdisjoint(name for name, _ in page.elements)


def test_the_lineage_leads_from_the_corpus_to_the_last_model(
    run: tuple[Path, dict[str, Any]], corpus: Corpus
) -> None:
    page = outline(report_run(run[0]))
    (picture,) = page.named("img")
    drawn = held(picture["src"]).decode()
    teacher, student = (run[1][stage].id for stage in ("teacher", "student"))
    for name in (f"teacher {teacher[:8]}", f"student {student[:8]}", corpus.manifest.id[:8]):
        assert name in drawn
    assert (
        f"model student {student[:8]} {student} ← teacher of ← model teacher {teacher[:8]} {teacher}"
        in page.text
    )
    assert f"{teacher} ← trained on ← corpus {corpus.manifest.id[:8]} {corpus.manifest.id}" in page.text


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(run: tuple[Path, Any], tmp_path: Path) -> None:
    first = report_run(run[0]).read_bytes()
    assert report_run(run[0]).read_bytes() == first
    shutil.move(run[0], tmp_path / "elsewhere")
    assert report_run(tmp_path / "elsewhere").read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_a_run_has_a_page_while_it_goes_on(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    write_run(tmp_path, corpus, make_bundle, stages=("teacher",), ended="failed")
    stage = tmp_path / "teacher"
    events = (stage / "events.jsonl").read_text().splitlines()
    (stage / "events.jsonl").write_text(events[0] + "\n")
    with (stage / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 45, "na')
    assert "not ended" in outline(report_run(tmp_path)).text
    (stage / "metrics.jsonl").write_text('nonsense\n{"step": 45, "name": "train/loss", "value": 1.0}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1 is not JSON"):
        report_run(tmp_path)
    (stage / "metrics.jsonl").write_text('{"step": 45, "name": "train/loss", "value": "x"}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl: line 1 is not a metric"):
        report_run(tmp_path)
    with pytest.raises(UserError, match="holds no training run"):
        report_run(tmp_path / "teacher" / "samples")


def test_names_of_strangers_stay_text(
    tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    name = HOSTILE.replace("/", "")  # also a file's name
    pages = []
    for place, (called, key) in {"a": ("tiny", "k"), "b": (name, name)}.items():
        write_run(
            tmp_path / place, corpus, make_bundle, name=called, keys=[key], ended="failed", message=called
        )
        pages.append(outline(report_run(tmp_path / place)))
    harmless, hostile = pages
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(a) for _, a in hostile.elements] == [sorted(a) for _, a in harmless.elements]
    assert name in hostile.text
    assert any(player["aria-label"] == f"degraded of {name}" for player in hostile.named("audio"))


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
    corpus: Corpus,
    make_bundle: Callable[..., Any],
) -> tuple[Path, dict[str, Any]]:
    """A folder with an evaluation `scores` of a run's two models, and one of a recording, `heard`."""
    root = tmp_path_factory.mktemp("evaluated")
    bundles = write_run(root / "run", corpus, make_bundle)
    shutil.copy(empty_database, root / "mlflow.db")
    (root / "recordings").mkdir()
    soundfile.write(root / "recordings" / "<img src=x onerror=alert(1)>.wav", wave(1, 1.5), 48_000)
    models = [str(root / "run" / stage / "model") for stage in bundles]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        evaluate(models, root / "scores", corpus.store.root, limit=3, listen=2)
        evaluate(models[:1], root / "heard", input_dir=root / "recordings")
    return root, bundles


def test_an_evaluation_has_all_its_means_with_their_intervals(evaluated: tuple[Path, Any]) -> None:
    root, bundles = evaluated
    page = outline(report_evaluation(root / "scores"))
    result = json.loads((root / "scores" / "evaluation.json").read_text())
    assert all(bundle.id in page.text for bundle in bundles.values())
    for summary in (result["summary"], *result["by_condition"].values()):
        for entries in summary.values():
            for column in result["columns"]:
                entry = entries[column["name"]]
                numbers = [entry[name] for name in ("mean", "low", "high") if entry[name] is not None]
                assert all(f"{number:.{column['digits']}f}" in page.text for number in numbers)
    low, high = (result["summary"]["teacher"]["dnsmos_ovrl"][end] for end in ("low", "high"))
    assert f"{low:.2f} to {high:.2f}" in page.text
    assert all(condition_title(condition) in page.text for condition in result["by_condition"])
    assert all(note in page.text for note in result["notes"])
    heard = [player["aria-label"] for player in page.named("audio")]
    assert heard[:4] == [f"{what} of test-000000" for what in ("degraded", "teacher", "student", "target")]
    assert len(heard) == 8


def test_an_evaluation_has_sizes_speeds_and_parents_of_its_models(
    evaluated: tuple[Path, Any], run: tuple[Path, Any], tmp_path: Path
) -> None:
    """They are those of the run's page; where no folder of the models is left, too."""
    root, bundles = evaluated
    shutil.copytree(root / "scores", tmp_path / "scores")
    export_of(bundles["student"], tmp_path / "onnx")
    more = Sources(exports=(tmp_path / "onnx",))
    content = report_evaluation(tmp_path / "scores", more=more).read_bytes()
    wanted = rows(section(report_run(root / "run").read_bytes(), "size"), "Sizes of the models")
    assert [list(map(words, row)) for row in rows(section(content, "size"), "Sizes of the models")] == [
        list(map(words, row)) for row in wanted
    ]
    for row, stage in zip(wanted, bundles, strict=True):
        weights = root / "run" / stage / "model" / "weights.safetensors"
        assert words(row[3]) == f"{weights.stat().st_size / 1e6:.2f}"
    assert len(wanted) == len(bundles) and "0.123" in outline(tmp_path / "scores/report/index.html").text
    ((role, _), *_) = bundles["student"].parents.items()
    told = content.decode().partition('<section id="lineage"')[2]
    assert (
        f"model student {bundles['student'].id[:8]} {bundles['student'].id} ← {role} of ← model {role} "
        in told
    )
    export_of(run[1]["teacher"], tmp_path / "other", model_id="f" * 32)
    with pytest.raises(UserError, match="of other models"):
        report_evaluation(tmp_path / "scores", more=Sources(exports=(tmp_path / "other",)))
    with pytest.raises(UserError, match="--evaluation belongs to a run"):
        report_evaluation(tmp_path / "scores", more=Sources(evaluations=(root / "scores",)))


def export_of(bundle: Any, folder: Path, **changed: Any) -> None:
    """Write the report of an export of a model, of 0.123 of real time."""
    export = {"model_id": bundle.id, "stage": bundle.stage, "latency_ms": 20.0, "states": 3}
    export |= {"state_megabytes": 0.1, "torch_dnsmos_ovrl": 2.0, "variants": []}
    file = {"file": "model.onnx", "megabytes": 0.64, "max_difference": 1e-7, "snr_db": None}
    export["variants"] = [file | {"real_time_factor": 0.123, "dnsmos_ovrl": 2.0}]
    folder.mkdir()
    (folder / "parity.json").write_text(json.dumps(export | changed))


def test_systems_are_compared_a_row_a_pair_and_a_column_a_score(evaluated: tuple[Path, Any]) -> None:
    page = outline(report_evaluation(evaluated[0] / "scores"))
    result = json.loads((evaluated[0] / "scores" / "evaluation.json").read_text())
    text = " ".join(page.text.split())
    signs = {"better": " ▲", "worse": " ▼"}
    for pair in result["comparisons"]:
        cells = [f"{pair['system']} – {pair['with']}"]
        for column in (column for column in result["columns"] if not column["describes"]):
            entry, digits = pair["scores"][column["name"]], column["digits"]
            cells.append(f"{entry['mean']:+.{digits}f}{signs.get(entry['verdict'], '')}")
            if entry["low"] is None:
                cells.append("–")
            else:
                cells.append(f"{entry['low']:+.{digits}f} to {entry['high']:+.{digits}f}")
        assert "".join(cells).replace(" ", "") in text.replace(" ", ""), cells
    teacher, degraded = (
        result["by_condition"]["SNR 10 to 20 dB"][system]["dnsmos_ovrl"]["mean"]
        for system in ("teacher", "degraded")
    )
    assert f"{teacher:.2f}{round(teacher - degraded, 2):+.2f}".replace(" ", "") in text.replace(" ", "")


def test_conditions_are_named_as_people_do() -> None:
    assert [condition_title(name) for name in ("codec amr_nb", "stage air_absorption", "RT60 >= 0.6 s")] == [
        "codec AMR-NB",
        "air absorption",
        "RT60 ≥ 0.6 s",
    ]


def test_six_systems_and_their_input_have_colours_of_their_own() -> None:
    systems = ["degraded", *(f"joint {number}" for number in range(6))]
    assert len(set(_colours(systems, "degraded"))) == 7


def test_a_recording_whose_name_is_markup_is_shown_by_it(evaluated: tuple[Path, Any]) -> None:
    page = outline(report_evaluation(evaluated[0] / "heard"))
    assert "<img src=x onerror=alert(1)>.wav" in page.text
    (lineage,) = page.named("img")
    assert lineage["src"].startswith("data:image/svg+xml;base64,")
    assert all(p["href"].startswith("data:image/png") for p in page.named("image"))
    assert [player["aria-label"] for player in page.named("audio")] == [
        f"{what} of <img src=x onerror=alert(1)>.wav" for what in ("degraded", "teacher")
    ]


def test_a_run_shows_evaluations_and_exports_of_its_own_models(
    evaluated: tuple[Path, Any], run: tuple[Path, Any], corpus: Corpus, tmp_path: Path
) -> None:
    root, bundles = evaluated
    shutil.copytree(root / "run", tmp_path / "run")
    export_of(bundles["student"], tmp_path / "run" / "onnx")
    page = outline(report_run(tmp_path / "run", more=Sources(evaluations=(root / "scores",))))
    assert f"3 samples, test split of corpus {corpus.manifest.id}" in page.text
    assert "0.123" in page.text and "20 ms" in page.text
    shutil.copytree(root / "scores", tmp_path / "run" / "scores")
    assert outline(report_run(tmp_path / "run")).text == page.text

    other = tmp_path / "other"
    shutil.copytree(run[0], other)
    export_of(bundles["student"], other / "onnx", model_id="f" * 32)
    assert "0.123" not in outline(report_run(other)).text
    with pytest.raises(UserError, match="of other models"):
        report_run(other, more=Sources(exports=(other / "onnx",)))


def test_an_evaluation_that_is_repeated_keeps_no_audio_of_the_one_before(
    evaluated: tuple[Path, Any], corpus: Corpus, store: Any, tmp_path: Path
) -> None:
    shutil.copytree(evaluated[0] / "scores", tmp_path / "again")
    model = str(evaluated[0] / "run" / "teacher" / "model")
    evaluate([model], tmp_path / "again", corpus.store.root, limit=1, listen=1)
    assert len(list((tmp_path / "again" / "listen").glob("*.flac"))) == 3
    evaluate([model], tmp_path / "again", corpus.store.root, limit=1, listen=0)
    assert not list((tmp_path / "again" / "listen").iterdir())


@pytest.mark.parametrize("name", ["../secret.flac", "/etc/passwd", "001-00.flac"])
def test_an_index_that_leads_out_of_its_folder_is_refused(
    name: str, evaluated: tuple[Path, Any], tmp_path: Path
) -> None:
    shutil.copytree(evaluated[0] / "scores", tmp_path / "scores")
    (tmp_path / "secret.flac").write_bytes(b"")
    (tmp_path / "scores" / "listen" / "001-00.flac").unlink()
    (tmp_path / "scores" / "listen" / "001-00.flac").symlink_to(tmp_path / "secret.flac")
    index = tmp_path / "scores" / "listen" / "listen.json"
    content = json.loads(index.read_text())
    content["samples"] = [content["samples"][0] | {"files": {"degraded": name}}]
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="which is no audio of its folder"):
        report_evaluation(tmp_path / "scores")


def test_mlflow_alone_gives_the_page_of_a_run_whose_folder_is_gone(
    store: Any, tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    from pipelines.tracking.link import read_link
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    folder = tmp_path / "run"
    write_run(folder, corpus, make_bundle, stages=("teacher",), trackers=[MlflowTracker(store)])
    run_id = read_link(folder / "teacher")["run_id"]
    by_id = report_of_id(f"runs:/{run_id}")
    assert by_id == folder / "teacher" / "report" / "index.html"
    wanted = outline(by_id)
    record = read_run(folder / "teacher")
    assert record is not None
    moved = tmp_path / "records of runs" / "moved"
    shutil.move(folder, moved)
    for name in (run_id, record.id):
        assert report_of_id(name).resolve() == moved / "teacher" / "report" / "index.html"
    shutil.rmtree(moved)
    got = outline(report_of_id(run_id))
    assert [svg.get("aria-label") for svg in got.named("svg")] == [
        svg.get("aria-label") for svg in wanted.named("svg")
    ]
    assert [a["aria-label"] for a in got.named("audio")] == [a["aria-label"] for a in wanted.named("audio")]
    assert got.text.partition("Size and speed")[0] == wanted.text.partition("Size and speed")[0]
    with pytest.raises(UserError, match="neither a folder nor a run"):
        report_of_id("0" * 32)
