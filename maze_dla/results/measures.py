"""Scale-free measures of an attribution: what can be said of two models whose metrics have different sizes.

Each is a ratio of two numbers that are estimated without bias. Powers of means are products over different buckets of
mazes, since the square of a mean that is noise is not zero: sums of squares over many parts would grow with noise.
Their errors are of the delete-one jackknife over buckets (Tukey 1958; Efron and Tibshirani 1993, chapter 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.results.attribution import AttributionResult
from maze_dla.results.buckets import halves
from maze_dla.results.components import Component
from maze_dla.results.held_out import ByBucket
from maze_dla.results.streamed import StreamedResult

Replicates = Float[Tensor, " replicate"]  # the number over all buckets, then without each of them
NUMBERS = ("metric", "layers", "constant", "lens", "heads", "sources_by_kind", "correct", "preferred")
STRONGEST = (1, 3, 10)
FEWEST_BUCKETS = 8
ACCURACY, CHANCE, METRIC = "accuracy", "chance", "metric (logits)"
EFFECTIVE = "effective number of heads"
MOVED = "moved by heads from: "
SHARES = ("written by attention", "written by MLPs", "written by embeddings", "in the constant")
DEPTH = "mean depth at which the metric is written"


@dataclass(frozen=True, eq=False)
class Ratio:
    """A measure as a ratio; `each` holds other tops of which the largest ratio bounds this one.

    `inverted` is for ratios whose inverse has the better behaved interval; `certain` is what must be far from zero for
    the ratio to be known at all, where that is not the bottom.
    """

    top: Replicates
    bottom: Replicates
    each: Float[Tensor, "replicate part"] | None = None
    inverted: bool = False
    certain: Replicates | None = None

    @property
    def replicates(self) -> Replicates:
        """The ratio over all buckets, and without each of them."""
        return self.top / self.bottom


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over the prompts of each bucket that has any, and how many prompts each has."""

    counts: Float[Tensor, " bucket"]
    sums: Mapping[str, Float[Tensor, "bucket ..."]]
    numbers: tuple[int, ...]

    def mean(self, values: Float[Tensor, " bucket"]) -> Replicates:
        """The mean over prompts, from the sums of buckets."""
        return without_each(values) / without_each(self.counts)


def totals_of(result: AttributionResult | StreamedResult) -> Totals | None:
    """The sums of a result by bucket; None for a stream that did not keep them."""
    found = {name: result.by_bucket(name) for name in NUMBERS}
    known: dict[str, ByBucket] = {name: held for name, held in found.items() if held is not None}
    if not {"metric", "layers", "constant", "lens", "heads"} <= known.keys():
        return None
    counts = known["metric"].counts
    held = counts > 0
    sums = {name: one.sums[held].double() for name, one in known.items()}
    return Totals(counts[held].double(), sums, tuple(torch.nonzero(held).flatten().tolist()))


def without_each(values: Float[Tensor, "bucket ..."]) -> Float[Tensor, "replicate ..."]:
    """The sum over all buckets, then over all but each of them."""
    whole = values.sum(0, keepdim=True)
    return torch.cat([whole, whole - values])


def shares_of_the_metric(totals: Totals, components: tuple[Component, ...]) -> dict[str, Ratio]:
    """The shares of the metric that attention layers (biases included), MLPs, embeddings and the constant write.

    The four sum to one. The mean depth is the average depth of what is written there, each part weighted by its share:
    0 after the embeddings, 1 at the end.
    """
    layers, metric = totals.sums["layers"], totals.mean(totals.sums["metric"])
    kinds = {
        SHARES[0]: [c.kind == "attn_out" for c in components],
        SHARES[1]: [c.kind == "mlp_out" for c in components],
        SHARES[2]: [c.layer is None for c in components],
    }
    tops = {name: layers[:, columns].sum(1) for name, columns in kinds.items()}
    lens = totals.sums["lens"]
    tops |= {SHARES[3]: totals.sums["constant"], DEPTH: lens[:, -1] - lens[:, :-1].sum(1) / max(lens.shape[1] - 1, 1)}
    return {name: Ratio(totals.mean(top), metric) for name, top in tops.items()}


def squares_of_parts(totals: Totals) -> dict[str, Ratio]:
    """Measures of squared mean contributions, where there are heads and at least 8 buckets.

    The share of the strongest 1, 3 and 10 heads in the sum of squared means of all, the effective number of heads
    (sum of squared means)^2 / sum of fourth powers of means, which is n where n heads write alike and the others
    nothing; and the share of each kind of token in the sum of squared means over heads and kinds.
    """
    heads, counts = totals.sums["heads"].flatten(1), totals.counts
    if len(counts) < FEWEST_BUCKETS or not heads.shape[1]:
        return {}
    squares = squared_means(heads, counts)
    whole = squares.sum(1)
    found = {}
    for k, top in zip(STRONGEST, _strongest(totals, heads), strict=True):
        name = "strongest head" if k == 1 else f"strongest {k} heads"
        found[f"{name}: share of squared means"] = Ratio(top, whole, squares if k == 1 else None)
    fourth, squared = _fourth_powers(heads, counts), _squared_sum(heads, counts)
    found[EFFECTIVE] = Ratio(squared, fourth, inverted=True, certain=whole)
    return found


def kinds_of_tokens(totals: Totals, kinds: tuple[str, ...]) -> dict[str, Ratio]:
    """The share of each kind of token in the sum of squared mean contributions over heads and kinds."""
    if "sources_by_kind" not in totals.sums or len(totals.counts) < FEWEST_BUCKETS:
        return {}
    squares = squared_means(totals.sums["sources_by_kind"].flatten(1, 2).flatten(1), totals.counts)
    of_kinds = squares.unflatten(1, (-1, len(kinds))).sum(1)
    return {f"{MOVED}{kind}": Ratio(of_kinds[:, i], of_kinds.sum(1)) for i, kind in enumerate(kinds)}


def squared_means(
    sums: Float[Tensor, "bucket part"], counts: Float[Tensor, " bucket"]
) -> Float[Tensor, "replicate part"]:
    """The square of each mean without bias: the mean product of two different buckets."""
    products, pairs = (_pairs(*(without_each(values**k) for k in (1, 2))) for values in (sums, counts))
    return products / pairs[:, None]


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    """The sum over pairs of different buckets of their products, from the sums of first and second powers."""
    return (first.square() - second) / 2


def _fours(values: Float[Tensor, "bucket ..."]) -> Tensor:
    """The sum over sets of four different buckets of their products (Newton's identities)."""
    p1, p2, p3, p4 = (without_each(values**k) for k in (1, 2, 3, 4))
    return (p1**4 - 6 * p1**2 * p2 + 3 * p2**2 + 8 * p1 * p3 - 6 * p4) / 24


def _fourth_powers(sums: Float[Tensor, "bucket part"], counts: Float[Tensor, " bucket"]) -> Replicates:
    return _fours(sums).sum(1) / _fours(counts)


def _squared_sum(sums: Float[Tensor, "bucket part"], counts: Float[Tensor, " bucket"]) -> Replicates:
    """The square of the sum of squared means: products of pairs of buckets, no bucket twice among the four."""
    products = sums @ sums.T
    products = products - products.diag().diag()
    rows, squared = products.sum(1), products.square().sum(1)
    lost = rows.square() + 2 * (products * rows[:, None]).sum(0) - squared  # of the squared rows, without a bucket
    whole, of_rows, of_pairs = rows.sum(), rows.square().sum(), squared.sum()
    totals = torch.cat([whole[None], whole - 2 * rows])
    both = torch.cat([of_rows[None], of_rows - lost])
    pairs = torch.cat([of_pairs[None], of_pairs - 2 * squared])
    return (totals.square() - 4 * both + 2 * pairs) / (24 * _fours(counts))


def quarters() -> Bool[Tensor, "quarter bucket"]:
    """64 fixed quarters of the buckets: those in which two splits of the 32 agree, for 16 pairs of splits."""
    split = halves()[:32]
    first, second = split[0::2], split[1::2]
    return torch.cat([first & second, first & ~second, ~first & second, ~first & ~second])


def _strongest(totals: Totals, heads: Float[Tensor, "bucket head"]) -> list[Replicates]:
    """The summed squares of the strongest heads: ranked on three quarters of the buckets, measured on the other."""
    inside = quarters()[:, list(totals.numbers)].double()
    found = []
    for left_out in range(-1, len(heads)):
        kept = torch.ones(len(heads), dtype=torch.float64)
        kept[left_out] = 1.0 if left_out < 0 else 0.0
        here, there = inside * kept, (1 - inside) * kept
        enough = here.sum(1) >= 2
        pairs = _pairs(here @ totals.counts, here @ totals.counts**2)[enough, None]
        squares = _pairs(here @ heads, here @ heads**2)[enough] / pairs
        size = ((there @ heads) / (there @ totals.counts)[:, None]).abs()[enough]
        ranked = size.argsort(dim=1, descending=True, stable=True)[:, : max(STRONGEST)]
        sums = squares.gather(1, ranked).cumsum(1)
        found.append([sums[:, min(k, heads.shape[1]) - 1].mean() for k in STRONGEST])
    return list(torch.tensor(found, dtype=torch.float64).T)


def judged(totals: Totals, result: Any) -> dict[str, Ratio]:
    """The accuracy and the mean metric, for differences between results."""
    forced = result.info.get("forced_choice") and "preferred" in totals.sums
    name = "preferred" if forced else "correct"
    counts = without_each(totals.counts)
    found = {METRIC: Ratio(without_each(totals.sums["metric"]), counts)}
    return ({ACCURACY: Ratio(without_each(totals.sums[name]), counts)} if name in totals.sums else {}) | found
