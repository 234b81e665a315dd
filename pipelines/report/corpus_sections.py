"""What a page says of a corpus as a whole."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from manifests.corpus import CorpusManifest
from manifests.licence_names import UNKNOWN
from pipelines.report.charts import FEW, bar, key
from pipelines.report.distributions import chart
from pipelines.report.markup import Html, join, tag
from pipelines.report.material import KindOfSource, Refusals
from pipelines.report.page import facts, table, tiles
from pipelines.report.scales import Values, count, figure, hours, percent
from pipelines.report.summary import MEASURES, SEVERITIES, Summary
from pipelines.report.words import NAMES, stage_title

MOST_SPEAKERS = 20
MOST_PARTS = 16
"""Of the cost; cheaper ones are folded up."""
NOT_USED = (0, np.zeros(0))
RATE_SPAN = (0.05, 0.95)
KIND_NAMES = {"speech": "speech", "noise": "noise", "rir": "room responses"}
PARTS_OF_WORK = {
    "measure": "measuring",
    "output": "levels and quantising",
    "plan": "drawing",
    "sources": "reading sources",
    "speech": "joining speech",
    "write": "FLAC and shards",
}
"""Names in `stage_seconds` that are no stages."""


def at_a_glance(
    manifest: CorpusManifest, summary: Summary, kinds: Sequence[KindOfSource], recipe: str
) -> Html:
    """Return what a corpus is: its size, what it is made of, and what identifies it."""
    speakers = len({talker.name for talker in summary.talkers})
    numbers = [
        ("hours", hours(manifest.hours)),
        ("samples", count(sum(manifest.samples.values()))),
        ("speakers", count(speakers)),
        ("source files used", count(summary.sources)),
        ("licences", count(len(manifest.licences))),
        ("stages", count(len(summary.labels))),
    ]
    identity: list[tuple[str, object]] = [
        ("Recipe", join(manifest.recipe, tag("code", f" {manifest.recipe_digest}"))),
        ("Seed", manifest.seed),
        ("Corpus id", tag("code", manifest.id)),
        ("Grown from", tag("code", manifest.grown_from)) if manifest.grown_from else ("", ""),
        ("Code", f"ssiforge {manifest.code_version}"),
        (
            "Samples",
            f"{manifest.frames_per_sample / manifest.sample_rate_hz:g} s at {manifest.sample_rate_hz / 1000:g} kHz",
        ),
        ("Catalogue", _catalogue(kinds)),
        (
            "Moved in time",
            f"{count(summary.unaligned)} samples are not aligned with their target"
            if summary.unaligned
            else "none",
        ),
        (
            "Environment",
            ", ".join(f"{name} {version}" for name, version in manifest.environment.items()) or "–",
        ),
    ]
    written = tag("details", tag("summary", "The recipe in full"), tag("pre", recipe)) if recipe else None
    return join(tiles(numbers), facts([pair for pair in identity if pair[0]]), _parts(manifest), written)


def _catalogue(kinds: Sequence[KindOfSource]) -> str:
    return "; ".join(
        f"{KIND_NAMES.get(one.kind, one.kind)}: {count(one.files)} files, {hours(one.hours)} h"
        for one in kinds
    )


def _parts(manifest: CorpusManifest) -> Html | None:
    if not manifest.parts:
        return None
    rows = [
        (part.name, part.recipe, hours(part.hours), count(sum(part.samples.values())), f"{part.weight:g}")
        for part in manifest.parts
    ]
    head = ("part", "recipe", "hours", "samples", "weight in training")
    return join(tag("h3", "Parts"), table(head, rows, (2, 3, 4), "Parts of the merged corpus"))


def licences(manifest: CorpusManifest) -> Html:
    """Return under which licences the material of how many samples is."""
    total = sum(manifest.samples.values()) or 1
    ordered = sorted(manifest.licences.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        (
            tag("span", name, class_="bad") if name == UNKNOWN else name,
            count(number),
            percent(number / total),
            bar(number / total),
        )
        for name, number in ordered
    ]
    unknown = manifest.licences.get(UNKNOWN, 0)
    warning = (
        f"{percent(unknown / total)} of the samples hold material whose licence nobody has told: 'ssiforge scan' takes "
        "it from files beside the sources, or from --licence."
    )
    return join(
        tag("p", warning, class_="note") if unknown else None,
        table(
            ("licence", "samples", "share", ""), rows, (1, 2), "Samples that hold material under each licence"
        ),
    )


def distributions(summary: Summary, other: Summary | None) -> Html:
    """Return charts of everything that samples have a number for."""
    general = [chart(measure, summary, other) for measure in MEASURES]
    severe = [chart(measure, summary, other) for measure in SEVERITIES]
    return join(
        key(*_two(other)) if other else None,
        tag("div", general, class_="grid"),
        tag("h3", "Severity on the axes of ITU-T P.804"),
        tag("p", "0 is nothing audible, 1 is as bad as it gets.", class_="note"),
        tag("div", severe, class_="grid"),
        tag("h3", "Codecs"),
        codecs(summary, other),
    )


def _two(other: Summary) -> list[tuple[str, str]]:
    """Explain what is drawn of two corpora: of few values, B has marks instead of an outline."""
    names = [("a", "this corpus, A"), ("line-b", "B")]
    if any(0 < len(other.values(measure)) < FEW for measure in (*MEASURES, *SEVERITIES)):
        names.append(("each-b", f"a value of B, where it has fewer than {FEW}"))
    return names


def codecs(summary: Summary, other: Summary | None) -> Html:
    """Return how often each codec was used, and at which rates."""
    total = max(summary.samples, 1)
    rows = []
    for name in dict.fromkeys([*summary.codecs, *(other.codecs if other else ())]):
        uses, rates = summary.codecs.get(name, NOT_USED)
        there = other.codecs.get(name, NOT_USED)[0] / max(other.samples, 1) if other else None
        rows.append(
            (
                NAMES.get(name, name),
                count(uses),
                percent(uses / total),
                *([percent(there)] if there is not None else []),
                bar(uses / total, second=there, of=0.5),
                _span(rates),
            )
        )
    if not rows:
        return tag("p", "No stage used a codec.", class_="note")
    columns = (
        "codec",
        "uses",
        "per sample",
        *(["per sample in B"] if other else []),
        "",
        "measured kbit/s, 5 to 95 %",
    )
    return table(
        columns, rows, tuple(n for n, name in enumerate(columns) if n and name), "Codecs and their rates"
    )


def _span(rates: Values) -> str:
    if not len(rates):
        return "–"
    low, high = (figure(float(rate)) for rate in np.quantile(rates, RATE_SPAN))
    return low if low == high else f"{low} to {high}"


def failures(manifest: CorpusManifest, refusals: Sequence[Refusals]) -> Html:
    """Return what could not be used, and why."""
    by_number = sorted(manifest.failures.items(), key=lambda item: (-item[1], item[0]))
    drawn = [(reason, count(number)) for reason, number in by_number]
    refused = [
        (f"{KIND_NAMES.get(one.kind, one.kind)}: {one.reason}", count(one.count), ", ".join(one.examples))
        for one in refusals
    ]
    lost = list(manifest.lost_shards.items())
    total = sum(manifest.samples.values())
    parts: list[object] = []
    if drawn:
        failed = sum(manifest.failures.values())
        parts += [
            tag("h3", "Draws that were replaced"),
            tag(
                "p", f"{count(failed)} draws failed beside {count(total)} that became samples.", class_="note"
            ),
            table(("reason", "draws"), drawn, (1,), "Failed draws by reason"),
        ]
    if refused:
        parts += [
            tag("h3", "Sources that were refused"),
            table(("reason", "files", "for example"), refused, (1,), "Refused sources by reason"),
        ]
    if lost:
        parts += [
            tag("h3", "Shards that were given up"),
            table(("shard", "reason"), lost, (), "Lost shards"),
        ]
    return join(parts) if parts else tag("p", "Nothing failed, and no source was refused.")


def cost(manifest: CorpusManifest, summary: Summary) -> Html:
    """Return where the time of the workers went, and what each stage costs when it is used."""
    seconds = manifest.stage_seconds
    total = sum(seconds.values())
    if not total:
        return tag("p", "No timings were kept: a merged corpus, or one whose tables alone were written anew.")
    uses = dict(zip(summary.labels, summary.fired.sum(axis=0).tolist(), strict=True))
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    is_part = bool(manifest.replaces or manifest.grown_from) or _timed(manifest) < summary.samples
    rows = [
        (
            PARTS_OF_WORK.get(name, stage_title(name)),
            f"{spent:,.1f}".replace(",", " "),
            percent(spent / total),
            bar(spent / total, of=ordered[0][1] / total),
            # What was rendered was a part of the samples, and nobody counted which stages that had.
            *([] if is_part else [_each(spent, uses.get(name, summary.samples))]),
        )
        for name, spent in ordered
    ]
    wall_s = manifest.timings.get("wall_s", 0.0)
    said = join(
        _seconds_of(manifest, total), f" The last run that rendered something took {figure(wall_s)} s."
    )
    head = ("part", "seconds", "share", "", *([] if is_part else ["ms a sample that has it"]))
    numbers = (1, 2, 4)
    rest = rows[MOST_PARTS:]
    more = f"{count(len(rest))} more, {percent(sum(s for _, s in ordered[MOST_PARTS:]) / total)} together"
    return join(
        tag("p", said, class_="note"),
        table(head, rows[:MOST_PARTS], numbers, "Seconds of the workers by stage and part"),
        tag("details", tag("summary", more), table(head, rest, numbers, "Seconds of the cheaper parts"))
        if rest
        else None,
    )


def _each(seconds: float, times: int) -> str:
    return f"{1000.0 * seconds / times:,.0f}".replace(",", " ") if times else "–"


def _timed(manifest: CorpusManifest) -> int:
    """Return the number of samples that timings are of; earlier corpora did not say it, and they are of all."""
    return int(manifest.timings.get("samples", sum(manifest.samples.values())))


def _seconds_of(manifest: CorpusManifest, total: float) -> Html:
    """Say what the workers spent their seconds on: the whole corpus, or what the last run made of it."""
    if manifest.replaces:
        return join(
            f"The workers spent {figure(total)} s together, on the shards alone that held what was withdrawn from "
            "corpus ",
            tag("code", manifest.replaces),
            " and were written anew; all others were taken over from it.",
        )
    if manifest.grown_from:
        return join(
            f"The workers spent {figure(total)} s together, on the shards alone that the last run added; corpus ",
            tag("code", manifest.grown_from),
            " was there before.",
        )
    timed, samples = _timed(manifest), sum(manifest.samples.values())
    if timed < samples:
        speech_s = timed * manifest.frames_per_sample / manifest.sample_rate_hz
        return join(
            f"The workers spent {figure(total)} s together on the {count(timed)} samples that the last run rendered: "
            f"{figure(speech_s / total)} times as fast as real time, each. It went on with a corpus that was begun "
            f"before, and nobody kept the time of the {count(samples - timed)} others."
        )
    return join(
        f"{figure(manifest.hours)} hours took the workers {figure(total)} s together: "
        f"{figure(3600.0 * manifest.hours / total)} times as fast as real time, each."
    )


def splits_and_speakers(manifest: CorpusManifest, summary: Summary) -> Html:
    """Return what is in each split, and who speaks."""
    spoken: Counter[str] = Counter()
    for talker in summary.talkers:
        spoken[talker.split] += talker.hours  # type: ignore[assignment]  # a Counter adds up anything
    words = list(dict.fromkeys(word for held in manifest.splits.values() for word in held))
    rows = [
        (
            split,
            count(number),
            hours(spoken[split]),
            *(count(manifest.splits.get(split, {}).get(word, 0)) for word in words),
        )
        for split, number in manifest.samples.items()
    ]
    columns = ("split", "samples", "hours", *(word.replace("_", " ") for word in words))
    most = max((talker.hours for talker in summary.talkers), default=1.0)
    speakers = [
        (one.name or "no name", one.split, count(one.samples), hours(one.hours), bar(one.hours, of=most))
        for one in summary.talkers[:MOST_SPEAKERS]
    ]
    rest = summary.talkers[MOST_SPEAKERS:]
    more = f"and {count(len(rest))} more with {hours(sum(t.hours for t in rest))} h together" if rest else ""
    heard = sum(held.get("speakers", 0) for held in manifest.splits.values())
    talkers = len({talker.name for talker in summary.talkers})
    behind = (
        f"{count(talkers)} speakers are talkers of samples; the others are heard behind them, as in babble."
        if heard > talkers
        else None
    )
    return join(
        table(columns, rows, tuple(range(1, len(columns))), "What is in each split"),
        tag("p", behind, class_="note") if behind else None,
        tag("h3", "Speakers with most hours"),
        table(("speaker", "split", "samples", "hours", ""), speakers, (2, 3), "Speakers with most hours"),
        tag("p", more, class_="note") if more else None,
    )
