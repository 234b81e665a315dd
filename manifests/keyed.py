"""Keyed randomness: the stream behind a draw depends on what the draw is for, never on what came before."""

import hashlib

import numpy as np

from manifests.canonical import canonical_json

_KEY_BYTES = 16


def generator(*key: str | int) -> np.random.Generator:
    """Return a generator that depends on `key` alone.

    Philox is counter-based: a stream for each key, no shared state, the same on every platform.

    Args:
        key: what the randomness is for, for example `(seed, "train", 12, "noise")`.
    """
    hashed = hashlib.blake2b(canonical_json(list(key)), digest_size=_KEY_BYTES).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(hashed, "big")))
