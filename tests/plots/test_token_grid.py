from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError
from maze_dla.plots._words import share, shown_token

PLACES = [2, 30, 7]


@pytest.fixture(scope="module")
def grid():
    from tests.plots.conftest import make_token_lens

    return make_token_lens(n_layers=2, all_positions=True)


def written(ax):
    """The words of each cell from top to bottom, by (column, row), and whether they are bold."""
    found = {}
    for text in sorted(ax.texts, key=lambda t: -t.get_position()[1]):
        x, y = text.get_position()
        found.setdefault((x, round(y)), []).append((text.get_text(), text.get_fontweight() == "bold"))
    return found


@pytest.mark.parametrize("k", [1, 3])
def test_each_cell_has_its_likeliest_tokens_and_the_true_one_in_bold(grid, k):
    """In tall cells the probability stands below the token, in low ones beside it."""
    from matplotlib import pyplot as plt

    words = list(grid.prompt_tokens[0])
    words[31] = grid.top_tokens(0, 30)[2][0]
    grid = replace(grid, prompt_tokens=(tuple(words), grid.prompt_tokens[1]))
    ax = plots.token_grid(grid, 0, plt.figure(figsize=(9, 9)).subplots(), positions=PLACES, k=k)
    cells = written(ax)
    assert len(cells) == 5 * len(PLACES)
    seen = set()
    for (column, row), lines in cells.items():
        position = PLACES[column]
        top = grid.top_tokens(0, position)[row][:k]
        probs = [share(float(p)) for p in grid.top_probs[0, position, row, :k]]
        assert [words for words, _ in lines] == [f"{shown_token(t)}\n{p}" for t, p in zip(top, probs, strict=True)]
        true = grid.prompt_tokens[0][position + 1]
        assert [bold for _, bold in lines] == [token == true for token in top]
        seen |= {bold for _, bold in lines}
    assert seen == {True, False}
    low = plots.token_grid(grid, 0, plt.figure(figsize=(9, 3)).subplots(), positions=PLACES, k=k)
    for (column, row), lines in written(low).items():
        assert [" ".join(w.split("\n")) for w, _ in cells[column, row]] == [" ".join(w.split("\n")) for w, _ in lines]


@pytest.mark.parametrize("colour", ["kl", "entropy", "target_prob", "target_rank"])
def test_the_colour_is_what_was_asked_for(grid, ax, colour):
    image = plots.token_grid(grid, 1, ax, positions=PLACES, colour=colour).images[0]
    np.testing.assert_allclose(image.get_array(), getattr(grid, colour)[1, PLACES].T, rtol=1e-6)
    assert image.get_clim()[0] == 0
    assert {"kl": "KL(final || depth) (nats)", "target_prob": "probability of the true next token"}.get(
        colour, colour.split("_")[-1]
    ) in " ".join(label.get_ylabel().replace("\n", " ") for label in ax.child_axes)


def test_the_colour_of_a_chosen_token(grid, ax):
    image = plots.token_grid(grid, 0, ax, positions=PLACES, token="(1,1)").images[0]
    expected = np.stack([grid.probability_of("(1,1)", 0, p).numpy() for p in PLACES], 1)
    np.testing.assert_allclose(image.get_array(), expected, rtol=1e-6)
    assert image.get_clim() == (0, 1)
    assert "probability of (1,1)" in " ".join(a.get_ylabel() for a in ax.child_axes)


def test_a_long_prompt_shows_its_last_positions_and_a_short_one_all(grid, ax):
    plots.token_grid(grid, 1, ax)
    n = len(grid.prompt_tokens[1])
    np.testing.assert_allclose(ax.images[0].get_array(), grid.kl[1, n - 16 : n].T, rtol=1e-6)
    short = replace(grid, prompt_tokens=(grid.prompt_tokens[0][:5], grid.prompt_tokens[1]))
    assert plots.token_grid(short, 0).images[0].get_array().shape == (5, 5)
    assert "each depth's own scale" in ax.get_title().replace("\n", " ")


def test_negative_positions_count_from_the_end_of_this_prompt(grid, ax):
    plots.token_grid(grid, 1, ax, positions=range(-3, 0))
    n = len(grid.prompt_tokens[1])
    np.testing.assert_allclose(ax.images[0].get_array(), grid.kl[1, n - 3 : n].T, rtol=1e-6)
    with pytest.raises(InputError, match=rf"from -{n} to -1 from the end, got \[-{n + 1}\]"):
        plots.token_grid(grid, 1, positions=[-n - 1])


def test_errors(grid, tokens):
    for ask, message in (
        (lambda: plots.token_grid(tokens()), "got one of the read position alone"),
        (lambda: plots.token_grid(grid, 2), "prompt is an index from 0 to 1, got 2"),
        (lambda: plots.token_grid(grid, positions=[99]), "positions of prompt 0 are from 0 to"),
        (lambda: plots.token_grid(grid, k=6), "k is at most 5, got 6"),
        (lambda: plots.token_grid(grid, colour="red"), "colour is one of 'kl', .* got 'red'"),
        (lambda: plots.token_grid(grid, token="(9,9)"), "is not among the chosen tokens"),
        (lambda: plots.token_grid(replace(grid, target_prob=None), colour="target_prob"), "holds no target_prob"),
    ):
        with pytest.raises(InputError, match=message):
            ask()
