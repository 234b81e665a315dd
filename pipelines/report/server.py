"""A small web server for reports: it lists those below some folders, and serves them and nothing else.

A report is an `index.html` that says by a `generator` tag that it is one; it holds all that it shows. Addresses name
reports by digest, not by path, so none can lead anywhere else; links are not followed.
"""

import hashlib
import html
import os
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import TCPServer
from urllib.parse import urlsplit

from pipelines.report.markup import join, tag
from pipelines.report.page import GENERATOR, Section, page, table

PAGE_FILE = "index.html"
MAX_DEPTH = 5
"""Folders below which reports are looked for."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
"""A page may run the script that it holds, and can send nothing anywhere."""

_HEAD_BYTES = 4096
_GENERATOR = f'name="generator" content="{GENERATOR}"'.encode()
_TITLE = re.compile(rb"<title>(.*?)</title>", re.DOTALL)
_REPORT_URL = re.compile(r"/([0-9a-f]{12})/")


@dataclass(frozen=True)
class Report:
    """A report that was found."""

    folder: Path
    """That of the page."""
    place: str
    """The folder relative to where it was looked for."""
    title: str
    """As the page has it, with HTML's entities resolved; the place where it has none."""

    @property
    def name(self) -> str:
        """What addresses call it: the same each time."""
        return hashlib.sha256(str(self.folder.absolute()).encode()).hexdigest()[:12]


def find_reports(roots: Sequence[Path]) -> list[Report]:
    """Find reports below some folders, by their places; links and hidden folders are not followed."""
    found = {report.name: report for root in roots for report in _below(root, root.resolve(), MAX_DEPTH)}
    return sorted(found.values(), key=lambda report: report.place)


def _below(root: Path, folder: Path, depth: int) -> Iterator[Report]:
    if (report := _report(root, folder)) is not None:
        yield report
    if not depth:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        # A corpus may hold a hundred thousand files: they are not looked at one by one.
        folders = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for name in folders:
            if not name.startswith((".", "mlartifacts")):
                yield from _below(root, folder / name, depth - 1)


def _report(root: Path, folder: Path) -> Report | None:
    if (content := _read(folder / PAGE_FILE, _HEAD_BYTES)) is None or _GENERATOR not in content:
        return None
    title = _TITLE.search(content)
    place = folder.relative_to(root.resolve()).as_posix()
    return Report(folder, place, html.unescape(title[1].decode("utf-8", "replace")) if title else place)


def _read(path: Path, limit: int | None = None) -> bytes | None:
    """Read a plain file; None where there is none, or a link, a folder or a device in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - of a descriptor
        return stream.read(limit)


class ReportServer(ThreadingHTTPServer):
    """Serves reports on one address.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        roots: folders below which reports are looked for.

    Raises:
        OSError: when it cannot be listened on.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, roots: Sequence[Path]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host = host
        self.mlflow_url = ""
        """Where another MLflow's pages are, to be linked to."""
        self.mlflow_port = 0
        """Where those of an MLflow are that listens on the same address; 0 while there is none."""
        self._roots = tuple(roots)
        self._reports: dict[str, Report] = {}
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, and look up no name: that may take as long as a name server does not answer."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, int(self.server_address[1])

    def find(self) -> list[Report]:
        """Look for reports anew."""
        found = find_reports(self._roots)
        self._reports = {report.name: report for report in found}
        return found

    def report(self, name: str) -> Report | None:
        """Return the report that addresses call so."""
        if name not in self._reports:
            self.find()
        return self._reports.get(name)

    def mlflow_link(self, host: str) -> str:
        """Return where a browser that asked for this host finds MLflow; nothing while there is none.

        Whoever came by an address of a network cannot follow a link to loopback.
        """
        name = urlsplit(f"//{host}").hostname or self.host
        name = f"[{name}]" if ":" in name else name
        return f"http://{name}:{self.mlflow_port}/" if self.mlflow_port else self.mlflow_url

    def answers_to(self, host: str) -> bool:
        """Say whether a request was meant for this server: a page elsewhere may have a name resolve to loopback."""
        name = urlsplit(f"//{host}").hostname or ""
        if name in ("localhost", self.host):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not ip_address(str(self.server_address[0])).is_loopback


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer
    server_version = "ssiforge"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Answer with a page or file."""
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        """Answer with its headers."""
        self._answer(with_content=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a person reads the terminal."""

    def _answer(self, with_content: bool) -> None:
        kind = "text/plain; charset=utf-8"
        try:
            if not self.server.answers_to(self.headers.get("Host", "")):
                status, content = HTTPStatus.FORBIDDEN, b"another host was asked for\n"
            elif (found := self._found(urlsplit(self.path).path)) is None:
                status, content = HTTPStatus.NOT_FOUND, b"there is no such page here\n"
            else:
                status, kind, content = HTTPStatus.OK, "text/html; charset=utf-8", found
        except ValueError:
            status, content = HTTPStatus.BAD_REQUEST, b"not an address\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

    def _found(self, path: str) -> bytes | None:
        if path == "/":
            return index_page(self.server.find(), self.server.mlflow_link(self.headers.get("Host", "")))
        match = _REPORT_URL.fullmatch(path)
        report = self.server.report(match[1]) if match else None
        content = _read(report.folder / PAGE_FILE) if report is not None else None
        # It may be another file by now.
        return content if content is not None and _GENERATOR in content[:_HEAD_BYTES] else None


def index_page(reports: Sequence[Report], mlflow_url: str) -> bytes:
    """Return the page that leads to all others."""
    rows = [
        (tag("a", report.title, href=f"/{report.name}/"), tag("code", report.place)) for report in reports
    ]
    none = join(
        "There is none yet: ",
        tag("code", "ssiforge report"),
        " with a corpus, a run or an evaluation writes one, and loading this page again finds it.",
    )
    body = table(("report", "on"), rows, label="Reports") if rows else tag("p", none, class_="note")
    link = join(tag("a", "MLflow", href=mlflow_url), ": runs, models and data sets.") if mlflow_url else ""
    return page("ssiforge", link, [Section("reports", "Reports", body)])
