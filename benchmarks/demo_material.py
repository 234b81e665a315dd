"""Synthetic voices and noises, for whoever has no recordings at hand."""

from pathlib import Path

ANY_BANDWIDTH = ("speech.min_bandwidth_hz=0",)
"""Synthetic voices end at 11 kHz; the work is the same for full-band ones."""


def demo_sources(folder: Path) -> Path:
    """Write the demo's material into a folder; return the catalogue of it."""
    from pipelines.built_in.noises import write_noises
    from pipelines.built_in.voices import write_voices
    from pipelines.scanning.scan import scan

    list(write_voices(folder / "speech"))
    list(write_noises(folder / "noise"))
    roots = {"speech": [str(folder / "speech")], "noise": [str(folder / "noise")]}
    scan(roots, folder / "sources.parquet", workers=2)  # type: ignore[arg-type]
    return folder / "sources.parquet"
