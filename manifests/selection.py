"""A selection: the samples of a corpus that a run uses, by the numbers that they have in their shards.

It is plain data with a digest, so that training needs to know nothing of tables or expressions, and a run can say which
samples it heard and refuse to go on with others.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from manifests.canonical import DIGEST_HEX_LENGTH, canonical_json, digest
from manifests.corpus import Corpus, OpenPart, ShardRecord
from manifests.errors import UserError


@dataclass(frozen=True)
class SelectionRecord:
    """What a run and its model remember of a selection."""

    expression: str
    digest: str
    samples: Mapping[str, int]
    """Number of samples, by split."""


@dataclass(frozen=True)
class Selection:
    """Which samples are used; those of a shard that is not named are not."""

    expression: str
    """As the user wrote it."""
    corpus_id: str
    values_digest: str
    """Of the values that the expression was applied to: scores that were measured anew make another selection."""
    kept: Mapping[str, tuple[int, ...]]
    """By name of a shard (`OpenPart.shard_name`): numbers of its samples, ascending."""

    @cached_property
    def digest(self) -> str:
        """Identity of the selection."""
        return digest(self._content)

    @property
    def _content(self) -> dict[str, Any]:
        # Not by `asdict`: that would copy every number of a million samples.
        return {name: getattr(self, name) for name in ("expression", "corpus_id", "values_digest", "kept")}

    @property
    def record(self) -> SelectionRecord:
        """What to remember of it."""
        samples: dict[str, int] = {}
        for name, numbers in self.kept.items():
            split = name.rsplit("/", 2)[-2]
            samples[split] = samples.get(split, 0) + len(numbers)
        return SelectionRecord(self.expression, self.digest, samples)

    def of(self, part: OpenPart, shard: ShardRecord) -> ShardRecord:
        """Return the record of a part's shard with the selected samples alone."""
        chosen = tuple(shard.samples[number] for number in self.kept.get(part.shard_name(shard), ()))
        return shard.model_copy(update={"samples": chosen})

    def check(self, corpus: Corpus, splits: Iterable[str]) -> None:
        """Check that it can be used with a corpus.

        Raises:
            UserError: when it was made from another corpus, or leaves nothing in one of the splits that are needed.
        """
        if self.corpus_id != corpus.manifest.id:
            raise UserError(
                f"{corpus.url}: is corpus {corpus.manifest.id}, and the selection was made from {self.corpus_id}"
            )
        left = self.record.samples
        for split in splits:
            total = corpus.samples_of(split)
            if total and not left.get(split):
                raise UserError(
                    f'--keep "{self.expression}": keeps none of the {total} samples of the {split} split'
                )

    def written(self) -> bytes:
        """Return its file's content."""
        return canonical_json({"format": FORMAT, "digest": self.digest, **self._content}) + b"\n"


FORMAT = 1
_HEAD_BYTES = 256
"""In canonical form, the digest comes after the id of the corpus alone."""
_DIGEST = re.compile(rb'"digest": ?"([0-9a-f]+)"')
SELECTION_FILE = "selection.json"
"""In the folder of a stage: which samples it uses; only where it does not use all."""


def read_selection(path: Path) -> Selection:
    """Read a selection's file.

    Raises:
        UserError: when there is none, or its content changed since it was written.
    """
    try:
        written = path.read_bytes()
        content: dict[str, Any] = json.loads(written)
        if content.pop("format") != FORMAT:
            raise ValueError
        wanted = content.pop("digest")
        kept = {name: tuple(numbers) for name, numbers in content.pop("kept").items()}
        selection = Selection(**content, kept=kept)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a selection of this format") from error
    if _is_as_written(written, wanted):
        vars(selection)["digest"] = wanted  # of a million samples it takes its time to find out once more
    if selection.digest != wanted:
        raise UserError(f"{path}: its content changed since it was written")
    return selection


def _is_as_written(written: bytes, wanted: str) -> bool:
    """Say whether a file is a selection of this digest in its canonical form: known without writing it again."""
    head = f'"digest":"{wanted}",'.encode()
    content = written.replace(head, b"", 1).replace(f'"format":{FORMAT},'.encode(), b"", 1)
    return hashlib.sha256(content.removesuffix(b"\n")).hexdigest()[:DIGEST_HEX_LENGTH] == wanted


def written_digest(path: Path) -> str:
    """Return the digest that a selection's file says it has, unchecked and read from its beginning; empty for none."""
    try:
        with path.open("rb") as stream:
            found = _DIGEST.search(stream.read(_HEAD_BYTES))
    except OSError:
        return ""
    return found[1].decode() if found else ""
