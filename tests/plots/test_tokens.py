from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maze_dla import plots
from maze_dla.errors import InputError
from maze_dla.plots._words import share, shown_token


def cells(ax):
    """The texts by (column, row)."""
    return {text.get_position(): text for text in ax.texts}


def test_read_position_shows_tokens_and_probabilities(tokens, ax):
    result = tokens(n_layers=2)
    assert plots.token_lens(result, 1, ax) is ax
    top = result.top_tokens(1)
    for depth in range(5):
        for column in range(5):
            word, _, probability = cells(ax)[column, depth].get_text().rpartition(" ")
            assert top[depth][column].startswith(word.rstrip("…"))
            assert float(probability) == pytest.approx(float(result.top_probs[1, depth, column]), abs=0.0051)


def test_read_position_is_coloured_by_divergence_from_zero(tokens, ax):
    result = tokens()
    plots.token_lens(result, ax=ax)
    image = ax.images[0]
    np.testing.assert_allclose(image.get_array(), result.kl[0][:, None].expand(-1, 5), rtol=1e-6)
    assert image.get_clim()[0] == 0


def test_the_final_depth_is_at_the_top(tokens, ax):
    plots.token_lens(tokens(n_layers=2), ax=ax)
    bottom, top = ax.get_ylim()
    assert top > bottom
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == [
        "embeddings",
        "attention 0",
        "MLP 0",
        "attention 1",
        "MLP 1",
    ]


def test_the_target_is_bold_and_nothing_else(tokens, ax):
    result = tokens()
    target = result.top_tokens(0)[3][2]
    plots.token_lens(replace(result, targets=(target, target)), ax=ax)
    bold = {place for place, text in cells(ax).items() if text.get_fontweight() == "bold"}
    expected = {(c, d) for d, row in enumerate(result.top_tokens(0)) for c, token in enumerate(row) if token == target}
    assert bold == expected
    assert (2, 3) in bold


def test_all_positions_default_to_the_last_twelve_of_this_prompt(tokens, ax):
    result = tokens(all_positions=True)
    plots.token_lens(result, 1, ax)
    n = len(result.prompt_tokens[1])
    assert n < len(result.prompt_tokens[0]), "the second prompt is padded"
    np.testing.assert_allclose(ax.images[0].get_array(), result.kl[1, n - 12 : n].T, rtol=1e-6)
    assert np.isfinite(ax.images[0].get_array()).all()
    names = [t.get_text().rstrip("…").strip("“”") for t in ax.get_xticklabels()]
    assert ";" in names
    assert all(own.startswith(name) for own, name in zip(result.prompt_tokens[1][-12:], names, strict=True))


def test_all_positions_show_the_likeliest_token_at_those_asked_for(tokens, ax):
    result = tokens(all_positions=True)
    plots.token_lens(result, 0, ax, positions=[2, 30, 7])
    for column, position in enumerate([2, 30, 7]):
        top = [row[0] for row in result.top_tokens(0, position)]
        following = result.prompt_tokens[0][position + 1]
        for depth, token in enumerate(top):
            text = cells(ax)[column, depth]
            assert text.get_text().strip("“”") == token
            assert (text.get_fontweight() == "bold") == (token == following)


def test_text_stands_out_from_its_cell(tokens, ax):
    plots.token_lens(tokens(), ax=ax)
    values = ax.images[0].get_array()
    dark, light = np.unravel_index(values.argmax(), values.shape), np.unravel_index(values.argmin(), values.shape)
    assert cells(ax)[dark[1], dark[0]].get_color() == "white"
    assert cells(ax)[light[1], light[0]].get_color() == "black"


def test_tokens_are_shown_on_one_line_without_formulas():
    assert shown_token(" Mary") == "·Mary"
    assert shown_token("a\nb") == "a\\nb"
    assert shown_token("$x$") == r"\$x\$"
    assert shown_token("<ADJLIST_START>", 9) == "<ADJLIST…"
    assert shown_token(";") == "“;”"


def test_small_probabilities_are_not_all_zero(tokens, ax):
    result = tokens(n_layers=2)
    flat = replace(result, top_probs=result.top_probs * 1e-3)
    plots.token_lens(flat, 0, ax)
    for (column, depth), text in cells(ax).items():
        written, expected = text.get_text().rpartition(" ")[2], float(flat.top_probs[0, depth, column])
        assert float(written) == pytest.approx(expected, rel=0.05 if expected < 0.005 else None, abs=0.005)
        assert float(written) > 0
    assert share(0.0) == "0.00"
    assert share(4.2e-5) == "4e-5"


def test_errors(tokens):
    whole = tokens(all_positions=True)
    n = len(whole.prompt_tokens[1])
    with pytest.raises(InputError, match="prompt is an index from 0 to 1, got 2"):
        plots.token_lens(whole, 2)
    with pytest.raises(InputError, match=rf"prompt 1 are from 0 to {n - 1}, .*, got \[{n}\]"):
        plots.token_lens(whole, 1, positions=[0, n])
    with pytest.raises(InputError, match="got none"):
        plots.token_lens(whole, 1, positions=[])
    with pytest.raises(InputError, match=r"ask with token_lens\(\.\.\., positions='all'\)"):
        plots.token_lens(tokens(), positions=[1])
