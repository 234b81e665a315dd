"""Numbers of things in sentences."""


def how_many(count: int, thing: str) -> str:
    """Return `1 sample`, `2 samples` and so on, for a thing whose plural ends in s."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
