"""A prompt's numbers do not depend on batch size, order, padding, neighbours or shared prefixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maze_dla.analysis import attribute
from maze_dla.engine.prompts import PromptBatch

from .models import BOUNDS, Case, cases, few, narrow_cases, precision_of
from .numbers import (
    assert_held,
    batch_of,
    coefficients_of,
    edited_numbers,
    metric_of,
    plain_numbers,
    relation_scores,
    rows,
)

# an own pass that is wrong would not be used
pytestmark = pytest.mark.filterwarnings("error:.*gives other logits than the model")


@dataclass(frozen=True)
class Layout:
    """Where prompts are read: sequences that begin with them, the order of the prompts, and how many run at once."""

    sequences: list[list[int]]
    sequence_of: list[int]
    order: list[int]
    pad_id: int
    at_once: int | None

    def batch(self, tokens: list[list[int]], d_vocab: int) -> PromptBatch:
        """The prompts of `tokens` in this layout."""
        width = max(map(len, self.sequences)) + 2
        padded = torch.full((len(self.sequences), width), self.pad_id)
        for row, ids in zip(padded, self.sequences, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        plain = batch_of(tokens, d_vocab).select(self.order)
        return PromptBatch(
            sequences=padded,
            sequence_lengths=torch.tensor([len(ids) for ids in self.sequences]),
            sequence_of=torch.tensor([self.sequence_of[p] for p in self.order]),
            read_positions=plain.read_positions,
            targets=plain.targets,
            d_vocab=d_vocab,
            sequence_labels=tuple(tuple(map(str, ids)) for ids in self.sequences),
            columns=plain.columns,
            unit=plain.unit,
            kinds=plain.kinds,
            sequence_kinds=torch.arange(width).expand(len(padded), -1) % 2,
        )


@st.composite
def layouts(draw: Any, tokens: list[list[int]], d_vocab: int) -> Layout:
    """Each prompt in a sequence of its own or in another's that it begins, with tokens of any kind after it."""
    hosts: list[list[int]] = []
    sequence_of: dict[int, int] = {}
    for p in sorted(range(len(tokens)), key=lambda p: -len(tokens[p])):
        fitting = [i for i, host in enumerate(hosts) if host[: len(tokens[p])] == tokens[p]]
        if fitting and draw(st.booleans()):
            sequence_of[p] = draw(st.sampled_from(fitting))
            continue
        after = draw(st.lists(st.integers(0, d_vocab - 1), max_size=6))
        sequence_of[p] = len(hosts)
        hosts.append([*tokens[p], *after])
    return Layout(
        hosts,
        [sequence_of[p] for p in range(len(tokens))],
        draw(st.permutations(range(len(tokens)))),
        draw(st.sampled_from([0, d_vocab - 1, -1, 10**6])),
        draw(st.sampled_from([None, 1, 2, 3, 50])),
    )


@few(10)
@given(cases(), st.data())
def test_plain_runs(case: Case, data: Any) -> None:
    drawn, tokens = case
    model, layout = drawn.built(), data.draw(layouts(tokens, drawn.d_vocab))
    c, bound = coefficients_of(tokens, drawn.d_vocab), BOUNDS[precision_of(model)]

    def ask(batch: PromptBatch, coefficients: torch.Tensor, **how: Any) -> Any:
        found = plain_numbers(model, batch, metric_of(batch, coefficients), **how)
        return found | relation_scores(model, batch, **how)

    separate = ask(batch_of(tokens, drawn.d_vocab), c, sequences_at_once=1)
    together = ask(layout.batch(tokens, drawn.d_vocab), c[layout.order], sequences_at_once=layout.at_once)
    assert_held(together, rows(separate, layout.order), bound)


@few(6)
@given(cases(fewest=2, most=4), st.data())
def test_edited_runs(case: Case, data: Any) -> None:
    drawn, tokens = case
    model, layout = drawn.built(), data.draw(layouts(tokens, drawn.d_vocab))
    c, bound = coefficients_of(tokens, drawn.d_vocab), BOUNDS[precision_of(model)]
    reference = batch_of([*tokens, tokens[0][::-1], [1]], drawn.d_vocab)
    separate = batch_of(tokens, drawn.d_vocab)
    result = attribute(model, separate, metric_of(separate, c), sources=True)
    largest = result.sources.flatten(1).abs().amax(1).maximum(result.layers.abs().amax(1)).maximum(result.metric.abs())

    def ask(batch: PromptBatch, coefficients: torch.Tensor, **how: Any) -> Any:
        return edited_numbers(model, batch, metric_of(batch, coefficients), reference, **how)

    expected = ask(separate, c, sequences_at_once=1)
    order, batch = layout.order, layout.batch(tokens, drawn.d_vocab)
    seen = ask(batch, c[order], sequences_at_once=layout.at_once)
    assert_held(seen, rows(expected, order), bound, largest[order])


@few(6)
@given(narrow_cases(), st.data())
def test_a_prompt_alone_in_float32(case: Case, data: Any) -> None:
    drawn, tokens = case
    model, layout = drawn.built(torch.float32), data.draw(layouts(tokens, drawn.d_vocab))
    batch, c = layout.batch(tokens, drawn.d_vocab), coefficients_of(tokens, drawn.d_vocab)[layout.order]
    p = data.draw(st.integers(0, len(tokens) - 1))
    alone = batch.select([p])
    together = plain_numbers(model, batch, metric_of(batch, c))
    assert_held(plain_numbers(model, alone, metric_of(alone, c[[p]])), rows(together, [p]), BOUNDS[torch.float32])
