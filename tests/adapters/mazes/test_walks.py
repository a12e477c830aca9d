"""Walks judged by hand, and by maze-transformer's definitions written out once more."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest

from maze_dla.adapters.mazes.lattice import MazeText
from maze_dla.adapters.mazes.walkers import WALKERS, scores_of_walkers
from maze_dla.adapters.mazes.walks import WalkedMaze
from maze_dla.errors import PromptError
from maze_dla.results.rollout import FAULTS, SCORES

from .test_right_moves import CELLS, SQUARE, Cell, random_maze, steps_from
from .texts import TEXT

# (0,0) - (0,1)            (0,2)
#           |
# (1,0) - (1,1) - (1,2)
#                   |
#                 (2,2)


def walked(text: str) -> WalkedMaze:
    found = MazeText(tuple(text.split()))
    return WalkedMaze.of(found, found.path, "maze")


def words(walk: str) -> list[str]:
    return walk.split()


FAULTS_BY_HAND = {
    "(0,0) (0,1) (1,1) (1,2) (2,2) <PATH_END>": ["", "", "", "", "", ""],
    "(0,1)": ["not the origin"],
    "<PATH_END>": ["ended early"],
    "(0,0) <PATH_END>": ["", "ended early"],
    "(0,0) ; (0,1)": ["", "not a cell", "after no cell"],
    "(0,0) (0,1) (0,2)": ["", "", "through a wall"],
    "(0,0) (0,1) (1,2)": ["", "", "jumped"],
    "(0,0) (0,0)": ["", "stayed"],
    "(0,0) (0,1) (0,0) (0,1) (1,1)": ["", "", "turned back", "", ""],
    "(0,0) (0,1) (1,1) (1,0) (1,1) (0,1)": ["", "", "", "away from the target", "", "away from the target"],
    "(0,0) (0,1) (1,1) (1,2) (2,2) (1,2) (2,2) <PATH_END>": ["", "", "", "", "", "past the target", "", ""],
    "(0,0) (0,2) (0,1) (0,0)": ["", "jumped", "through a wall", "away from the target"],
    "(0,0) (0,2) (1,2) (2,2)": ["", "jumped", "through a wall", ""],
    "(0,0) (7,7)": ["", "jumped"],
}


@pytest.mark.parametrize("walk", FAULTS_BY_HAND)
def test_what_is_wrong_with_each_token(walk: str) -> None:
    maze, tokens = walked(TEXT), words(walk)
    found = [maze.fault(tokens[:k], token) for k, token in enumerate(tokens)]
    assert found == FAULTS_BY_HAND[walk]
    assert set(found) <= {"", *FAULTS}


def test_what_is_right_follows_the_walk_off_the_solution() -> None:
    maze = walked(TEXT)
    assert maze.right_after([]) == {"(0,0)"}
    assert maze.right_after(words("(0,0) (0,1) (1,1) (1,0)")) == {"(1,1)"}
    assert maze.right_after(words("(0,0) (2,2)")) == {"<PATH_END>"}
    assert maze.right_after(words("(0,0) (0,2)")) == set()  # no passage leads there
    assert maze.right_after(words("(0,0) ;")) == set()
    loop = WalkedMaze(frozenset(SQUARE), ((0, 0), (0, 1), (1, 1), (1, 2)))
    assert loop.right_after(["(0,0)"]) == {"(0,1)", "(1,0)"}


def test_a_solution_that_is_not_the_shortest_may_be_followed_too() -> None:
    detour = WalkedMaze(frozenset(SQUARE), ((0, 1), (0, 0), (1, 0), (1, 1), (1, 2)))
    assert detour.right_after(["(0,1)"]) == {"(0,0)", "(1,1)"}
    scores = detour.score(detour.solution, finished=True)
    assert (scores["exact"], scores["shortest"], scores["solved"]) == (True, False, True)
    short = detour.score([(0, 1), (1, 1), (1, 2)], finished=True)
    assert (short["exact"], short["shortest"], short["solved"]) == (False, True, True)


def test_a_text_whose_path_stops_on_the_way_goes_on_by_a_shortest_path() -> None:
    maze = walked(TEXT[: TEXT.index(" (1,2) (2,2) <PATH_END>")])
    assert maze.solution == ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2))
    for text in (TEXT.replace("<-->", ";"), TEXT.replace("(1,1) <--> (1,2)", "(1,1) <--> (1,0)")):
        with pytest.raises(PromptError, match="maze: no solution that leads through the passages"):
            walked(text)
    cut = TEXT.replace("(2,2) <--> (1,2) ;", "").replace(" (1,2) (2,2) <PATH_END>", "")
    with pytest.raises(PromptError, match="no solution"):
        walked(cut)


def by_definition(passages: list[tuple[Cell, Cell]], solution: list[Cell], walk: list[Cell]) -> dict[str, float]:
    """maze-transformer's evaluations of a path, from their docstrings, shares divided by the number of steps."""
    steps = list(pairwise(walk))
    connected = [(a, b) in passages or (b, a) in passages for a, b in steps]
    near = [float(np.abs(np.subtract(a, b)).sum()) == 1 for a, b in steps]
    left = steps_from(solution[-1], passages)
    return {
        "exact": np.array_equal(solution, walk),
        "valid": all(connected),
        "reached": walk[-1] == solution[-1],
        "adjacent": float(np.mean(near)) if steps else math.nan,
        "connected": float(np.mean(connected)) if steps else math.nan,
        "overlap": len(set(walk) & set(solution)) / len(set(solution)),
        "end_distance": left.get(walk[-1], math.nan),
        "n_steps": len(steps),
    }


def test_scores_are_those_of_the_definitions() -> None:
    rng, seen = random.Random(0), []
    for _ in range(150):
        text, _right = random_maze(rng)
        maze = walked(text)
        passages, solution = sorted(maze.passages), list(maze.solution)
        walk = list(solution)
        kind = rng.randrange(4)
        if kind == 1:
            walk = walk[: rng.randint(1, len(walk))]
        elif kind == 2:
            walk = [solution[0], *rng.choices(CELLS, k=rng.randint(0, 6))]
        elif kind == 3 and len(walk) > 2:
            walk[1], walk[2] = walk[2], walk[1]
        found = maze.score(walk, finished=True)
        expected = by_definition(passages, solution, walk)
        np.testing.assert_equal({name: float(found[name]) for name in expected}, expected)  # pyright: ignore
        seen.append([found["exact"], found["valid"], found["reached"]])
        assert found["solved"] == (found["exact"] or found["shortest"])
        assert not maze.score(walk, finished=False)["solved"]
        assert not maze.score(walk, finished=True, n_other=1)["solved"]
        assert maze.score(walk, finished=False, n_other=2)["exact"] == found["exact"]
        first = next((k for k, (a, b) in enumerate(zip(walk, solution, strict=False)) if a != b), None)
        tokens = [f"({r},{c})" for r, c in walk]
        if first is None:
            assert not any(maze.fault(tokens[:k], token) for k, token in enumerate(tokens[: len(solution)]))
    assert all(0.1 < share < 0.9 for share in np.mean(seen, 0))


def test_random_walkers_take_legal_moves_and_know_the_target() -> None:
    maze = walked(TEXT)
    found = scores_of_walkers(maze, ((0, 0),), 400, 0, "m")
    assert found.shape == (len(WALKERS), len(SCORES))
    of = {name: found[:, i] for i, name in enumerate(SCORES)}
    for name in ("valid", "adjacent", "connected"):
        assert of[name].tolist() == [1, 1]
    assert (of["other_tokens"] == 0).all()
    assert of["finished"].tolist() == [1, 1]
    assert of["reached"][0] == 1
    assert 0 < of["reached"][1] < 1  # it ends in the dead end (1,0) half of the time
    assert of["solved"][1] == of["reached"][1]
    assert of["solved"][0] < of["solved"][1]
    assert np.array_equal(found, scores_of_walkers(maze, ((0, 0),), 400, 0, "m"), equal_nan=True)
    assert not np.array_equal(found, scores_of_walkers(maze, ((0, 0),), 400, 1, "m"), equal_nan=True)
    short = scores_of_walkers(maze, ((0, 0),), 2, 0, "m")
    assert (short[:, SCORES.index("n_steps")] <= 2).all()
    assert (short[:, SCORES.index("finished")] == 0).all()
    from_start = scores_of_walkers(maze, (), 2, 0, "m")
    assert (from_start[:, SCORES.index("n_steps")] == 1).all()  # a token goes to the origin


def test_a_walker_solves_with_the_probability_of_its_moves() -> None:
    """One fork with two ways: half of the walks that do not turn back, and a product of choices of those that may."""
    maze = walked(TEXT)
    names = [f"maze {i}" for i in range(300)]
    mean = np.mean([scores_of_walkers(maze, ((0, 0),), 400, 0, name) for name in names], 0)
    solved = mean[:, SCORES.index("solved")]
    # of 3000 walks each: (0,0) 1 way, (0,1) 2, (1,1) 3, (1,2) 2
    assert solved[0] == pytest.approx(1 / 12, abs=4 * (1 / 12 / 3000) ** 0.5)
    assert solved[1] == pytest.approx(1 / 2, abs=4 * (1 / 4 / 3000) ** 0.5)
