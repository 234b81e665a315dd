"""Stands in for `ssh` and `rsync`, under either name: a host is a folder of its name, which is its user's home.

`FOLDER_OF_HOSTS` in the environment says where those folders lie. Commands run on this machine, without the variables
of the Ray that called.
"""

import os
import shutil
import sys
from pathlib import Path

HOSTS = Path(os.environ["FOLDER_OF_HOSTS"])
VALUED = ("-o", "-i", "-L", "--rsh", "--exclude")


def operands(arguments: list[str]) -> list[str]:
    """What follows the options."""
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[2 if arguments[0] in VALUED else 1 :]
    return arguments


def run(target: str, *words: str) -> None:
    """Run a command on a host, in the shell that a login there would give."""
    home = HOSTS / target.partition("@")[2]
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own |= {"HOME": str(home), "RAY_TMPDIR": str(home)}
    os.execvpe("bash", ["bash", "-c", " ".join(words)], own)


def copy(source: str, target: str) -> None:
    """Copy a file or a folder's content to a host."""
    address, _, path = target.partition(":")
    home = str(HOSTS / address.partition("@")[2])
    asked = Path(path.replace("~", home, 1))
    # A path below the sender's home is one below the receiver's: real homes have the same name on all hosts.
    place = Path(home, *asked.relative_to(HOSTS).parts[1:])
    place.parent.mkdir(parents=True, exist_ok=True)
    if Path(source).is_dir():
        shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, place)


if __name__ == "__main__":
    (run if Path(sys.argv[0]).name == "ssh" else copy)(*operands(sys.argv[1:]))
