"""Parts of which the direct effect says something else than the total one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.base import format_signed
from maze_dla.results.statistics import Summary

OTHER_SIGN, MOSTLY_INDIRECT, REPAIR = KINDS = ("other sign", "mostly indirect", "repair")
LEAST_REPAIR = 0.5  # of the direct effect


class Disagreement(NamedTuple):
    """A part with its mean direct, total and indirect effect in logits, and in what way they disagree."""

    name: str
    direct: Summary
    total: Summary
    indirect: Summary
    kinds: tuple[str, ...]

    def __repr__(self) -> str:
        """As "L5H3: direct +0.350 [+0.199, +0.500], total ..., indirect ...: other sign, repair"."""
        effects = (f"{name} {format_signed(getattr(self, name))}" for name in ("direct", "total", "indirect"))
        return f"{self.name}: {', '.join(effects)}: {', '.join(self.kinds)}"


def disagreements_of(
    names: Sequence[str],
    direct: Summary,
    total: Summary,
    indirect: Summary,
    asked: Sequence[str] = (),
    rounding: float = 0.0,
) -> list[Disagreement]:
    """The parts, [part], that disagree in one of the ways asked for (default: any), largest indirect effect first.

    Effects up to `rounding` say nothing: what a part that does nothing loses to rounding may have one sign throughout.

    Raises:
        InputError: an unknown way.
    """
    for kind in asked:
        if kind not in KINDS:
            raise InputError(f"kinds of disagreement are {', '.join(map(repr, KINDS))}, got {kind!r:.80}")
    told = {
        name: _sure(summary, rounding)
        for name, summary in (("direct", direct), ("total", total), ("indirect", indirect))
    }
    sizes = {"direct": direct.mean.abs(), "indirect": indirect.mean.abs()}
    opposed = indirect.mean * direct.mean < 0
    held = {
        OTHER_SIGN: told["direct"] & told["total"] & (direct.mean * total.mean < 0),
        MOSTLY_INDIRECT: told["indirect"] & (sizes["indirect"] > sizes["direct"]),
        REPAIR: told["direct"] & told["indirect"] & opposed & (sizes["indirect"] >= LEAST_REPAIR * sizes["direct"]),
    }
    found = []
    for i in map(int, sizes["indirect"].argsort(descending=True, stable=True)):
        kinds = tuple(kind for kind, parts in held.items() if bool(parts[i]))
        if kinds and (not asked or set(asked) & set(kinds)):
            found.append(Disagreement(names[i], _at(direct, i), _at(total, i), _at(indirect, i), kinds))
    return found


def _sure(summary: Summary, rounding: float) -> Bool[Tensor, " part"]:
    """Where the interval excludes all that may be rounding; nowhere, where it is not known."""
    return (summary.low > rounding) | (summary.high < -rounding)


def _at(summary: Summary, i: int) -> Summary:
    numbers = (getattr(summary, name)[i] for name in ("mean", "standard_error", "low", "high"))
    return Summary(*numbers, n=summary.n, n_clusters=summary.n_clusters)
