"""`ssiforge score`: a corpus's samples get scores in `scores.parquet`, to filter by without rewriting a shard.

The driver decides what is missing before any worker starts: what neither the table nor a part file of an interrupted
job holds, for this content of the shard and by these versions of the metric. Each shard that is scored becomes a part
file at once, and at the end all parts become the table.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from manifests.corpus import Corpus, ShardRecord, open_corpus
from manifests.errors import JobError, JobInterrupted, UserError
from manifests.interrupts import interruptible
from manifests.recipe import SPLITS
from manifests.store import Place, Store, absolute
from pipelines.corpus.companion_seals import broken, is_sealed, read_seals, seal, unseal
from pipelines.corpus.folder import corpus_folder
from pipelines.corpus.openlineage_jobs import SCORE_JOB, SHOWN_DIGITS, Telling, made_dataset, telling
from pipelines.corpus.shard_result import Lost
from pipelines.openlineage.events import Json, corpus_dataset
from pipelines.progress import JobProgress
from pipelines.scoring.columns import DEFAULT, Identity, ScoreMetric, available, chosen
from pipelines.scoring.runners import Runner
from pipelines.scoring.shard_scores import PARTS_FOLDER, ShardScores, part_name, read_part, write_part
from pipelines.scoring.table import (
    SCORES_FILE,
    HeldScores,
    MetricInfo,
    ScoresInfo,
    read_scores,
    write_scores,
)
from pipelines.scoring.worker import ScoreJob, ScoreTask


@dataclass(frozen=True)
class Scores:
    """What a run of `score` did."""

    corpus_id: str
    samples: int
    """In the table."""
    scored_shards: int
    """In this run."""
    kept_shards: int
    """Of which everything that was asked for was there."""
    failures: dict[str, int]
    """Scores that are null, by metric and reason."""
    columns: dict[str, tuple[float, float, float]]
    """By column: 5 %, 50 % and 95 % of the samples that have it lie below."""


def score(
    place: Place,
    run: Runner,
    metrics: Sequence[str] = DEFAULT,
    split: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Score what is not scored yet.

    Args:
        place: folder or URI of a finished corpus.
        run: where shards are scored.
        metrics: names of `pipelines.scoring.columns`; columns of others that the table has stay in it.
        split: only this one; all by default.
        say: receives lines for people.

    Raises:
        UserError: for a mistake in the arguments, or when the corpus is being written by another job.
        JobError: when shards could not be scored; the others are in the table.
        JobInterrupted: when it was asked to stop; what was scored is kept.
    """
    wanted = chosen(metrics)
    corpus = open_corpus(place)
    if corpus.merged:
        parts = ", ".join(part.corpus.url for part in corpus.parts)
        raise UserError(f"{place}: is a merged corpus; score its parts: {parts}")
    shards = corpus.shards if split is None else _shards_of(corpus, split)
    with corpus_folder(place) as store:
        held = _held_scores(store)
        board = _Board(store, held, _identities(held, wanted))
        for line in _differences(corpus, held, board.identities):
            say(line)
        tasks = list(board.missing(shards, wanted))
        if len(tasks) < len(shards):
            say(f"{len(shards) - len(tasks)} of {len(shards)} shards are scored already")
        by_name = {record.tar_name: record for record in shards}
        job = ScoreJob(absolute(place), {metric.name: metric.identity for metric in wanted})
        asked = [corpus.manifest.id, [metric.name for metric in wanted], split]
        is_work = bool(tasks) or board.has_parts
        told_of = telling(store, SCORE_JOB, asked, [corpus_dataset(corpus.manifest)])
        with told_of if is_work else nullcontext(Telling()) as told:
            lost = _run(run, job, tasks, by_name, board, say)
            found = _finish(corpus, board, held, len(tasks) - len(lost), len(shards) - len(tasks))
            if lost:
                raise JobError(
                    f"{len(lost)} of {len(shards)} shards could not be scored; "
                    f"{lost[-1].task.tar_name}: {lost[-1].reason}; all others are in {SCORES_FILE}"
                )
            told.outputs = [_scores_dataset(store, corpus, found)]
    return found


def _held_scores(store: Store) -> HeldScores | None:
    """Read the table that is there; one that was changed is not gone on with."""
    if store.size(SCORES_FILE) is not None and (problem := broken(store, SCORES_FILE)):
        raise UserError(f"{store.url}: {problem}; remove it and run 'ssiforge score' again")
    return read_scores(store)


def _shards_of(corpus: Corpus, split: str) -> tuple[ShardRecord, ...]:
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split; there are {', '.join(SPLITS)}")
    if not (shards := corpus.of(split)):
        raise UserError(f"{corpus.url}: has no samples in its {split} split")
    return shards


def _identities(held: HeldScores | None, wanted: Sequence[ScoreMetric]) -> dict[str, Identity]:
    """What each metric must have been measured by: today's packages, or the table's for one that is not asked for."""
    current = {name: metric.identity for name, metric in available().items()}
    in_table = {name: info.identity for name, info in held.info.metrics.items()} if held else {}
    return current | in_table | {metric.name: metric.identity for metric in wanted}


def _differences(corpus: Corpus, held: HeldScores | None, identities: dict[str, Identity]) -> Iterator[str]:
    """Say which scores of the table are not taken over, and why."""
    if held is None:
        return
    if held.info.corpus_id != corpus.manifest.id:
        same = sum(held.of(record) is not None for record in corpus.shards)
        yield (
            f"{SCORES_FILE} holds scores of corpus {held.info.corpus_id}, and this is {corpus.manifest.id}: "
            f"those of the {same} shards that are the same are kept"
        )
    for name, info in held.info.metrics.items():
        if info.identity != identities[name]:
            yield f"{name} was measured with {_changed(info.identity, identities[name])}: it is measured again"


def _changed(before: Identity, now: Identity) -> str:
    """Name the packages that differ, or say that networks do."""
    packages, todays = before.get("packages", {}), now["packages"]
    changed = [
        f"{name} {packages.get(name, 'absent')} (now {todays.get(name, 'absent')})"
        for name in sorted(packages.keys() | todays.keys())
        if packages.get(name) != todays.get(name)
    ]
    return ", ".join(changed) or "other networks"


@dataclass
class _Board:
    """What is known of each shard: the table's scores and those of part files, if measured by what is asked for."""

    store: Store
    held: HeldScores | None
    identities: dict[str, Identity]
    _parts: set[str] = field(init=False)
    """Names of the part files that exist."""

    def __post_init__(self) -> None:
        self._parts = set(self.store.names(PARTS_FOLDER))

    def of(self, record: ShardRecord) -> ShardScores:
        """Return all that is known of a shard."""
        known = ShardScores(shard=record.tar_name, sha256=record.sha256)
        if self.held is not None:
            known = known.merged(self.held.of(record) or known)
        return known.merged(self._part(record) or known).only(self.identities)

    def _part(self, record: ShardRecord) -> ShardScores | None:
        part = read_part(self.store, record) if part_name(record) in self._parts else None
        return part and part.only(self.identities)

    def missing(self, shards: Sequence[ShardRecord], wanted: Sequence[ScoreMetric]) -> Iterator[ScoreTask]:
        """Return what is to be measured, the largest shards first, so that no long one is begun last."""
        for record in sorted(shards, key=lambda record: -len(record.samples)):
            known = self.of(record).metrics
            names = tuple(metric.name for metric in wanted if metric.name not in known)
            if names:
                yield ScoreTask(record.tar_name, record.sha256, names)

    def add(self, record: ShardRecord, scores: ShardScores) -> None:
        """Keep what a worker measured."""
        known = self._part(record)
        write_part(self.store, record, known.merged(scores) if known else scores)
        self._parts.add(part_name(record))

    def sweep(self) -> None:
        """Remove all part files: the table holds what they held."""
        for name in sorted(self.store.names(PARTS_FOLDER)):
            self.store.remove(name)
        if self.store.folder is not None:
            for folder in (*(f"{PARTS_FOLDER}/{split}" for split in SPLITS), PARTS_FOLDER):
                path = self.store.folder / folder
                if path.is_dir():
                    path.rmdir()

    @property
    def has_parts(self) -> bool:
        """Whether there is something that the table lacks."""
        return bool(self._parts)


def _run(
    run: Runner,
    job: ScoreJob,
    tasks: Sequence[ScoreTask],
    records: dict[str, ShardRecord],
    board: _Board,
    say: Callable[[str], None],
) -> list[Lost]:
    lost: list[Lost] = []
    done = 0
    samples = sum(len(records[task.tar_name].samples) for task in tasks)
    with interruptible(say) as interrupts, JobProgress("score", samples, "samples") as progress:
        for outcome in run(job, tasks, lambda: interrupts.stopping):
            if isinstance(outcome, Lost):
                lost.append(outcome)
                say(f"{outcome.task.tar_name}: given up after {outcome.tries} tries: {outcome.reason}")
                continue
            board.add(records[outcome.shard], outcome)
            done += 1
            progress.advance(len(records[outcome.shard].samples))
    if done + len(lost) < len(tasks):
        raise JobInterrupted(
            f"interrupted; {done} of {len(tasks)} shards are scored, run the same command again to go on"
        )
    return lost


def _finish(corpus: Corpus, board: _Board, held: HeldScores | None, scored: int, kept: int) -> Scores:
    """Write the table unless it is what it should be already, and sweep the parts."""
    known = ((record, board.of(record)) for record in corpus.shards)
    shards = [(record, scores) for record, scores in known if scores.metrics]
    info = _info(corpus, board, [scores for _, scores in shards])
    if board.has_parts or held is None or held.info != info:
        if is_sealed(board.store):
            unseal(board.store, [SCORES_FILE])
        write_scores(board.store, info, shards)
        board.sweep()
    if is_sealed(board.store) and SCORES_FILE not in read_seals(board.store).files:
        seal(board.store, [SCORES_FILE])
    failures: Counter[str] = Counter(
        f"{name}: {reason}"
        for _, scores in shards
        for name, metric in scores.metrics.items()
        for reason in metric.failures.values()
    )
    samples = sum(len(record.samples) for record, _ in shards)
    shown = _spread_of([scores for _, scores in shards])
    return Scores(corpus.manifest.id, samples, scored, kept, dict(sorted(failures.items())), shown)


def _scores_dataset(store: Store, corpus: Corpus, found: Scores) -> Json:
    name = f"scores/{corpus.manifest.id[:SHOWN_DIGITS]}"
    return made_dataset(name, store.sha256(SCORES_FILE), {"corpus": corpus.manifest.id}, found.samples)


def _info(corpus: Corpus, board: _Board, shards: Sequence[ShardScores]) -> ScoresInfo:
    columns: dict[str, tuple[str, ...]] = {}
    for scores in shards:
        for name, metric in scores.metrics.items():
            columns.setdefault(name, tuple(metric.columns))
    order = [*(name for name in available() if name in columns), *sorted(columns.keys() - available().keys())]
    return ScoresInfo(
        corpus_id=corpus.manifest.id,
        metrics={name: MetricInfo(columns=columns[name], identity=board.identities[name]) for name in order},
    )


def _spread_of(shards: Sequence[ShardScores]) -> dict[str, tuple[float, float, float]]:
    import numpy as np

    values: dict[str, list[float]] = {}
    for scores in shards:
        for metric in scores.metrics.values():
            for column, held in metric.columns.items():
                values.setdefault(column, []).extend(value for value in held if value is not None)
    spread = {name: np.percentile(found, (5, 50, 95)) for name, found in values.items() if found}
    return {name: (float(low), float(middle), float(high)) for name, (low, middle, high) in spread.items()}
