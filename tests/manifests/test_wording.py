"""Numbers of things in sentences."""

import pytest

from manifests.wording import how_many


@pytest.mark.parametrize(("count", "said"), [(0, "0 sources"), (1, "1 source"), (2, "2 sources")])
def test_one_thing_has_no_plural(count: int, said: str) -> None:
    assert how_many(count, "source") == said
