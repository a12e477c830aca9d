"""Texts with several right and several wrong answers, of unlike number, go through every method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.engine.ids import NONE

TEXTS = ["When Mary and John went to the shops, John gave a bag to", "Then Amy and Tom had lunch, and Tom passed it to"]
RIGHT = [[" Mary"], [" Amy", " Sid"]]
WRONG = [[" John", " Tom", " Sid"], [" Tom"]]
OTHER = ["When Mary and John went to the shops, Mary gave a bag to", "Then Amy and Tom had lunch, and Amy passed it to"]


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return dla.load_gpt2("bundled")


@pytest.fixture(scope="module")
def batch(gpt2: Any) -> dla.PromptBatch:
    return dla.text_prompts(gpt2, TEXTS, RIGHT, WRONG)


@pytest.fixture(scope="module")
def pairs(gpt2: Any, batch: dla.PromptBatch) -> dla.PromptPairs:
    return dla.PromptPairs(batch, dla.text_prompts(gpt2, OTHER, [[" John"], [" Tom"]]))


def logits(gpt2: Any, batch: dla.PromptBatch) -> torch.Tensor:
    with torch.no_grad():
        rows = [gpt2(batch.tokens[i : i + 1, : int(n)])[0, -1] for i, n in enumerate(batch.lengths)]
    return torch.stack(rows).double()


def by_hand(gpt2: Any, batch: dla.PromptBatch, right: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
    """The difference of the means over each prompt's own sets."""
    return torch.stack(
        [
            row[r[r != NONE]].mean() - row[w[w != NONE]].mean()
            for row, r, w in zip(logits(gpt2, batch), right, wrong, strict=True)
        ]
    )


def test_the_metric_is_the_difference_of_means_in_every_method(gpt2: Any, batch: Any, pairs: Any) -> None:
    assert [(row != NONE).sum().item() for row in (*batch.answers, *batch.foils)] == [1, 2, 3, 1]
    metric, own = dla.logit_diff(batch), by_hand(gpt2, batch, batch.answers, batch.foils)
    corrupted = by_hand(gpt2, pairs.corrupted, batch.answers, batch.foils)
    contrast, patched = dla.contrast(gpt2, pairs, metric), dla.patch(gpt2, pairs, metric, site="resid_pre")
    for found in (
        dla.attribute(gpt2, batch, metric).metric,
        dla.logit_lens(gpt2, batch, metric).values[:, -1],
        dla.ablate(gpt2, batch, metric, parts="heads", value="zero").metric,
        contrast.clean.metric,
        patched.clean,
    ):
        torch.testing.assert_close(found.double(), own, atol=1e-4, rtol=0)
    torch.testing.assert_close(contrast.corrupted.metric.double(), corrupted, atol=1e-4, rtol=0)
    torch.testing.assert_close(patched.corrupted.double(), corrupted, atol=1e-4, rtol=0)
    assert (own - corrupted).abs().min() > 1


def test_the_token_lens_has_the_sums_of_right_and_of_wrong_answers(gpt2: Any, batch: Any) -> None:
    probs = logits(gpt2, batch).softmax(-1)
    grid = dla.token_lens(gpt2, batch, positions="all", tokens=batch.foils)
    for i, n in enumerate(batch.lengths.tolist()):
        right, wrong = (row[i][row[i] != NONE] for row in (batch.answers, batch.foils))
        at_end = grid.target_prob[i, n - 1, -1], grid.chosen_probs[i, n - 1, -1].nansum()
        assert float(at_end[0]) == pytest.approx(float(probs[i, right].sum()), abs=1e-5)
        assert float(at_end[1]) == pytest.approx(float(probs[i, wrong].sum()), abs=1e-5)


def test_batches_of_several_tasks_are_one(gpt2: Any, batch: Any) -> None:
    other = dla.text_prompts(gpt2, OTHER[:1], [[" John", " Dan", " Sid"]], [[" Mary"]])
    both = batch + other
    found = dla.attribute(gpt2, both, dla.logit_diff(both)).metric.double()
    torch.testing.assert_close(found, by_hand(gpt2, both, both.answers, both.foils), atol=1e-4, rtol=0)


def test_answers_that_are_right_in_both_prompts_of_a_pair_are_refused(gpt2: Any, batch: Any) -> None:
    shared = dla.PromptPairs(batch, dla.text_prompts(gpt2, OTHER, [[" John", " Mary"], [" Tom"]]))
    with pytest.raises(dla.MazeDlaError, match="the incorrect token equals the target ' Mary'"):
        dla.contrast(gpt2, shared)
