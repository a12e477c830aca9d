"""Scale-free measures of an attribution: what can be said of two models whose metrics have different sizes.

Each measure is a function of means over prompts, so that its interval comes from the same function of the means over
prompts drawn again (percentile bootstrap: Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.results.attribution import AttributionResult
from maze_dla.results.components import Component
from maze_dla.results.streamed import StreamedResult

Values = Float[Tensor, " sample"]
MOST = 0.9  # of the positive part
N_HALVES = 32
SAMPLES_PER_BATCH = 100
ROUNDING = 1e-6  # of float32 sums


@dataclass(frozen=True, eq=False)
class Quantities:
    """Means over prompts, in logits, that the measures are made of; one row for each sample of prompts.

    Sums over heads that add, or over sizes, grow with noise if each mean's sign is taken from the same numbers as its
    size: many heads that do nothing would seem to do much. So a head's sign for a prompt comes from the half of the
    prompts that it is not in, averaged over random halves; what is noise then cancels in the sum.
    """

    metric: Float[Tensor, " sample"]
    attention: Float[Tensor, " sample"]
    mlps: Float[Tensor, " sample"]
    embeddings: Float[Tensor, " sample"]
    constant: Float[Tensor, " sample"]
    lens: Float[Tensor, "sample depth"]
    added: Float[Tensor, "sample head"]
    taken: Float[Tensor, "sample head"]
    moved: Float[Tensor, "sample kind"]

    def means(self, weights: Float[Tensor, "drawn sample"]) -> Quantities:
        """The means under each row's weights of the samples."""
        return Quantities(**{f.name: weights @ getattr(self, f.name) for f in fields(self)})


def quantities(result: AttributionResult | StreamedResult) -> Quantities:
    """The quantities of each prompt, heads in the order of their means, the largest first; of a stream the means alone.

    A stream keeps no half of its prompts apart, so that the signs of heads are not known there: what needs them is NaN.
    """
    return _of_means(result) if isinstance(result, StreamedResult) else _of_prompts(result)


def _of_means(result: StreamedResult) -> Quantities:
    """A single row, the means over all prompts."""
    means = {name: result.summary(name).mean[None] for name in ("metric", "layers", "constant", "lens", "heads")}
    unknown = torch.full_like(means["heads"].flatten(1), torch.nan)
    return Quantities(
        metric=means["metric"],
        **_written(means["layers"], result.components),
        constant=means["constant"],
        lens=means["lens"],
        added=unknown,
        taken=unknown,
        moved=unknown.new_full((1, len(result.kinds)), torch.nan),
    )


def _written(layers: Float[Tensor, "sample component"], components: tuple[Component, ...]) -> dict[str, Values]:
    """Contributions of attention layers, MLPs and embeddings, each summed."""
    chosen = {
        "attention": [c.kind == "attn_out" for c in components],
        "mlps": [c.kind == "mlp_out" for c in components],
        "embeddings": [c.layer is None for c in components],
    }
    return {name: layers[:, columns].sum(1) for name, columns in chosen.items()}


def _of_prompts(result: AttributionResult) -> Quantities:
    layers, heads = result.layers.double(), result.heads.double().flatten(1)
    heads = heads[:, heads.mean(0).argsort(descending=True, stable=True)]
    above, below = _signs_elsewhere(heads)
    by_kind = heads.new_zeros(len(result), 0, 0)
    if result.sources_by_kind is not None:
        by_kind = result.sources_by_kind.double().flatten(1, 2)
    kinds_above, kinds_below = _signs_elsewhere(by_kind)

    return Quantities(
        metric=result.metric.double(),
        **_written(layers, result.components),
        constant=result.constant.double(),
        lens=result.lens().values.double(),
        added=heads * above,
        taken=-heads * below,
        moved=(by_kind * (kinds_above - kinds_below)).sum(1),
    )


def _signs_elsewhere(values: Float[Tensor, "prompt ..."]) -> tuple[Tensor, Tensor]:
    """For each prompt how often, over random halves, the mean of the half without it is above and below zero."""
    n = len(values)
    if n == 1:
        return (values > 0).double(), (values < 0).double()
    generator = torch.Generator().manual_seed(0)
    above, below = torch.zeros_like(values), torch.zeros_like(values)
    for _ in range(N_HALVES):
        first, second = torch.randperm(n, generator=generator).tensor_split(2)
        for half, other in ((first, second), (second, first)):
            mean = values[other].mean(0)
            above[half] += mean > 0
            below[half] += mean < 0
    return above / N_HALVES, below / N_HALVES


def _share(part: Values, m: Quantities) -> Values:
    return torch.where(m.metric > 0, part / m.metric, torch.nan)


def attention_share(m: Quantities) -> Values:
    """Share of the metric that attention layers write, biases included; needs a metric that is positive on average."""
    return _share(m.attention, m)


def mlp_share(m: Quantities) -> Values:
    """Share of the metric that MLPs write; needs a metric that is positive on average."""
    return _share(m.mlps, m)


def embedding_share(m: Quantities) -> Values:
    """Share of the metric that token and position embeddings write; needs a metric that is positive on average."""
    return _share(m.embeddings, m)


def constant_share(m: Quantities) -> Values:
    """Share of the metric in the biases of final norm and unembedding; the four shares sum to one."""
    return _share(m.constant, m)


def heads_for_most(m: Quantities) -> Values:
    """The least number of heads that together write 90% of what all heads with a positive mean write."""
    total = m.added.sum(1)
    if not m.added.shape[1]:
        return torch.full_like(total, torch.nan)
    enough = m.added.cumsum(1) >= MOST * total[:, None] * (1 - ROUNDING)
    return torch.where(total > 0, 1.0 + enough.int().argmax(1), torch.nan)


def heads_for_most_share(m: Quantities) -> Values:
    """The number of heads that carry 90% of the positive part, as a share of all heads."""
    return heads_for_most(m) / m.added.shape[1]


def taken_away(m: Quantities) -> Values:
    """The sum of heads with a negative mean, as a share of the sum of heads with a positive mean."""
    added = m.added.sum(1)
    return torch.where(added > 0, m.taken.sum(1) / added, torch.nan)


def half_depth(m: Quantities) -> Values:
    """The first depth at which the lens, at the final norm's scale, reaches half of the metric.

    As a share of the way: 0 after the embeddings, 1 at the end; needs a metric that is positive on average.
    """
    reached = (m.lens >= 0.5 * m.metric[:, None]).int().argmax(1)
    return torch.where(m.metric > 0, reached / max(m.lens.shape[1] - 1, 1), torch.nan)


def moved_from(m: Quantities, kind: int) -> Values:
    """Share of what heads move that comes from tokens of one kind.

    Of each head the size of its mean contribution from that kind, whichever its sign, summed over heads; the shares
    of all kinds sum to one.
    """
    total = m.moved.sum(1)
    return torch.where(total > 0, m.moved[:, kind] / total, torch.nan)


MEASURES: dict[str, Callable[[Quantities], Values]] = {
    "written by attention": attention_share,
    "written by MLPs": mlp_share,
    "written by embeddings": embedding_share,
    "in the constant": constant_share,
    "heads that carry 90% of the positive part": heads_for_most,
    "the same as a share of all heads": heads_for_most_share,
    "taken away by negative heads": taken_away,
    "depth at which the lens reaches half": half_depth,
}
COUNTS = ("heads that carry 90% of the positive part",)
MOVED = "moved by heads from: "


def measures_of(result: AttributionResult | StreamedResult) -> dict[str, Callable[[Quantities], Values]]:
    """The measures that a result has, by name: those of the sources where they were asked for by kind."""
    from functools import partial

    kinds = result.kinds if result.head_summary().mean.numel() else ()
    return {**MEASURES, **{f"{MOVED}{kind}": partial(moved_from, kind=i) for i, kind in enumerate(kinds)}}


def drawn_weights(n: int, n_samples: int, seed: int) -> Iterator[Float[Tensor, "drawn prompt"]]:
    """The weights of `n` prompts in samples drawn with replacement, some samples at a time."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, n_samples, SAMPLES_PER_BATCH):
        drawn = torch.randint(n, (min(SAMPLES_PER_BATCH, n_samples - start), n), generator=generator)
        weights = torch.zeros(len(drawn), n, dtype=torch.float64)
        yield weights.scatter_add_(1, drawn, torch.full_like(drawn, 1, dtype=torch.float64)) / n
