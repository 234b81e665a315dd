"""`ssiforge merge`: several corpora become one, with weights.

Nothing inside a shard is touched: a merged corpus names its parts, which stay where they are or are copied whole, and
holds tables of all of them. So hashes, keys and specs keep their identity, and whoever reads it reads the parts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.canonical import canonical_json
from manifests.catalogue import write_catalogue
from manifests.corpus import (
    CORPUS_FILE,
    PLAN_FILE,
    SAMPLES_FILE,
    SOURCES_FILE,
    Corpus,
    CorpusManifest,
    changed_files,
    open_corpus,
)
from manifests.errors import UserError
from manifests.parts import LEAST_WEIGHT, MOST_WEIGHT, Part, merged_id, part_names, product
from manifests.store import Place, Store, absolute
from pipelines.corpus.companions import remove_companions, write_companions
from pipelines.corpus.copying import copy_corpus
from pipelines.corpus.folder import MERGED, corpus_folder, plan_content
from pipelines.corpus.manifest import held_manifest
from pipelines.corpus.openlineage import MERGE_JOB, told
from pipelines.merging.manifest import merged_manifest
from pipelines.merging.tables import (
    Material,
    check_leaks,
    check_withdrawn,
    joined_catalogue,
    read_material,
    write_samples,
)
from pipelines.openlineage.events import corpus_dataset, merged_name


@dataclass(frozen=True)
class Merged:
    """What a run of `merge` did."""

    manifest: CorpusManifest
    changed: bool
    """False when all of it lay there already."""
    copied_files: int


@dataclass(frozen=True)
class _Chosen:
    """A corpus that becomes a part."""

    corpus: Corpus
    weight: float

    @property
    def id(self) -> str:
        return self.corpus.manifest.id


def merge(
    corpora: Sequence[Place],
    out: Place,
    weights: Sequence[str] = (),
    copy: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Merged:
    """Make a corpus of others, or finish one that was begun with the same arguments.

    Args:
        corpora: folders or URIs; of a merged one, its parts are taken.
        out: folder or URI of the merged corpus; made when missing.
        weights: `CORPUS=WEIGHT`, for some of `corpora` as they are written there; 1 for the others.
        copy: copy the parts into `out`, instead of referring to where they lie.
        say: receives lines for people.

    Raises:
        UserError: when corpora cannot be merged, or `out` holds something else.
        JobError: when writing fails.
    """
    chosen = _chosen(corpora, _weights(corpora, weights))
    _check_distinct(chosen)
    _check_apart(chosen, out)
    materials = [read_material(one.corpus) for one in chosen]
    check_leaks(materials)
    check_withdrawn(materials)
    _mention_lengths(chosen, say)
    parts = _parts(chosen, copy)
    with corpus_folder(out) as store:
        _begin(store, parts)
        copied = sum(_copied(chosen, parts, store)) if copy else 0
        held = held_manifest(store)
        if held is not None and held.parts == parts and not any(changed_files(store, held)):
            write_companions(store, held)
            return Merged(held, copied > 0, copied)
        inputs = [corpus_dataset(one.corpus.manifest) for one in chosen]
        with told(store, MERGE_JOB, inputs, merged_name(merged_id(parts))):
            return Merged(_finish(store, parts, chosen, materials), True, copied)


# --- what is merged -------------------------------------------------------------------------------


def _weights(corpora: Sequence[Place], given: Sequence[str]) -> dict[str, float]:
    """Return the weight of each corpus, by its place as the user wrote it."""
    weights = {str(place): 1.0 for place in corpora}
    if len(weights) < len(corpora):
        twice = next(place for place in weights if [str(c) for c in corpora].count(place) > 1)
        raise UserError(f"{twice}: is given twice; to see its samples more often, give it a weight")
    if len(corpora) < 2:
        raise UserError("merge needs two corpora or more")
    for setting in given:
        place, _, number = setting.rpartition("=")
        if place not in weights:
            raise UserError(
                f"--weight {setting}: must be CORPUS=WEIGHT, with one of the corpora as it is written there"
            )
        weights[place] = _weight(setting, number)
    return weights


def _weight(setting: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = float("nan")
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise UserError(f"--weight {setting}: a weight is a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}")
    return weight


def _chosen(corpora: Sequence[Place], weights: Mapping[str, float]) -> list[_Chosen]:
    """Open the corpora, and take merged ones apart; sorted by id, so that the order of arguments changes nothing."""
    chosen = []
    for place in corpora:
        for part in open_corpus(place).parts:
            weight = product(weights[str(place)], part.weight)
            if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
                raise UserError(
                    f"{part.corpus.url}: its weight would be {weight:g}; a weight is from {LEAST_WEIGHT:g} to "
                    f"{MOST_WEIGHT:g}"
                )
            chosen.append(_Chosen(part.corpus, weight))
    return sorted(chosen, key=lambda one: one.id)


def _check_distinct(chosen: Sequence[_Chosen]) -> None:
    """Refuse the same samples twice: a corpus and its copy, or a corpus and what it was made larger to."""
    seen: dict[str, Corpus] = {}
    for one in chosen:
        for name, sha256 in one.corpus.manifest.shards.items():
            other = seen.setdefault(sha256, one.corpus)
            if other is one.corpus:
                continue
            if other.manifest.id == one.id:
                raise UserError(f"{one.corpus.url}: is the same corpus as {other.url} ({one.id})")
            raise UserError(
                f"{one.corpus.url}: holds samples that {other.url} holds too ({name}); was one of them made out of "
                "the other by making it larger?"
            )


def _check_apart(chosen: Sequence[_Chosen], out: Place) -> None:
    for one in chosen:
        place, within = absolute(one.corpus.url), f"{absolute(out)}/"
        if within.startswith(f"{place}/"):
            raise UserError(
                f"{out}: is {one.corpus.url}, which is to be merged, or lies in it; choose another --out"
            )


def _mention_lengths(chosen: Sequence[_Chosen], say: Callable[[str], None]) -> None:
    lengths = {_seconds(one.corpus.manifest) for one in chosen}
    if len(lengths) > 1:
        each = ", ".join(f"{one.corpus.url} {_seconds(one.corpus.manifest):g} s" for one in chosen)
        say(
            f"samples differ in length ({each}): training cuts all of them to at most {min(lengths):g} s, "
            "evaluation takes them whole"
        )


def _seconds(manifest: CorpusManifest) -> float:
    return manifest.frames_per_sample / manifest.sample_rate_hz


def _parts(chosen: Sequence[_Chosen], copy: bool) -> tuple[Part, ...]:
    names = part_names([one.id for one in chosen])
    return tuple(
        Part(
            corpus=one.id,
            name=name,
            weight=one.weight,
            place="" if copy else absolute(one.corpus.url),
            recipe=one.corpus.manifest.recipe,
            samples=one.corpus.manifest.samples,
            hours=one.corpus.manifest.hours,
        )
        for one, name in zip(chosen, names, strict=True)
    )


# --- writing --------------------------------------------------------------------------------------


def _begin(store: Store, parts: Sequence[Part]) -> None:
    """Write down what is merged here, or check that it is the same as before.

    Raises:
        UserError: when the place holds something else.
    """
    copied = not parts[0].place
    content = {MERGED: {"parts": {part.corpus: part.weight for part in parts}, "copied": copied}}
    held = plan_content(store)
    if held is None:
        store.write(PLAN_FILE, canonical_json(content) + b"\n")
    elif MERGED not in held:
        raise UserError(f"{store.url}: holds a corpus made by 'ssiforge generate'; choose another --out")
    elif held != content:
        raise UserError(
            f"{store.url}: holds another merged corpus; {_difference(held[MERGED], content[MERGED])}"
        )


def _difference(held: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    there, here = held["parts"], now["parts"]
    for corpus in sorted({*there, *here}):
        if corpus not in here:
            return f"corpus {corpus} is a part of it, and is not given now"
        if corpus not in there:
            return f"corpus {corpus} is not a part of it"
        if there[corpus] != here[corpus]:
            return f"corpus {corpus} has the weight {there[corpus]:g} there, now {here[corpus]:g}"
    return "its parts are copied" if held["copied"] else "its parts are referred to, not copied"


def _copied(chosen: Sequence[_Chosen], parts: Sequence[Part], store: Store) -> Iterator[int]:
    for one, part in zip(chosen, parts, strict=True):
        yield copy_corpus(one.corpus, part.place_in(store))


def _finish(
    store: Store, parts: tuple[Part, ...], chosen: Sequence[_Chosen], materials: Sequence[Material]
) -> CorpusManifest:
    """Write the tables and, last, `corpus.json`."""
    catalogue = joined_catalogue(materials)
    with store.new_file(SOURCES_FILE) as path:
        write_catalogue(catalogue, path)
    with store.new_file(SAMPLES_FILE) as path:
        write_samples(path, [(part, one.corpus.store) for part, one in zip(parts, chosen, strict=True)])
    files = {name: store.sha256(name) for name in (PLAN_FILE, SOURCES_FILE, SAMPLES_FILE)}
    manifests = [one.corpus.manifest for one in chosen]
    manifest = merged_manifest(parts, manifests, materials, catalogue.digest, files)
    remove_companions(store)
    store.write(CORPUS_FILE, manifest.model_dump_json(indent=2).encode() + b"\n")
    write_companions(store, manifest)
    return manifest
