"""Patterns of all queries: rows that sum to 1, the numbers of other passes, and a limit on their memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.errors import InputError, ModelError
from maze_dla.results.checking import check_result
from tests.engine.small_models import LENGTHS, MODERN, hooked_view, make_batch, random_metric, shared_model

HEADS = [(1, 2), "L0H1"]


@pytest.fixture(scope="module")
def whole() -> dla.AttentionResult:
    return dla.attention(shared_model(), make_batch())


def test_rows_sum_to_one_and_keys_after_the_query_get_nothing(whole: dla.AttentionResult) -> None:
    check_result(whole)
    assert tuple(whole.patterns.shape) == (7, 6, 40, 40)
    for i, n in enumerate(LENGTHS):
        held = whole.patterns[i, :, :n]
        torch.testing.assert_close(held.sum(-1), torch.ones(6, n), atol=1e-6, rtol=0)
        assert not held.triu(1).any()
        assert whole.patterns[i, :, n:].isnan().all()
    doubled = replace(whole, patterns=2 * whole.patterns)
    with pytest.raises(ValueError, match="patterns: below 0, or above 1 over all keys"):
        check_result(doubled)


def test_the_last_row_is_what_attribution_holds(whole: dla.AttentionResult) -> None:
    asked = dla.attribute(shared_model(), make_batch(), random_metric(make_batch()), sources=True)
    assert asked.patterns is not None
    torch.testing.assert_close(whole.at_read(), asked.patterns.flatten(1, 2), atol=1e-6, rtol=0)
    assert not torch.allclose(whole.patterns[:, :, 3, :], asked.patterns.flatten(1, 2), atol=1e-2)


@pytest.mark.parametrize("settings", [{}, {"attn_only": True, "normalization_type": "RMS"}, MODERN])
def test_a_model_that_is_run_itself_has_the_same(settings: dict[str, Any]) -> None:
    model, batch = shared_model(**settings), make_batch((9, 5, 7))
    own, itself = dla.attention(model, batch), dla.attention(model, batch, forward="hooked")
    torch.testing.assert_close(own.patterns, itself.patterns, atol=1e-5, rtol=0, equal_nan=True)
    recorded: list[torch.Tensor] = []
    name = "blocks.1.attn.hook_pattern"
    tokens = batch.sequences[:1, :9]
    model.run_with_hooks(tokens, fwd_hooks=[(name, lambda pattern, hook: recorded.append(pattern.detach()))])
    at = own.index_of((1, 0))
    seen = own.patterns[0, at : at + recorded[0].shape[1], :9, :9]
    torch.testing.assert_close(seen, recorded[0][0], atol=1e-5, rtol=0)


def test_chosen_heads_and_prompts_are_those_of_all(whole: dla.AttentionResult) -> None:
    some = dla.attention(shared_model(), make_batch(), HEADS)
    assert some.head_labels == ("L1H2", "L0H1")
    assert some.places == ((1, 2), (0, 1))
    torch.testing.assert_close(some.patterns, whole.patterns[:, [5, 1]], atol=1e-6, rtol=0, equal_nan=True)
    assert torch.equal(some.of_head("L0H1").nan_to_num(), some.patterns[:, 1].nan_to_num())
    chosen = whole.select([0, 3])
    check_result(chosen)
    assert tuple(chosen.patterns.shape) == (2, 6, 9, 9)
    alone = dla.attention(shared_model(), make_batch().select([0, 3]), sequences_at_once=1)
    torch.testing.assert_close(chosen.patterns, alone.patterns, atol=1e-6, rtol=0, equal_nan=True)


def test_prompts_of_one_sequence_have_the_patterns_of_their_tokens() -> None:
    batch = make_batch((12,))
    shorter = replace(
        batch,
        sequence_of=torch.tensor([0, 0]),
        read_positions=torch.tensor([11, 4]),
        targets=batch.targets.repeat(2),
        answers=batch.answers.repeat(2, 1),
        columns={},
    )
    found = dla.attention(shared_model(), shorter)
    torch.testing.assert_close(found.patterns[1, :, :5], found.patterns[0, :, :5], atol=1e-6, rtol=0)
    assert found.patterns[1, :, 5:].isnan().all()


def test_too_much_is_refused_and_says_how_to_choose_fewer() -> None:
    model, batch = shared_model(), make_batch()
    size = 7 * 6 * 40 * 40 * 4
    said = (
        r"7 prompts, 6 heads and up to 40 positions take 269 KB, at most 1 KB are kept: choose prompts \(batch.select"
    )
    with pytest.raises(InputError, match=said):
        dla.attention(model, batch, most_bytes=1000)
    with pytest.raises(InputError, match="at most 269 KB are kept"):
        dla.attention(model, batch, most_bytes=size - 1)
    assert dla.attention(model, batch, most_bytes=size).n_bytes == size
    assert "7 x 6 x 40 x 40 (prompt, head, query, key), 269 KB" in repr(dla.attention(model, batch))


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ("L0H1", r"heads is a list of heads, such as \['L5H3', \(2, 1\)\], or None for all, got 'L0H1'"),
        ([], "heads is a list of heads"),
        ([(0, 3)], "the model has 2 layers with 3 heads each"),
        (["L0H1", (0, 1)], "heads has L0H1 twice, expected once"),
    ],
)
def test_heads_that_are_none_are_refused(heads: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dla.attention(shared_model(), make_batch(), heads)


def test_a_head_that_was_not_chosen_is_named(whole: dla.AttentionResult) -> None:
    with pytest.raises(InputError, match="L9H0 is not among the heads of this result: L0H0, L0H1"):
        whole.of_head("L9H0")


def test_a_model_that_does_not_show_its_patterns_is_refused() -> None:
    view = hooked_view(shared_model())
    forward = replace(view.forward, model=_Blind(view.forward.model))  # pyright: ignore
    with pytest.raises(ModelError, match=r"layer 0 did not show attn\.hook_pattern"):
        dla.attention(replace(view, forward=forward), make_batch())


class _Blind:
    """A model without hooks of patterns."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.hook_dict = {name: hook for name, hook in model.hook_dict.items() if "pattern" not in name}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def test_a_table_has_a_row_for_each_key(whole: dla.AttentionResult) -> None:
    one = whole.select([0])
    table = one.to_frame()
    assert len(table) == 6 * 5 * 6 // 2
    assert table.attention.sum() == pytest.approx(6 * 5, rel=1e-5)
    row = table[(table["head"] == "L1H0") & (table["query"] == 4) & (table["key"] == 2)].iloc[0]
    assert row.attention == float(one.of_head("L1H0")[0, 4, 2])
    assert (row.query_token, row.key_token) == (one.prompt_tokens[0][4], one.prompt_tokens[0][2])
    assert len(one.to_frame(0.2)) == int((one.patterns >= 0.2).sum()) < len(table)
    with pytest.raises(InputError, match="least is a share of attention from 0 to 1, got 2"):
        one.to_frame(2)
