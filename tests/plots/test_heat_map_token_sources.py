from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError

PADDING = 3
WORDS = ("The", " dog", " saw", " Mary", ".")


@pytest.fixture
def few(attribution):
    """A function for results on the last tokens of the fixture's prompts, with the words given for them."""

    def make(words=WORDS, n=3, **more):
        result = attribution(n=n, **more)
        last = len(words) + PADDING
        sources, patterns = result.sources[..., -last:], result.patterns[..., -last:]
        return replace(result, prompt_tokens=(tuple(words),) * n, sources=sources, patterns=patterns)

    return make


def ranked(result, prompt):
    """Layer and head of each head, the strongest on this prompt first."""
    return [divmod(i, 4) for i in result.heads[prompt].abs().flatten().argsort(descending=True).tolist()]


def drawn(ax):
    return np.asarray(ax.images[0].get_array())


def tick_names(labels):
    return [label.get_text() for label in labels]


def test_rows_are_the_strongest_heads_on_this_prompt_and_all_together(few, ax):
    result = few()
    assert plots.token_sources(result, 1, ax, k=6) is ax
    order = ranked(result, 1)[:6]
    assert order != ranked(result, 0)[:6]
    moved = result.sources[1, ..., : len(WORDS)]
    expected = [*(moved[layer, head] for layer, head in order), moved.sum((0, 1))]
    np.testing.assert_allclose(drawn(ax), np.stack(expected), rtol=1e-5, atol=1e-6)
    assert tick_names(ax.get_yticklabels()) == [*(f"L{layer}H{head}" for layer, head in order), "all heads"]


def test_the_strongest_head_is_at_the_top(few, ax):
    plots.token_sources(few(), ax=ax)
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_a_line_sets_all_heads_apart(few, ax):
    plots.token_sources(few(), ax=ax, k=3)
    assert [set(line.get_ydata()) for line in ax.lines] == [{2.5}]


def test_more_heads_than_there_are(few, ax):
    result = few(n_layers=1)
    plots.token_sources(result, ax=ax, k=100)
    assert drawn(ax).shape == (4 + 1, len(WORDS))


def test_a_shorter_prompt_has_fewer_columns(few, ax):
    result = few()
    plots.token_sources(replace(result, prompt_tokens=(WORDS, WORDS[:3], WORDS)), 1, ax)
    assert drawn(ax).shape[1] == 3
    assert tick_names(ax.get_xticklabels()) == ["The", "·dog", "·saw"]


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_one_prompt(few, ax):
    result = few(n=1)
    plots.token_sources(result, ax=ax)
    np.testing.assert_allclose(drawn(ax)[-1], result.sources[0, ..., : len(WORDS)].sum((0, 1)), rtol=1e-4, atol=1e-6)


def test_limits_are_symmetric_and_reached(few, ax):
    plots.token_sources(few(), ax=ax)
    low, high = ax.images[0].get_clim()
    assert low == -high
    assert high == np.abs(drawn(ax)).max()


def test_heads_that_move_nothing_have_limits_and_no_numbers(few, ax):
    result = few()
    plots.token_sources(replace(result, sources=0 * result.sources), ax=ax)
    assert ax.images[0].get_clim() == (-1, 1)
    assert not ax.texts


def test_numbers_are_written_where_they_are_not_tiny(few, ax):
    plots.token_sources(few(), ax=ax, k=20)
    values = drawn(ax)
    large = np.abs(values) >= 0.04 * np.abs(values).max()
    assert 0 < large.sum() < large.size
    expected = {(column, row): f"{values[row, column]:.2f}" for row, column in np.argwhere(large).tolist()}
    assert {text.get_position(): text.get_text() for text in ax.texts} == expected


def test_numbers_stand_out_from_their_cells(few, ax):
    result = few()
    sources = 0.1 * result.sources.sign()
    sources[:, 0, 0, 0] = 100
    plots.token_sources(replace(result, sources=sources, heads=sources.sum(-1)), ax=ax, k=1)
    assert {text.get_position(): text.get_color() for text in ax.texts} == {(0, 0): "white", (0, 1): "white"}
    sources[:, 0, 0, 1] = 10
    ax.clear()
    plots.token_sources(replace(result, sources=sources, heads=sources.sum(-1)), ax=ax, k=1)
    assert {text.get_position(): text.get_color() for text in ax.texts}[1, 0] == "black"


@pytest.mark.parametrize(("n", "written"), [(40, True), (60, False)])
def test_long_prompts_have_no_numbers(few, ax, n, written):
    result = replace(few(), patterns=None)
    sources = result.sources[..., :1].expand(-1, -1, -1, n)
    plots.token_sources(replace(result, prompt_tokens=(("a",) * n,) * 3, sources=sources), ax=ax)
    assert drawn(ax).shape[1] == n
    assert bool(ax.texts) == written


def test_tokens_are_written_as_they_are(few, ax):
    words = ("$x$", "a\nb", " $", "supercalifragilistic", "<|endoftext|>")
    plots.token_sources(few(words), ax=ax)
    shown = [r"\$x\$", "a\\nb", r"·\$", "supercalifrag…", "<|endoftext|>"]
    assert tick_names(ax.get_xticklabels()) == shown
    ax.figure.canvas.draw()


def test_the_title_names_metric_and_target(few, ax):
    result = replace(few(metric="logit"), targets=("b", " Mary", "c"))
    plots.token_sources(result, 1, ax)
    assert ax.get_title() == "Moved from each token, logit (target ·Mary)"
    assert ax.images[0].colorbar.ax.get_ylabel() == "contribution (logits)"


def test_longer_prompts_get_wider_figures(few, attribution):
    narrow, wide = plots.token_sources(few()).figure, plots.token_sources(attribution(n=2)).figure
    assert narrow is not wide
    assert narrow.get_figwidth() < wide.get_figwidth()


def test_errors(few):
    asked = r"^this result has no sources to draw: ask with attribute\(\.\.\., sources=True\)$"
    with pytest.raises(InputError, match=asked):
        plots.token_sources(replace(few(), sources=None))
    for prompt in (3, -1):
        with pytest.raises(InputError, match=rf"^prompt is an index from 0 to 2, got {prompt}$"):
            plots.token_sources(few(), prompt)
    with pytest.raises(InputError, match=r"^k is at least 1, got 0$"):
        plots.token_sources(few(), k=0)
