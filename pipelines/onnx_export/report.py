"""What `ssiforge export` says of the files that it wrote: how well they agree with torch, and how fast they are."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from manifests.files import write_atomically
from pipelines.models.folders import EXPORT_FILE
from pipelines.onnx_export.graph import OPSET
from pipelines.onnx_export.record import MODEL_ID_KEY
from training.bundle import Bundle
from training.models.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

REPORT_PAGE = "parity.md"


@dataclass(frozen=True)
class Variant:
    """One exported file and how it did on the checked signal."""

    file: str
    sha256: str
    megabytes: float
    max_difference: float
    """Of samples from torch's, full scale 1.0."""
    snr_db: float | None
    """Torch's output over the difference; None where they are equal."""
    real_time_factor: float
    """Processing time over duration, hop by hop, one thread: the median hop."""
    dnsmos_ovrl: float
    """Of this file's output."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    out: Path
    variants: tuple[Variant, ...]
    torch_dnsmos_ovrl: float
    states: int
    state_megabytes: float


def write_report(result: Export, bundle: Bundle, samples: int, stale: Sequence[str]) -> dict[str, Any]:
    """Write `parity.json` and `parity.md`; return the content of the former.

    Args:
        result: what was exported.
        bundle: of what.
        samples: length of the signal that it was compared on.
        stale: why the model is stale.
    """
    content: dict[str, Any] = {
        MODEL_ID_KEY: bundle.info.id,
        "code_version": bundle.info.code_version,
        "stage": bundle.info.stage,
        "preset": bundle.info.preset,
        "opset": OPSET,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "hop_samples": HOP_SAMPLES,
        "latency_ms": 1000.0 * WINDOW_SAMPLES / SAMPLE_RATE_HZ,
        "states": result.states,
        "state_megabytes": result.state_megabytes,
        "checked_s": round(samples / SAMPLE_RATE_HZ, 2),
        "torch_dnsmos_ovrl": result.torch_dnsmos_ovrl,
        "variants": [asdict(variant) for variant in result.variants],
    }
    if stale:
        content["stale"] = list(stale)
    write_atomically(result.out / EXPORT_FILE, json.dumps(content, indent=2).encode())
    write_atomically(result.out / REPORT_PAGE, "\n".join(_page(content, result.variants)).encode())
    return content


def _page(content: dict[str, Any], variants: Sequence[Variant]) -> list[str]:
    return [
        f"# {content['stage']} {content['model_id'][:12]} ({content['preset']}) as ONNX",
        "",
        *(f"**Stale**: {reason}.  " for reason in content.get("stale", ())),
        f"Opset {content['opset']}. Input `hop` and output `enhanced` are (batch, {content['hop_samples']}) samples at "
        f"{content['sample_rate_hz']} Hz; `enhanced` is the hop before: the latency is {content['latency_ms']:g} ms. "
        f"The other {content['states']} inputs are states ({content['state_megabytes']} MB a signal), zero at first: "
        f"output `next_NAME` is input `NAME` of the next call.",
        "",
        f"Checked against torch on {content['checked_s']:g} s, whose output has DNSMOS OVRL "
        f"{content['torch_dnsmos_ovrl']:.3f}.",
        "",
        "| file | MB | largest difference | SNR against torch, dB | real-time factor, 1 thread | DNSMOS OVRL |",
        "|---|---|---|---|---|---|",
        *(
            f"| {v.file} | {v.megabytes} | {v.max_difference:.1e} | {'exact' if v.snr_db is None else v.snr_db} | "
            f"{v.real_time_factor} | {v.dnsmos_ovrl:.3f} |"
            for v in variants
        ),
        "",
    ]
