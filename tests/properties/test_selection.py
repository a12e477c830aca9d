"""Choosing prompts, grouping and joining commute with every method."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maze_dla.analysis import attribute

from .methods import METHODS, OF_PAIRS, assert_alike, pairs_of
from .models import BOUNDS, Case, cases, few, precision_of
from .numbers import batch_of, coefficients_of, metric_of

# an own pass that is wrong would not be used
pytestmark = pytest.mark.filterwarnings("error:.*gives other logits than the model")


@st.composite
def choices(draw: Any, n: int) -> list[int]:
    """Some prompts in any order, now and then one of them twice."""
    chosen = draw(st.permutations(range(n)))[: draw(st.integers(1, n))]
    return [*chosen, *draw(st.sampled_from([[], chosen[:1]]))]


@pytest.mark.parametrize("name", METHODS)
@few(3)
@given(case=cases(), data=st.data())
def test_select_commutes(name: str, case: Case, data: Any) -> None:
    drawn, tokens = case
    model, batch, chosen = drawn.built(), batch_of(tokens, drawn.d_vocab), data.draw(choices(len(tokens)))
    c, ask = coefficients_of(tokens, drawn.d_vocab), METHODS[name]
    reference = batch_of([*tokens, tokens[0][::-1], [1]], drawn.d_vocab)
    part = batch.select(chosen)
    late = ask(model, batch, metric_of(batch, c), reference).select(chosen)
    assert_alike(late, ask(model, part, metric_of(part, c[chosen]), reference), BOUNDS[precision_of(model)])
    by_metric = metric_of(batch, c).select(chosen)
    torch.testing.assert_close(by_metric.coefficients(), c[chosen], rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", OF_PAIRS)
@few(3)
@given(case=cases(), data=st.data())
def test_select_commutes_for_pairs(name: str, case: Case, data: Any) -> None:
    drawn, tokens = case
    model, pairs, chosen = drawn.built(), pairs_of(tokens, drawn.d_vocab), data.draw(choices(len(tokens)))
    ask = OF_PAIRS[name]
    assert_alike(ask(model, pairs).select(chosen), ask(model, pairs.select(chosen)), BOUNDS[precision_of(model)])


@few(4)
@given(cases(fewest=2), cases(fewest=1), st.data())
def test_joined_batches(one: Case, two: Case, data: Any) -> None:
    drawn, tokens = one
    model = drawn.built()
    others = [[token % drawn.d_vocab for token in ids] for ids in two[1]]
    batches = [batch_of(ids, drawn.d_vocab) for ids in (tokens, others)]
    coefficients = [coefficients_of(ids, drawn.d_vocab, seed) for seed, ids in enumerate((tokens, others))]
    joined = batches[0] + batches[1]
    whole = METHODS["attribute"](model, joined, metric_of(joined, torch.cat(coefficients)), joined)
    first = 0
    for batch, c in zip(batches, coefficients, strict=True):
        part = METHODS["attribute"](model, batch, metric_of(batch, c), batch)
        assert_alike(whole.select(range(first, first + len(batch))), part, BOUNDS[precision_of(model)])
        first += len(batch)


@few(4)
@given(cases(fewest=3), st.data())
def test_groups_are_means_of_selections(case: Case, data: Any) -> None:
    drawn, tokens = case
    model, n = drawn.built(), len(tokens)
    sizes = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    batch = batch_of(tokens, drawn.d_vocab).with_column("size", sizes)
    c = coefficients_of(tokens, drawn.d_vocab)
    grouped = attribute(model, batch, metric_of(batch, c)).group_by("size")
    heads = grouped.summary("heads").mean
    assert list(grouped.labels) == sorted(set(sizes))
    for label, mean in zip(grouped.labels, heads, strict=True):
        part = batch.select([s == label for s in sizes])
        alone = attribute(model, part, metric_of(part, c[torch.tensor(sizes) == label]))
        largest = max(float(alone.heads.abs().max()), float(alone.layers.abs().max()), 1e-300)
        apart = float((mean - alone.heads.double().mean(0)).abs().max())
        assert apart <= BOUNDS[precision_of(model)] * largest
