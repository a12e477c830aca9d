from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from maze_dla import plots
from maze_dla.errors import InputError
from tests.results.causal_results import KINDS, make_patch

HEADS = ("layer", "head")


def shown(ax):
    return np.asarray(ax.images[0].get_array().astype(float).filled(np.nan))


def columns(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def unit(ax):
    return ax.child_axes[0].get_ylabel().replace("\n", " ")


def test_cells_are_the_shares_recovered_by_layer_and_offset(ax):
    result = make_patch()
    assert plots.patching(result, ax) is ax
    np.testing.assert_allclose(shown(ax), result.recovered.mean, rtol=1e-6)
    assert columns(ax) == [*(f"\N{MINUS SIGN}{i}" for i in range(6, 0, -1)), "0"]
    assert ax.get_ylabel() == "layer"
    assert "offset of the patched position" in ax.get_xlabel()
    assert "(12 to 24 pairs reach so far)" in ax.get_xlabel()
    assert unit(ax) == "metric, from 0 (corrupted) to 1 (clean)"
    low, high = ax.images[0].get_clim()
    assert low == -high == -float(result.recovered.mean.abs().max())


def test_the_last_positions_alone_on_request(ax):
    result = make_patch()
    plots.patching(result, ax, last=3)
    np.testing.assert_allclose(shown(ax), result.recovered.mean[:, -3:], rtol=1e-6)
    assert columns(ax) == ["\N{MINUS SIGN}2", "\N{MINUS SIGN}1", "0"]
    assert "pairs reach so far" not in ax.get_xlabel()  # all 24 do
    every = plots.patching(result, last=100)
    np.testing.assert_allclose(shown(every), result.recovered.mean, rtol=1e-6)
    assert columns(every)[-1] == "0"


def test_the_last_tokens_of_one_prompt(ax):
    result = make_patch()
    plots.patching(result, ax, prompt=2, last=2)
    assert columns(ax) == columns(plots.patching(result, prompt=2))[-2:]


def test_where_no_share_is_known_they_are_changes_in_logits(ax):
    result = make_patch(apart=0.0)
    plots.patching(result, ax)
    np.testing.assert_allclose(shown(ax), result.change_summary.mean, rtol=1e-6)
    assert unit(ax) == "mean change (logits)"


def test_an_offset_without_a_share_is_grey(ax):
    result = make_patch(lengths=(3, 5) * 8)
    clean = result.clean.clone()
    clean[1::2] = result.corrupted[1::2] + 0.05 * torch.tensor([1.0, -1.0] * 4)
    plots.patching(replace(result, clean=clean), ax)
    assert np.isnan(shown(ax)).any(0).tolist() == [True, True, False, False, False]
    red, green, blue, _ = ax.get_facecolor()
    assert 0.5 < red == green == blue < 0.9


def test_one_prompt_has_its_tokens_and_its_changes(ax):
    result = make_patch()
    plots.patching(result, ax, prompt=2)
    np.testing.assert_allclose(shown(ax), result.change[2, :, :6], rtol=1e-6)
    assert columns(ax) == [f"t{i}" for i in range(6)]
    assert unit(ax) == "change (logits)"
    assert "prompt 2" in ax.get_title()


def test_prompts_of_one_length_have_their_tokens(ax):
    result = make_patch(lengths=(3,) * 8)
    tokens = tuple(("When", (" Mary", " John")[i % 2], (" and", " or")[i % 2]) for i in range(8))
    kinds = torch.tensor([[0, 1, 2], [0, 1, 0]] * 4)
    plots.patching(replace(result, prompt_tokens=tokens, token_kinds=kinds), ax)
    assert columns(ax) == ["When", "[target]", "0"]
    assert "its kind or offset" in ax.get_xlabel()
    plots.patching(replace(result, prompt_tokens=(("a", "b", "c"),) * 8), ax)
    assert columns(ax) == ["a", "b", "c"]
    assert ax.get_xlabel() == "patched token"


def test_columns_are_kinds_of_token_on_request(ax):
    result = make_patch()
    plots.patching(result, ax, kinds=True)
    np.testing.assert_allclose(shown(ax), result.by_kind().strongest_recovered.mean, rtol=1e-6)
    assert not np.allclose(shown(ax), result.by_kind().recovered.mean)
    assert "in each prompt the one that changes most" in ax.get_xlabel().replace("\n", " ")
    assert columns(ax) == list(KINDS)
    plots.patching(make_patch(apart=0.0), ax, kinds=True)
    assert ax.child_axes[-1].get_ylabel().replace("\n", " ") == "mean change (logits)"


def test_heads_are_a_grid_whose_strongest_are_named(ax):
    result = make_patch(HEADS)
    plots.patching(result, ax, label=2)
    np.testing.assert_allclose(shown(ax), result.recovered.mean, rtol=1e-6)
    assert {text.get_text(): text.get_position() for text in ax.texts} == {"L2H3": (3, 2), "L2H2": (2, 2)}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("head", "layer")


def test_heads_by_position_are_rows(ax):
    result = make_patch(("layer", "head", "position"))
    plots.patching(result, ax)
    np.testing.assert_allclose(shown(ax), result.recovered.mean.flatten(0, 1), rtol=1e-6)
    assert [label.get_text() for label in ax.get_yticklabels()][:5] == ["L0H0", "L0H1", "L0H2", "L0H3", "L1H0"]


def test_neurons_are_bars_with_their_intervals(ax):
    result = make_patch(("neuron",), site="neurons")
    plots.patching(result, ax, k=3)
    share = result.recovered
    at = [4, 3, 2]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["L2N28", "L2N21", "L2N14"]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], share.mean[at], rtol=1e-6)
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([share.low[at], share.high[at]], 1), rtol=1e-6)
    assert ax.get_xlabel() == "metric, from 0 (corrupted) to 1 (clean)"
    assert "strongest 3 of 5" in ax.get_title()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Patched, clean into corrupted: residual stream"),
        ({"direction": "noise"}, "Patched, corrupted into clean: residual stream"),
        ({"site": "mlp_out"}, "clean into corrupted: MLP outputs"),
        ({"estimated": True}, "residual stream, estimated from gradients"),
    ],
)
def test_the_title_says_what_is_put_where(ax, changes, words):
    plots.patching(make_patch(**changes), ax)
    title = ax.get_title().replace("\n", " ")
    assert words in title
    assert "logit difference, 24 pairs about 12 mazes" in title


@pytest.mark.parametrize(
    ("positions", "words"),
    [("read", "heads at the read position"), ("all", "heads at all positions together"), ("each", "heads logit")],
)
def test_the_title_says_at_which_positions(ax, positions, words):
    result = make_patch(("layer", "head"), site="z")
    plots.patching(replace(result, info={**result.info, "positions": positions}), ax)
    assert words in ax.get_title().replace("\n", " ")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: None, {}, "this picture takes a result of patch, got None"),
        (make_patch, {"prompt": 24}, "prompt is an index from 0 to 23, got 24"),
        (make_patch, {"prompt": 0, "kinds": True}, "leave prompt out, or kinds"),
        (make_patch, {"label": -1}, "label is at least 0"),
        (make_patch, {"last": 0}, "last is at least 1"),
        (make_patch, {"last": 2, "kinds": True}, "last counts positions .* this picture is by kinds of token"),
        (lambda: make_patch(HEADS), {"last": 2}, "last counts positions .* this picture is by layer and head"),
        (lambda: make_patch(("neuron",)), {"last": 2}, "last counts positions .* this picture is by neuron"),
        (lambda: make_patch(HEADS), {"kinds": True}, "kinds of token are of positions"),
        (lambda: make_patch(("neuron",)), {"prompt": 0}, "neurons are drawn as means over prompts"),
        (lambda: make_patch(("neuron",)), {"k": 0}, "k is at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(make, options, message):
    with pytest.raises(InputError, match=message):
        plots.patching(make(), **options)


def test_a_result_of_attribute_is_no_patching(attribution):
    with pytest.raises(InputError, match="this picture takes a result of patch, got AttributionResult"):
        plots.patching(attribution())
