"""What the table says of each prompt about a maze, against the maze itself."""

from __future__ import annotations

import random

import pytest

import maze_dla as dla
from maze_dla.adapters.mazes.lattice import cell_of, cell_token
from maze_dla.adapters.mazes.model import MazeModel

from .test_right_moves import random_maze
from .texts import LONG, SHORT, TEXT


@pytest.fixture(scope="module")
def maze() -> MazeModel:
    return dla.load_maze_model()


@pytest.mark.parametrize("padding", [None, "longest"])
@pytest.mark.parametrize("prepend_bos", [True, False])
def test_each_prompt_by_hand(maze: MazeModel, prepend_bos: bool, padding: str | None) -> None:
    texts = [random_maze(random.Random(i))[0] for i in range(8)] + [TEXT, LONG, SHORT]
    how = {"prepend_bos": prepend_bos, "padding": padding}
    batch = maze.prompts(texts, task=["path_start", "every_path_step"], **how)  # pyright: ignore[reportArgumentType]
    columns = batch.columns
    names = {}
    for i in range(len(batch)):
        text, step = batch.text(i), int(batch.steps[i])
        path = text.path
        here = path[min(max(step - 1, 0), len(path) - 1)]
        goal = text.tokens[text.position("<TARGET_START>") + 1]
        row, column = cell_of(goal) or (0, 0)
        assert columns["origin_cell"][i] == cell_token(path[0])
        assert columns["target_cell"][i] == goal
        assert columns["path_length"][i] == len(path) - 1
        assert columns["distance"][i] == len(path) - 1 - path.index(here)
        assert columns["manhattan"][i] == abs(row - here[0]) + abs(column - here[1])
        assert columns["legal_moves"][i] == (sum(here in passage for passage in text.passages) if step > 0 else 0)
        assert columns["step"][i] == step
        assert columns["task"][i] == ("path_start" if step < 0 else "every_path_step")
        names.setdefault(batch.text(i).tokens[:40], set()).add(columns["maze"][i])
    assert all(len(found) == 1 for found in names.values())
    assert len(set().union(*names.values())) == len(texts)


def test_a_maze_has_one_name_whatever_is_asked_and_stands_in_front(maze: MazeModel) -> None:
    def of(**how) -> set[str]:
        return set(maze.prompts([TEXT, LONG], **how).columns["maze"])

    first = of()
    assert (
        first == of(task="path_end") == of(prepend_bos=False) == of(padding=150) == of(task="rand_path_token", seed=3)
    )
    moved = TEXT.replace("<TARGET_START> (2,2)", "<TARGET_START> (1,2)").replace(
        " (1,2) (2,2) <PATH_END>", " (1,2) <PATH_END>"
    )
    assert len(set(maze.prompts([TEXT, moved]).columns["maze"])) == 2


def test_means_over_steps_of_a_path_count_mazes(maze: MazeModel) -> None:
    batch = maze.prompts(n_mazes=4, task="every_path_step")
    summary = dla.attribute(maze, batch, dla.logit(batch)).metric_summary()
    assert (summary.n, summary.n_clusters) == (len(batch), 4)
