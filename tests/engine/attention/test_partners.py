"""Partners are about other things, of the same layout where there are any, and each is used alike."""

from __future__ import annotations

from dataclasses import replace

import torch

from maze_dla.engine.attention.partners import partners_of
from maze_dla.engine.attention.relations import Relations
from maze_dla.engine.prompts import PromptBatch
from tests.engine.small_models import make_batch


def relations(batch: PromptBatch, sections: list[list[int]] | None = None) -> Relations:
    labels = batch.sequence_labels
    held = {} if sections is None else {t: torch.tensor(s) for t, s in zip(labels, sections, strict=True)}
    return Relations.of(batch, {"first": lambda tokens: [(1, 0)]}, held)


def about(batch: PromptBatch, mazes: list[int]) -> PromptBatch:
    return replace(batch, columns={"maze": torch.tensor(mazes)}, unit="maze")


def test_prompts_of_one_layout_are_partners_in_turn() -> None:
    batch = about(make_batch((6,) * 5 + (9,) * 3), [0, 1, 2, 3, 4, 5, 6, 7])
    found = partners_of(batch, relations(batch), 2, 0)
    for group in (range(5), range(5, 8)):
        for column in found[list(group)].T.tolist():
            assert sorted(column) == list(group)  # each once: a permutation
    assert all(len({i, *row}) == 3 for i, row in enumerate(found.tolist()))  # others, and different ones
    assert not torch.equal(found, partners_of(batch, relations(batch), 2, 1))


def test_the_order_of_prompts_changes_nothing() -> None:
    batch = about(make_batch((6,) * 6), [0, 1, 2, 3, 4, 5])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    found, moved = (partners_of(b, relations(b), 3, 0) for b in (batch, batch.select(order)))
    assert torch.equal(order[moved], found[order])


def test_prompts_about_the_same_are_no_partners() -> None:
    batch = about(make_batch((6,) * 6), [0, 0, 1, 1, 2, 2])
    found = partners_of(batch, relations(batch), 4, 0)
    mazes = torch.tensor([0, 0, 1, 1, 2, 2])
    assert not (mazes[found] == mazes[:, None]).any()
    assert sorted(found[:, 0].tolist()) == list(range(6))
    alone = about(make_batch((6,) * 3), [0, 0, 0])
    assert (partners_of(alone, relations(alone), 2, 0) == -1).all()


def test_parts_of_the_text_make_a_layout() -> None:
    batch = about(make_batch((6,) * 4), [0, 1, 2, 3])
    sections = [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert partners_of(batch, relations(batch, sections), 1, 0)[:, 0].tolist() == [2, 3, 0, 1]


def test_a_layout_of_its_own_takes_the_nearest_in_length() -> None:
    batch = about(make_batch((6, 9, 20)), [0, 1, 2])
    found = partners_of(batch, relations(batch), 3, 0)
    assert found.tolist() == [[1, 2, 1], [0, 2, 0], [1, 0, 1]]
