"""What went into a model, as far as that must be known before it is promoted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests.store import Place
from pipelines.lineage.known_corpora import KnownCorpus, known_corpora
from pipelines.lineage.known_online import KnownOnline, known_online
from pipelines.lineage.records import ModelRecord, Records, collect
from pipelines.lineage.selections import Selections
from pipelines.models.folders import found_below
from pipelines.models.stale_mark import stale_sentence
from pipelines.tracking.records import stored_records

HEARD_SPLITS = ("train", "val")
"""What a model's weights depend on: samples of the test split only score it."""
FINISHED = "FINISHED"
"""How MLflow says that a run came to its end; an evaluation in a folder is written at its end alone."""


@dataclass(frozen=True)
class Ancestry:
    """A model's data and parents."""

    missing: tuple[str, ...]
    """What of the lineage is not known: a sentence each."""
    stale: tuple[str, ...]
    """Data that was withdrawn since, and marks of any of them: a sentence each."""
    licences: tuple[str, ...]
    """Of all material that it and the models before it heard: with `--keep`, of the samples that were kept."""
    evaluations: tuple[str, ...]
    """Ids of the finished runs that scored it."""


def ancestry(bundle_id: str, corpora: Sequence[Place]) -> Ancestry:
    """Look a model's data and parents up, from MLflow, bundles in folders, and corpora where they lie.

    Args:
        bundle_id: of the model.
        corpora: further places to look into.
    """
    found = found_below([Path().resolve()])
    stored = stored_records()
    records = collect(stored, found)
    known = {corpus.manifest.id: corpus for corpus in known_corpora(corpora, stored, found)}
    online = known_online(stored, found)
    selections = Selections(found, known)
    licences: set[str] = set()
    missing: dict[str, None] = {}
    marked: dict[str, None] = {}
    data: dict[str, None] = {}
    for model_id, model in _family(records, bundle_id):
        if model is None:
            missing[f"the model {model_id[:8]} that it was made from is not found"] = None
            continue
        marked |= dict.fromkeys(model.stale)
        if not any(run_id in records.runs for run_id in model.run_ids):
            missing[f"no MLflow run is recorded that made the {model.stage} {model_id[:8]}"] = None
        if not model.corpus_id:
            missing[f"the corpus of the {model.stage} {model_id[:8]} is not recorded"] = None
        else:
            data[model.corpus_id] = None
            licences |= _heard_licences(model, known, online, selections)
    every = list(_with_parts(data, known, online))
    missing |= {
        f"the corpus {data_id} is not found (give --corpus if it was moved)": None
        for data_id in every
        if data_id not in known and data_id not in online
    }
    missing |= {
        f"the catalogue of fresh samples {data_id} is not found": None
        for data_id in every
        if data_id in online and not online[data_id].sources
    }
    scored = tuple(
        run.run_id
        for run in records.runs.values()
        if run.job == "evaluate"
        and run.bundle_id == bundle_id
        and run.facts.get("status", FINISHED) == FINISHED
    )
    stale = dict.fromkeys((*marked, *_replaced(every, known)))
    return Ancestry(tuple(missing), tuple(stale), tuple(sorted(licences)), scored)


def _family(records: Records, bundle_id: str) -> Iterator[tuple[str, ModelRecord | None]]:
    """Yield a model and all that it was made from, with what is known of each."""
    waiting, seen = [bundle_id], set()
    while waiting:
        model_id = waiting.pop(0)
        if model_id in seen:
            continue
        seen.add(model_id)
        model = records.models.get(model_id)
        yield model_id, model
        waiting += model.parents.values() if model else ()


def _with_parts(
    data: Mapping[str, None], known: Mapping[str, KnownCorpus], online: Mapping[str, KnownOnline]
) -> Iterator[str]:
    for data_id in data:
        yield data_id
        if data_id in known:
            yield from (part.corpus for part in known[data_id].manifest.parts)
        elif data_id in online and (mixed := online[data_id].record.corpus_id):
            yield from _with_parts({mixed: None}, known, online)


def _heard_licences(
    model: ModelRecord,
    known: Mapping[str, KnownCorpus],
    online: Mapping[str, KnownOnline],
    selections: Selections,
) -> set[str]:
    """Return the licences of what a model heard itself; where nobody can tell what was kept, those of all."""
    found: set[str] = set()
    fresh = online.get(model.corpus_id)
    if fresh is not None:
        found |= {source.licence for source in fresh.sources.values()}
    corpus_id = fresh.record.corpus_id if fresh is not None else model.corpus_id
    _, kept = selections.kept(model.facts, corpus_id)
    for place, hashes in kept.items():
        found |= known[place].catalogue.summed(hashes).licences.keys()
    if not kept and corpus_id in known:
        found |= known[corpus_id].manifest.licences.keys()
    return found


def _replaced(data: Sequence[str], known: Mapping[str, KnownCorpus]) -> Iterator[str]:
    """Say which corpora have versions now from which something was withdrawn that a model may have heard."""
    seen: dict[str, None] = {}
    for newer in known.values():
        for place, line in enumerate(newer.withdrawals):
            heard = any(shard.partition("/")[0] in HEARD_SPLITS for shard in line["samples"])
            if heard and not {line["replaces"], *newer.earlier_than(place)}.isdisjoint(data):
                seen[stale_sentence(line["replaces"], line["reason"])] = None
    yield from seen
