"""A corpus beside real recordings: where they lie among its clips, one by one, and what the likest clip sounds like."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.audio import AudioError
from pipelines.report.charts import FEW, key
from pipelines.report.differences import CENTRAL, EXPLAINED, Difference, differences_table
from pipelines.report.distributions import figure_of, in_words
from pipelines.report.markup import Html, join, tag
from pipelines.report.media import excerpt, heard
from pipelines.report.page import table
from pipelines.report.recordings import (
    BANDWIDTH,
    CLIPPING,
    FLOOR,
    LEVEL,
    MEASURED,
    MOST_MEASURED,
    SCORES,
    Clip,
    measure_clips,
    measure_recordings,
    read_recording,
    spread,
    values_of,
)
from pipelines.report.sample_reader import SampleReader
from pipelines.report.scales import Values, count, figure, percent
from pipelines.report.scatter_chart import scatter_chart
from pipelines.report.summary import Measure
from pipelines.report.words import stage_in_words

HEARD = 4
"""So many recordings can be listened to beside the clip of the corpus that is most like each."""
MOST_OPEN = 12
"""A table of more recordings is folded up."""
TABLED = (LEVEL, BANDWIDTH, FLOOR, CLIPPING, *SCORES)
SCATTERED = ((FLOOR, BANDWIDTH), (LEVEL, SCORES[0]))
SHORT = {
    LEVEL: "level, dBFS",
    BANDWIDTH: "bandwidth, kHz",
    FLOOR: "noise floor, dBFS",
    CLIPPING: "clipping, %",
    **dict(zip(SCORES, ("OVRL", "SIG", "BAK", "P.808"), strict=True)),
}
"""Headings of columns."""


@dataclass(frozen=True)
class Ranges:
    """Where the middle 90 % of A's clips lie, by measure that some of them have."""

    spans: dict[Measure, tuple[float, float]]

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> "Ranges":
        """Find them."""
        values = {measure: values_of(clips, measure) for measure in MEASURED}
        low, high = CENTRAL
        return cls(
            {
                measure: (float(np.quantile(held, low)), float(np.quantile(held, high)))
                for measure, held in values.items()
                if len(held)
            }
        )

    def outside(self, clip: Clip) -> list[Measure]:
        """Return the measures in which a clip lies outside."""
        return [
            measure
            for measure, (low, high) in self.spans.items()
            if measure.column in clip.values and not low <= clip.values[measure.column] <= high
        ]

    def inside_all(self, clips: Sequence[Clip]) -> int:
        """Count the clips that lie within in every measure."""
        return sum(not self.outside(clip) for clip in clips)


def with_recordings(
    samples: int, reader: SampleReader, against: str, say: Callable[[str], None]
) -> tuple[str, Html]:
    """Compare a corpus, A, with a folder of recordings, B; return a sentence and what it introduces.

    Args:
        samples: how many A has.
        reader: of A's samples.
        against: folder or URI of B.
        say: told of recordings that cannot be read.

    Raises:
        UserError: when B has none that can be read.
    """
    there, found = measure_recordings(against, say)
    rows = spread(samples, MOST_MEASURED)
    here = measure_clips(((reader.key(row), reader.read_degraded(row)) for row in rows), len(rows))
    of = f"{count(len(there))} recordings" + (f" of {count(found)}" if found > len(there) else "")
    care = f" {of} say little about a distribution: read this with care." if len(there) < FEW else ""
    lead = (
        f"B are real recordings: {of}, measured as {count(len(rows))} degraded clips of this corpus, A, were, "
        f"spread evenly over it. What is common in B and rare in A, the recipe does not teach.{care}"
    )
    ranges = Ranges.of(here)
    body = join(
        tag("p", _how_realistic(ranges, here, there)),
        *_differences(here, there, of),
        tag("h3", "Each recording among A's clips"),
        _each(ranges, there),
        *_twins(here, there, rows, reader),
    )
    return lead, body


def _how_realistic(ranges: Ranges, here: Sequence[Clip], there: Sequence[Clip]) -> Html:
    """Say how many recordings could be clips of A, beside how many of A's own clips could."""
    inside, own = ranges.inside_all(there), ranges.inside_all(here)
    missed: dict[str, int] = {}
    for measure in (measure for clip in there for measure in ranges.outside(clip)):
        missed[measure.title] = missed.get(measure.title, 0) + 1
    most = sorted(missed.items(), key=lambda item: (-item[1], item[0]))[:3]
    where = (
        f" Most often outside: {', '.join(f'{name} ({number})' for name, number in most)}." if most else ""
    )
    return join(
        tag("strong", f"{count(inside)} of {count(len(there))} recordings"),
        " lie where the middle 90 % of A's clips lie in every measure; of A's own clips ",
        f"{percent(own / len(here))} do.{where}",
    )


def _differences(here: Sequence[Clip], there: Sequence[Clip], of: str) -> list[Html]:
    differences, charts = [], []
    for measure in MEASURED:
        a, b = values_of(here, measure), values_of(there, measure)
        if not len(a) or not len(b):
            continue
        differences.append(Difference(measure, a, b))
        said = [
            f"A: {in_words(measure, a, len(here), 'clips')}",
            f"B: {in_words(measure, b, len(there), 'recordings')}",
        ]
        # Of few recordings there are marks instead of an outline, which have no height.
        kinds = ((a, here, "clips"), *([(b, there, "recordings")] if len(b) >= FEW else []))
        shares = ", and of ".join(
            noun if len(v) == len(every) else f"{noun} with any" for v, every, noun in kinds
        )
        charts.append(figure_of(measure, [a, b], said, shares))
    clouds = [(x, y, scatter_chart(x, y, here, there)) for x, y in SCATTERED]
    return [
        differences_table(differences),
        tag("p", EXPLAINED, class_="note"),
        key(("dot-a", f"A: {count(len(here))} degraded clips"), ("dot-b", f"B: {of}")),
        tag(
            "div",
            [
                tag(
                    "figure",
                    tag("h3", f"{y.title} and {x.title[0].lower()}{x.title[1:]}"),
                    cloud,
                    class_="card",
                )
                for x, y, cloud in clouds
                if cloud is not None
            ],
            charts,
            class_="grid",
        ),
    ]


def _each(ranges: Ranges, there: Sequence[Clip]) -> Html:
    """Return what was measured on each recording, those that are least like A first."""
    measures = [measure for measure in TABLED if measure in ranges.spans]
    ordered = sorted(there, key=lambda clip: (-len(ranges.outside(clip)), clip.name))
    rows = [
        (
            clip.name,
            *(_placed(clip, measure, ranges.spans[measure]) for measure in measures),
            f"{len(measures) - len(ranges.outside(clip))} of {len(measures)}",
        )
        for clip in ordered
    ]
    spans = [f"{figure(low)} to {figure(high)}" for low, high in (ranges.spans[m] for m in measures)]
    rows.append((tag("em", "the middle 90 % of A"), *spans, ""))
    head = ("recording", *(SHORT[measure] for measure in measures), "within")
    numbers = table(head, rows, range(1, len(head)), "What was measured on each recording")
    note = tag("p", "↑ above, ↓ below the middle 90 % of A's clips.", class_="note")
    if len(there) <= MOST_OPEN:
        return join(numbers, note)
    return tag("details", tag("summary", f"All {count(len(there))} recordings"), numbers, note)


def _placed(clip: Clip, measure: Measure, span: tuple[float, float]) -> object:
    if (value := clip.values.get(measure.column)) is None:
        return "–"
    beyond = "↓" if value < span[0] else "↑" if value > span[1] else ""
    return tag("span", figure(value), " ", beyond, class_="bad") if beyond else figure(value)


def _twins(
    here: Sequence[Clip], there: Sequence[Clip], rows: Sequence[int], reader: SampleReader
) -> list[Html]:
    """Return some recordings, each beside the clip of A that is most like it."""
    cards = []
    for number in spread(len(there), HEARD):
        recording = there[number]
        nearest = rows[_nearest(recording, here)]
        try:
            audio, _ = read_recording(recording.where)
        except AudioError:  # it was there a moment ago
            continue
        twin = reader.read(nearest)
        words = [stage_in_words(stage) for stage in twin.record.stages]
        cards.append(
            tag(
                "article",
                tag("h3", recording.name),
                tag(
                    "div",
                    tag(
                        "div",
                        heard("B: the recording", recording.name, excerpt(audio)),
                        heard(f"A: {twin.key}", f"degraded clip of {twin.key}", twin.degraded),
                        class_="pair",
                    ),
                    tag(
                        "div",
                        tag("p", "What made A's clip:", class_="note"),
                        tag("ol", [tag("li", text) for text in words]) if words else tag("p", "No stage."),
                    ),
                    class_="beside",
                ),
                class_="card sample",
            )
        )
    if not cards:
        return []
    said = (
        f"Of {count(len(here))} clips, the one whose measures are nearest, each counted in units of A's middle 90 %. "
        "If it does not sound like the recording, the recipe lacks what does."
    )
    return [
        tag("h3", "Recordings, each beside the likest clip of A"),
        tag("p", said, class_="note"),
        tag("div", cards, class_="samples"),
    ]


def _nearest(recording: Clip, here: Sequence[Clip]) -> int:
    """Return the place of the clip with the least mean distance over the measures that both have."""
    distances = np.full(len(here), np.inf)
    spans = {
        measure: max(float(np.ptp(np.quantile(values, CENTRAL))), 1e-9)
        for measure in MEASURED
        if len(values := values_of(here, measure))
    }
    for place, clip in enumerate(here):
        both = [m for m in spans if m.column in clip.values and m.column in recording.values]
        if both:
            apart: Values = np.asarray(
                [(clip.values[m.column] - recording.values[m.column]) / spans[m] for m in both]
            )
            distances[place] = float(np.mean(np.minimum(np.abs(apart), 1.0)))
    return int(distances.argmin())
