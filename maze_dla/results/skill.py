"""A model's accuracy beside chance and beside plain strategies, on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.results.columns import Columns
from maze_dla.results.statistics import Summary, interval_of, summarize

CHANCE, CANDIDATES = "chance", "candidates"  # the columns
BASELINES = "baselines"  # what info calls the names of the columns of plain strategies
CHOSEN_AS = "chosen as"  # where info says of prompts that they were chosen by how the model answers them
Z_SQUARED = 1.959964**2
ROUNDING = 1e-9  # of means in double precision
OF_BASELINES = ("compared", "plain", "above_plain", "plain_compared", "above_compared")
PLAIN_NUMBERS = (*OF_BASELINES, "single_candidate")


@dataclass(frozen=True, eq=False)
class AccuracyComparison:
    """The accuracy beside that of guessing ("chance") or of a plain strategy, over the `n` prompts that have both.

    `plain` is the mean probability of being right without the model, `difference` the model's accuracy minus that,
    paired by prompt; both with 95% intervals, clustered. Where the model answers all of these prompts rightly, or
    none, the difference's interval reaches at least as far as Wilson's of the accuracy with n the number of clusters:
    Student's knows no error there.
    """

    name: str
    plain: Summary
    difference: Summary
    n: int

    @property
    def accuracy(self) -> float:
        """The model's share of right answers over these prompts."""
        return float(self.plain.mean + self.difference.mean)

    @property
    def plain_is_right(self) -> bool:
        """Whether guessing or the strategy is right on every prompt, so that no model can be better."""
        return float(self.plain.mean) > 1 - ROUNDING

    @property
    def verdict(self) -> str:
        """One of "above", "below", and "the same" where the difference's interval includes zero or is not known."""
        low, high = float(self.difference.low), float(self.difference.high)
        return "above" if low > ROUNDING else "below" if high < -ROUNDING else "the same"

    def is_like(self, other: AccuracyComparison) -> bool:
        """Whether both compare with the same, up to rounding."""
        ends = [(c.n, *(float(x) for x in (c.plain.mean, c.plain.low, c.difference.low))) for c in (self, other)]
        return all(abs(a - b) < ROUNDING or a != a for a, b in zip(*ends, strict=True))


@dataclass(frozen=True, eq=False)
class Skill:
    """How the accuracy compares with chance and with plain strategies, as far as these are known.

    Prompts with a single candidate (`n_single` of `n`), a dead end for one, can hardly be answered wrongly and are left
    out of all comparisons.
    """

    comparisons: tuple[AccuracyComparison, ...]
    n: int
    n_single: int

    @property
    def chance(self) -> AccuracyComparison | None:
        """The comparison with chance; None where it is not known of any prompt."""
        return next((c for c in self.comparisons if c.name == CHANCE), None)

    @property
    def strategies(self) -> tuple[AccuracyComparison, ...]:
        """The comparisons with plain strategies, the best one first, without those that are chance on these prompts."""
        chance = self.chance
        others = (c for c in self.comparisons if c.name != CHANCE and not (chance and c.is_like(chance)))
        return tuple(sorted(others, key=lambda c: -float(c.plain.mean)))

    def warning(self, any_right: bool, accuracy: str) -> str | None:
        """A sentence where the model is not above chance, or not above the best plain strategy; else None.

        It names chance and the best strategy where the model is not above them, and any other strategy that it cannot
        be told from. Where all that it names are right on every prompt, it says that no model can be better. Where
        nothing is known to compare with, there is one only if no prompt is answered rightly.
        """
        if not (found := self._not_above()):
            return None if any_right else f"The model answers none of these {self.n} prompts rightly: {NO_SKILL}"
        first = found[0]
        told = [(words, [_shown(c, first.n) for c in found if c.verdict == verdict]) for verdict, words in TOLD.items()]
        claims = " and ".join(f"{words} {' and '.join(names)}" for words, names in told if names)
        shown = accuracy if first.n == self.n else f"{first.accuracy:.3f} on {self.part(first)}"
        if all(c.plain_is_right and c.verdict == "the same" for c in found):
            rules = " and ".join(f'"{c.name}"' for c in found)
            return f"The model's accuracy {shown} leaves nothing to tell: without a model, {rules} {ALL_RIGHT}"
        so = NO_SKILL if self.chance in found or not any_right else NO_MORE
        return f"The model's accuracy {shown} {claims}: {so}"

    def part(self, compared: AccuracyComparison) -> str:
        """How many of the prompts are compared, and why others are not."""
        if compared.n == self.n:
            return f"all {self.n} prompts"
        unknown = self.n - compared.n - self.n_single
        why = [f"{self.n_single} with a single candidate"] if self.n_single else []
        why += [f"{unknown} to which it does not apply"] if unknown else []
        return f"{compared.n} of {self.n} prompts (left out: {', '.join(why)})"

    def _not_above(self) -> list[AccuracyComparison]:
        """Chance and the best strategy unless the model is above them, and others that it cannot be told from."""
        named = ([self.chance] if self.chance else []) + list(self.strategies[:1])
        return [c for c in named if c.verdict != "above"] + [c for c in self.strategies[1:] if c.verdict == "the same"]


NO_SKILL, NO_MORE = "its parts explain no skill.", "its parts may explain no more than that."
ALL_RIGHT = "is right on every one of these prompts too, so that being right shows no skill."
TOLD = {"the same": "cannot be told from", "below": "is below"}


def _shown(compared: AccuracyComparison, n: int) -> str:
    """As 'chance (0.500, paired difference 0.010 [-0.020, 0.040])'."""
    name = CHANCE if compared.name == CHANCE else f'the strategy "{compared.name}"'
    mean, low, high = (float(x) for x in (compared.difference.mean, compared.difference.low, compared.difference.high))
    where = "" if compared.n == n else f" on {compared.n} prompts"
    return f"{name} ({float(compared.plain.mean):.3f}{where}, paired difference {mean:.3f} [{low:.3f}, {high:.3f}])"


def plain_names(columns: Columns, info: Mapping[str, Any]) -> tuple[str, ...]:
    """Chance and the plain strategies of which there are columns of numbers."""
    names = (CHANCE, *info.get(BASELINES, ()))
    return tuple(name for name in names if isinstance(columns.get(name), Tensor))


def single_candidate(columns: Columns, n: int) -> Bool[Tensor, " prompt"]:
    """Which of `n` prompts have one candidate alone."""
    given = columns.get(CANDIDATES)
    return given == 1 if isinstance(given, Tensor) else torch.zeros(n, dtype=torch.bool)


def skill_of_prompts(
    right: Bool[Tensor, " prompt"], columns: Columns, info: Mapping[str, Any], clusters: Int[Tensor, " prompt"]
) -> Skill:
    """The comparisons of a result that holds every prompt."""
    single, found = single_candidate(columns, len(right)), []
    for name in plain_names(columns, info):
        plain = torch.as_tensor(columns[name]).double()
        known = ~plain.isnan() & ~single
        if not known.any():
            continue
        groups = clusters[known].unique(return_inverse=True)[1]
        above = summarize(right[known].double() - plain[known], groups)
        found.append(_compared(name, summarize(plain[known], groups), above, int(known.sum())))
    return Skill(tuple(found), len(right), int(single.sum()))


def plain_numbers(
    right: Bool[Tensor, " prompt"], columns: Columns, info: Mapping[str, Any]
) -> dict[str, Float[Tensor, "prompt ..."]]:
    """The same as numbers of every prompt, whose means over any number of batches say it.

    `compared`, [prompt, baseline], is 1 for prompts that are compared with chance and with each plain strategy, else 0.
    `plain` is the probability of being right without the model, and `above_plain` whether the model is, minus that;
    both 0 where nothing is compared. The variances of their sums with `compared`, `plain_compared` and
    `above_compared`, say how they vary together. `single_candidate`, [prompt], is 1 for prompts with one candidate.
    No numbers where nothing is known.
    """
    if not (names := plain_names(columns, info)):
        return {}
    single = single_candidate(columns, len(right))
    plain = torch.stack([torch.as_tensor(columns[name]).double() for name in names], 1)
    compared = ~plain.isnan() & ~single[:, None]
    counted, plain = compared.double(), torch.where(compared, plain, 0.0)
    above = torch.where(compared, right.double()[:, None] - plain, 0.0)
    numbers = (counted, plain, above, plain + counted, above + counted)
    return {**dict(zip(OF_BASELINES, numbers, strict=True)), "single_candidate": single.double()}


def plain_labels(columns: Columns, info: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The names of the last axis of `plain_numbers`, where there are any."""
    names = plain_names(columns, info)
    return dict.fromkeys(OF_BASELINES, names) if names else {}


def skill_of_means(names: tuple[str, ...], summaries: Mapping[str, Summary], n: int) -> Skill:
    """The comparisons from means and standard errors of `plain_numbers` over `n` prompts.

    They are those of `skill_of_prompts`, but that the number of clusters with a compared prompt is not known: it is
    taken to be as large a part of all clusters as the compared prompts are of all prompts.
    """
    if not names:
        return Skill((), n, 0)
    found = []
    for i, name in enumerate(names):
        share = float(summaries["compared"].mean[i])
        if share > 0:
            both = (("plain", "plain_compared"), ("above_plain", "above_compared"))
            plain, above = (_of_compared(summaries, *which, i) for which in both)
            found.append(_compared(name, plain, above, plain.n))
    return Skill(tuple(found), n, round(float(summaries["single_candidate"].mean) * n))


def _of_compared(summaries: Mapping[str, Summary], name: str, with_compared: str, i: int) -> Summary:
    """Mean and interval over the compared prompts of a number that is 0 for all others.

    With A and K the sums over a cluster's prompts of the number and of `compared`, and R the mean, the variance is that
    of A - R K: var A - 2 R cov(A, K) + R^2 var K, where 2 cov(A, K) = var(A + K) - var A - var K.
    """
    whole, compared, together = (summaries[which] for which in (name, "compared", with_compared))
    share = compared.mean[i]
    mean = whole.mean[i] / share
    own, counted, summed = (x.standard_error[i].square() for x in (whole, compared, together))
    variance = own - mean * (summed - own - counted) + mean.square() * counted
    n, clusters = round(float(share) * whole.n), max(round(float(share) * whole.n_clusters), 1)
    factor = (1 - 1 / whole.n_clusters) / (1 - 1 / clusters) if clusters > 1 else torch.nan
    return interval_of(mean, (variance.clamp_min(0) * factor).sqrt() / share, n, clusters)


def _compared(name: str, plain: Summary, difference: Summary, n: int) -> AccuracyComparison:
    """With Wilson's interval where all prompts, or none, are answered rightly (Wilson 1927)."""
    accuracy, reach = float(plain.mean + difference.mean), Z_SQUARED / (difference.n_clusters + Z_SQUARED)
    if accuracy > 1 - ROUNDING:
        difference = replace(difference, low=torch.minimum(difference.low, difference.mean - reach))
    elif accuracy < ROUNDING:
        difference = replace(difference, high=torch.maximum(difference.high, difference.mean + reach))
    return AccuracyComparison(name, plain, difference, n)
