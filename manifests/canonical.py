"""Canonical JSON and the digests made of it: equal content, equal digest, whatever the key order."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIGEST_HEX_LENGTH = 32
"""Digests of declared things are 128-bit (MLflow allows 36 characters); file hashes stay full SHA-256."""

_READ_BLOCK_BYTES = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Serialise a JSON value to its one canonical UTF-8 form: sorted keys, no spaces, shortest floats.

    Raises:
        ValueError: for NaN or infinity, which JSON cannot carry.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """Digest a JSON value: the first 32 hex digits of SHA-256 over its canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:DIGEST_HEX_LENGTH]


def digest_of_list(values: Iterable[Any]) -> str:
    """Digest a list of JSON values as `digest` does, without holding it."""
    sha = hashlib.sha256(b"[")
    for number, value in enumerate(values):
        sha.update(b"," if number else b"")
        sha.update(canonical_json(value))
    sha.update(b"]")
    return sha.hexdigest()[:DIGEST_HEX_LENGTH]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BLOCK_BYTES):
            sha.update(block)
    return sha.hexdigest()


def rounded(value: float, digits: int = 4) -> float | None:
    """Round a measurement for a record; what is not finite (silence has no level) becomes None."""
    return round(float(value), digits) if math.isfinite(value) else None
