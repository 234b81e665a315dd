"""A command that ends when whoever started it does, however that one ends: `python -I tied_process.py COMMAND...`.

It leads a process group of its own, and holds one end of a pipe as its standard input. The operating system closes the
other end when the starter is gone, even by SIGKILL, and then the whole group is killed. It runs on its own, imports
nothing of ours, and exits with the command's exit code.
"""

import os
import signal
import subprocess
import sys
import threading


def _end_with_the_starter() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the command that the arguments are."""
    if os.getpgrp() != os.getpid():  # else the starter would be killed too
        os.setpgid(0, 0)
    signal.signal(
        signal.SIGTERM, lambda number, frame: None
    )  # the group is asked to end: we wait until it has
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
