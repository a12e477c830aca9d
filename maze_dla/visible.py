"""Text from outside as it may be shown: names in files hold whatever somebody put there."""

from __future__ import annotations


def visible(text: object) -> str:
    r"""The text on one line; whatever controls a terminal or a line is an escape: `\n`, `\x1b`, `\u202e`."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
