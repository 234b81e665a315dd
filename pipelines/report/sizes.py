"""How large models are and how fast they run frame by frame, as `ssiforge export` measured it."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.errors import UserError
from pipelines.models.folders import EXPORT_FILE
from pipelines.models.size import ModelSize
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import table
from pipelines.report.scales import count
from training.models.stft import SAMPLE_RATE_HZ, WINDOW_SAMPLES

RTF_LIMIT = 0.5
"""Of the ICASSP 2024 challenge: processing time over duration, one core."""


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ExportedFile(_Read):
    """One exported file."""

    file: str
    megabytes: float
    max_difference: float
    snr_db: float | None
    real_time_factor: float
    dnsmos_ovrl: float


class ExportRecords(_Read):
    """What an export's report says."""

    model_id: str
    stage: str
    latency_ms: float
    states: int
    state_megabytes: float
    torch_dnsmos_ovrl: float
    variants: tuple[ExportedFile, ...]


def is_export(folder: Path) -> bool:
    """Say whether a folder holds an exported model with its report."""
    return (folder / EXPORT_FILE).is_file()


def read_export(folder: Path) -> ExportRecords:
    """Read an export's report.

    Raises:
        UserError: when there is none, or it is not one.
    """
    path = folder / EXPORT_FILE
    try:
        return ExportRecords.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise UserError(f"{path}: not the report of an export") from error


def sizes(models: Sequence[tuple[str, ModelSize]], exports: Sequence[ExportRecords]) -> Html:
    """Return sizes and latencies of finished models, by their names, and speeds of those that were exported."""
    head = ("model", "preset", "weights", "MB", "algorithmic latency")
    parts = [table(head, [_size(*model) for model in models], (2, 3), "Sizes of the models")]
    measured = [_speed(export, file) for export in exports for file in export.variants]
    if not measured:
        none = join(
            "No model of these was exported: ", tag("code", "ssiforge export"), " measures how fast one runs."
        )
        return join(parts, tag("p", none, class_="note"))
    columns = (
        *("model", "file", "MB", "MB of states a signal", "real-time factor, one thread"),
        *("largest difference from torch", "DNSMOS OVRL", "of torch"),
    )
    said = (
        "Real-time factor: processing time over duration of the median hop of 10 ms, on the machine that exported; "
        f"the ICASSP 2024 challenge allowed {RTF_LIMIT:g}."
    )
    return join(
        parts,
        tag("h3", "Frame by frame (ONNX)"),
        table(columns, measured, range(2, 8), "Exported models"),
        tag("p", said, class_="note"),
    )


def _size(name: str, size: ModelSize) -> list[object]:
    window_ms = 1000 * WINDOW_SAMPLES // SAMPLE_RATE_HZ
    return [
        name,
        size.preset,
        count(size.weights),
        f"{size.bytes / 1e6:.2f}",
        f"{window_ms} ms" if size.causal else "looks ahead: for recordings, not for calls",
    ]


def _speed(export: ExportRecords, file: ExportedFile) -> list[object]:
    kind = "good" if file.real_time_factor <= RTF_LIMIT else "bad"
    return [
        export.stage,
        tag("code", file.file),
        f"{file.megabytes:.2f}",
        f"{export.state_megabytes:.2f}",
        tag("span", f"{file.real_time_factor:.3f}", class_=kind),
        f"{file.max_difference:.1e}",
        f"{file.dnsmos_ovrl:.2f}",
        f"{export.torch_dnsmos_ovrl:.2f}",
    ]
