"""Which sources a user means to withdraw, and what is said where none is meant."""

import pytest
from tiny_corpora import file_hash, source

from manifests.catalogue import Catalogue
from manifests.errors import UserError
from manifests.source import WITHDRAWN
from pipelines.governance.withdraw_sources import sources_meant

GONE, THERE = file_hash("gone.wav"), file_hash("there.wav")


@pytest.fixture
def catalogue() -> Catalogue:
    rows = [source(f"{name}.wav", "noise", name, "CC0-1.0", "train") for name in ("gone", "there")]
    return Catalogue(rows).refusing(lambda row: WITHDRAWN if row.sha256 == GONE else None)


@pytest.mark.parametrize("reference", [THERE, THERE[:8].upper(), "noise/there.wav", "recording:there"])
def test_a_source_is_meant_by_hash_path_or_group(catalogue: Catalogue, reference: str) -> None:
    assert [row.sha256 for row in sources_meant([reference], catalogue, "corpus")] == [THERE]


@pytest.mark.parametrize("reference", [GONE, GONE[:8], "noise/gone.wav", "recording:gone"])
def test_what_went_before_went_already(catalogue: Catalogue, reference: str) -> None:
    with pytest.raises(UserError, match=f"{reference}: was withdrawn from corpus already"):
        sources_meant([THERE, reference], catalogue, "corpus")


def test_a_hash_that_is_cut_too_short_is_told_how_much_is_needed(catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match="of a hash, 8 digits are needed"):
        sources_meant([f"{THERE[:6]}1"], catalogue, "corpus")
    for word in ("cafe", "nothing.wav", "f" * 64):
        with pytest.raises(UserError, match="no source of corpus that could be withdrawn$"):
            sources_meant([word], catalogue, "corpus")
