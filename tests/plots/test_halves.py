"""Pictures of the halves of a contrast say which half they show."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib import pyplot as plt

import maze_dla as dla
from maze_dla import plots
from maze_dla.errors import InputError


@pytest.fixture(scope="module")
def pairs() -> dla.PromptPairs:
    return dla.load_maze_model().pairs(n_mazes=12)


@pytest.fixture(scope="module")
def found(pairs: dla.PromptPairs) -> dla.ContrastResult:
    return dla.contrast(dla.load_maze_model(), pairs, neurons=True, sources=True)


def words(ax: Any) -> str:
    figure = ax.figure
    texts = [ax.get_title(), ax.get_ylabel(), *(t.get_text() for t in ax.texts)]
    texts += [child.get_ylabel() for child in ax.child_axes]
    legend = ax.get_legend()
    texts += [t.get_text() for t in legend.get_texts()] if legend else []
    plt.close(figure)
    return " ".join(" ".join(texts).split())


PICTURES = {
    "layers": lambda half, pairs: plots.layers(half),
    "heads": lambda half, pairs: plots.heads(half),
    "neurons": lambda half, pairs: plots.neurons(half),
    "source_kinds": lambda half, pairs: plots.source_kinds(half),
    "token_sources": lambda half, pairs: plots.token_sources(half, 1),
    "lens": lambda half, pairs: plots.lens(half),
    "maze_sources": lambda half, pairs: plots.maze_sources(half, pairs, 1, "L5H3"),
    "lens_along_path": lambda half, pairs: plots.lens_along_path(half.lens(), pairs),
}


@pytest.mark.parametrize("part", ["dependent", "shared"])
@pytest.mark.parametrize("name", PICTURES)
def test_the_half_is_named(found: dla.ContrastResult, pairs: dla.PromptPairs, name: str, part: str) -> None:
    assert f"logit difference, {part} part" in words(PICTURES[name](getattr(found, part), pairs))
    assert "part" not in words(PICTURES[name](found.clean, pairs)).replace("each part", "")


def test_both_halves_in_one_picture_are_told_apart(found: dla.ContrastResult) -> None:
    shown = words(plots.lens(found.dependent, found.shared))
    assert "logit difference, dependent part" in shown
    assert "logit difference, shared part" in shown
    assert "read at the mean of the two runs' final scales" in shown


def test_the_norm_has_a_bar_and_a_name(found: dla.ContrastResult) -> None:
    ax = plots.layers(found.dependent)
    assert "final norm" in [label.get_text() for label in ax.get_xticklabels()]
    assert "final norm" in words(ax)


def test_halves_have_no_attention(found: dla.ContrastResult, pairs: dla.PromptPairs) -> None:
    for draw in (plots.maze_attention, plots.maze_sources_and_attention):
        with pytest.raises(InputError, match=r"no attention of its own: draw that of contrast\.clean"):
            draw(found.shared, pairs)
    assert "Attention" in words(plots.maze_attention(found.clean, pairs))
