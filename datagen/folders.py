"""Find the audio files below a folder or a URI."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from datagen.provenance import Found
from manifests.errors import UserError

_LOSSLESS = (".wav", ".wave", ".flac", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64")
_LOSSY = (".ogg", ".oga", ".opus", ".mp3", ".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".wma")
AUDIO_SUFFIXES = frozenset((*_LOSSLESS, *_LOSSY))


def audio_files(root: str) -> list[Found]:
    """List the audio files below a folder, sorted by path.

    Symbolic links below the folder are not followed, hidden files and folders are left out, and so is everything
    whose name does not end like audio.

    Args:
        root: a folder, `file://` included, or any URI that fsspec can list.

    Raises:
        UserError: when the folder does not exist or cannot be listed.
    """
    if root.startswith("file://"):
        root = root.removeprefix("file://")
    if "://" in root:
        return _remote_files(root)
    folder = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
    if not folder.is_dir():
        raise UserError(f"{root}: not a folder" if folder.exists() else f"{root}: no such folder")
    return sorted(
        (Found(path, str(folder), Path(path).relative_to(folder).as_posix()) for path in _walk(str(folder))),
        key=lambda found: found.path,
    )


def _walk(folder: str) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif PurePosixPath(entry.name).suffix.lower() in AUDIO_SUFFIXES and entry.is_file(
            follow_symlinks=False
        ):
            yield entry.path


def _remote_files(root: str) -> list[Found]:
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(root)
        names: list[Any] = sorted(filesystem.find(inner))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{root}: cannot be listed ({error})") from error
    base = inner.rstrip("/")
    found = []
    for name in names:
        relative = name[len(base) :].lstrip("/") or PurePosixPath(name).name
        hidden = any(part.startswith(".") for part in PurePosixPath(relative).parts)
        if not hidden and PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES:
            found.append(Found(filesystem.unstrip_protocol(name), root.rstrip("/"), relative))
    return found
