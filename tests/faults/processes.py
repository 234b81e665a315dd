"""Find and end processes that a test started, and no others."""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1


def children(pid: int) -> list[int]:
    """Process ids of the living children of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(folder.name))
    return sorted(found)


def command(pid: int) -> str:
    """What a process calls itself; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill_and_wait(pid: int) -> None:
    """End a process at once, and wait until it is gone: it may still finish a system call."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        while True:
            os.kill(pid, signal.SIGKILL)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.01)


def obey_permissions() -> None:
    """Root writes where it may not; a process without this capability does not."""
    if os.getuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
