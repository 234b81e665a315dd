"""The command line, sent a signal just before a file gets its final name: `disturbed.py SIGNAL NAME TIME ARGUMENT...`.

Every file of the product is written under another name and then renamed, so this is in the middle of whatever is being
done. NAME is the end of the file's path, TIME says at which renaming to it (1 is the first).
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from pipelines.cli import main

number, name, time = signal.Signals[sys.argv[1]], sys.argv[2], int(sys.argv[3])
sys.argv = ["ssiforge", *sys.argv[4:]]
renamed = Path.replace
seen = 0


def replace(self: Path, target: Any) -> Any:
    """Rename, but for the one time."""
    global seen
    seen += str(target).endswith(name)
    if seen == time and str(target).endswith(name):
        os.kill(os.getpid(), number)
    return renamed(self, target)


Path.replace = replace  # type: ignore[method-assign]
main()
