"""Names of depths, components, heads and metrics as a reader says them."""

from __future__ import annotations

import textwrap
from functools import cache

from maze_dla.results.base import PromptResult

EMBEDDINGS = {"embed": "token embedding", "pos_embed": "position embedding"}
HALVES = {"attn_out": "attention", "mlp_out": "MLP"}


def component_name(label: str) -> str:
    """A layer component in words: 3_attn_out is "attention 3"."""
    number, _, half = label.partition("_")
    return EMBEDDINGS.get(label) or (f"{HALVES[half]} {number}" if half in HALVES else label)


def component_kind(label: str) -> str:
    """To which kind a layer component belongs: embeddings, attention or MLP."""
    return HALVES.get(label.partition("_")[2], "embeddings")


def head_name(layer: int, head: int) -> str:
    """As in `RankedPart`: L5H3."""
    return f"L{layer}H{head}"


def metric_name(result: PromptResult) -> str:
    """What was measured, from the result's info."""
    return str(result.info.get("metric", "metric"))


def in_lines(text: str, width: int) -> str:
    """The text broken into lines of at most this many characters where words allow it."""
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.split("\n"))


def signed(value: float) -> str:
    """Two decimals behind a typeset sign, as on the axes."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def counted(n: int, noun: str) -> str:
    """The number with its noun: "1 prompt", "2 prompts"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def shown_token(token: str, most: int | None = None) -> str:
    """A token on one line, its leading space as a dot, cut to at most `most` characters; "$" starts no formula."""
    token = token.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    if token.startswith(" "):
        token = "·" + token[1:]
    if most is not None and len(token) > most:
        token = token[: max(most - 1, 1)] + "…"
    return plain(token)


def plain(text: str) -> str:
    """Text in which "$" starts no formula, and characters that the font lacks are written by their number."""
    known = _characters()
    text = "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in text)
    return text.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """What the font of pictures can show."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
