"""Chance and plain strategies against a slow count of the test's own, on mazes of every kind."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.adapters.mazes.strategies import STRATEGIES
from maze_dla.adapters.mazes.tasks import TASKS
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import InputError
from maze_dla.results.base import PromptResult
from maze_dla.results.skill import NO_SKILL
from maze_dla.results.streaming import stream

from .small_files import SPECIAL
from .test_right_moves import Cell, answers, random_maze, steps_from, text_of

SIZE = 6
WALLS = [
    (a, b)
    for a in [(r, c) for r in range(SIZE) for c in range(SIZE)]
    for b in [(a[0] + 1, a[1]), (a[0], a[1] + 1)]
    if max(b) < SIZE
]


def word(cell: Cell) -> str:
    return f"({cell[0]},{cell[1]})"


def hallway(rng: random.Random) -> tuple[str, list[set[str]]]:
    """A corridor that turns at random, with the origin somewhere in it."""
    cells = [(rng.randrange(SIZE), rng.randrange(SIZE))]
    while len(cells) < 14:
        around = [(cells[-1][0] + r, cells[-1][1] + c) for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        if not (free := [c for c in around if c not in cells and min(c) >= 0 and max(c) < SIZE]):
            return hallway(rng)
        cells.append(rng.choice(free))
    start, end = rng.sample(range(len(cells)), 2)
    path = cells[start : end + 1] if start < end else cells[end : start + 1][::-1]
    passages = list(pairwise(cells))
    rng.shuffle(passages)
    return text_of(passages, path, path[-1]), [*({word(c)} for c in path), {"<PATH_END>"}]


def forked(rng: random.Random, n_loops: int) -> tuple[str, list[set[str]]]:
    """A tree over all cells, with passages more that make loops."""
    piece, passages, spare = {(r, c): (r, c) for r in range(SIZE) for c in range(SIZE)}, [], []
    for a, b in rng.sample(WALLS, len(WALLS)):
        (passages if piece[a] != piece[b] else spare).append((a, b))
        piece = {cell: piece[a] if p == piece[b] else p for cell, p in piece.items()}
    passages += spare[:n_loops]
    origin, target = rng.sample(sorted(piece), 2)
    steps, path, right = steps_from(target, passages), [origin], [{word(origin)}]
    while path[-1] != target:
        around = {b if a == path[-1] else a for a, b in passages if path[-1] in (a, b)}
        nearer = sorted(c for c in around if steps[c] < steps[path[-1]])
        right.append(set(map(word, nearer)))
        path.append(rng.choice(nearer))
    return text_of(passages, path, target), [*right, {"<PATH_END>"}]


KINDS = {
    "hallways": hallway,
    "forks": lambda rng: forked(rng, 0),
    "loops": lambda rng: forked(rng, 9),
    "pieces and loops": random_maze,
}


def expected_of(text: str, right: list[set[str]]) -> list[dict[str, Any]]:
    """What is right how often for each token after <PATH_START>, written out."""
    edges = re.findall(r"(\(\d+,\d+\)) <--> (\(\d+,\d+\))", text)
    path = re.findall(r"\(\d+,\d+\)", text.split("<PATH_START>")[1])
    goal = re.findall(r"<TARGET_START> (\S+)", text)[0]

    def apart(a: str) -> int:
        (r, c), (s, d) = (map(int, re.findall(r"\d+", cell)) for cell in (a, goal))
        return abs(r - s) + abs(c - d)

    every = len({cell for edge in edges for cell in edge})
    found: list[dict[str, Any]] = [{"candidates": every, "chance": 1 / every, "forward": set(), "neighbors": set()}]
    for step, here in enumerate(path):
        around = {b if a == here else a for a, b in edges if here in (a, b)}
        ahead = around - {path[step - 1]} if step else around
        end = {"<PATH_END>"} if step == len(path) - 1 else set()
        nearest = end or {c for c in around if apart(c) == min(map(apart, around))}
        shares = [len(s & right[step + 1]) / len(s) for s in (around | end, (ahead | end) or around, nearest)]
        n = len(around | end)
        found.append({"candidates": n, "chance": shares[0] if n > 1 else math.nan})
        found[-1] |= dict(zip(STRATEGIES, shares, strict=False))
        found[-1] |= {"forward": ahead - right[step + 1], "neighbors": around - right[step + 1]}
    return found


def made(texts: list[str], *tasks: str, prepend_bos: bool = True, padding: Any = None) -> MazePromptBatch:
    vocabulary = MazeVocabulary((*SPECIAL, *(word((r, c)) for r in range(SIZE) for c in range(SIZE))))
    named = {task: TASKS[task] for task in tasks or ("every_path_step",)}
    more: dict[str, Any] = {"grid_n": SIZE, "seed": 0, "info": {}, "prepend_bos": prepend_bos, "padding": padding}
    return MazePromptBatch.build([text.split() for text in texts], vocabulary, named, **more)


def same(values: Any, expected: list[float]) -> None:
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize(("prepend_bos", "padding"), [(True, None), (False, None), (True, "longest")])
@pytest.mark.parametrize("kind", KINDS)
def test_every_prompt_is_counted_by_hand(kind: str, prepend_bos: bool, padding: Any) -> None:
    rng = random.Random(3)
    mazes = [KINDS[kind](rng) for _ in range(40)]
    batch = made([text for text, _ in mazes], prepend_bos=prepend_bos, padding=padding)
    expected = [row for maze in mazes for row in expected_of(*maze)]
    assert batch.columns["candidates"].tolist() == [row["candidates"] for row in expected]  # pyright: ignore
    for name in ("chance", *STRATEGIES[:-1]):
        same(batch.columns[name], [row.get(name, math.nan) for row in expected])
    assert len({row["chance"] for row in expected if row["chance"] == row["chance"]}) > 2
    for name in ("forward", "neighbors"):
        foils = [{batch.token_name(int(t)) for t in torch.nonzero(row).flatten()} for row in batch.others(name)]
        assert foils == [row[name] for row in expected]
    for others, right in zip(batch.others("forward"), answers(batch), strict=True):
        assert not {batch.token_name(int(t)) for t in torch.nonzero(others).flatten()} & right


def test_forward_is_neighbors_without_stepping_back() -> None:
    batch = made([hallway(random.Random(i))[0] for i in range(30)])
    steps = batch.steps
    back = batch.others("neighbors") & ~batch.others("forward")
    assert (back.sum(1)[steps > 1] == 1).all()  # also at <PATH_END>
    assert not back[steps < 2].any()
    before = batch.sequences[batch.sequence_of, batch.read_positions - 1]
    assert torch.equal(back.int().argmax(1)[steps > 1], before[steps > 1])
    ahead = batch.having("forward")
    assert 1 in ahead.steps.tolist()
    assert (correct_vs_other(ahead, "forward").coefficients() < 0).any(1).all()
    with pytest.raises(InputError, match="has no other token in 'forward' beside its target"):
        correct_vs_other(batch, "forward")


def test_a_tree_of_right_answers_only_leaves_no_foil() -> None:
    square = [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((0, 0), (1, 0)), ((1, 0), (1, 1))]
    text = text_of(square, [(0, 0), (1, 0), (1, 1)], (1, 1))
    batch = made([text])
    assert batch.others("forward").sum(1).tolist() == [0, 0, 0, 1]  # at the end the other cell beside the target
    same(batch.columns["chance"], [1 / 4, 1.0, 1 / 2, 1 / 3])
    same(batch.columns["not going back"], [math.nan, 1.0, 1.0, 1 / 2])


def test_what_is_not_known_has_no_chance() -> None:
    text = hallway(random.Random(2))[0]
    batch = made([text], "path_start")
    assert batch.columns["candidates"].tolist() == [0]  # pyright: ignore
    for name in ("chance", *STRATEGIES):
        same(batch.columns[name], [math.nan])
    bare = made([re.sub(r"<TARGET_START> \S+ <TARGET_END> ", "", text)], "first_path_choice", "path_end")
    assert bare.columns["towards the goal"].isnan().all()  # pyright: ignore
    assert not bare.columns["random legal move"].isnan().any()  # pyright: ignore
    no_list = made([re.sub(r"(?<=<ADJLIST_START>).*(?=<ADJLIST_END>)", " ", text)])
    assert no_list.columns["candidates"].tolist() == [0] * len(no_list)  # pyright: ignore
    assert no_list.columns["chance"].isnan().all()  # pyright: ignore


@pytest.mark.parametrize("tasks", [("first_path_choice",), ("path_start", "every_path_step", "path_end")])
def test_the_majority_token_is_that_of_other_mazes(tasks: tuple[str, ...]) -> None:
    rng = random.Random(5)
    texts = [random_maze(rng)[0] for _ in range(9)]
    batch = made([*texts, *texts[:3]], *tasks)  # a maze that comes twice is one maze
    table = list(
        zip(batch.columns["maze"], batch.task_of.tolist(), batch.targets.tolist(), answers(batch), strict=True)
    )
    expected = []
    for maze, task, _, right in table:
        counts = Counter(t for m, k, t, _ in table if k == task and m != maze)
        most = [batch.token_name(t) for t, n in counts.items() if n == max(counts.values())]
        expected.append(sum(t in right for t in most) / len(most))
    same(batch.columns["majority token"], expected)
    assert any(0 < x < 1 for x in expected) == (len(tasks) == 1)  # several are as common
    assert len(set(expected)) > 1


def test_a_single_maze_has_no_majority() -> None:
    assert made([hallway(random.Random(0))[0]]).columns["majority token"].isnan().all()  # pyright: ignore


def test_columns_are_chosen_with_their_prompts() -> None:
    batch = made([hallway(random.Random(i))[0] for i in range(4)])
    chosen = [7, 3, 20]
    for name in ("candidates", "chance", *STRATEGIES):
        torch.testing.assert_close(batch.select(chosen).columns[name], batch.columns[name][chosen], equal_nan=True)  # pyright: ignore


@pytest.fixture(scope="module")
def first_choices() -> MazePromptBatch:
    maze: MazeModel = load_maze_model()
    return maze.prompts(n_mazes=500)


def test_first_choices_of_the_bundled_checkpoints_mazes(first_choices: MazePromptBatch) -> None:
    """The nearer neighbour is right in 70%, and 13% have nothing to choose."""
    columns: Any = first_choices.columns
    assert float(columns["towards the goal"].mean()) == pytest.approx(0.7, abs=0.03)
    assert float((columns["candidates"] == 1).double().mean()) == pytest.approx(0.13, abs=0.02)
    assert torch.equal(columns["chance"].isnan(), columns["candidates"] == 1)
    assert set(columns["chance"].nan_to_num(1.0).tolist()) == {0.5, 1.0}  # hallways


def told(batch: MazePromptBatch, says: list[str]) -> PromptResult:
    """The result of a planted model that says these tokens."""
    right = torch.tensor([token in row for token, row in zip(says, answers(batch), strict=True)])
    targets = tuple(map(batch.token_name, batch.targets.tolist()))
    return PromptResult(
        right.double(), right, batch.labels, targets, {**batch.info, "unit": batch.unit}, columns=batch.columns
    )


def planted(batch: MazePromptBatch, to_goal: bool, seed: int = 1) -> PromptResult:
    """Goes to a neighbour that is nearest to the goal, or to any."""
    rng, says = random.Random(seed), []
    for labels in batch.labels:
        text, here = " ".join(labels), labels[-1]
        goal = re.findall(r"<TARGET_START> (\S+)", text)[0]
        edges = re.findall(r"(\(\d+,\d+\)) <--> (\(\d+,\d+\))", text)
        around = sorted({b if a == here else a for a, b in edges if here in (a, b)})

        def apart(a: str, goal: str = goal) -> int:
            (r, c), (s, d) = (map(int, re.findall(r"\d+", cell)) for cell in (a, goal))
            return abs(r - s) + abs(c - d)

        nearest = [c for c in around if apart(c) == min(map(apart, around))]
        says.append(rng.choice(nearest if to_goal else around))
    return told(batch, says)


def test_a_planted_model_is_told_what_it_is(first_choices: MazePromptBatch) -> None:
    left_out = r" on 435 of 500 prompts \(left out: 65 with a single candidate\) "
    by_distance = str(planted(first_choices, to_goal=True).warning)
    same_as = r'cannot be told from the strategy "towards the goal" \(0\.669, paired difference -?0\.0\d\d \[-.*\]\)'
    assert re.fullmatch(
        rf"The model's accuracy 0\.\d+{left_out}{same_as}: its parts may .* no more than that\.", by_distance
    )
    at_random = planted(first_choices, to_goal=False)
    chance = r"cannot be told from chance \(0\.500, paired difference -?0\.0\d\d \[-.*\]\)"
    below = r'is below the strategy "towards the goal" \(0\.669, paired difference -0\.1.*\)'
    assert re.fullmatch(
        rf"The model's accuracy 0\.\d+{left_out}{chance} and {below}: {NO_SKILL}", str(at_random.warning)
    )
    assert f"  {at_random.warning}" in repr(at_random).split("\n")
    rng = random.Random(1)
    wrong = [rng.choice(["(0,0)", "<PATH_END>"]) for _ in range(500)]
    assert " is below chance (0.500, " in str(told(first_choices, wrong).warning)
    perfect = told(first_choices, [min(right) for right in answers(first_choices)])
    assert perfect.warning is None


def test_the_bundled_checkpoint_gets_no_warning(first_choices: MazePromptBatch) -> None:
    maze = load_maze_model()
    result = attribute(maze, first_choices, correct_vs_other(first_choices))
    assert result.warning is None
    assert set(result.baselines) == set(STRATEGIES)
    assert torch.equal(result.chance.isnan(), first_choices.columns["candidates"] == 1)  # pyright: ignore
    rows = dict(result._summary_rows())
    assert rows["chance"].startswith("0.500 [0.500, 0.500], the model 0.")
    assert rows['best plain strategy, "towards the goal"'].endswith("(left out: 65 with a single candidate)")
    pieces = [first_choices.select(range(i, i + 100)) for i in range(0, 500, 100)]
    streamed = stream(lambda batch: attribute(maze, batch, correct_vs_other(batch)), pieces)
    assert streamed.warning is None
    assert dict(streamed._summary_rows())["chance"] == rows["chance"]


@pytest.mark.parametrize("name", ["2023-model.final", "2024-model.final", "2024-model.iter_0"])
def test_barely_trained_checkpoints_are_below_chance(name: str, real_model: Any) -> None:
    """They name no cell at all, or one cell for every maze."""
    maze = real_model(name)
    batch = maze.prompts(n_mazes=40)
    warning = str(attribute(maze, batch, correct_vs_other(batch)).warning)
    assert " is below chance (0." in warning
    assert warning.endswith(NO_SKILL)
    starts = maze.prompts(n_mazes=10, task="path_start")
    at_start = attribute(maze, starts, correct_vs_other(starts))
    assert at_start.chance.isnan().all()
    assert 'is below the strategy "majority token" (1.000, ' in str(at_start.warning)
    assert "  chance: not known" in repr(at_start)
