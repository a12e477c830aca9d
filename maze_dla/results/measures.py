"""Scale-free measures of an attribution: what can be said of two models whose metrics have different sizes.

Each measure is a function of means over prompts, so that its interval comes from the same function of the means over
prompts drawn again (percentile bootstrap: Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.results.attribution import AttributionResult

Values = Float[Tensor, "sample"]
MOST = 0.9  # of the positive part


@dataclass(frozen=True, eq=False)
class Means:
    """Means over prompts in logits, one row for each sample of prompts."""

    metric: Float[Tensor, "sample"]
    attention: Float[Tensor, "sample"]
    mlps: Float[Tensor, "sample"]
    embeddings: Float[Tensor, "sample"]
    constant: Float[Tensor, "sample"]
    lens: Float[Tensor, "sample depth"]
    heads: Float[Tensor, "sample head"]
    by_kind: Float[Tensor, "sample head kind"] | None


def means(result: AttributionResult, weights: Float[Tensor, "sample prompt"]) -> Means:
    """The means of a result under each sample's weights of the prompts."""

    def mean(values: Float[Tensor, "prompt ..."]) -> Float[Tensor, "sample ..."]:
        return torch.einsum("sp,p...->s...", weights, values.double())

    layers = mean(result.layers)

    def written(*ends: str) -> Values:
        return layers[:, [label.endswith(ends) for label in result.layer_labels]].sum(1)

    by_kind = None if result.sources_by_kind is None else mean(result.sources_by_kind).flatten(1, 2)
    return Means(
        metric=mean(result.metric),
        attention=written("attn_out"),
        mlps=written("mlp_out"),
        embeddings=written("embed"),
        constant=mean(result.constant),
        lens=mean(result.lens().values),
        heads=mean(result.heads).flatten(1),
        by_kind=by_kind,
    )


def _share(part: Values, m: Means) -> Values:
    return torch.where(m.metric > 0, part / m.metric, torch.nan)


def attention_share(m: Means) -> Values:
    """Share of the metric that attention layers write, biases included; needs a metric that is positive on average."""
    return _share(m.attention, m)


def mlp_share(m: Means) -> Values:
    """Share of the metric that MLPs write; needs a metric that is positive on average."""
    return _share(m.mlps, m)


def embedding_share(m: Means) -> Values:
    """Share of the metric that token and position embeddings write; needs a metric that is positive on average."""
    return _share(m.embeddings, m)


def constant_share(m: Means) -> Values:
    """Share of the metric in the biases of final norm and unembedding; the four shares sum to one."""
    return _share(m.constant, m)


def heads_for_most(m: Means) -> Values:
    """The least number of heads that together write 90% of what all heads with a positive mean write."""
    positive = m.heads.clamp_min(0).sort(1, descending=True).values
    total = positive.sum(1, keepdim=True)
    needed = 1 + (positive.cumsum(1) < MOST * total * (1 - 1e-12)).sum(1)
    return torch.where(total[:, 0] > 0, needed.double(), torch.nan)


def heads_for_most_share(m: Means) -> Values:
    """The number of heads that carry 90% of the positive part, as a share of all heads."""
    return heads_for_most(m) / m.heads.shape[1] if m.heads.shape[1] else torch.full_like(m.metric, torch.nan)


def taken_away(m: Means) -> Values:
    """What heads with a negative mean take away, as a share of what heads with a positive mean add."""
    return -m.heads.clamp_max(0).sum(1) / m.heads.clamp_min(0).sum(1)


def half_depth(m: Means) -> Values:
    """The first depth at which the lens, at the final norm's scale, reaches half of the metric.

    As a share of the way: 0 behind the embeddings, 1 at the end; needs a metric that is positive on average.
    """
    reached = (m.lens >= 0.5 * m.metric[:, None]).int().argmax(1)
    return torch.where(m.metric > 0, reached / max(m.lens.shape[1] - 1, 1), torch.nan)


def moved_from(m: Means, kind: int) -> Values:
    """Share of what heads move that comes from tokens of one kind.

    Of each head the size of its mean contribution from that kind, whichever its sign, summed over heads; the shares
    of all kinds sum to one.
    """
    assert m.by_kind is not None
    sizes = m.by_kind.abs().sum(1)
    return sizes[:, kind] / sizes.sum(1)


MEASURES: dict[str, Callable[[Means], Values]] = {
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


def measures_of(result: AttributionResult) -> dict[str, Callable[[Means], Values]]:
    """The measures that a result has, by name: those of the sources where they were asked for by kind."""
    from functools import partial

    kinds = result.kinds if result.sources_by_kind is not None and result.heads.numel() else ()
    return {**MEASURES, **{f"{MOVED}{kind}": partial(moved_from, kind=i) for i, kind in enumerate(kinds)}}


def resampled_means(result: AttributionResult, n_samples: int, seed: int, at_once: int = 100) -> Iterator[Means]:
    """The means over prompts drawn with replacement, some samples at a time."""
    generator = torch.Generator().manual_seed(seed)
    n = len(result)
    for start in range(0, n_samples, at_once):
        drawn = torch.randint(n, (min(at_once, n_samples - start), n), generator=generator)
        weights = torch.zeros(len(drawn), n, dtype=torch.float64)
        weights.scatter_add_(1, drawn, torch.full_like(drawn, 1, dtype=torch.float64))
        yield means(result, weights / n)
