from __future__ import annotations

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError
from maze_dla.results.rollout import SCORES, RolloutResult
from tests.plots.conftest import PATH, make_connections, maze_words

SOLUTION = " ".join([*(f"({r},{c})" for r, c in PATH), "<PATH_END>"])
WALKS = {
    "solved": (SOLUTION, {}, "Walk 0: solved; 7 steps, the solution has 7"),
    "through a wall": (
        "(0,0) (0,1) (0,2) (0,1) <PATH_END>",
        {1: "through a wall"},
        "Walk 0: not solved, wrong at step 2 (through a wall); 3 steps, the solution has 7",
    ),
    "not a cell": (
        "(0,0) (0,1) ; (9,9) (1,1) (2,1)",
        {1: "not a cell"},
        "Walk 0: unfinished, max_steps, wrong at step 2 (not a cell); 4 steps, the solution has 7; tokens not drawn: 2",
    ),
}


def walk(text: str, faults: dict[int, str]) -> RolloutResult:
    """One walk in the maze of the other pictures."""
    words, _ = maze_words()
    tokens = text.split()
    n = len(tokens) - 1
    scores = torch.zeros(1, len(SCORES), dtype=torch.float64)
    scores[0, SCORES.index("solved")] = float(not faults)
    scores[0, SCORES.index("n_steps")] = sum(token.startswith("(") for token in tokens) - 1
    stopped = "path end" if tokens[-1] == "<PATH_END>" else "unfinished, max_steps"
    return RolloutResult(
        metric=torch.zeros(1),
        correct=torch.tensor([not faults]),
        prompt_tokens=(words[:-1],),
        targets=(SOLUTION,),
        predicted=(text,),
        info={"grid_n": 5},
        columns={"stopped": (stopped,)},
        scores=scores,
        log_probs=torch.zeros(1, n),
        given=torch.tensor([1]),
        faults=(tuple(faults.get(k, "") for k in range(n)),),
        walkers=torch.zeros(1, 1, len(SCORES)),
        walker_names=("random walker",),
    )


def line(ax, label):
    return next(drawn for drawn in ax.lines if drawn.get_label() == label)


@pytest.mark.parametrize("kind", WALKS)
def test_the_walk_and_its_first_wrong_step(kind, ax):
    text, faults, title = WALKS[kind]
    assert plots.rollout(walk(text, faults), ax=ax) is ax
    assert ax.get_title().replace("\n", " ") == title
    aside = line(ax, "the model's walk").get_xydata() - line(ax, "the model's walk").get_xydata()[0]
    cells = [tuple(map(int, t[1:-1].split(","))) for t in text.split() if t.startswith("(")]
    first = cells[: len(aside)]
    np.testing.assert_allclose(aside, [(c, r) for r, c in np.subtract(first, cells[0])], atol=1e-9)
    assert len(aside) == {"solved": 8, "through a wall": 4, "not a cell": 2}[kind]
    path = line(ax, "solution path").get_xydata()
    np.testing.assert_array_equal(path, [(c, r) for r, c in PATH])
    assert ("first wrong step" in ax.get_legend_handles_labels()[1]) == bool(faults)
    if kind == "through a wall":  # between (0,1) and (0,2)
        np.testing.assert_allclose(line(ax, "first wrong step").get_xydata()[0], (1.63, 0.13), atol=0.02)
    if kind == "not a cell":  # where it stands
        np.testing.assert_allclose(line(ax, "first wrong step").get_xydata()[0], (1.13, 0.13), atol=0.02)
        assert [len(x.get_xydata()) for x in ax.lines if x.get_label() == "_nolegend_"] == [2]
    walls = ax.collections[0].get_segments()
    assert len(walls) == 4 + 40 - len(make_connections())


def test_errors_say_what_was_seen():
    result = walk(SOLUTION, {})
    with pytest.raises(InputError, match="walk is at most 0, got 1"):
        plots.rollout(result, 1)
    with pytest.raises(InputError, match=r"takes a result of maze.rollout, got str"):
        plots.rollout("walk")  # pyright: ignore[reportArgumentType]
