"""Several right next steps: all that lie on a shortest path, found by a search of the test's own."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest
import torch

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other, logit

from .small_files import GRID
from .texts import LONG, SHORT, TEXT

Cell = tuple[int, int]
CELLS = [(r, c) for r in range(GRID) for c in range(GRID)]
WALLS_OFF = [(a, b) for a in CELLS for b in CELLS if a < b and abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]


def text_of(passages: list[tuple[Cell, Cell]], path: list[Cell], target: Cell) -> str:
    def word(cell: Cell) -> str:
        return f"({cell[0]},{cell[1]})"

    edges = " ".join(f"{word(a)} <--> {word(b)} ;" for a, b in passages)
    return (
        f"<ADJLIST_START> {edges} <ADJLIST_END> <ORIGIN_START> {word(path[0])} <ORIGIN_END> "
        f"<TARGET_START> {word(target)} <TARGET_END> <PATH_START> {' '.join(map(word, path))} <PATH_END>"
    )


def steps_from(target: Cell, passages: list[tuple[Cell, Cell]]) -> dict[Cell, int]:
    """Breadth first, by hand."""
    steps, ring = {target: 0}, [target]
    while ring:
        reached = {b if a == cell else a for cell in ring for a, b in passages if cell in (a, b)}
        ring = sorted(reached - steps.keys())
        steps.update(dict.fromkeys(ring, max(steps.values()) + 1))
    return steps


def random_maze(rng: random.Random) -> tuple[str, list[set[str]]]:
    """A maze that may have loops and pieces, a shortest path of it, and the right tokens after <PATH_START>."""
    while True:
        passages = rng.sample(WALLS_OFF, rng.randint(5, len(WALLS_OFF)))
        target = rng.choice(passages)[rng.randrange(2)]
        steps = steps_from(target, passages)
        origin = rng.choice(sorted(steps))
        if origin != target:
            break
    path, right = [origin], [{f"({origin[0]},{origin[1]})"}]
    while path[-1] != target:
        around = {b if a == path[-1] else a for a, b in passages if path[-1] in (a, b)}
        nearer = sorted(cell for cell in around if steps[cell] == steps[path[-1]] - 1)
        right.append({f"({r},{c})" for r, c in nearer})
        path.append(rng.choice(nearer))
    passages = [pair if rng.random() < 0.5 else pair[::-1] for pair in passages]
    return text_of(passages, path, target), [*right, {"<PATH_END>"}]


def answers(batch: MazePromptBatch) -> list[set[str]]:
    return [{batch.token_name(t) for t in row if t != -1} for row in batch.answers.tolist()]


@pytest.mark.parametrize("padding", [None, "longest"])
def test_all_shortest_steps_are_right(small_model: MazeModel, padding: Any) -> None:
    rng = random.Random(4)
    mazes = [random_maze(rng) for _ in range(150)]
    batch = small_model.prompts([text for text, _ in mazes], task="every_path_step", padding=padding)
    expected = [right for _, every in mazes for right in every]
    assert answers(batch) == expected
    assert sum(len(right) > 1 for right in expected) > 40
    assert [batch.token_name(t) for t in batch.answers[:, 0].tolist()] == [
        batch.token_name(t) for t in batch.targets.tolist()
    ]
    foils = batch.others("neighbors")
    for row, right in zip(foils, expected, strict=True):
        assert not {batch.token_name(int(t)) for t in torch.nonzero(row).flatten()} & right


def test_in_a_maze_without_loops_the_path_alone_is_right(small_model: MazeModel) -> None:
    batch = small_model.prompts([TEXT, SHORT, LONG], task="every_path_step")
    assert batch.answers.tolist() == [[t] for t in batch.targets.tolist()]


SQUARE = [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((0, 0), (1, 0)), ((1, 0), (1, 1)), ((1, 1), (1, 2))]


def test_a_path_that_is_not_the_shortest_stays_the_answer(small_model: MazeModel) -> None:
    """Where it goes away from the target its own token is what was asked for; later all shortest ways are right."""
    detour = text_of(SQUARE, [(0, 1), (0, 0), (1, 0), (1, 1), (1, 2)], (1, 2))
    batch = small_model.prompts([detour], task="every_path_step")
    assert answers(batch) == [{"(0,1)"}, {"(0,0)"}, {"(1,0)", "(0,1)"}, {"(1,1)"}, {"(1,2)"}, {"<PATH_END>"}]
    assert answers(small_model.prompts([text_of(SQUARE, [(0, 0), (1, 0), (1, 1)], (1, 1))])) == [{"(0,1)", "(1,0)"}]


def test_a_passage_written_twice_is_one(small_model: MazeModel) -> None:
    twice = text_of([*SQUARE[:2], ((1, 1), (0, 1)), SQUARE[4]], [(0, 0), (0, 1), (1, 1)], (1, 1))
    batch = small_model.prompts([twice], task="every_path_step")
    assert batch.answers.shape[1] == 1
    assert batch.token_set("neighbors").sum(1).tolist() == [0, 1, 2, 2]


def test_the_metric_weighs_right_steps_alike(small_model: MazeModel) -> None:
    batch = small_model.prompts([text_of(SQUARE, [(0, 0), (1, 0), (1, 1)], (1, 1))])
    with torch.no_grad():
        logits = small_model.model(batch.tokens)[0, -1]
    ids = small_model.vocabulary.ids
    mean = (logits[ids["(0,1)"]] + logits[ids["(1,0)"]]) / 2
    others = torch.stack([x for t, x in enumerate(logits) if t not in (ids["(0,1)"], ids["(1,0)"])])
    for metric, expected in ((logit(batch), mean), (correct_vs_other(batch), mean - others.mean())):
        result = attribute(small_model.model, batch, metric)
        torch.testing.assert_close(result.metric[0], expected, atol=1e-5, rtol=1e-5)
        assert bool(result.correct) == (int(logits.argmax()) in (ids["(0,1)"], ids["(1,0)"]))


def test_a_task_returns_positions_only(small_model: MazeModel) -> None:
    text = text_of(SQUARE, [(0, 0), (1, 0), (1, 1)], (1, 1))
    batch = small_model.prompts([text], task=lambda tokens, rng: tokens.index("<PATH_START>") + 2)
    assert answers(batch) == [{"(0,1)", "(1,0)"}]


def test_ten_thousand_mazes_take_no_time_to_speak_of(small_model: MazeModel) -> None:
    """Less than a third of what it takes to make prompts of them."""
    rng = random.Random(1)
    texts = [random_maze(rng)[0] for _ in range(500)] * 20
    from maze_dla.adapters.mazes.moves import allowed_moves, legal_moves, right_moves, targets_of

    started = time.process_time()
    batch = small_model.prompts(texts)
    whole = time.process_time() - started
    vocabulary, n = small_model.vocabulary, len(small_model.vocabulary.tokens)
    current = batch.sequence_of * n + batch.sequences[batch.sequence_of, batch.read_positions]
    started = time.process_time()
    moves = allowed_moves(batch.sequences, batch.sequence_lengths, vocabulary)
    legal = legal_moves(moves, current, n)
    found = right_moves(legal, current, batch.targets, moves, targets_of(batch.sequences, vocabulary), n)
    assert time.process_time() - started < 0.3 * whole
    assert torch.equal(found, batch.answers)
    assert re.search(r"10000 prompts", repr(batch))
