"""Which keys count for which queries of a maze, beside a slow reading of its text; and heads made by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.relations import RELATIONS
from maze_dla.analysis import as_residual_model
from maze_dla.engine.attention.relations import as_mask, laid_over
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.sites import LOGITS, Activations
from maze_dla.errors import InputError
from tests.engine.small_models import PlainRuns

Pair = tuple[int, int]
Head = Callable[[list[str]], Tensor]


@pytest.fixture(scope="module")
def batch(small_model: MazeModel) -> Any:
    return small_model.prompts(n_mazes=12, task="rand_path_token")


def cell(token: str) -> Pair | None:
    found = re.fullmatch(r"\((\d+),(\d+)\)", token)
    return (int(found[1]), int(found[2])) if found else None


@cache
def slow(tokens: tuple[str, ...]) -> dict[str, set[Pair]]:
    """The relations once more, pair by pair, as a reader of the text would find them."""
    found: dict[str, set[Pair]] = {name: set() for name in RELATIONS}
    end = tokens.index("<ADJLIST_END>")
    slots = {name: tokens.index(f"<{name.upper()}_START>") + 1 for name in ("target", "origin")}
    edges = [i for i in range(end) if tokens[i] == "<-->"]
    for q, token in enumerate(tokens):
        own, open_now = cell(token), {frozenset((tokens[i - 1], tokens[i + 1])) for i in edges if i + 1 <= q}
        for k in range(q):
            other, pair = cell(tokens[k]), (q, k)
            near = own and other and abs(own[0] - other[0]) + abs(own[1] - other[1])
            connected = own and other and own != other and frozenset((token, tokens[k])) in open_now
            rules = {
                "first token": k == 0,
                "previous token": k == q - 1,
                "same cell": own is not None and own == other,
                "neighbour cells": near == 1,
                "connected cells": connected,
                "neighbours behind walls": near == 1 and not connected and q > end,
                "<--> of own passages": own and tokens[k] == "<-->" and token in (tokens[k - 1], tokens[k + 1]),
                "; of own passages": own and tokens[k] == ";" and token in (tokens[k - 1], tokens[k - 3]),
            }
            for name, slot in slots.items():
                rules[name] = k == slot
                rules[f"{name}'s cell elsewhere"] = q > slot and k != slot and tokens[k] == tokens[slot]
            for name, holds in rules.items():
                if holds:
                    found[name].add(pair)
    return found


def test_relations_are_those_that_a_slow_reading_finds(small_model: MazeModel, batch: Any) -> None:
    relations = small_model.relations(batch)
    assert relations.names == tuple(RELATIONS)
    for tokens in batch.sequence_labels:
        expected = slow(tokens)
        held = relations.of_sequence(tokens).tolist()
        assert len(held) == sum(map(len, expected.values()))
        for name, number in zip(relations.names, range(len(RELATIONS)), strict=True):
            assert {(q, k) for r, q, k in held if r == number} == expected[name], name
            assert expected[name], name


def test_padding_and_bos_move_relations_on(small_model: MazeModel, batch: Any) -> None:
    plain = small_model.prompts(n_mazes=3, prepend_bos=False)
    padded = small_model.prompts(n_mazes=3, padding=int(plain.lengths.max()) + 4, prepend_bos=True)
    for i in range(3):
        before = padded.n_extra(i)
        one, two = (
            as_mask(small_model.relations(b).of_sequence(b.sequence_labels[i]), len(RELATIONS), int(b.lengths[i]))
            for b in (plain, padded)
        )
        assert before > 2
        assert torch.equal(two[1:, before:, before:], one[1:])  # all but the first token


def planted(model: MazeModel, heads: list[Head]) -> ResidualModel:
    """The model with patterns made by hand in both layers, a function of a sequence's tokens for each head."""
    view = as_residual_model(model, "hooked")
    shape = replace(view.weights.shape, n_heads=len(heads))
    words = model.vocabulary.tokens

    def forward(micro: MicroBatch, sites: Any) -> Activations:
        rows = [[words[i] for i in row] for row in micro.tokens.tolist()]
        patterns = torch.stack([torch.stack([head(row) for head in heads]) for row in rows])
        logits = view.forward(micro, [LOGITS])[LOGITS]
        return {site: logits if site == LOGITS else patterns for site in sites}

    return replace(view, weights=replace(view.weights, shape=shape), forward=PlainRuns(forward))


def even(mask: Tensor) -> Tensor:
    """Attention spread evenly over the keys of a mask; over all keys of queries that have none."""
    causal = torch.ones_like(mask).tril()
    mask = torch.where(mask.any(-1, keepdim=True), mask, causal).float()
    return mask / mask.sum(-1, keepdim=True)


def looks_at(name: str) -> Head:
    def head(tokens: list[str]) -> Tensor:
        mask = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
        for query, key in slow(tuple(tokens))[name]:
            mask[query, key] = True
        return even(mask)

    return head


def back(n: int) -> Head:
    def head(tokens: list[str]) -> Tensor:
        return even(torch.eye(len(tokens), dtype=torch.bool).roll(-n, 1).tril(-n))

    return head


OF_MAZES = [name for name in RELATIONS if name not in ("first token", "previous token", "target", "origin")]


@pytest.fixture(scope="module")
def scores(small_model: MazeModel) -> dla.HeadScores:
    """Of heads that look two and four tokens back, everywhere, and where each relation says."""
    batch = small_model.prompts(n_mazes=16)
    heads = [back(2), back(4), back(1000), *map(looks_at, RELATIONS)]
    return dla.head_scores(planted(small_model, heads), batch, small_model.relations(batch), random=3)


@pytest.mark.parametrize("name", RELATIONS)
def test_a_head_made_for_a_relation_scores_one(scores: dla.HeadScores, name: str) -> None:
    r = list(RELATIONS).index(name)
    of_heads = scores.summary().mean[r, 0]
    assert float(of_heads[3 + r]) == pytest.approx(1, abs=1e-6)
    others = torch.arange(len(of_heads)) != 3 + r
    stricter = {"neighbour cells": "connected cells", "previous token": "first token"}.get(name)
    if stricter is not None:
        others[3 + list(RELATIONS).index(stricter)] = False
    assert float(of_heads[others].max()) < 0.999
    assert bool(scores.is_above[r, 0, 3 + r])


@pytest.mark.parametrize("name", OF_MAZES)
def test_what_is_alike_in_all_mazes_is_at_their_baseline(scores: dla.HeadScores, name: str) -> None:
    """Heads with a fixed offset, and uniform attention, on mazes of one layout."""
    r = list(RELATIONS).index(name)
    above, error = scores.above_summary().mean[r, 0], scores.above[:, r, 0].nan_to_num().abs()
    known = scores.n_queries[:, r] > 0
    if bool(known.all()):  # every prompt is partner as often as every other
        torch.testing.assert_close(above[:3], torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert float(error[:, :3].max()) > 1e-3  # of single prompts they are not
    assert not scores.is_above[r, 0, :3].any()
    assert scores.against[r] == "another maze's keys"


def test_a_fixed_offset_is_far_above_uniform_attention(scores: dla.HeadScores) -> None:
    """So that its random-maze baseline is what keeps it from counting as an adjacency head."""
    r = list(RELATIONS).index("connected cells")
    two_back = scores.summary().mean[r, 0, 0]
    assert float(two_back) > 5 * float(scores.uniform[:, r].mean()) / 2
    assert float(two_back) > 0.4


def test_what_stands_at_one_place_is_compared_with_uniform_attention(scores: dla.HeadScores) -> None:
    said = dict(zip(scores.relations, scores.against, strict=True))
    assert {name for name in said if said[name] == "uniform attention"} == set(RELATIONS) - set(OF_MAZES)


@pytest.mark.parametrize("queries", ["all", "read", "path"])
def test_it_is_so_where_prompts_have_different_lengths(small_model: MazeModel, queries: str) -> None:
    """What a partner's text does not reach is no difference between its relations and the own ones."""
    batch = small_model.prompts(n_mazes=8, task=["first_path_choice", "path_end"])
    assert len(set(batch.lengths.tolist())) > 2
    names = ("previous token", "target", "same cell")
    heads = planted(small_model, list(map(looks_at, names)))
    scores = dla.head_scores(heads, batch, small_model.relations(batch).only(*names), queries=queries, random=3)
    assert scores.against == ("uniform attention", "uniform attention", "another maze's keys")
    for i in range(2):
        assert bool(scores.is_above[i, 0, i])
        assert float(scores.above_summary().mean[i, 0, i]) > 0.8 > float(scores.above_summary().mean[i, 0, 2])


def test_another_layout_is_laid_over_part_by_part() -> None:
    sections, own = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    pairs = torch.tensor([[0, 1, 0], [0, 3, 1], [0, 5, 4], [1, 6, 5], [1, 6, 2]])
    assert laid_over(pairs, sections, own).tolist() == [[0, 1, 0], [0, 3, 2], [1, 5, 3]]
    assert torch.equal(laid_over(pairs, sections, sections), pairs)


def test_queries_of_one_kind(small_model: MazeModel, batch: Any) -> None:
    relations = small_model.relations(batch)
    path, rest = ("path", ["adjacency list", "origin", "target"])
    counts = [
        dla.head_scores(small_model, batch, relations, queries=q, random=0).n_queries for q in ("all", path, rest)
    ]
    assert torch.equal(counts[0], counts[1] + counts[2])
    assert (counts[1] > 0).any()
    with pytest.raises(InputError, match="queries is one of 'all', 'read', 'adjacency list', 'origin', "):
        dla.head_scores(small_model, batch, relations, queries=["path", "corridor"])


def test_other_prompts_are_refused(small_model: MazeModel) -> None:
    with pytest.raises(InputError, match=r"batch is that of maze\.prompts\(\), got int"):
        small_model.relations(3)  # pyright: ignore[reportArgumentType]
