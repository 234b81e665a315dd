"""MLflow's own pages as a process that is stopped with everything that it started."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from manifests.errors import JobError
from pipelines.report import tied_process
from pipelines.tracking.store import Store

START_LIMIT_S = 120.0
"""On a busy machine, MLflow takes a quarter of a minute."""
STOP_LIMIT_S = 5.0
ANSWER_LIMIT_S = 2.0
_LOG_BYTES = 2000


class MlflowServer:
    """MLflow's pages on a store. Made by `mlflow_server`."""

    def __init__(self, process: subprocess.Popen[bytes], host: str, port: int, log: IO[bytes]) -> None:
        self.url = f"http://{reachable(host)}:{port}"
        self.port = port
        self._process = process
        self._address = (host, port)
        self._log = log
        self._began_at = time.monotonic()

    def answers(self) -> bool:
        """Say whether its pages can be seen.

        Raises:
            JobError: when the process has ended, or takes too long.
        """
        self.check()
        host = reachable(self._address[0]).strip("[]")
        connection = HTTPConnection(host, self._address[1], timeout=ANSWER_LIMIT_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            if time.monotonic() - self._began_at > START_LIMIT_S:
                raise JobError(
                    f"MLflow did not answer at {self.url} within {START_LIMIT_S:.0f} s{self._last_words()}"
                ) from None
            return False
        finally:
            connection.close()

    def check(self) -> None:
        """Raise JobError when the process has ended."""
        if (code := self._process.poll()) is not None:
            raise JobError(f"MLflow's server ended by itself with exit code {code}{self._last_words()}")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read()[-_LOG_BYTES:].decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


@contextmanager
def mlflow_server(store: Store, host: str, port: int) -> Iterator[MlflowServer]:
    """Run MLflow's server within the block; afterwards none of its processes is left, nor when this one is killed.

    Args:
        store: what it shows; its database exists.
        host: address to listen on.
        port: free one.
    """
    command = [
        sys.executable,
        "-I",
        str(Path(tied_process.__file__)),
        sys.executable,
        "-m",
        "mlflow",
        "server",
    ]
    command += ["--host", host, "--port", str(port), "--workers", "1", "--backend-store-uri", store.uri]
    if store.artifacts is not None:
        command += ["--artifacts-destination", str(store.artifacts)]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile() as log:
        # In a session of its own: Ctrl-C in the terminal is ours alone, and the whole group can be told to stop.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=os.environ | quiet,
            start_new_session=True,
        )
        try:
            yield MlflowServer(process, host, port, log)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group: asked first, then killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    # Its children may outlive it, and are still of its group.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def reachable(host: str) -> str:
    """Return an address that this machine can open, as URLs have it: a host to listen on may stand for all of them."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host
