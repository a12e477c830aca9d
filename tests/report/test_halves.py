"""The section on pairs draws each half as what it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import maze_dla as dla
from maze_dla import plots
from maze_dla.report.halves import draw_halves


def test_each_picture_shows_the_half_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    for name in ("layers", "heads", "maze_sources"):
        draw = getattr(plots, name)

        def noted(result: Any, *args: Any, draw: Any = draw) -> Any:
            drawn.append(result.info["part"])
            return draw(result, *args)

        monkeypatch.setattr(plots, name, noted)
    maze = dla.load_maze_model()
    pairs = maze.pairs(n_mazes=8)
    words, pictures = draw_halves(maze, pairs, tmp_path)
    assert pairs.info["left_out"] == 8 - len(pairs) > 0
    assert f"({8 - len(pairs)} mazes are left out: they have no such pair)" in words
    assert "logit difference, the clean prompt's answer minus the corrupted prompt's" in words
    assert [picture.file.name.split("_")[0] for picture in pictures] == drawn
    assert drawn.count("dependent") == drawn.count("shared") == 3
    both = dla.contrast(maze, pairs)
    dependent, shared = (half.top_heads(1)[0].name for half in (both.dependent, both.shared))
    assert words.index("depends on what was changed") < words.index(dependent)
    assert shared in words[words.index("both runs share") :]


def test_a_part_that_is_shared_in_every_pair_is_named_though_its_mean_is_near_zero() -> None:
    """L2H2 writes for one neighbour, whichever is right: over pairs that comes to nothing, in each it is most."""
    maze = dla.load_maze_model()
    both = dla.contrast(maze, maze.pairs(n_mazes=100))
    shared, dependent = (half.heads[:, 2, 2].abs().mean() for half in (both.shared, both.dependent))
    assert both.sizes_in_words(1) == f"L2H2 {shared:.2f} shared, {dependent:.2f} dependent"
    assert shared > 5 * both.shared.heads[:, 2, 2].mean().abs()
    assert f"size in a pair: {both.sizes_in_words()}" in str(both)
    assert both.sizes_in_words(0) == ""
