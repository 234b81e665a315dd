"""A Ray cluster of its own for a test: homes with a token, and its processes found again and ended by pid."""

import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

GONE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Cluster:
    """Where a cluster keeps its files, and the token that its machines share."""

    folder: Path
    """Short, since Ray puts sockets below it. No other process has its home or files there."""
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a user whose home lies in this cluster: nothing of another Ray is in it."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = os.pathsep.join([str(Path(sys.executable).parent), own["PATH"]])
        return own | {"HOME": str(home), "RAY_TMPDIR": str(home), "TMPDIR": str(self.folder), "PATH": path}

    def home(self, name: str) -> Path:
        """A home with the token in it."""
        home = self.folder / name
        (home / ".ray").mkdir(parents=True)
        token = home / ".ray" / "auth_token"
        token.touch(0o600)
        token.write_text(self.token)
        return home

    def stop(self) -> None:
        """End the processes of this cluster, and no other."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while pids := [int(entry.name) for entry in Path("/proc").iterdir() if self._owns(entry)]:
            assert time.monotonic() < deadline, f"still alive: {pids}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def _owns(self, process: Path) -> bool:
        """Whether a process has its home here; Ray's agents overwrite their environment, but keep logs here open."""
        if not process.name.isdigit():
            return False
        try:
            if f"HOME={self.folder}/".encode() in (process / "environ").read_bytes():
                return True
            return any(
                str(file.readlink()).startswith(f"{self.folder}/") for file in (process / "fd").iterdir()
            )
        except OSError:  # it ended meanwhile, or is another user's
            return False


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
