"""`ssiforge ui`: MLflow's pages and the reports in one go, for the person at this machine."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

from manifests.errors import UserError
from pipelines.report.mlflow_server import MlflowServer, mlflow_server, reachable
from pipelines.report.server import ReportServer
from pipelines.tracking.store import Store, open_store, store_location

LOOPBACK = "127.0.0.1"
PORTS_TRIED = 20
_LOOK_EVERY_S = 0.2


def ui(
    folders: Sequence[Path],
    host: str,
    port: int,
    show: Callable[[str], None] = print,
    say: Callable[[str], None] = print,
) -> None:
    """Serve until Ctrl-C (or SIGTERM, or a closed terminal); then all is stopped.

    Args:
        folders: below them reports are looked for.
        host: address to listen on; of this machine alone, or of a network that is trusted.
        port: of the reports, MLflow has the next; taken ones are passed over.
        show: told the addresses.
        say: told what a person should know.

    Raises:
        UserError: when a folder does not exist, or the address cannot be listened on.
        JobError: when MLflow's server cannot be started, or ends by itself.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    if not is_loopback(host):
        say(
            f"--host {host}: anyone who reaches this machine can see the reports, and can see, change and delete what "
            "MLflow keeps: nobody is asked for a password"
        )
    store = store_location()
    with _asked_to_stop() as stopping, ExitStack() as running:
        reports = running.enter_context(_served(host, port, folders, say))
        show(f"reports: http://{reachable(host)}:{reports.server_port}/ ({len(reports.find())} found)")
        mlflow = _mlflow(store, host, reports, running, show, say)
        show("Ctrl-C stops")
        while not stopping.wait(_LOOK_EVERY_S):
            if mlflow is None:
                continue
            if reports.mlflow_port:
                mlflow.check()
            elif mlflow.answers():
                reports.mlflow_port = mlflow.port
                show(f"MLflow: {mlflow.url}/ ({store.uri if store.database else 'the store that is set'})")
    say("stopped")


def is_loopback(host: str) -> bool:
    """Say whether an address is seen by this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mlflow(
    store: Store,
    host: str,
    reports: ReportServer,
    running: ExitStack,
    show: Callable[[str], None],
    say: Callable[[str], None],
) -> MlflowServer | None:
    """Start MLflow's server, unless there is one already or nothing to be seen."""
    if store.uri.startswith(("http://", "https://")):
        reports.mlflow_url = store.uri
        show(f"MLflow: {store.uri} (a server that runs already)")
        return None
    if not store.exists:
        say(f"MLflow is not started: nothing was recorded in {store.database} yet")
        return None
    # Brings the tables to this version of MLflow: two processes that do so at once would be in each other's way.
    open_store(store)
    say("MLflow starts, which takes some seconds")
    port = _free_port(host, reports.server_port + 1)
    return running.enter_context(mlflow_server(store, host, port))


@contextmanager
def _served(
    host: str, port: int, folders: Sequence[Path], say: Callable[[str], None]
) -> Iterator[ReportServer]:
    """Serve reports from another thread on the first port that can be had."""
    server = None
    reason = ""
    for candidate in _candidates(port):
        try:
            server = ReportServer(host, candidate, folders)
            break
        except OSError as error:
            reason = error.strerror or str(error)
    if server is None:
        raise UserError(f"--host {host}: cannot be listened on ({reason})")
    if reason:
        say(f"--port {port}: {reason}; port {server.server_port} is taken instead")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _candidates(port: int) -> list[int]:
    return [*range(port, min(port + PORTS_TRIED, 2**16)), 0]


def _free_port(host: str, wanted: int) -> int:
    """Return the first port from `wanted` on that nobody listens on."""
    for port in _candidates(wanted):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            try:
                tried.bind((host, port))
            except OSError:
                continue
            return int(tried.getsockname()[1])
    raise UserError(f"--host {host}: no port of it is free")


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Lend what is set when the process is asked to stop; asking again changes nothing while it does."""
    stopping = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopping.set()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
