"""An S3 server on loopback, and a proxy before it that misbehaves as networks and throttled buckets do."""

import http.client
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import numpy as np

Fault = Literal["slow_down", "internal_error", "dropped_before", "dropped_after", "cut_off", "forbidden"]
"""`dropped_before` the server saw the request, `dropped_after` it was carried out; `cut_off` in mid-answer."""

_ANSWERS: dict[str, tuple[int, str]] = {
    "slow_down": (503, "SlowDown"),
    "internal_error": (500, "InternalError"),
    "forbidden": (403, "AccessDenied"),
}


@dataclass
class S3:
    """A running server with one bucket."""

    url: str
    bucket: str
    choose_fault: Callable[[str, str], Fault | None] = lambda method, path: None
    """Told the method and path of each request."""
    injected: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def at_random(seed: int, share: float, kinds: tuple[Fault, ...]) -> Callable[[str, str], Fault | None]:
    """Let a share of all requests fail, in drawn ways."""
    rng = np.random.default_rng(seed)
    lock = threading.Lock()

    def choose(method: str, path: str) -> Fault | None:
        with lock:
            return kinds[int(rng.integers(len(kinds)))] if rng.random() < share else None

    return choose


@contextmanager
def s3_server(bucket: str = "corpora") -> Iterator[S3]:
    """Run the server and the proxy for a while."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    upstream = moto.get_host_and_port()
    s3 = S3("", bucket)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(s3, upstream))
    proxy.daemon_threads = True
    s3.url = f"http://127.0.0.1:{proxy.server_address[1]}"
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection(*upstream)
    connection.request("PUT", f"/{bucket}")
    assert connection.getresponse().status == 200
    try:
        yield s3
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()


def _handler(s3: S3, upstream: tuple[str, int]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = s3.choose_fault(self.command, self.path)
            s3.requests[self.command] += 1
            if fault is not None:
                s3.injected[fault] += 1
            if fault in _ANSWERS:
                self._refuse(*_ANSWERS[fault])
                return
            if fault == "dropped_before":
                self._drop()
                return
            status, headers, content = self._forward(body)
            if fault == "dropped_after":
                self._drop()
                return
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in (
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "date",
                    "server",
                ):
                    self.send_header(name, value)
            length = {n.lower(): v for n, v in headers}.get("content-length", str(len(content)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if fault == "cut_off" and len(content) > 1:
                self.wfile.write(content[: len(content) // 2])
                self._drop()
            elif self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(*upstream, timeout=60)
            kept = {n: v for n, v in self.headers.items() if n.lower() not in ("connection", "expect")}
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, answer.getheaders(), content

        def _refuse(self, status: int, code: str) -> None:
            content = (
                f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _drop(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    return Handler
