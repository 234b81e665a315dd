"""Keyed randomness, which `datagen` and `training` share: it lives in `manifests.keyed`."""

from manifests.keyed import generator

__all__ = ["generator"]
