"""`ssiforge evaluate`: what models do to held-out samples, or to a folder of recordings without references."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen.audio import AudioError, mixed_down, read_all, resampled
from manifests.canonical import digest
from manifests.corpus import Corpus, open_corpus
from manifests.errors import JobError, UserError
from manifests.recipe import SAMPLE_RATE_HZ, SPLITS, Split
from manifests.selection import Selection
from manifests.store import Place
from pipelines.conditions import conditions_of
from pipelines.enhance import files_below
from pipelines.metrics import Audio, pesq_is_installed
from pipelines.models import ModelRef, resolve_model
from pipelines.progress import JobProgress
from pipelines.scores import DEGRADED, Column, Row, by_condition, columns, reasons, score, summarised
from pipelines.selecting import how_many, select
from training.enhance import enhance_array
from training.order import Pick
from training.source import DamagedError
from training.stream import Reader

RESULT_FILE = "evaluation.json"
ROWS_FILE = "samples.parquet"
ROWS_CSV_FILE = "samples.csv"
FORMAT = 1


@dataclass(frozen=True)
class Sample:
    """Something to enhance."""

    key: str
    degraded: Audio
    target: Audio | None
    conditions: tuple[str, ...] = ()


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
) -> Evaluation:
    """Score the input and each model's output on every sample; write the results and log them to MLflow.

    Args:
        model_references: any forms of `pipelines.models`.
        out: folder for `evaluation.json`, `samples.parquet` and `samples.csv`.
        corpus: folder or URI of a corpus, whose samples have targets; or
        input_dir: folder of recordings without, for which DNSMOS alone is measured.
        split: of the corpus.
        limit: only the first so many samples.
        device: where the models run.
        say: told of samples that cannot be read.
        keep: an expression of `pipelines.keep_grammar`; samples of the corpus for which it does not hold are left out.

    Raises:
        UserError: when a model, the corpus, the split or the folder does not exist or is empty.
        JobError: when not a single sample can be read.
    """
    if (corpus is None) == (input_dir is None):
        raise UserError("evaluate needs either --corpus or --input, and not both")
    if not model_references:
        raise UserError("evaluate needs at least one --model")
    models = [resolve_model(reference) for reference in model_references]
    if keep is not None and corpus is None:
        raise UserError("--keep selects samples of a corpus: it needs --corpus")
    opened = open_corpus(corpus) if corpus is not None else None
    selection: Selection | None = None
    if opened is not None:
        total = _check_split(opened, split)
        if keep is not None:
            selection = select(opened, keep, (split,))
            selection.check(opened, (split,))
            total = selection.record.samples[split]
            say(how_many(opened, selection, (split,)))
        samples = _corpus_samples(opened, split, selection, limit, say)
    else:
        assert input_dir is not None
        files = files_below(input_dir)
        total = len(files)
        samples = _file_samples(input_dir, files[:limit], say)
    total = min(total, limit) if limit is not None else total
    _writable(out)

    rows = tuple(_scored(samples, models, total, device))
    if not rows:
        raise JobError(f"{corpus or input_dir}: none of the {total} samples can be read")
    shown = columns(with_reference=opened is not None)
    result = _result(rows, shown, models, opened, split, total)
    if selection is not None:
        result["selection"] = asdict(selection.record)
    _write(out, result, rows, shown)
    evaluation = Evaluation(result, shown, rows, out)

    from pipelines.evaluation_log import log_evaluation

    log_evaluation(evaluation, models, opened)
    return evaluation


def titles(models: Sequence[ModelRef]) -> list[str]:
    """Return a name for each model: its stage, with the bundle's id where a stage comes twice."""
    stages = [model.info.stage for model in models]
    names = [model.info.stage if stages.count(model.info.stage) == 1 else model.title for model in models]
    if len(set(names)) < len(names):
        raise UserError("the same model is given twice")
    return names


def _check_split(corpus: Corpus, split: str) -> int:
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split; there are {', '.join(SPLITS)}")
    count = sum(len(shard.samples) for part in corpus.parts for shard in part.corpus.of(split))
    if not count:
        raise UserError(f"{corpus.url}: has no samples in its {split} split")
    return count


def _corpus_samples(
    corpus: Corpus,
    split: Split | str,
    selection: Selection | None,
    limit: int | None,
    say: Callable[[str], None],
) -> Iterator[Sample]:
    reader = Reader(corpus, split, selection)  # type: ignore[arg-type]  # checked against SPLITS
    picks = [Pick(number, place) for number, size in enumerate(reader.sizes) for place in range(size)]
    for pick in picks[:limit]:
        try:
            degraded, target = reader.read(pick, 0, reader.frames(pick))
            described = reader.sample_json(pick)
        except (DamagedError, OSError, ValueError) as error:
            say(f"{reader.where(pick)}: {error}")
            continue
        yield Sample(reader.key(pick), degraded, target, tuple(conditions_of(described)))


def _file_samples(root: Path, files: Sequence[Path], say: Callable[[str], None]) -> Iterator[Sample]:
    for path in files:
        try:
            audio, rate_hz = read_all(str(path))
        except AudioError as error:
            say(f"{path}: {error}")
            continue
        wave = resampled(mixed_down(audio), rate_hz, SAMPLE_RATE_HZ)
        if not len(wave) or not np.isfinite(wave).all():
            say(f"{path}: empty, or holds NaN or infinity")
            continue
        yield Sample(path.relative_to(root).as_posix(), wave, None)


def _scored(samples: Iterator[Sample], models: Sequence[ModelRef], total: int, device: str) -> Iterator[Row]:
    bundles = [(name, model.load(device)) for name, model in zip(titles(models), models, strict=True)]
    with JobProgress("evaluate", total, "samples") as progress:
        for sample in samples:
            yield score(sample.key, DEGRADED, sample.degraded, sample.target, sample.conditions)
            for name, bundle in bundles:
                estimate = enhance_array(bundle, sample.degraded)
                yield score(sample.key, name, estimate, sample.target, sample.conditions)
            progress.advance(1)


def _result(
    rows: Sequence[Row],
    shown: Sequence[Column],
    models: Sequence[ModelRef],
    corpus: Corpus | None,
    split: str,
    total: int,
) -> dict[str, Any]:
    measured = len({row.key for row in rows})
    notes = []
    if corpus is not None and not pesq_is_installed():
        notes.append(
            "PESQ was left out: the optional package is not installed (pip install 'ssiforge[pesq]')"
        )
    if measured < total:
        notes.append(f"{total - measured} of {total} samples could not be read and are in no mean")
    return {
        "format": FORMAT,
        "corpus_id": corpus.manifest.id if corpus else None,
        "split": split if corpus else None,
        "samples": measured,
        "unreadable": total - measured,
        "models": [
            {
                "system": name,
                "stage": model.info.stage,
                "bundle_id": model.info.id,
                "trained_on": model.info.corpus_id,
            }
            for name, model in zip(titles(models), models, strict=True)
        ],
        "columns": [asdict(column) for column in shown],
        "summary": summarised(rows, shown),
        "by_condition": by_condition(rows, shown),
        "failures": reasons(rows),
        "notes": notes,
        "scores_digest": digest([[row.key, row.system, dict(row.scores)] for row in rows]),
    }


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ROWS_CSV_FILE).open("a").close()
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error


def _write(out: Path, result: dict[str, Any], rows: Sequence[Row], shown: Sequence[Column]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: list[dict[str, Any]] = [
        {"key": row.key, "system": row.system, **{c.name: row.scores[c.name] for c in shown}}
        | {"conditions": list(row.conditions)}
        for row in rows
    ]
    schema = pa.schema(
        [("key", pa.string()), ("system", pa.string())]
        + [(column.name, pa.float64()) for column in shown]
        + [("conditions", pa.list_(pa.string()))]
    )
    pq.write_table(pa.Table.from_pylist(table, schema=schema), out / ROWS_FILE)
    with (out / ROWS_CSV_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=schema.names)
        writer.writeheader()
        writer.writerows(row | {"conditions": "; ".join(row["conditions"])} for row in table)
    content = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    (out / RESULT_FILE).write_text(content, encoding="utf-8")
