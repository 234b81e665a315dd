"""`ssiforge export`: a causal model as one streaming ONNX graph, with a report on how well it agrees with torch."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from pipelines.dnsmos import dnsmos
from pipelines.models import resolve_model
from pipelines.onnx_chain import streaming_model
from pipelines.onnx_graph import OPSET
from pipelines.streaming import StreamingModel
from training.bundle import Bundle
from training.enhance import enhance_array
from training.models.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

if TYPE_CHECKING:
    import onnx

Audio = NDArray[np.float32]

MODEL_NAME = "model.onnx"
INT8_NAME = "model.int8.onnx"
REPORT_JSON = "parity.json"
REPORT_PAGE = "parity.md"
PARITY_TOLERANCE = 1e-5
"""Largest difference of samples from torch, full scale 1.0: a third of a 16-bit step."""
CHECKED_S = 10.0
SPEED_HOPS = 200


@dataclass(frozen=True)
class Variant:
    """One exported file and how it did on the checked signal."""

    file: str
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


def export(model_reference: str, out: Path, int8: bool = False, checked: Audio | None = None) -> Export:
    """Write a model to `out` as ONNX, check it against torch, and report.

    Args:
        model_reference: any form of `pipelines.models`; a student, a denoiser or a joint model.
        out: folder for `model.onnx`, `model.int8.onnx`, `parity.json` and `parity.md`.
        int8: also write a file whose matrix products have weights of 8 bits, quantised dynamically.
        checked: the signal to compare on, shape (N,), 48 kHz; a noisy demo voice if not given.

    Raises:
        UserError: when the model looks ahead, or `out` cannot be written.
        JobError: when the exported model does not agree with torch.
    """
    bundle = resolve_model(model_reference).load("cpu")
    if not bundle.info.causal:
        raise UserError(
            f"{model_reference}: is a {bundle.info.stage}, which looks ahead, so it cannot run frame by frame"
        )
    signal = noisy_voice(CHECKED_S) if checked is None else checked
    wanted = enhance_array(bundle, signal)
    models = {MODEL_NAME: exported(bundle)}
    if int8:
        models[INT8_NAME] = quantised(models[MODEL_NAME])
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, model in models.items():
            write_atomically(out / name, model.SerializeToString())
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
    variants = tuple(_judged(out / name, signal, wanted) for name in models)
    states = StreamingModel(out / MODEL_NAME, str(out)).states(1)
    result = Export(
        out,
        variants,
        round(dnsmos(wanted).ovrl, 3),
        len(states),
        round(sum(value.nbytes for value in states.values()) / 1e6, 2),
    )
    _report(result, bundle, len(signal))
    if variants[0].max_difference > PARITY_TOLERANCE:
        raise JobError(
            f"{out / MODEL_NAME}: differs from torch by {variants[0].max_difference:.2g} of full scale, more than "
            f"{PARITY_TOLERANCE:g}"
        )
    return result


def exported(bundle: Bundle) -> "onnx.ModelProto":
    """Return a causal bundle as an ONNX model that says what it is.

    Raises:
        UserError: when it cannot run frame by frame.
    """
    info = bundle.info
    try:
        return streaming_model(
            bundle.model,
            {
                "model_id": info.id,
                "stage": info.stage,
                "preset": info.preset,
                "code_version": info.code_version,
            },
        )
    except ValueError as error:
        raise UserError(f"{bundle.path}: {error}") from error


def quantised(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy whose dense layers use weights of 8 bits (dynamic quantisation).

    Convolutions and the DFTs stay as they are: the former would be slower, the latter inexact.
    """
    import tempfile

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The quantiser turns dense layers (Gemm) into products (MatMul); products that are there already are DFTs and
    # attention.
    products = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    with tempfile.TemporaryDirectory() as folder, _no_advice():
        before, after = Path(folder) / MODEL_NAME, Path(folder) / INT8_NAME
        onnx.save(model, before)
        quantize_dynamic(
            before,
            after,
            op_types_to_quantize=["Gemm", "MatMul"],
            nodes_to_exclude=products,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(after)


@contextmanager
def _no_advice() -> Iterator[None]:
    """Keep back onnxruntime's advice on shapes, which this graph has."""

    def wanted(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    logging.getLogger().addFilter(wanted)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(wanted)


def noisy_voice(seconds: float) -> Audio:
    """Return a demo voice in noise at 10 dB, shape (N,)."""
    from manifests.keyed import generator
    from pipelines.example_voice import example_voice

    voice = example_voice(seconds)
    noise = generator("export", "noise").standard_normal(len(voice), np.float32)
    noisy: Audio = voice + noise * np.float32(np.sqrt(np.mean(voice**2) / 10.0))
    return noisy


def real_time_factor(model: StreamingModel, hops: int = SPEED_HOPS) -> float:
    """Return processing time over duration of the median hop, one signal, one thread."""
    stream = model.stream()
    signal = noisy_voice(hops * HOP_SAMPLES / SAMPLE_RATE_HZ).reshape(hops, 1, HOP_SAMPLES)
    seconds = []
    for hop in signal:
        began = time.perf_counter()
        stream.push(hop)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds)) * SAMPLE_RATE_HZ / HOP_SAMPLES


def _judged(path: Path, signal: Audio, wanted: Audio) -> Variant:
    model = StreamingModel(path, str(path))
    got = np.concatenate(list(model.enhanced([signal])))
    difference = got.astype(np.float64) - wanted
    noise = float(np.mean(difference**2))
    return Variant(
        file=path.name,
        megabytes=round(path.stat().st_size / 1e6, 2),
        max_difference=float(np.abs(difference).max()),
        snr_db=round(10.0 * float(np.log10(np.mean(wanted.astype(np.float64) ** 2) / noise)), 1)
        if noise
        else None,
        real_time_factor=round(real_time_factor(model), 3),
        dnsmos_ovrl=round(dnsmos(got).ovrl, 3),
    )


def _report(result: Export, bundle: Bundle, samples: int) -> None:
    content: dict[str, Any] = {
        "model_id": bundle.info.id,
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
    write_atomically(result.out / REPORT_JSON, json.dumps(content, indent=2).encode())
    write_atomically(result.out / REPORT_PAGE, "\n".join(_page(content, result.variants)).encode())


def _page(content: dict[str, Any], variants: Sequence[Variant]) -> list[str]:
    return [
        f"# {content['stage']} {content['model_id'][:12]} ({content['preset']}) as ONNX",
        "",
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
