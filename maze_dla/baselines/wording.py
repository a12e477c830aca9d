"""Lists of names in sentences."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5


def listed(names: Sequence[str], most: int = SHOWN) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
