"""A recipe of one stage, which is meant to fail."""

from pathlib import Path


def write_recipe(path: Path, stage: str, more: str = "") -> str:
    """Write it: one stage with its settings, and `more` lines; return its path."""
    path.write_text(
        f"name: faulty\nseconds: 1\nsplits: {{train: 0.5, val: 0.25, test: 0.25}}\n{more}\n"
        f"output: {{samples_per_shard: 4}}\nstages:\n  - {{stage: {stage}}}\n"
    )
    return str(path)
