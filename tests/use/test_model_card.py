"""A model's card says what was recorded and measured, and nothing that a stranger chose becomes markup."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from markdown_it import MarkdownIt
from tiny_corpora import RATE_HZ, voice

from manifests.canonical import file_sha256
from manifests.corpus import Corpus
from manifests.corpus_summary import CorpusSummary, PartSummary, summary_of
from manifests.errors import UserError
from manifests.online import OnlineRecord
from manifests.selection import SelectionRecord
from pipelines.evaluation.evaluate import evaluate
from pipelines.model_cards.card import write_card
from training import shipped_models
from training.bundle import BundleInfo, Origin, read_info, save_bundle
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair

Run = Callable[..., tuple[int, str, str]]

HOSTILE = "<script>x</script> | [a](http://b) ![c](d) `e` **f** __g__ &lt; www.i.org\n# k\n\n---\nlicense: '\u202e\""
DATA = CorpusSummary(
    recipe="ssi48k",
    hours=10.25,
    samples={"train": 3000, "val": 100, "test": 100},
    licences={"CC0-1.0": 7, "CC-BY-4.0": 3200, "unknown": 40},
)


def joint(folder: Path, corpus: CorpusSummary | None = DATA, **other: Any) -> BundleInfo:
    """Write an untrained joint model."""
    torch.manual_seed(0)
    origin = Origin(
        "joint",
        "tiny",
        "c" * 32,
        "s",
        {},
        {"denoiser": "d" * 32},
        other.get("selection"),
        corpus,
        other.get("online"),
    )
    network = Chain(build_repair("tiny", causal=True), build_denoiser("tiny"))
    return save_bundle(folder, network, origin, steps=1234, metrics={})


def text_of(out: Path) -> str:
    return out.read_text(encoding="utf-8")


def front_matter(card: str) -> dict[str, Any]:
    """What a model hub would read."""
    opening, front, _ = card.split("---\n", 2)
    assert opening == ""
    content: dict[str, Any] = yaml.safe_load(front)
    return content


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    joint(tmp_path / "model")
    return tmp_path / "model"


def test_it_says_what_the_model_is_and_what_it_heard(folder: Path, tmp_path: Path) -> None:
    info = write_card(str(folder), [], "Apache-2.0", tmp_path / "new" / "CARD.md")
    card = text_of(tmp_path / "new" / "CARD.md")
    for words in (
        "0.16 M parameters (repairing network 0.11 M, denoiser 0.05 M), 0.7 MB",
        "| preset | tiny |",
    ):
        assert words in card
    for words in (
        "20 ms, algorithmic",
        info.id,
        file_sha256(folder / "weights.safetensors"),
        "1234",
        "d" * 32,
    ):
        assert words in card
    data = section(card, "Training data")
    assert f"| {'c' * 32} | ssi48k | 10.25 | 1 |" in data
    assert re.findall(r"^\| (\S+) \| (\d+) \|$", data, re.M) == [
        ("CC-BY-4.0", "3200"),
        ("unknown", "40"),
        ("CC0-1.0", "7"),
    ]
    assert "The licence of material in 40 of the samples is not known." in section(card, "Limits")
    assert front_matter(card) == {
        "license": "apache-2.0",
        "library_name": "ssiforge",
        "pipeline_tag": "audio-to-audio",
        "tags": ["speech-enhancement", "speech-restoration", "rad-net-2", "48khz", "causal"],
    }


def test_a_merged_corpus_and_a_selection_are_told(tmp_path: Path) -> None:
    parts = (
        PartSummary(id="a" * 32, recipe="dns", hours=1.5, weight=0.25),
        PartSummary(id="b" * 32, recipe="telephony", hours=2, weight=1),
    )
    selection = SelectionRecord("dnsmos_ovrl < 2.5", "e" * 32, {"train": 12, "val": 3})
    joint(tmp_path / "model", DATA.model_copy(update={"parts": parts}), selection=selection)
    write_card(str(tmp_path / "model"), [], None, tmp_path / "card.md")
    card = text_of(tmp_path / "card.md")
    data = section(card, "Training data")
    assert f"| {'a' * 32} | dns | 1.50 | 0.25 |" in data and f"| {'b' * 32} | telephony | 2.00 | 1 |" in data
    assert r"dnsmos\_ovrl \< 2.5 holds: train 12, val 3" in data
    assert "of the whole corpus, samples that were left out among them, with the number" in data
    assert "license" not in front_matter(card) and "No licence was given" in section(card, "Limits")


@pytest.mark.parametrize(
    ("weight", "corpus", "told"),
    [
        (1.0, None, ("All samples it learned from were rendered", "seed 7")),
        (0.25, DATA, ("A share of 0.25 of the samples", f"| {'b' * 32} | ssi48k | 10.25 | 1 |")),
        (1.0, DATA, ("All samples it learned", "It served validation alone.")),
    ],
)
def test_fresh_samples_are_told_with_what_they_were_drawn_from(
    tmp_path: Path, weight: float, corpus: CorpusSummary | None, told: tuple[str, str]
) -> None:
    record = OnlineRecord(
        recipe="dns",
        recipe_digest="r" * 32,
        catalogue_digest="e" * 32,
        seed=7,
        weight=weight,
        corpus_id="b" * 32 if corpus else "",
        code_version="1.2",
    )
    joint(tmp_path / "model", corpus, online=record)
    write_card(str(tmp_path / "model"), [], None, tmp_path / "card.md")
    data = section(text_of(tmp_path / "card.md"), "Training data")
    for words in (*told, "recipe dns", "r" * 32, "e" * 32):
        assert words in data
    assert "was not recorded" not in data
    assert "fresh samples were drawn from are not in this card" in text_of(tmp_path / "card.md")


def test_training_records_what_the_corpus_is_made_of(corpus: Corpus) -> None:
    summary = summary_of(corpus.manifest)
    assert (summary.recipe, summary.hours) == (corpus.manifest.recipe, corpus.manifest.hours)
    assert summary.licences == corpus.manifest.licences and summary.samples == corpus.manifest.samples


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, corpus: Corpus
) -> tuple[Path, Path, dict[str, Any]]:
    """A shipped model, the folder of its evaluation by that name, and the content of `evaluation.json`."""
    root = tmp_path_factory.mktemp("evaluated")
    joint(root / "small")
    shutil.copy(empty_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        patch.setattr(shipped_models, "FOLDER", root)
        result = evaluate(["shipped"], root / "scores", corpus.store.root, limit=2).result
    return root / "small", root / "scores", result


def test_its_scores_are_those_of_the_evaluation_beside_the_input(
    evaluated: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    model, scores, result = evaluated
    assert [each["bundle_id"] for each in result["models"]] == [read_info(model).id]
    write_card(str(model), [scores], None, tmp_path / "card.md")
    card = text_of(tmp_path / "card.md")
    table = [
        line.strip("| ").split(" | ") for line in section(card, "Evaluation").splitlines() if line[:1] == "|"
    ]
    head, _, degraded, ours = table
    columns = [
        column
        for column in result["columns"]
        if result["summary"]["joint"][column["name"]]["mean"] is not None
    ]
    assert [title.rstrip("↑↓→0") for title in head if title] == [
        column["title"].rstrip("0") for column in columns
    ]
    for cells, label, system in ((degraded, "input", "degraded"), (ours, "this model", "joint")):
        means = [(shown_mean(result, system, column["name"]), column["digits"]) for column in columns]
        assert cells == [label, *(f"{mean:.{digits}f}" for mean, digits in means)]
    assert f"Means over 2 samples, test split of corpus {result['corpus_id']}" in card
    measured = front_matter(card)["model-index"][0]["results"][0]["metrics"]
    assert {each["type"]: each["value"] for each in measured} == {
        column["name"]: shown_mean(result, "joint", column["name"]) for column in columns
    }


def shown_mean(result: dict[str, Any], system: str, name: str) -> float:
    """The mean that a card shows: of the level's error without its sign, since zero is best."""
    entry = result["summary"][system][name]
    mean: float = entry["mean_absolute" if name == "level_error_db" else "mean"]
    return mean


def altered(scores: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write a copy of an evaluation with something else in it."""
    result = json.loads((scores / "evaluation.json").read_text())
    change(result)
    out.mkdir()
    (out / "evaluation.json").write_text(json.dumps(result))
    return out


def test_where_it_is_worse_than_its_input_is_a_limit_and_where_it_is_better_is_none(
    evaluated: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    model, scores, _ = evaluated

    def change(result: dict[str, Any]) -> None:
        values = {
            "dnsmos_ovrl": (2.0, 3.0),
            "lsd_db": (5.0, 6.5),
            "level_error_db": (0.5, 1.0),
            "estoi": (0.5, None),
        }
        for name, (before, after) in values.items():
            result["summary"]["degraded"][name]["mean"] = before
            result["summary"]["joint"][name]["mean"] = after
        # Errors of both signs cancel in the mean above: their sizes decide.
        result["summary"]["degraded"]["level_error_db"]["mean_absolute"] = 3.0
        result["summary"]["joint"]["level_error_db"]["mean_absolute"] = 2.0
        for column in result["columns"]:
            if column["name"] not in values:
                for system in ("degraded", "joint"):
                    result["summary"][system][column["name"]]["mean"] = 1.0
        noisy = json.loads(json.dumps(result["summary"]))
        for system, mean in (("degraded", 2.5), ("joint", 2.25)):
            for column in result["columns"]:
                entry = noisy[system][column["name"]]
                entry.update({name: 1.0 for name in ("mean", "mean_absolute") if name in entry})
            noisy[system]["dnsmos_ovrl"]["mean"] = mean
        result["by_condition"] = {"stage noise": noisy}
        result["split"], result["corpus_id"] = "train", "c" * 32

    write_card(str(model), [altered(scores, tmp_path / "other", change)], None, tmp_path / "card.md")
    limits = section(text_of(tmp_path / "card.md"), "Limits")
    worse = re.findall(r"Worse than its input \(.*?\): (.*)\.$", limits, re.M)
    assert worse == ["LSD over all samples: 5.00 to 6.50", "OVRL in 'stage noise': 2.50 to 2.25"]
    assert "evaluated on samples that it was trained on" in limits
    assert "predicted by DNSMOS" in limits


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda result: result["models"][0].update(bundle_id="f" * 32), "holds scores of f{32}, and not of"),
        (lambda result: result.update(format=99), "is of format 99"),
        (lambda result: result.pop("summary"), "not the result of an evaluation"),
        (lambda result: result["summary"].pop("degraded"), "not the result of an evaluation"),
        (
            lambda result: result["summary"].update(joint={"dnsmos_ovrl": 3}),
            "not the result of an evaluation",
        ),
        (lambda result: result["summary"].pop("joint"), "not the result of an evaluation"),
        (lambda result: result.update(by_condition={"x": {}}), "not the result of an evaluation"),
        (lambda result: result["models"][0].pop("bundle_id"), "not the result of an evaluation"),
    ],
)
def test_an_evaluation_of_another_model_or_kind_is_refused(
    evaluated: tuple[Path, Path, dict[str, Any]],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    said: str,
) -> None:
    model, scores, _ = evaluated
    with pytest.raises(UserError, match=rf"evaluation\.json: {said}"):
        write_card(str(model), [altered(scores, tmp_path / "other", change)], None, tmp_path / "card.md")
    assert not (tmp_path / "card.md").exists()


def test_names_stay_names(evaluated: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    _, scores, _ = evaluated
    data = DATA.model_copy(update={"recipe": HOSTILE, "licences": {HOSTILE: 1}})
    info = joint(tmp_path / "model", data, selection=SelectionRecord(HOSTILE, "e" * 32, {"train": 1}))

    def change(result: dict[str, Any]) -> None:
        result["models"][0]["bundle_id"] = info.id
        result["notes"], result["split"] = [HOSTILE], HOSTILE
        result["columns"][0]["title"] = HOSTILE
        result["by_condition"] = {HOSTILE: result["summary"]}
        result["summary"]["joint"]["dnsmos_ovrl"]["mean"] = -1.0

    write_card(
        str(tmp_path / "model"), [altered(scores, tmp_path / "other", change)], None, tmp_path / "card.md"
    )
    card = text_of(tmp_path / "card.md")
    body = card.split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    inline = [token for block in tokens for token in block.children or []]
    code = {token.content for token in inline if token.type == "code_inline"}
    assert {token.type for token in inline} == {"text", "code_inline"}
    assert code == {"weights.safetensors", "model.json"}
    assert not [token for token in tokens if token.type in ("html_block", "hr")]
    titles = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert titles == ["ssiforge tiny joint", "Use", "Training data", "Evaluation", "Limits"]
    shown = " ".join(HOSTILE.replace("\u202e", " ").split())
    texts = [
        "".join(token.content for token in block.children or []) for block in tokens if block.type == "inline"
    ]
    assert sum(shown in text for text in texts) >= 6
    assert "http:" not in body and "www.i" not in body  # what some renderers make links of
    assert set(front_matter(card)) == {"library_name", "pipeline_tag", "tags", "model-index"}


def test_the_python_in_it_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_card(str(folder), [], None, folder / "MODEL_CARD.md")
    monkeypatch.chdir(folder)
    soundfile.write("in.wav", voice(1, 0.3), RATE_HZ)
    (code,) = re.findall(r"```python\n(.*?)```", text_of(folder / "MODEL_CARD.md"), re.S)
    exec(compile(code, "card", "exec"), {})
    assert soundfile.info("out.wav").frames == soundfile.info("in.wav").frames


def test_the_same_model_gives_the_same_card_and_mlflow_is_not_asked(
    folder: Path, ssiforge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it fails
    for name in ("a.md", "b.md"):
        code, out, err = ssiforge("card", "--model", folder, "--out", name, "--licence", "CC-BY-4.0")
        assert code == 0, err
        assert f"{name}: card of joint model" in out
    assert Path("a.md").read_bytes() == Path("b.md").read_bytes()


def test_mistakes_are_named(folder: Path, ssiforge: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    mistakes = {
        "--licence Apache 2: must be an SPDX identifier": ("--licence", "Apache 2"),
        "evaluation.json: cannot be read": ("--evaluation", tmp_path),
        "cannot be written": ("--out", tmp_path / "file" / "card.md"),
        "neither a model nor a run folder": ("--model", tmp_path / "empty"),
    }
    for said, arguments in mistakes.items():
        code, _, err = ssiforge("card", "--model", folder, "--out", tmp_path / "card.md", *arguments)
        assert code == 2 and said in err, err
    assert not (tmp_path / "card.md").exists()
