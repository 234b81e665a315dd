"""A cluster of its own for each test file that needs one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_ray import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster in whose name processes may be started; whatever is left of them is ended with the test file."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("processes of a cluster are found through /proc")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    cluster = Cluster(folder)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder)
