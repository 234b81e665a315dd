"""The samples that a page shows, to look at and to listen to."""

import json
from collections.abc import Mapping, Sequence

from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import AXES, SampleRecord
from pipelines.report.charts import bar
from pipelines.report.markup import Html, join, tag
from pipelines.report.media import MOST_SECONDS, Audio, heard
from pipelines.report.sample_reader import Shown
from pipelines.report.words import in_units, stage_in_words, stage_title

MEASURED_OF_CLIPS = (("dbfs", "active_level_dbfs"), ("hz", "bandwidth_hz"))
"""What is said of each clip: how to write it, and its name in the record behind the side."""
KINDS = {"speech": "speech", "noise": "noise", "rir": "room"}


def samples_section(samples: Sequence[Shown], names: Mapping[str, str]) -> Html:
    """Return samples with players and pictures, and a form that filters them.

    Args:
        samples: to show.
        names: file name of each source, by content hash.
    """
    return join(
        _filters(samples),
        tag("div", [_sample(sample, names) for sample in samples], class_="samples"),
    )


def _filters(samples: Sequence[Shown]) -> Html:
    """Return the form, which only scripts show: without them all samples are there."""
    labels = sorted({stage.label for sample in samples for stage in sample.record.stages})
    splits = sorted({sample.record.split for sample in samples})

    def choice(name: str, title: str, every: str, values: Sequence[tuple[str, str]]) -> Html:
        options = [tag("option", text, value=value) for value, text in (("", every), *values)]
        return tag("label", title, tag("select", options, name=name))

    return tag(
        "form",
        choice("stage", "Stage", "any", [(label, stage_title(label)) for label in labels]),
        choice("axis", "Severity of", "the worst axis", [(axis, axis) for axis in AXES]),
        tag(
            "label",
            tag("span", "is at least ", tag("output", "0.00", id="level-value")),
            tag("input", type="range", name="level", min=0, max=1, step=0.05, value=0),
        ),
        choice("split", "Split", "any", [(split, split) for split in splits]),
        tag("button", "Show all", type="reset"),
        tag("p", id="shown", class_="note", role="status"),
        id="filters",
        class_="filters",
        hidden=True,
        aria_label="Filter the samples",
    )


def _sample(sample: Shown, names: Mapping[str, str]) -> Html:
    record = sample.record
    length_s = record.frames / SAMPLE_RATE_HZ
    cut = f", the first {MOST_SECONDS:g} s of it" if length_s > MOST_SECONDS else ""
    moved = "" if record.aligned else "; moved in time against its target"
    words = [stage_in_words(stage) for stage in record.stages]
    return tag(
        "article",
        tag(
            "h3",
            tag("span", sample.key),
            tag("small", f"{record.split}, {record.speaker}, {length_s:g} s{cut}{moved}"),
        ),
        tag(
            "div",
            tag(
                "div",
                _clip(sample.key, "Degraded", "degraded", sample.degraded, record),
                _clip(sample.key, "Target", "target", sample.target, record),
                class_="pair",
            ),
            tag(
                "div",
                tag("ol", [tag("li", text) for text in words])
                if words
                else tag("p", "No stage: the clip is its target."),
                _severities(record),
                tag(
                    "details",
                    tag("summary", "Sources and licences"),
                    tag("ul", [tag("li", line) for line in _sources(record, names)]),
                ),
            ),
            class_="beside",
        ),
        class_="card sample",
        data_stages="\n".join(stage.label for stage in record.stages),
        data_severity=json.dumps({axis: record.severity[axis] for axis in AXES}),
        data_split=record.split,
    )


def _severities(record: SampleRecord) -> Html:
    """Return the severity on each axis as a bar and as a number."""
    rows = [
        tag("li", tag("span", axis), bar(record.severity[axis]), tag("b", f"{record.severity[axis]:.2f}"))
        for axis in AXES
    ]
    return tag("ul", rows, class_="severity", aria_label="Severity on the axes of P.804, 0 to 1")


def _clip(key: str, name: str, side: str, audio: Audio, record: SampleRecord) -> Html:
    measured = [
        in_units(unit, value)
        for unit, column in MEASURED_OF_CLIPS
        if (value := record.measured.get(f"{side}_{column}")) is not None
    ]
    return heard(name, f"{name} clip of {key}", audio, measured)


def _sources(record: SampleRecord, names: Mapping[str, str]) -> list[str]:
    return [
        f"{KINDS.get(source.kind, source.kind)}: {names.get(source.sha256) or source.sha256[:12]}"
        f" ({source.group or 'no name'}; licence: {source.licence})"
        for source in record.sources
    ]
