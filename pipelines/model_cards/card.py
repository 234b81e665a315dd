"""`ssiforge card`: a model's `MODEL_CARD.md`, written from its `model.json` and from evaluations of it.

It is Markdown behind the YAML that model hubs read. Nothing in it is written by hand, so nothing in it can be
more than was measured; the same model, mark of what was withdrawn, and evaluations give the same bytes.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.files import write_atomically
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.markdown import NUMBER, TEXT, escaped, one_line, table
from pipelines.model_cards.scores import CardScores, read_scores
from pipelines.model_cards.training_data import corpus_id_of, training_data
from pipelines.models.reference import bundle_dir
from pipelines.models.stale_mark import stale_reasons
from training.bundle import WEIGHTS_FILE, Bundle, BundleInfo, load_bundle
from training.models.chain import Chain
from training.models.stft import HOP_SAMPLES, WINDOW_SAMPLES

MAX_WORSE = 12
MAX_DESCRIPTION_CHARACTERS = 5_000
"""The width of MLflow's column, which some databases enforce."""
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")

STAGES: dict[StageName, str] = {
    "teacher": "the repairing network that looks ahead, from which a causal one learns",
    "student": "the causal repairing network, distilled from a teacher",
    "denoiser": "the causal repairing network, and behind it a denoiser with complex axial self-attention",
    "joint": "the causal repairing network and the denoiser with complex axial self-attention, trained together",
}


def write_card(reference: str, evaluations: Sequence[Path], licence: str | None, out: Path) -> BundleInfo:
    """Write a model's card; return whose it is.

    Args:
        reference: any form of `pipelines.models.reference`; a folder is read without MLflow.
        evaluations: folders that `ssiforge evaluate` wrote to, each with scores of this model.
        licence: SPDX identifier of the licence of the weights.
        out: the Markdown file.

    Raises:
        UserError: when the model or an evaluation cannot be read, the licence is no identifier, or `out` cannot
        be written.
    """
    if licence is not None and not _SPDX.fullmatch(licence):
        raise UserError(f"--licence {licence}: must be an SPDX identifier, such as Apache-2.0 or CC-BY-4.0")
    bundle = load_bundle(bundle_dir(reference))
    scores = [read_scores(folder, bundle.info.id) for folder in evaluations]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, card(bundle, scores, licence).encode())
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    return bundle.info


def card(bundle: Bundle, scores: Sequence[CardScores], licence: str | None) -> str:
    """Return the card as text."""
    info = bundle.info
    sections = {
        "": f"Speech signal improvement at 48 kHz after RaD-Net 2 (arXiv 2406.07498): {STAGES[info.stage]}.\n\n"
        + table(("", ""), list(_facts(bundle, licence))),
        "Use": _use(),
        "Training data": training_data(info),
        "Evaluation": "\n\n".join(map(_evaluation, scores)) or "It was not evaluated.",
        "Limits": "\n".join(f"- {limit}" for limit in _limits(bundle, scores, licence)),
    }
    front = yaml.safe_dump(
        _front_matter(info, scores, licence), sort_keys=False, allow_unicode=True, width=10**6
    )
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    return f"---\n{front}---\n\n# {escaped(_name(info))}\n\n{body}\n"


def summary(card: str) -> str:
    """Return as much of a card as MLflow takes as a description: whole sections, without what hubs read."""
    _, _, body = card.partition("\n---\n")
    body = body.strip()
    while len(body) > MAX_DESCRIPTION_CHARACTERS:
        body = body.rpartition("\n\n## ")[0] or body[:MAX_DESCRIPTION_CHARACTERS]
    return body


def _name(info: BundleInfo) -> str:
    return f"ssiforge {info.preset} {info.stage}"


def _front_matter(info: BundleInfo, scores: Sequence[CardScores], licence: str | None) -> dict[str, Any]:
    """Return what model hubs read; names of fields, types and licences are theirs."""
    results = [
        {
            "task": {"type": "audio-to-audio", "name": "Speech enhancement"},
            "dataset": {
                "type": "ssiforge-corpus" if each.corpus_id else "recordings",
                "name": one_line(each.heard),
            },
            "metrics": [
                {
                    "type": one_line(column.name),
                    "name": one_line(column.title),
                    "value": each.after[column.name],
                }
                for column in each.columns
            ],
        }
        for each in scores
    ]
    return {
        **({"license": licence.lower()} if licence else {}),
        "library_name": "ssiforge",
        "pipeline_tag": "audio-to-audio",
        "tags": ["speech-enhancement", "speech-restoration", "rad-net-2", "48khz"]
        + (["causal"] if info.causal else []),
        **({"model-index": [{"name": _name(info), "results": results}]} if results else {}),
    }


def _facts(bundle: Bundle, licence: str | None) -> Iterator[tuple[str, object]]:
    info, model = bundle.info, bundle.model
    parts = (
        {"repairing network": model.repair, "denoiser": model.denoiser} if isinstance(model, Chain) else {}
    )
    counts = ", ".join(f"{name} {_millions(part)}" for name, part in parts.items())
    megabytes = (bundle.path / WEIGHTS_FILE).stat().st_size / 1e6
    yield "licence of the weights", licence or "not given"
    yield "preset", info.preset
    yield "size", f"{_millions(model)} parameters{f' ({counts})' if counts else ''}, {megabytes:.1f} MB"
    yield "latency", _latency(info.causal)
    yield "input and output", "48 kHz; other rates are resampled, channels are enhanced each alone"
    yield "training steps of this stage", info.steps
    yield (
        "made from",
        ", ".join(f"{role} {parent}" for role, parent in info.parents.items()) or "nothing before it",
    )
    yield "id", info.id
    yield "SHA-256 of the weights", info.weights_sha256
    yield (
        "made with",
        ", ".join([f"ssiforge {info.code_version}", *(f"{k} {v}" for k, v in info.environment.items())]),
    )


def _millions(network: Any) -> str:
    return f"{sum(weight.numel() for weight in network.parameters()) / 1e6:.2f} M"


def _latency(causal: bool) -> str:
    window_ms, hop_ms = (1000 * samples // SAMPLE_RATE_HZ for samples in (WINDOW_SAMPLES, HOP_SAMPLES))
    if causal:
        return f"{window_ms} ms, algorithmic: windows of {window_ms} ms every {hop_ms} ms, and no look-ahead"
    return "looks ahead: for recordings, not for calls"


def _use() -> str:
    return """In the folder that holds `weights.safetensors` and `model.json`:

```
ssiforge enhance in.wav out.wav --model .
```

```python
from pathlib import Path

import soundfile

from training.bundle import load_bundle
from training.enhance import enhance_array

audio, rate_hz = soundfile.read("in.wav", dtype="float32")  # one channel at 48 kHz
soundfile.write("out.wav", enhance_array(load_bundle(Path(".")), audio), rate_hz)
```"""


def _evaluation(scores: CardScores) -> str:
    arrows = {True: "↑", False: "↓", None: "→0"}
    head = [
        "",
        *(c.title if c.describes else c.title + arrows[c.higher_is_better] for c in scores.columns),
    ]
    rows = []
    for name, means in (("input", scores.before), ("this model", scores.after)):
        cells = [(means[column.name], column.digits) for column in scores.columns]
        rows.append([name, *("-" if mean is None else f"{mean:.{digits}f}" for mean, digits in cells)])
    texts = [
        f"Means over {scores.samples} samples, {escaped(scores.heard)}; →0: of the distances from zero.",
        table(head, rows, (TEXT, *(NUMBER for _ in scores.columns))),
        *(f"Note: {escaped(note)}" for note in scores.notes),
    ]
    return "\n\n".join(texts)


def _limits(bundle: Bundle, scores: Sequence[CardScores], licence: str | None) -> Iterator[str]:
    """Say what the records show that a user should not rely on."""
    info = bundle.info
    for reason in stale_reasons(bundle.path):
        yield f"It is stale and should be trained again: {escaped(reason)}."
    yield "It was trained on synthetic degradations alone; what the recipe does not hold, it has not heard."
    if not info.causal:
        yield "It needs the future of a recording, so it cannot run live."
    if info.corpus is not None and (unknown := info.corpus.licences.get("unknown", 0)):
        yield f"The licence of material in {unknown} of the samples is not known."
    if info.online is not None and info.online.allow_licences is None:
        yield "Licences of the material that fresh samples were drawn from are not in this card."
    if licence is None:
        yield "No licence was given for the weights."
    if not scores:
        yield "It was not evaluated."
    if any(column.name.startswith("dnsmos") for each in scores for column in each.columns):
        yield "OVRL, SIG, BAK and P808 are predicted by DNSMOS, and were not judged by listeners."
    for each in scores:
        if each.split == "train" and each.corpus_id is not None and each.corpus_id == corpus_id_of(info):
            yield "It was evaluated on samples that it was trained on."
        for where in each.worse[:MAX_WORSE]:
            yield f"Worse than its input ({escaped(each.heard)}): {escaped(where)}."
        if len(each.worse) > MAX_WORSE:
            yield f"Worse than its input ({escaped(each.heard)}) in {len(each.worse) - MAX_WORSE} more means."
