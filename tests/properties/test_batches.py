"""A prompt's numbers do not depend on batch size, order, padding, neighbours or shared prefixes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from maze_dla.engine.prompts import PromptBatch

from .models import BOUNDS, N_CTX, RandomModel, cases, few, precision_of
from .numbers import (
    LARGEST,
    assert_held,
    batch_of,
    coefficients_of,
    edited_numbers,
    metric_of,
    plain_numbers,
    relation_scores,
    rows,
)

Case = tuple[RandomModel, list[list[int]]]


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


@few(14)
@given(cases(), st.data())
def test_plain_runs(case: Case, data: Any) -> None:
    drawn, tokens = case
    model, layout = drawn.built(), data.draw(layouts(tokens, drawn.d_vocab))
    c, bound = coefficients_of(tokens, drawn.d_vocab), BOUNDS[precision_of(model)]

    def ask(batch: PromptBatch, coefficients: torch.Tensor, **how: Any) -> Any:
        found = plain_numbers(model, batch, metric_of(batch, coefficients), **how)
        return found | relation_scores(model, batch, **how)

    separate = ask(batch_of(tokens, drawn.d_vocab), c, sequences_at_once=1)
    batch = layout.batch(tokens, drawn.d_vocab)
    assert max(layout.batch(tokens, drawn.d_vocab).sequences.shape[1], N_CTX) >= batch.tokens.shape[1]
    assert_held(ask(batch, c[layout.order], sequences_at_once=layout.at_once), rows(separate, layout.order), bound)
    p = layout.order[0]
    assert_held(ask(batch.select([0]), c[[p]]), rows(separate, [p]), bound)


@few(12)
@given(cases(fewest=2, most=5), st.data())
def test_edited_runs(case: Case, data: Any) -> None:
    drawn, tokens = case
    model, layout = drawn.built(), data.draw(layouts(tokens, drawn.d_vocab))
    c, bound = coefficients_of(tokens, drawn.d_vocab), BOUNDS[precision_of(model)]
    reference = batch_of([*tokens, tokens[0][::-1], [1]], drawn.d_vocab)
    separate = batch_of(tokens, drawn.d_vocab)
    largest = plain_numbers(model, separate, metric_of(separate, c))[LARGEST]

    def ask(batch: PromptBatch, coefficients: torch.Tensor, **how: Any) -> Any:
        return edited_numbers(model, batch, metric_of(batch, coefficients), reference, **how)

    expected = ask(separate, c, sequences_at_once=1)
    order, batch = layout.order, layout.batch(tokens, drawn.d_vocab)
    seen = ask(batch, c[order], sequences_at_once=layout.at_once)
    assert_held(seen, rows(expected, order), bound, largest[order])
    alone = ask(batch.select([0]), c[order[:1]])
    assert_held(alone, rows(expected, order[:1]), bound, largest[order[:1]])
