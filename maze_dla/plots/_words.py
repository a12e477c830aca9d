"""Names of depths, components, heads and metrics as a reader says them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from functools import cache
from typing import Any

from jaxtyping import Int
from torch import Tensor

from maze_dla.results.base import PromptResult
from maze_dla.results.components import Component
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.words import about

EMBEDDINGS = {"embed": "token embedding", "pos_embed": "position embedding"}
NORM = {"norm": "final norm"}
DUST = frozenset(".,;:'`")
KINDS_OF_WRITERS = {"attn_out": "attention", "mlp_out": "MLP"}


def component_name(component: Component) -> str:
    """A component in words: attention 3, token embedding."""
    name = {**KINDS_OF_WRITERS, **EMBEDDINGS, **NORM}.get(component.kind, component.kind)
    return name if component.layer is None else f"{name} {component.layer}"


def component_kind(component: Component) -> str:
    """To which kind a component belongs: embeddings, attention, MLP, final norm, or something else in the stream."""
    kinds = {**KINDS_OF_WRITERS, **dict.fromkeys(EMBEDDINGS, "embeddings"), **NORM}
    return kinds.get(component.kind, "other")


def metric_name(result: PromptResult | StreamedResult) -> str:
    """The metric, from the result's info; of one half of a contrast also which half it is."""
    name, part = str(result.info.get("metric", "metric")), result.info.get("part")
    return one_line(name if part is None else f"{name}, {part} part")


def of_prompts(result: PromptResult | StreamedResult) -> str:
    """The metric, and over how many prompts, or pairs of them, about how many things."""
    return f"{metric_name(result)}, {counted_about(result, 'pair' if 'part' in result.info else 'prompt')}"


def counted_about(result: PromptResult | StreamedResult, noun: str) -> str:
    """How many prompts or pairs, and about how many things: "100 prompts about 50 mazes"."""
    return f"{counted(len(result), noun)} {one_line(result.about)}".rstrip()


def counted_things(n: int, clusters: Int[Tensor, " prompt"], info: Mapping[str, Any]) -> str:
    """How many prompts, and about how many things, of a result that is about no metric."""
    return f"{counted(n, 'prompt')} {one_line(about(n, int(clusters.max()) + 1, info.get('unit')))}".rstrip()


def one_line(text: str) -> str:
    """A name from outside on one line; "$" starts no formula."""
    return plain(" ".join(text.split()))


def in_lines(text: str, width: int) -> str:
    """The text broken into lines of at most this many characters where words allow it."""
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.split("\n"))


def signed(value: float) -> str:
    """Two decimals after a typeset sign, as on the axes, three where two would be zero; no sign where all are."""
    written = f"{value:+.2f}" if value == 0 or abs(value) >= 0.005 else f"{value:+.3f}"
    return written.replace("-", "\N{MINUS SIGN}") if float(written) else written[1:]


def share(value: float) -> str:
    """A probability in two decimals; what would then be zero, and is not, in powers of ten such as 4e-5."""
    if value == 0 or value >= 0.005:
        return f"{value:.2f}"
    digit, _, power = f"{value:.0e}".partition("e-")
    return f"{digit}e-{int(power)}"


def decimals(largest: float) -> int:
    """How many decimals tell numbers of up to this size apart: two, and more where all are small."""
    return 2 if largest <= 0 else max(2, 1 - math.floor(math.log10(largest)))


def counted(n: int, noun: str) -> str:
    """The number with its noun: "1 prompt", "2 prompts"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def shown_token(token: str, most: int | None = None) -> str:
    """A token on one line, its leading space as a dot, cut to at most `most` characters; "$" starts no formula.

    Commas, semicolons and the like stand in quotation marks, so that they can be told from dust.
    """
    token = token.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    if token.startswith(" "):
        token = "·" + token[1:]
    if most is not None and len(token) > most:
        token = token[: max(most - 1, 1)] + "…"
    return plain(f"“{token}”" if token and set(token) <= DUST else token)


def plain(text: str) -> str:
    """Text in which "$" starts no formula, and characters that the font lacks are written by their number."""
    known = _characters()
    text = "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in text)
    return text.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """The characters that the font of pictures can show."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
