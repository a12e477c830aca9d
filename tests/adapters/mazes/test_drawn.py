"""Mazes drawn by hand or changed in one passage are mazes like any other, with a shortest path."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import maze_dla as dla
from maze_dla.adapters.mazes.datasets import maze_supply
from maze_dla.adapters.mazes.drawn import drawn_maze, with_passage
from maze_dla.adapters.mazes.library import generate
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.errors import DatasetError, InputError

DRAWING = """
#######
#S    #
##### #
#E  # #
# # # #
# #   #
#######
"""
PATH = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (1, 1), (1, 0)]
TOKENS = (
    "<ADJLIST_START> (0,0) <--> (0,1) ; (1,1) <--> (0,1) ; (1,1) <--> (1,2) ; (1,0) <--> (1,1) ; (2,2) <--> (1,2) ; "
    "<ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> <TARGET_START> (2,2) <TARGET_END> "
    "<PATH_START> (0,0) (0,1) (1,1) (1,2) (2,2) <PATH_END>"
)


@pytest.fixture(scope="module")
def maze() -> MazeModel:
    return dla.load_maze_model()


def path_of(maze: Any) -> list[tuple[int, int]]:
    return [(int(r), int(c)) for r, c in maze.solution]


def test_a_drawing_is_read_as_it_is_drawn() -> None:
    found = drawn_maze(DRAWING)
    assert path_of(found) == PATH
    assert found.as_ascii().replace("X", " ") == DRAWING.strip()
    assert path_of(drawn_maze(found.as_ascii())) == PATH  # with the path drawn
    indented = "\n".join("    " + line for line in DRAWING.strip().split("\n"))
    assert path_of(drawn_maze(indented)) == PATH


def test_mazes_of_the_library_come_back(maze: MazeModel) -> None:
    for made in generate({**maze.dataset_config, "applied_filters": []}, 5, 3):
        found = drawn_maze(made.as_ascii())
        assert np.array_equal(found.connection_list, made.connection_list)
        assert np.array_equal(found.solution, made.solution)


def test_prompts_about_drawings(maze: MazeModel) -> None:
    batch = maze.prompts(DRAWING)
    assert list(batch.text(0).path) == PATH
    assert batch.info["mazes"] == "drawn mazes"
    two = maze.prompts([DRAWING, drawn_maze(DRAWING)])
    assert two.columns["maze"][0] == batch.columns["maze"][0]
    assert len(maze.predict(two, k=3)) == 6
    assert maze_supply(TOKENS, maze.vocabulary, maze.dataset_config, None).name == "token lists"
    with pytest.raises(InputError, match=r"maze 1: expected a drawing or a SolvedMaze, as the others are"):
        maze.prompts([DRAWING, TOKENS])


def test_an_opened_passage_shortens_the_path(maze: MazeModel) -> None:
    shorter = maze.with_passage(DRAWING, ((1, 0), (0, 0)))
    assert path_of(shorter) == [(0, 0), (1, 0)]
    assert not drawn_maze(DRAWING).connection_list[0, 0, 0]
    back = maze.with_passage(shorter, ((0, 0), (1, 0)), is_open=False)
    assert path_of(back) == PATH
    assert np.array_equal(back.connection_list, drawn_maze(DRAWING).connection_list)
    aside = maze.with_passage(DRAWING, ((1, 0), (2, 0)), is_open=False)
    assert path_of(aside) == PATH
    assert int(aside.connection_list.sum()) == int(drawn_maze(DRAWING).connection_list.sum()) - 1


def test_of_tokens_and_of_a_batch(maze: MazeModel) -> None:
    found = with_passage(TOKENS, ((0, 1), (0, 2)), is_open=True, grid_n=2)
    assert found.connection_list.shape == (2, 3, 3)
    assert path_of(found)[0] == (0, 0)
    assert path_of(found)[-1] == (2, 2)
    shorter = with_passage(found, ((0, 2), (1, 2)), is_open=True, grid_n=2)
    assert len(path_of(shorter)) == len(path_of(found)) == 5
    batch = maze.prompts(n_mazes=3)
    tokens = batch.text(1).tokens
    closed = next(p for p in (((0, 0), (0, 1)), ((0, 0), (1, 0))) if p not in batch.text(1).passages)
    changed = maze.prompts(maze.with_passage(tokens, closed))
    assert changed.text(0).passages == batch.text(1).passages | {closed}
    assert changed.text(0).path[0] == batch.text(1).path[0]
    assert changed.text(0).path[-1] == batch.text(1).path[-1]


def swapped(old: str, new: str) -> Callable[[], object]:
    return lambda: drawn_maze(DRAWING.replace(old, new, 1))


REFUSED: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    "no way is left from (0,0) to (1,0)": (
        lambda: with_passage(DRAWING, ((0, 1), (0, 2)), is_open=False, grid_n=3),
        DatasetError,
    ),
    "no way is left from (0,0) to (1,0) ": (swapped("#S    #", "#S#   #"), DatasetError),
    "2n + 1 lines of 2n + 1 characters, got 7 of [6, 7]": (swapped("#S    #", "#S   #"), DatasetError),
    "line 1: it has 'y', expected one of": (swapped("#S    #", "#S y  #"), DatasetError),
    "has one 'S', at the place of a cell, got it at []": (swapped("S", " "), DatasetError),
    "has one 'E', at the place of a cell, got it at [[1, 3], [3, 1]]": (swapped("#S    #", "#S E  #"), DatasetError),
    "has one 'S', at the place of a cell, got it at [[1, 2]]": (swapped("#S    #", "# S   #"), DatasetError),
    "there is a wall where the cell (0,1) is": (swapped("#S    #", "#S##  #"), DatasetError),
    "has a border of '#' all around, this one has a gap": (swapped("#######", "### ###"), DatasetError),
    "between (0,0) and (0,1) is open already": (
        lambda: with_passage(DRAWING, ((0, 1), (0, 0)), is_open=True, grid_n=3),
        InputError,
    ),
    "between two neighbouring cells of the 3x3 maze, such as ((0, 0), (0, 1)), got ((0, 0), (1, 1))": (
        lambda: with_passage(DRAWING, ((0, 0), (1, 1)), is_open=True, grid_n=3),
        InputError,
    ),
    "cells of the 3x3 maze, such as ((0, 0), (0, 1)), got ((2, 2), (2, 3))": (
        lambda: with_passage(DRAWING, ((2, 2), (2, 3)), is_open=True, grid_n=3),
        InputError,
    ),
    "maze is a SolvedMaze, a drawing or a maze's tokens with its path, got 3": (
        lambda: with_passage(3, ((0, 0), (0, 1)), is_open=True, grid_n=3),
        InputError,
    ),
    "these tokens have no path": (
        lambda: with_passage("<PATH_START> <PATH_END>", ((0, 0), (0, 1)), is_open=True, grid_n=3),
        InputError,
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_drawn_or_changed(message: str) -> None:
    call, kind = REFUSED[message]
    with pytest.raises(kind, match=re.escape(message.strip())):
        call()
