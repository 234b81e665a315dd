"""`ssiforge evaluate`: what models do to held-out samples, or to a folder of recordings without references."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests.canonical import digest
from manifests.corpus import Corpus, open_corpus
from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from manifests.folder import Folder
from manifests.packages import code_version, locked_packages
from manifests.recipe import SPLITS
from manifests.selection import Selection
from manifests.store import Place
from pipelines.corpus.openlineage_jobs import EVALUATE_JOB, SHOWN_DIGITS, made_dataset, telling
from pipelines.enhancement.enhance import files_below
from pipelines.evaluation.audio import KEPT, keeping
from pipelines.evaluation.files import check_writable, write_rows, write_tables
from pipelines.evaluation.samples import Heard, HeldOut, Recordings
from pipelines.models.reference import ModelRef, resolve_model
from pipelines.models.size import size_of
from pipelines.models.stale_mark import stale_warning, warn_if_stale
from pipelines.openlineage.events import corpus_dataset
from pipelines.openlineage.models import finished_model
from pipelines.progress import JobProgress
from pipelines.quality.bootstrap import LEAST_SPEAKERS
from pipelines.quality.comparison import compared
from pipelines.quality.dnsmos import model_hashes
from pipelines.quality.metrics import pesq_is_installed
from pipelines.quality.scores import Column, Row, columns
from pipelines.quality.scoring import Enhanced, scored
from pipelines.quality.sigmos import open_sigmos
from pipelines.quality.summary import by_condition, reasons, summarised
from pipelines.selection.selecting import how_many, select
from training.bundle import Bundle
from training.enhance import enhance_array

RESULT_FILE = "evaluation.json"
FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; `result` is the content of `evaluation.json`."""

    result: dict[str, Any]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    out: Path


def evaluate(
    model_references: Sequence[str],
    out: Path,
    corpus: Place | None = None,
    input_dir: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    keep: str | None = None,
    workers: int = 0,
    sigmos: Path | None = None,
    listen: int = KEPT,
) -> Evaluation:
    """Score the input and each model's output on every sample; write the results and log them to MLflow.

    Args:
        model_references: any forms of `pipelines.models.reference`.
        out: folder for `evaluation.json` and the tables of `pipelines.evaluation.files`.
        corpus: folder or URI of a corpus, whose samples have targets; or
        input_dir: folder of recordings without, which are described: DNSMOS, level, bandwidth, noise floor.
        split: of the corpus.
        limit: only the first so many samples.
        device: where the models run.
        say: told of samples that cannot be read.
        keep: an expression of `pipelines.selection.grammar`; samples for which it does not hold are left out.
        workers: processes that score, while this one enhances; with 0 it does both. The result is the same.
        sigmos: network of `pipelines.quality.sigmos`, for its scores too.
        listen: of so many samples the audio is kept (`pipelines.evaluation.audio`).

    Raises:
        UserError: when a model, the corpus, the split or the folder does not exist or is empty, or `sigmos` is
        not the network it should be.
        JobError: when not a single sample can be read.
    """
    if (corpus is None) == (input_dir is None):
        raise UserError("evaluate needs either --corpus or --input, and not both")
    if not model_references:
        raise UserError("evaluate needs at least one --model")
    if keep is not None and corpus is None:
        raise UserError("--keep selects samples of a corpus: it needs --corpus")
    networks = model_hashes() | ({"sigmos": open_sigmos(sigmos).sha256} if sigmos is not None else {})
    models = [resolve_model(reference) for reference in model_references]
    for model in models:
        warn_if_stale(model.stale, model.reference, say)
    opened = open_corpus(corpus) if corpus is not None else None
    selection: Selection | None = None
    heard: Heard
    if opened is not None:
        _check_split(opened, split)
        if keep is not None:
            selection = select(opened, keep, (split,))
            selection.check(opened, (split,))
            say(how_many(opened, selection, (split,)))
        heard = HeldOut(opened, split, selection, limit, say)
    else:
        assert input_dir is not None
        heard = Recordings(input_dir, files_below(input_dir)[:limit], say)
    bundles = {name: model.load(device) for name, model in zip(titles(models), models, strict=True)}
    check_writable(out)

    asked = [[model.info.id for model in models], opened.manifest.id if opened else None, split, limit, keep]
    inputs = [finished_model(model.info) for model in models]
    inputs += [corpus_dataset(opened.manifest)] if opened else []
    with telling(Folder(out), EVALUATE_JOB, asked, inputs) as told:
        rows: list[Row] = []
        with JobProgress("evaluate", heard.total, "samples") as progress:
            enhanced = keeping(_enhanced(heard, bundles), heard.total, listen, out)
            for of_sample in scored(enhanced, sigmos, workers):
                rows += of_sample
                progress.advance(1)
        if not rows:
            raise JobError(f"{corpus or input_dir}: none of the {heard.total} samples can be read")
        shown = columns(with_reference=opened is not None, with_sigmos=sigmos is not None)
        result = _result(rows, shown, models, bundles, opened, split, heard) | {"networks": networks}
        if selection is not None:
            result["selection"] = asdict(selection.record)
        write_rows(rows, shown, out)
        write_tables(result, shown, out)
        content = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        write_atomically(out / RESULT_FILE, content.encode())
        evaluation = Evaluation(result, shown, tuple(rows), out)

        from pipelines.evaluation.log import log_evaluation

        log_evaluation(evaluation, models, opened)
        name = f"evaluation/{result['scores_digest'][:SHOWN_DIGITS]}"
        told.outputs = [made_dataset(name, result["scores_digest"], rows=result["samples"])]
    return evaluation


def titles(models: Sequence[ModelRef]) -> list[str]:
    """Return a name for each model: its stage, with the bundle's id where a stage comes twice."""
    stages = [model.info.stage for model in models]
    names = [model.info.stage if stages.count(model.info.stage) == 1 else model.title for model in models]
    if len(set(names)) < len(names):
        raise UserError("the same model is given twice")
    return names


def _check_split(corpus: Corpus, split: str) -> None:
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split; there are {', '.join(SPLITS)}")
    if not any(shard.samples for part in corpus.parts for shard in part.corpus.of(split)):
        raise UserError(f"{corpus.url}: has no samples in its {split} split")


def _enhanced(heard: Heard, bundles: Mapping[str, Bundle]) -> Iterator[Enhanced]:
    for sample in heard:
        yield sample, {name: enhance_array(bundle, sample.degraded) for name, bundle in bundles.items()}


def _result(
    rows: Sequence[Row],
    shown: Sequence[Column],
    models: Sequence[ModelRef],
    bundles: Mapping[str, Bundle],
    corpus: Corpus | None,
    split: str,
    heard: Heard,
) -> dict[str, Any]:
    keys = list(dict.fromkeys(row.key for row in rows))
    unreadable = heard.total - len(keys)
    notes = [
        stale_warning(name, one.stale) for name, one in zip(titles(models), models, strict=True) if one.stale
    ]
    notes += heard.notes()
    if corpus is not None and not pesq_is_installed():
        notes.append(
            "PESQ was left out: the optional package is not installed (pip install 'ssiforge[pesq]')"
        )
    speakers = {row.speaker for row in rows}
    if None not in speakers and len(speakers) < LEAST_SPEAKERS:
        notes.append(
            f"intervals are over samples: with fewer than {LEAST_SPEAKERS} speakers ({len(speakers)}), they do not say "
            "what others would give"
        )
    if unreadable:
        notes.append(f"{unreadable} of {heard.total} samples could not be read and are in no mean")
    return {
        "format": FORMAT,
        "corpus_id": corpus.manifest.id if corpus else None,
        "split": split if corpus else None,
        "samples": len(keys),
        "samples_digest": digest(keys),
        "unreadable": unreadable,
        "models": [
            {
                "system": name,
                "stage": model.info.stage,
                "bundle_id": model.info.id,
                "trained_on": model.info.corpus_id,
                "parents": dict(model.info.parents),
                "size": size_of(bundles[name]).model_dump(),
                **({"stale": model.stale} if model.stale else {}),
            }
            for name, model in zip(titles(models), models, strict=True)
        ],
        "columns": [asdict(column) for column in shown],
        "summary": summarised(rows, shown),
        "by_condition": by_condition(rows, shown),
        "comparisons": compared(rows, shown),
        "failures": reasons(rows),
        "notes": notes,
        "code_version": code_version(),
        "packages": locked_packages(),
        "scores_digest": digest([[row.key, row.system, dict(row.scores)] for row in rows]),
    }
