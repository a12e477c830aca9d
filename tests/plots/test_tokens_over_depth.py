from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError


@pytest.mark.parametrize("number", ["kl", "entropy", "target_prob", "target_rank"])
def test_mean_and_interval_at_every_depth(tokens, ax, number):
    result = tokens()
    plots.tokens_over_depth(result, number=number, ax=ax)
    summary = result.summary(number)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), summary.mean, rtol=1e-6)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(float(summary.low.min()), abs=1e-6)
    assert band.max() == pytest.approx(float(summary.high.max()), abs=1e-6)
    assert {"kl": "KL(final || depth) (nats)"}.get(number, number.split("_")[0]) in ax.get_ylabel()


def test_several_with_names_that_tell_them_apart(tokens, ax):
    plots.tokens_over_depth(tokens(), replace(tokens(seed=1), scale="final"), ax=ax)
    names = [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]
    assert "own scale" in names[0]
    assert "final norm" in names[1]
    assert len(ax.lines) == 2
    named = plots.tokens_over_depth(tokens(), tokens(seed=1), labels=["one", "two"])
    assert [text.get_text() for text in named.get_legend().get_texts()] == ["one", "two"]


def test_errors(tokens):
    other = tokens(n_layers=3)
    for ask, message in (
        (lambda: plots.tokens_over_depth(tokens(all_positions=True)), "got one of all positions"),
        (lambda: plots.tokens_over_depth(tokens(), other), "drawn over the same depths"),
        (lambda: plots.tokens_over_depth(tokens(), number="gain"), "number is one of 'kl', .* got 'gain'"),
        (lambda: plots.tokens_over_depth(tokens(), labels=["a", "b"]), "2 names, expected one for each of 1 result"),
        (
            lambda: plots.tokens_over_depth(torch.ones(3)),
            "takes results of token_lens at the read position, got Tensor",
        ),
    ):
        with pytest.raises(InputError, match=message):
            ask()
