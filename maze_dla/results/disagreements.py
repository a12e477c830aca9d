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
OVERTURNED, REPAIR_OR_MORE = "overturned, no repair", "repair of all of it or more"
LEAST_REPAIR = 0.5  # of the direct effect


class Disagreement(NamedTuple):
    """A part with its mean direct, total and indirect effect in logits, and in what way they disagree."""

    name: str
    direct: Summary
    total: Summary
    indirect: Summary
    kinds: tuple[str, ...]

    @property
    def overturned(self) -> bool:
        """Whether the indirect effect does more than undo the direct one: the total surely has the other sign."""
        return OTHER_SIGN in self.kinds and REPAIR in self.kinds

    @property
    def in_words(self) -> tuple[str, ...]:
        """The kinds, where "repair" is kept for totals between zero and the direct effect.

        An indirect effect opposed to the direct one and larger is "overturned, no repair" where the interval of the
        total excludes zero, and else "repair of all of it or more".
        """
        beyond = float(self.direct.mean) * float(self.total.mean) < 0
        opposed = OVERTURNED if self.overturned else REPAIR_OR_MORE if beyond else REPAIR
        return tuple(opposed if kind == REPAIR else kind for kind in self.kinds)

    @property
    def effects(self) -> str:
        """As "direct +0.350 [+0.199, +0.500], total ..., indirect ...", with a mark where an interval includes zero."""
        return ", ".join(
            f"{name} {format_signed(effect)}{' (includes zero)' * _includes_zero(effect)}"
            for name, effect in (("direct", self.direct), ("total", self.total), ("indirect", self.indirect))
        )

    def __repr__(self) -> str:
        """As "L5H3: direct +0.350 [+0.199, +0.500], total ..., indirect ...: mostly indirect; repair"."""
        return f"{self.name}: {self.effects}: {'; '.join(self.in_words)}"


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


def _includes_zero(summary: Summary) -> bool:
    return bool(summary.low <= 0 <= summary.high)


def _at(summary: Summary, i: int) -> Summary:
    numbers = (getattr(summary, name)[i] for name in ("mean", "standard_error", "low", "high"))
    return Summary(*numbers, n=summary.n, n_clusters=summary.n_clusters)
