"""Copies a corpus from one place to another, byte for byte, and goes on where an earlier copy was interrupted."""

from manifests.canonical import file_sha256
from manifests.corpus import CORPUS_FILE, PROGRESS_FILE, Corpus, read_manifest
from manifests.errors import UserError
from manifests.store import Place, Store, open_store
from pipelines.corpus.outstanding import asked_of
from pipelines.progress import JobProgress


def copy_corpus(corpus: Corpus, place: Place) -> int:
    """Copy a corpus, its `corpus.json` last: a copy that has one is complete.

    Args:
        corpus: to copy, from wherever it lies.
        place: folder or URI of the copy.

    Returns:
        How many files were copied; 0 when all were there.

    Raises:
        UserError: when a file is not what the corpus names, or the corpus changes meanwhile.
        OSError: when it cannot be read or written.
    """
    copy = open_store(place)
    names = [name for name in sorted(corpus.store.names()) if _belongs(name)]
    there = copy.names()

    def copied(name: str) -> bool:
        expected = _expected(corpus, name)
        if name in there and copy.sha256(name) == expected:
            return False
        _copy_file(corpus.store, copy, name, expected)
        return True

    count = 0
    remote = corpus.store if corpus.store.folder is None else copy
    with JobProgress(f"copy {corpus.url}", len(names) + 1, "files") as progress:
        for was_missing in asked_of(remote, copied, names):
            count += was_missing
            progress.advance(1)
        if read_manifest(corpus.store) != corpus.manifest:
            raise UserError(f"{corpus.url}: was changed by another job while it was copied")
        count += copied(CORPUS_FILE)
        progress.advance(1)
    return count


def _belongs(name: str) -> bool:
    """Whether a file is part of a corpus: locks, temporaries and the last job's progress are not."""
    hidden = any(word.startswith(".") for word in name.split("/"))
    return not hidden and name not in (CORPUS_FILE, PROGRESS_FILE)


def _expected(corpus: Corpus, name: str) -> str:
    """SHA-256 of a file as the manifest names it, or as it lies there: simulated rooms, for example, are not named."""
    manifest = corpus.manifest
    return manifest.shards.get(name) or manifest.files.get(name) or corpus.store.sha256(name)


def _copy_file(source: Store, copy: Store, name: str, expected: str) -> None:
    with copy.new_file(name) as path:
        source.fetch(name, path)
        if file_sha256(path) != expected:
            raise UserError(
                f"{source.where(name)}: its content is not what its corpus names; "
                f"run 'ssiforge verify {source.url}'"
            )
