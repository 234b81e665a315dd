"""`ssiforge ui` serves reports and nothing else, to this machine alone, and leaves no process behind."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from processes import children, command

from pipelines.report.page import Section, page
from pipelines.report.server import ReportServer
from pipelines.report.ui import is_loopback

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
TITLE = "<b>Tim & Ada's</b> corpus"


def write_page(folder: Path, title: str = TITLE) -> Path:
    folder.mkdir(parents=True)
    (folder / "index.html").write_bytes(page(title, "", [Section("a", "A", "")]))  # type: ignore[arg-type]
    return folder / "index.html"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with a report, and things beside it that nobody is to see."""
    root = tmp_path / "work"
    write_page(root / "corpus" / "report")
    (root / "corpus" / "report" / "corpus.json").write_text("secret")
    (root / "secret.html").write_text("secret")
    (root / "site").mkdir()
    (root / "site" / "index.html").write_text("<title>secret</title>")
    write_page(root / ".hidden" / "report", "secret")
    outside = write_page(tmp_path / "outside" / "report", "secret")
    (root / "linked").symlink_to(outside.parent)
    (root / "linked-page").mkdir()
    (root / "linked-page" / "index.html").symlink_to(outside)
    os.mkfifo(root / "linked-page" / "fifo")
    (root / "a-folder" / "index.html").mkdir(parents=True)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "index.html")
    return root


@pytest.fixture
def server(served: Path) -> Iterator[ReportServer]:
    running = ReportServer("127.0.0.1", 0, [served])
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """Ask for a path as it is written: nothing is resolved on the way."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": "127.0.0.1"} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_reports_are_listed_and_served_with_headers_that_bind_them(
    server: ReportServer, served: Path
) -> None:
    response, index = ask(server.server_port, "/")
    assert response.status == 200
    links = re.findall(r'<a href="(/[0-9a-f]{12}/)">(.*?)</a>', index.decode())
    assert [title for _, title in links] == ["&lt;b&gt;Tim &amp; Ada&#x27;s&lt;/b&gt; corpus"]
    assert b"<code>corpus/report</code>" in index and b"secret" not in index
    response, content = ask(server.server_port, links[0][0])
    assert content == (served / "corpus/report/index.html").read_bytes()
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "connect-src" not in policy and "http" not in policy
    response, content = ask(server.server_port, links[0][0], "HEAD")
    assert response.status == 200 and content == b"" and int(response.headers["Content-Length"]) > 1000
    assert ask(server.server_port, links[0][0], "POST")[0].status == 501


def test_a_report_that_is_written_later_is_found(server: ReportServer, served: Path) -> None:
    write_page(served / "runs" / "a" / "report", "Run a")
    assert b">Run a</a>" in ask(server.server_port, "/")[1]
    (report,) = (found for found in server.find() if found.title == TITLE)
    (served / "corpus/report/index.html").write_text("secret")
    assert ask(server.server_port, f"/{report.name}/")[0].status == 404


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/corpus/report/index.html",
            "/secret.html",
            "/corpus.json",
            "/../secret.html",
            "/%2e%2e/secret.html",
        ),
        *(
            "/NAME/corpus.json",
            "/NAME/../../../secret.html",
            "/NAME/..%2f..%2f..%2fsecret.html",
            "/NAME//etc/passwd",
        ),
        *(
            "//etc/passwd",
            "/etc/passwd",
            "/NAME",
            "/NAME/index.html%00.html",
            "/000000000000/",
            "/NAME/?/../x",
            "*",
        ),
        *("/NAME/\\..\\secret.html", "http://[", "/NAME/%ff", "file:///etc/passwd"),
    ],
)
def test_nothing_but_reports_is_served(server: ReportServer, path: str) -> None:
    name = next(iter(server.find())).name
    response, content = ask(server.server_port, path.replace("NAME", name))
    if path == "/NAME/?/../x":  # a question about the report itself
        assert response.status == 200 and b"Ada" in content
        return
    assert response.status in (400, 404)
    assert b"secret" not in content and b"root:" not in content and len(content) < 300


def test_mlflow_is_linked_at_the_host_that_the_page_was_asked_under(served: Path) -> None:
    running = ReportServer("0.0.0.0", 0, [served])
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        assert b"MLflow" not in ask(running.server_port, "/")[1]
        running.mlflow_port = 5051
        for host in ("127.0.0.1", "192.0.2.7", "localhost", "[2001:db8::7]"):
            index = ask(running.server_port, "/", Host=f"{host}:{running.server_port}")[1].decode()
            assert f'href="http://{host}:5051/"' in index
        running.mlflow_port, running.mlflow_url = 0, "https://mlflow.example/team"
        assert b'href="https://mlflow.example/team"' in ask(running.server_port, "/")[1]
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def test_a_request_that_was_meant_for_another_host_is_refused(server: ReportServer) -> None:
    for host, status in {
        "127.0.0.1:5050": 200,
        "localhost": 200,
        "[::1]:80": 200,
        "evil.example": 403,
        "127.0.0.1.evil.example": 403,
        "": 403,
        "[": 400,
    }.items():
        assert ask(server.server_port, "/", Host=host)[0].status == status, host


def test_what_loopback_is() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "localhost.example", "box")))


def started(folder: Path, *options: object) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "ui", *map(str, options)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_until(process: subprocess.Popen[str], beginning: str) -> dict[str, str]:
    """What it printed, by the first word, up to a line that begins so."""
    assert process.stdout is not None
    found = {}
    for line in process.stdout:
        found[line.partition(":")[0]] = line
        if line.startswith(beginning):
            return found
    raise AssertionError(process.communicate()[1])


def below(pid: int) -> list[int]:
    """All processes that come from one."""
    return [found for child in children(pid) for found in (child, *below(child))]


@pytest.mark.faults
def test_one_command_serves_both_and_ctrl_c_stops_all(served: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, served / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        process = started(served, "--port", taken_port)
        said = lines_until(process, "MLflow: ")
    ports = {
        name: int(match[1]) for name in ("reports", "MLflow") if (match := re.search(r":(\d+)/", said[name]))
    }
    assert taken_port not in ports.values() and len(set(ports.values())) == 2
    assert "1 found" in said["reports"]
    index = ask(ports["reports"], "/")[1].decode()
    assert f'href="http://127.0.0.1:{ports["MLflow"]}/"' in index
    response, content = ask(ports["MLflow"], "/")
    assert response.status == 200 and b"MLflow" in content
    assert ask(ports["MLflow"], "/", Host="evil.example")[0].status == 403
    processes = below(process.pid)
    assert any("uvicorn" in command(pid) for pid in processes)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "stopped" in errors and "Traceback" not in errors
    assert f"--port {taken_port}: Address already in use; port {ports['reports']} is taken instead" in errors
    assert not [pid for pid in processes if command(pid)]
    for port in ports.values():
        with pytest.raises(ConnectionRefusedError):
            ask(port, "/")


@pytest.mark.faults
def test_when_the_command_is_killed_so_is_mlflow(served: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, served / "mlflow.db")
    process = started(served)
    lines_until(process, "MLflow: ")
    processes = below(process.pid)
    assert any("uvicorn" in command(pid) for pid in processes)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline, [command(pid) for pid in processes]
        time.sleep(0.01)


@pytest.mark.faults
def test_when_mlflow_ends_by_itself_so_does_the_command(served: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, served / "mlflow.db")
    process = started(served)
    lines_until(process, "Ctrl-C stops")
    (mlflow,) = children(process.pid)
    os.killpg(mlflow, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "MLflow's server ended by itself with exit code -9" in errors


def test_without_records_there_are_reports_alone_and_it_is_said(served: Path) -> None:
    process = started(served, "--host", "0.0.0.0")
    lines_until(process, "Ctrl-C stops")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "MLflow is not started: nothing was recorded" in errors and not (served / "mlflow.db").exists()
    assert "anyone who reaches this machine" in errors and "nobody is asked for a password" in errors


def test_what_cannot_be_served_is_said_in_a_sentence(ssiforge: Run, tmp_path: Path) -> None:
    code, _, errors = ssiforge("ui", tmp_path / "nowhere")
    assert code == 2 and "nowhere: no such folder" in errors
    code, _, errors = ssiforge("ui", tmp_path, "--host", "192.0.2.1")
    assert code == 2 and "--host 192.0.2.1: cannot be listened on" in errors
