"""Token lens at every position: chosen tokens, the target's probability, and logits held in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maze_dla.analysis import token_lens
from maze_dla.engine.direct import token_lens as tokens
from maze_dla.engine.direct.chosen_tokens import chosen_tokens
from maze_dla.engine.forward import running
from maze_dla.errors import InputError, PromptError
from maze_dla.results.checking import check_result
from maze_dla.results.lens import TokenLensResult

from .reference import run
from .small_models import D_VOCAB, make_batch, random_tokens, shared_model
from .test_lens import distributions

LENGTHS = (5, 12, 9)
WORDS = [f"<{v}>" for v in range(D_VOCAB)]
RAGGED = [[3, 7, 9], [0], [22, 1]]
ARRAYS = ("top_ids", "top_probs", "target_rank", "target_prob", "entropy", "kl", "chosen_probs", "chosen_ranks")


def small_batch(**more: Any) -> Any:
    return make_batch(LENGTHS, vocabulary=WORDS, **more)


@pytest.fixture(scope="module")
def grid() -> TokenLensResult:
    return token_lens(shared_model(torch.float64), small_batch(), k=3, positions="all", tokens=RAGGED)


def by_position(scale: str = "own") -> list[Tensor]:
    """[position, depth, vocab] of each prompt, from the reference run."""
    return [distributions(run(shared_model(torch.float64), ids), scale) for ids in random_tokens(LENGTHS)]


@pytest.mark.parametrize("scale", ["own", "final"])
def test_chosen_tokens_and_targets_at_every_position(scale: Any) -> None:
    batch = small_batch()
    found = token_lens(shared_model(torch.float64), batch, scale=scale, positions="all", tokens=RAGGED)
    for p, probs in enumerate(by_position(scale)):
        n, chosen = len(probs), RAGGED[p]
        ranks = (probs[..., None, :] > probs[..., chosen, None]).sum(-1)
        torch.testing.assert_close(found.chosen_probs[p, :n, :, : len(chosen)], probs[..., chosen], atol=1e-9, rtol=0)
        assert torch.equal(found.chosen_ranks[p, :n, :, : len(chosen)], ranks)
        following = [*random_tokens(LENGTHS)[p][1:], int(batch.targets[p])]
        own = torch.stack([probs[i, :, t] for i, t in enumerate(following)])
        torch.testing.assert_close(found.target_prob[p, :n], own, atol=1e-9, rtol=0)
        assert found.chosen_probs[p, :, :, len(chosen) :].isnan().all()
        assert (found.chosen_ranks[p, :, :, len(chosen) :] == -1).all()
        assert found.target_prob[p, n:].isnan().all()
    check_result(found)


def test_the_last_depth_is_the_models_softmax_at_every_position(grid: TokenLensResult) -> None:
    for p, ids in enumerate(random_tokens(LENGTHS)):
        with torch.no_grad():
            probs = shared_model(torch.float64)(torch.tensor([ids]), return_type="logits")[0].softmax(-1)
        n = len(ids)
        top = probs.gather(1, grid.top_ids[p, :n, -1])
        torch.testing.assert_close(grid.top_probs[p, :n, -1], top, atol=1e-10, rtol=0)
        assert grid.kl[p, :n, -1].abs().max() < 1e-10
        assert grid.kl[p, :n, :-1].min() > 1e-3


def test_the_read_position_is_the_token_lens_itself(grid: TokenLensResult) -> None:
    here = token_lens(shared_model(torch.float64), small_batch(), k=3, tokens=RAGGED)
    for p, n in enumerate(LENGTHS):
        for name in ARRAYS:
            at, read = getattr(grid, name)[p, n - 1], getattr(here, name)[p]
            torch.testing.assert_close(at, read, atol=1e-9, rtol=0, equal_nan=True, msg=name)
    assert torch.equal(grid.chosen_ids, here.chosen_ids)


def test_probabilities_of_the_whole_vocabulary_sum_to_one() -> None:
    found = token_lens(shared_model(torch.float64), small_batch(), k=D_VOCAB, positions="all", tokens="all")
    for p, n in enumerate(LENGTHS):
        inside = found.chosen_probs[p, :n]
        assert (inside.sum(-1) - 1).abs().max() < 1e-9
        torch.testing.assert_close(inside.gather(-1, found.top_ids[p, :n]), found.top_probs[p, :n], atol=1e-12, rtol=0)
        assert (inside[..., :-1].sum(-1) - 1).abs().max() > 1e-3


def test_several_right_answers_have_their_sum_and_the_rank_of_the_best() -> None:
    right = torch.tensor([[4, 8, -1], [1, -1, -1], [0, 5, 21]])
    batch = make_batch(LENGTHS)
    batch = batch.from_tokens(random_tokens(LENGTHS), right, d_vocab=D_VOCAB)
    found = token_lens(shared_model(torch.float64), batch, tokens=batch.answers)
    torch.testing.assert_close(found.target_prob, found.chosen_probs.nan_to_num(0).sum(-1))
    best = found.chosen_ranks.masked_fill(found.chosen_ranks < 0, D_VOCAB).amin(-1)
    assert torch.equal(found.target_rank, best)
    everywhere = token_lens(shared_model(torch.float64), batch, positions="all")
    torch.testing.assert_close(everywhere.target_prob[0, 4], found.target_prob[0])


def test_logits_are_held_for_few_positions_at_a_time(grid: TokenLensResult, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read, take = tokens._read_tokens, running.SequenceQueue.take
    monkeypatch.setattr(tokens, "BYTES_AT_ONCE", 4 * D_VOCAB * 8)
    monkeypatch.setattr(tokens, "_read_tokens", lambda w, own, *more: (seen.append(len(own)), read(w, own, *more))[1])
    limits: list[int] = []
    monkeypatch.setattr(running.SequenceQueue, "take", lambda q, s, t: (limits.append(t), take(q, s, t))[1])
    pieces = token_lens(shared_model(torch.float64), small_batch(), k=3, positions="all", tokens=RAGGED)
    assert max(seen) == 4
    assert sum(seen) == sum(LENGTHS)
    for name in ARRAYS:
        torch.testing.assert_close(getattr(pieces, name), getattr(grid, name), atol=1e-12, rtol=0, equal_nan=True)
    whole, limits[:] = limits[0], []
    monkeypatch.setattr(tokens, "WIDTHS", 0.1)
    token_lens(shared_model(torch.float64), small_batch(), positions="all")
    assert limits[0] == int(whole * 0.1 * 40 / D_VOCAB)
    token_lens(shared_model(torch.float64), small_batch())
    assert limits[-1] == whole


def test_ways_to_choose_tokens() -> None:
    named = torch.zeros(3, D_VOCAB, dtype=torch.bool)
    named[0, [2, 5]], named[1, 7] = True, True
    batch = small_batch(token_sets={"some": named, "one": torch.tensor([[4], [6], [8]])})
    assert chosen_tokens(batch, "some").tolist() == [[2, 5], [7, -1], [-1, -1]]
    assert chosen_tokens(batch, named).tolist() == [[2, 5], [7, -1], [-1, -1]]
    assert chosen_tokens(batch, "one").tolist() == [[4], [6], [8]]
    for given in (["<9>", 3], ("<9>", np.int64(3)), torch.tensor([9, 3])):
        assert chosen_tokens(batch, given).tolist() == [[9, 3]] * 3
    for given in (RAGGED, [["<3>", 7, 9], {0}, np.array([22, 1])], torch.tensor([[3, 7, 9], [0, -1, -1], [22, 1, -1]])):
        assert chosen_tokens(batch, given).tolist() == [[3, 7, 9], [0, -1, -1], [22, 1, -1]]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("none", InputError, "unknown token set 'none'"),
        (3, InputError, "got int"),
        ([], InputError, "got none"),
        ([[], [], []], InputError, "got none"),
        ([[1], [2]], InputError, "2 entries for 3 prompts"),
        ([[1], 2, [3]], InputError, "3 entries for 3 prompts"),
        (["<99>"], PromptError, "'<99>' is not one token of the vocabulary"),
        ([-1], PromptError, "-1 is no string and no id of the 23 tokens"),
        ([23], PromptError, "23 is no string"),
        ([2.5], PromptError, "2.5 is no string"),
        ([1, "<1>"], PromptError, "token id 1 stands there twice"),
    ],
)
def test_what_cannot_be_chosen(given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        token_lens(shared_model(torch.float64), small_batch(), tokens=given)
    with pytest.raises(InputError, match="has no vocabulary: give ids"):
        token_lens(shared_model(torch.float64), make_batch(LENGTHS), tokens=["<1>"])


def test_the_probability_of_a_chosen_token(grid: TokenLensResult) -> None:
    assert torch.equal(grid.probability_of("<7>", 0, 3), grid.chosen_probs[0, 3, :, 1])
    assert torch.equal(grid.probability_of(22, 2, 8), grid.chosen_probs[2, 8, :, 0])
    for ask, message in (
        (lambda: grid.probability_of("<7>", 1, 0), "'<7>' is not among the chosen tokens of prompt 1: '<0>'"),
        (lambda: grid.probability_of("<7>", 0), "holds all positions: name one"),
        (lambda: grid.probability_of("<7>", 0, 5), "position is at most 4, got 5"),
        (lambda: grid.probability_of("<7>", 3, 0), "prompt is at most 2, got 3"),
    ):
        with pytest.raises(InputError, match=message):
            ask()
    here = token_lens(shared_model(torch.float64), small_batch(), tokens=[7])
    assert torch.equal(here.probability_of("<7>", 1), here.chosen_probs[1, :, 0])
    with pytest.raises(InputError, match="holds the read position alone"):
        here.probability_of("<7>", 1, 0)
    with pytest.raises(InputError, match="no tokens were chosen"):
        token_lens(shared_model(torch.float64), small_batch()).probability_of("<7>", 1)


def test_the_table_of_chosen_tokens(grid: TokenLensResult) -> None:
    table = grid.chosen_frame()
    assert list(table.columns) == ["prompt", "position", "depth", "token", "prob", "rank"]
    assert len(table) == len(grid.labels) * sum(n * len(r) for n, r in zip(LENGTHS, RAGGED, strict=True))
    for row in table.sample(40, random_state=0).itertuples():
        column, depth = RAGGED[row.prompt].index(WORDS.index(row.token)), grid.labels.index(row.depth)
        at = (row.prompt, row.position, depth, column)
        assert (row.prob, row.rank) == (float(grid.chosen_probs[at]), int(grid.chosen_ranks[at]))
    with pytest.raises(InputError, match="no tokens were chosen"):
        token_lens(shared_model(torch.float64), small_batch()).chosen_frame()
