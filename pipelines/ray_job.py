"""Paths of a command that runs as a submitted Ray job.

`ray job submit --working-dir` unpacks the uploaded folder on the head and runs the command in that copy, which Ray
deletes some time after the job. What a relative path would write there is lost, and the workers never see it.
"""

from pathlib import Path

from manifests.errors import UserError

COPIES_FOLDER = ("runtime_resources", "working_dir_files")
"""Ray keeps the copies below `SESSION/runtime_resources/working_dir_files`."""


def check_written(option: str, path: Path | str) -> None:
    """Refuse to write into the copy.

    Args:
        option: the option that gave the path, to name it.
        path: a path that the command will write, or a URI, which is always fine.

    Raises:
        UserError: when the path lies in the copy.
    """
    if _lies_in_a_copy(path):
        raise UserError(
            f"{option} {path}: lies in the folder that Ray deletes after the job; "
            "give an absolute path that all nodes share, or a URI"
        )


def check_read(option: str, path: Path | str) -> None:
    """Explain why a file that the user has is not there.

    Args:
        option: the option that gave the path, to name it.
        path: a path that the command will read, or a URI, which is not looked at.

    Raises:
        UserError: when the path lies in the copy and was not uploaded.
    """
    if _lies_in_a_copy(path) and not Path(path).exists():
        raise UserError(
            f"{option} {path}: was not uploaded with the job (.rayignore says what is); "
            "give an absolute path on the head, or a URI"
        )


def _lies_in_a_copy(path: Path | str) -> bool:
    if "://" in str(path):
        return False
    parts = Path(path).absolute().parts
    return COPIES_FOLDER in zip(parts, parts[1:], strict=False)
