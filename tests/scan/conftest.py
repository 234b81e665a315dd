"""Real recordings for the tests of scanning."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recordings; tests that need it are skipped where it is missing."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SSIFORGE_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set SSIFORGE_DATA")
    return folder
