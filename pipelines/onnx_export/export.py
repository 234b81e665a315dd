"""`ssiforge export`: a causal model as one streaming ONNX graph, with a report on how well it agrees with torch."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manifests.canonical import file_sha256
from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from manifests.folder import Folder
from pipelines.corpus.openlineage_jobs import EXPORT_JOB, made_dataset, telling
from pipelines.models.folders import EXPORT_FILE
from pipelines.models.reference import ModelRef, resolve_model
from pipelines.models.stale_mark import STALE_FILE, warn_if_stale, write_stale
from pipelines.onnx_export.chain import streaming_model
from pipelines.onnx_export.record import MODEL_ID_KEY, export_tags
from pipelines.onnx_export.report import Export, Variant, write_report
from pipelines.onnx_export.streaming import StreamingModel
from pipelines.openlineage.events import Json
from pipelines.openlineage.models import finished_model
from pipelines.quality.dnsmos import dnsmos
from pipelines.quality.metrics import MeasurementError
from pipelines.tracking.registry import registered_name
from pipelines.tracking.store import open_existing_store
from training.bundle import Bundle
from training.enhance import enhance_array
from training.models.stft import HOP_SAMPLES, SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import onnx

Audio = NDArray[np.float32]

MODEL_NAME = "model.onnx"
INT8_NAME = "model.int8.onnx"
PARITY_TOLERANCE = 1e-5
"""Largest difference of samples from torch, full scale 1.0: a third of a 16-bit step."""
CHECKED_S = 10.0
SPEED_HOPS = 200


def export(
    model_reference: str,
    out: Path,
    int8: bool = False,
    checked: Audio | None = None,
    say: Callable[[str], None] = print,
) -> Export:
    """Write a model to `out` as ONNX, check it against torch, and report.

    Args:
        model_reference: any form of `pipelines.models.reference`; a student, a denoiser or a joint model.
        out: folder for `model.onnx`, `model.int8.onnx`, `parity.json` and `parity.md`.
        int8: also write a file whose matrix products have weights of 8 bits, quantised dynamically.
        checked: the signal to compare on, shape (N,), 48 kHz; a noisy demo voice if not given.
        say: told when the model heard withdrawn data.

    Raises:
        UserError: when the model looks ahead, or `out` cannot be written.
        JobError: when the exported model does not agree with torch.
    """
    model = resolve_model(model_reference)
    warn_if_stale(model.stale, model.reference, say)
    bundle = model.load("cpu")
    if not bundle.info.causal:
        raise UserError(
            f"{model_reference}: is a {bundle.info.stage}, which looks ahead, so it cannot run frame by frame"
        )
    signal = noisy_voice(CHECKED_S) if checked is None else checked
    try:
        wanted = enhance_array(bundle, signal)
        torch_ovrl = round(dnsmos(wanted).ovrl, 3)
    except MeasurementError as error:
        raise UserError(f"--input: cannot be compared on, {error}") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
    with telling(Folder(out), EXPORT_JOB, [bundle.info.id, int8], [finished_model(bundle.info)]) as told:
        result = _written(bundle, signal, wanted, out, int8, torch_ovrl)
        content = write_report(result, bundle, len(signal), model.stale)
        _mark(out, bundle.info.id, model.stale)
        if result.variants[0].max_difference > PARITY_TOLERANCE:
            raise JobError(
                f"{out / MODEL_NAME}: differs from torch by {result.variants[0].max_difference:.2g} of full scale, "
                f"more than {PARITY_TOLERANCE:g}"
            )
        told.outputs = [_dataset(bundle, result)]
        _tag(model, content, say)
    return result


def _written(
    bundle: Bundle, signal: Audio, wanted: Audio, out: Path, int8: bool, torch_ovrl: float
) -> Export:
    """Write the files, and run them on the signal that torch made `wanted` of."""
    models = {MODEL_NAME: exported(bundle)}
    if int8:
        models[INT8_NAME] = quantised(models[MODEL_NAME])
    try:
        for name, graph in models.items():
            write_atomically(out / name, graph.SerializeToString())
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
    variants = tuple(_judged(out / name, signal, wanted) for name in models)
    states = StreamingModel(out / MODEL_NAME, str(out)).states(1)
    megabytes = round(sum(value.nbytes for value in states.values()) / 1e6, 2)
    return Export(out, variants, torch_ovrl, len(states), megabytes)


def _mark(out: Path, bundle_id: str, stale: Sequence[str]) -> None:
    """Let the folder say that what it holds is stale, or not any more."""
    if stale:
        write_stale(out, bundle_id, stale)
    else:
        (out / STALE_FILE).unlink(missing_ok=True)


def _dataset(bundle: Bundle, result: Export) -> Json:
    experiment = str(bundle.info.experiment.get("name", "ssiforge"))
    digests = {variant.file: variant.sha256 for variant in result.variants}
    name = f"onnx/{registered_name(experiment, bundle.info.stage)}"
    return made_dataset(name, result.variants[0].sha256, digests)


def _tag(model: ModelRef, content: dict[str, Any], say: Callable[[str], None]) -> None:
    """Tell MLflow of the export, where it knows the model."""
    if model.model_id is None or (client := open_existing_store()) is None:
        return
    from mlflow.exceptions import MlflowException

    try:
        client.set_logged_model_tags(model.model_id, export_tags(content))
    except MlflowException as error:
        say(f"warning: MLflow was not told of the export ({error.message}); {EXPORT_FILE} says it")


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
                MODEL_ID_KEY: info.id,
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
    from pipelines.stages.example_voice import example_voice

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
        sha256=file_sha256(path),
        megabytes=round(path.stat().st_size / 1e6, 2),
        max_difference=float(np.abs(difference).max()),
        snr_db=round(10.0 * float(np.log10(np.mean(wanted.astype(np.float64) ** 2) / noise)), 1)
        if noise
        else None,
        real_time_factor=round(real_time_factor(model), 3),
        dnsmos_ovrl=round(dnsmos(got).ovrl, 3),
    )
