"""A page takes its place whole or not at all, and what is in its way is said before the work begins."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from manifests.store import Store


@contextmanager
def _told(where: str, hint: str) -> Iterator[None]:
    """Turn what the system says of a place into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise JobError(f"{where}: cannot be written ({error.strerror}){hint}") from error
        raise UserError(f"{where}: cannot be written ({error.strerror or error}){hint}") from error


def check_place(folder: Path, hint: str = "") -> None:
    """Find out whether a page could be written to a folder that may not exist yet; nothing is left there.

    Args:
        folder: of the page.
        hint: end of the sentence, as `; choose another place with --out`.

    Raises:
        UserError: when it could not.
    """
    with _told(str(folder), hint):
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            read_only = os.statvfs(there).f_flag & os.ST_RDONLY
            code = errno.EROFS if read_only else errno.EACCES
            raise OSError(code, os.strerror(code))


def write_page(file: Path, content: bytes, hint: str = "") -> None:
    """Write a page, and the folder that it is to lie in.

    Args:
        file: of the page.
        content: all of it.
        hint: as of `check_place`.

    Raises:
        UserError: when it cannot be written there.
        JobError: when the disk is full; nothing is left of it then.
    """
    is_new = not file.parent.exists()
    with _told(str(file), hint):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_atomically(file, content)
        except BaseException:
            if is_new:
                with suppress(OSError):
                    file.parent.rmdir()
            raise


def store_page(store: Store, name: str, content: bytes, hint: str = "") -> None:
    """Write a page into a folder or bucket.

    Raises:
        UserError: likewise.
        JobError: likewise.
    """
    if store.folder is not None:
        write_page(store.folder / name, content, hint)
        return
    with _told(store.where(name), hint):
        store.write(name, content)
