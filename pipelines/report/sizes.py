"""How large models are and how fast they run frame by frame, as `ssiforge export` measured it."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.errors import UserError
from pipelines.export import REPORT_JSON
from pipelines.html_table import number_cell, table
from training.bundle import WEIGHTS_FILE, Bundle
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
    return (folder / REPORT_JSON).is_file()


def read_export(folder: Path) -> ExportRecords:
    """Read an export's report.

    Raises:
        UserError: when there is none, or it is not one.
    """
    path = folder / REPORT_JSON
    try:
        return ExportRecords.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise UserError(f"{path}: not the report of an export") from error


def size_section(bundles: Sequence[Bundle], exports: Sequence[ExportRecords]) -> str:
    """Return sizes and latencies of finished models, and speeds of those that were exported, as HTML."""
    rows = [f"<tr>{''.join(_size(bundle))}</tr>" for bundle in bundles]
    heads = ("model", "preset", "weights", "MB", "algorithmic latency")
    parts = [table("Sizes", heads, rows)]
    measured = [f"<tr>{''.join(_speed(export, file))}</tr>" for export in exports for file in export.variants]
    if measured:
        heads = (
            *("model", "file", "MB", "MB of states a signal", "real-time factor, one thread"),
            *("largest difference from torch", "DNSMOS OVRL", "of torch"),
        )
        parts.append(table("Frame by frame (ONNX)", heads, measured))
        parts.append(
            f'<p class="note">Real-time factor: processing time over duration of the median hop, on the machine that '
            f"exported; the ICASSP 2024 challenge allowed {RTF_LIMIT:g}.</p>"
        )
    else:
        parts.append(
            '<p class="note">No model of these was exported: <code>ssiforge export</code> measures how fast it runs.</p>'
        )
    return "".join(parts)


def _size(bundle: Bundle) -> Iterator[str]:
    info = bundle.info
    weights = sum(weight.numel() for weight in bundle.model.parameters())
    window_ms = 1000 * WINDOW_SAMPLES // SAMPLE_RATE_HZ
    yield f'<th scope="row">{info.stage}</th>'
    yield f"<td>{escape(info.preset)}</td>"
    yield number_cell(f"{weights:,}")
    yield number_cell(f"{(bundle.path / WEIGHTS_FILE).stat().st_size / 1e6:.2f}")
    yield f"<td>{f'{window_ms} ms' if info.causal else 'looks ahead: for recordings, not for calls'}</td>"


def _speed(export: ExportRecords, file: ExportedFile) -> Iterator[str]:
    yield f'<th scope="row">{escape(export.stage)}</th>'
    yield f"<td><code>{escape(file.file)}</code></td>"
    yield number_cell(f"{file.megabytes:.2f}")
    yield number_cell(f"{export.state_megabytes:.2f}")
    kind = "good" if file.real_time_factor <= RTF_LIMIT else "bad"
    yield number_cell(f"{file.real_time_factor:.3f}", kind)
    yield number_cell(f"{file.max_difference:.1e}")
    yield number_cell(f"{file.dnsmos_ovrl:.2f}")
    yield number_cell(f"{export.torch_dnsmos_ovrl:.2f}")
