"""Free text means a licence only where it means one; a list allows what it names."""

import pytest

from manifests.errors import UserError
from manifests.licence_names import AllowedLicences, is_known, spdx_of


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("GPL V3+", "GPL-3.0-or-later"),
        ("gpl  v2+", "GPL-2.0-or-later"),
        ("Horia PELLE 2015 / GPL V3+", "GPL-3.0-or-later"),
        ("GPL-3.0", "GPL-3.0-only"),
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("cc0-1.0", "CC0-1.0"),
        ("CC0-1.0 (simulated)", "CC0-1.0"),
        ("Zohra Coudoin / GPL", "Zohra Coudoin / GPL"),  # no version: any, says the GPL; which, says nobody
        ("Public Domain", "Public Domain"),
        ("Creative Common License BY-SA", "Creative Common License BY-SA"),
        ("", "unknown"),
        ("CC BY-NC 4.0 / CC BY 4.0", "CC BY-NC 4.0 / CC BY 4.0"),  # two sets of terms, not a holder and one
        ("All rights reserved / CC BY 4.0", "All rights reserved / CC BY 4.0"),
        ("No commercial use / MIT", "No commercial use / MIT"),
        ("x / " * 50_000 + "MIT", "MIT"),
    ],
)
def test_a_text_means_a_licence_only_without_a_doubt(text: str, spdx: str) -> None:
    assert spdx_of(text) == spdx


@pytest.mark.parametrize(
    ("allowed", "licence", "is_allowed"),
    [
        ("CC-BY-*", "CC-BY-4.0", True),
        ("CC-BY-*", "CC BY 3.0", True),
        ("CC-BY-*", "CC-BY-NC-4.0", False),
        ("CC-BY-*", "CC-BY-SA-4.0", False),
        ("CC-BY-*", "CC-BY-everything at all", False),
        ("*", "MIT", False),
        ("GPL-*-or-later", "GPL V3+", True),
        ("GPL V3+", "Horia PELLE 2015 / GPL V3+", True),
        ("MIT", "unknown", False),
        ("MIT", "CC0-1.0 (simulated)", True),
        ("MIT", "CC BY-NC 4.0 / MIT", False),
        ("unknown", "unknown", True),
        ("unknown", "Unknown ", True),
        ("unknown", "Public Domain", False),
        ("unknown", "All rights reserved", False),
        ("MIT,unknown", "GPL", False),
        ("unrecognised", "Public Domain", True),
        ("unrecognised", "unknown", False),
        ("unrecognised", "", False),
        ("unrecognised", "MIT", False),
        ("unrecognised", "CC-BY-NC-4.0 AND X", False),
        ("unrecognised", "(CC-BY-NC-4.0) AND X", False),
        ("unrecognised,MIT", "MIT AND X", True),
        ("unrecognised", "CC-BY-NC-4.0 OR X", True),
        ("A. Person / GPL", "A.  Person / GPL", True),
        ('MIT, "All mine, all"', "All mine, all", True),
        ('MIT, "All mine, all"', "MIT", True),
        ("All mine, all", "All mine, all", False),
        ("unknown", "CC-BY-NC-4.0", False),
        ("Public Domain", "Public Domain", True),
        ("MIT", "MIT OR Apache-2.0", True),
        ("MIT", "MIT AND Apache-2.0", False),
        ("MIT,Apache-2.0", "MIT AND Apache-2.0", True),
        ("MIT", "(MIT OR X) AND Y", False),
        ("unknown", "CC-BY-NC-4.0 AND MIT", False),
    ],
)
def test_a_list_allows_what_it_names(allowed: str, licence: str, is_allowed: bool) -> None:
    found = AllowedLicences.parse([allowed])
    assert found is not None and (licence in found) == is_allowed


def test_every_deprecated_or_written_out_name_leads_to_a_known_identifier() -> None:
    from manifests.licence_names import _MEANT

    assert all(is_known(spdx) for spdx in _MEANT.values())


def test_no_list_is_no_restriction_and_an_empty_one_is_a_mistake() -> None:
    assert AllowedLicences.parse([]) is None
    with pytest.raises(UserError, match="names no licence"):
        AllowedLicences.parse([" , "])
