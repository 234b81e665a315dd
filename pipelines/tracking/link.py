"""Which MLflow run and model belong to a stage of a run: a small file in its folder, which outlives the store."""

import json
from pathlib import Path

LINK_FILE = "mlflow.json"


def read_link(stage_dir: Path) -> dict[str, str]:
    """Return what a stage's folder knows of MLflow: run, model, registered version; empty if nothing."""
    try:
        content = json.loads((stage_dir / LINK_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in content.items()} if isinstance(content, dict) else {}
