"""Sets of right and wrong tokens: how metrics weigh them, and what results call right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import LinearMetric, correct_vs_other, linear_metric, logit, logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError

from .small_models import D_VOCAB, LENGTHS, random_tokens, shared_model

RIGHT: list[Any] = [[5, 2, 9], 7, {1, 0}, [22], [3, 4], 8, [11, 6]]
WRONG: list[Any] = [4, [1, 2, 3], [5], {9, 10}, [20, 21], 0, [12, 13]]


def as_list(one: Any) -> list[int]:
    return [one] if isinstance(one, int) else list(one)


def make(**more: Any) -> PromptBatch:
    return PromptBatch.from_tokens(random_tokens(LENGTHS), RIGHT, d_vocab=D_VOCAB, **more)


def own_logits() -> Tensor:
    with torch.no_grad():
        return torch.stack([shared_model()(torch.tensor([ids]))[0, -1] for ids in random_tokens(LENGTHS)])


def mean(row: Tensor, ids: Any) -> Tensor:
    return torch.stack([row[t] for t in as_list(ids)]).mean()


def test_sets_are_kept_in_their_order_and_begin_with_the_target() -> None:
    batch = make(incorrect=WRONG)
    assert batch.targets.tolist() == [5, 7, 0, 22, 3, 8, 11]
    assert batch.answers.tolist()[:3] == [[5, 2, 9], [7, -1, -1], [0, 1, -1]]
    assert batch.incorrect is not None
    assert batch.incorrect.tolist() == [4, 1, 5, 9, 20, 0, 12]
    chosen = batch.select([2, 0])
    assert chosen.answers.tolist() == [[0, 1, -1], [5, 2, 9]]
    assert chosen.foils is not None
    assert chosen.foils.tolist() == [[5, -1, -1], [4, -1, -1]]
    plain = PromptBatch.from_tokens([[1], [2]], [3, 4], d_vocab=9)
    assert plain.answers.tolist() == [[3], [4]]


def test_metrics_weigh_right_and_wrong_tokens_alike() -> None:
    batch, logits = make(incorrect=WRONG), own_logits()
    cells = torch.zeros(D_VOCAB, dtype=torch.bool)
    cells[[0, 2, 5, 7, 8, 14]] = True
    every = set(range(D_VOCAB))
    expected: dict[str, tuple[LinearMetric, list[Tensor]]] = {
        "logit": (logit(batch), [mean(row, r) for row, r in zip(logits, RIGHT, strict=True)]),
        "difference": (
            logit_diff(batch),
            [mean(row, r) - mean(row, w) for row, r, w in zip(logits, RIGHT, WRONG, strict=True)],
        ),
        "all": (
            correct_vs_other(batch),
            [mean(row, r) - mean(row, every - set(as_list(r))) for row, r in zip(logits, RIGHT, strict=True)],
        ),
        "cells": (
            correct_vs_other(batch, cells),
            [
                mean(row, r) - mean(row, {0, 2, 5, 7, 8, 14} - set(as_list(r)))
                for row, r in zip(logits, RIGHT, strict=True)
            ],
        ),
        "sum of own": (
            correct_vs_other(batch, cells.expand(len(batch), -1).clone(), "sum"),
            [
                mean(row, r) - sum(row[t] for t in {0, 2, 5, 7, 8, 14} - set(as_list(r)))
                for row, r in zip(logits, RIGHT, strict=True)
            ],
        ),
    }
    for name, (metric, values) in expected.items():
        assert metric.shift_invariant == (name in ("difference", "all", "cells")), name
        for result in (attribute(shared_model(), batch, metric), logit_lens(shared_model(), batch, metric)):
            torch.testing.assert_close(result.metric, torch.stack(values), atol=1e-4, rtol=1e-4)


def test_correct_and_preferred() -> None:
    logits = own_logits()
    likeliest = logits.argmax(1).tolist()
    right: list[Any] = [[t, (t + 4) % D_VOCAB] if i % 2 else (t + 1) % D_VOCAB for i, t in enumerate(likeliest)]
    wrong: list[Any] = [[(t + 2) % D_VOCAB, (t + 3) % D_VOCAB] for t in likeliest]
    wrong = [[w for w in ws if w not in as_list(r)] for ws, r in zip(wrong, right, strict=True)]
    batch = PromptBatch.from_tokens(random_tokens(LENGTHS), right, d_vocab=D_VOCAB, incorrect=wrong)
    correct = [t in as_list(r) for t, r in zip(likeliest, right, strict=True)]
    preferred = [
        bool(max(row[t] for t in as_list(r)) > max(row[t] for t in w))
        for row, r, w in zip(logits, right, wrong, strict=True)
    ]
    assert set(correct) == {True, False}
    assert correct != preferred
    for result in (
        attribute(shared_model(), batch, logit(batch)),
        logit_lens(shared_model(), batch, logit(batch)),
        token_lens(shared_model(), batch),
        token_lens(shared_model(), batch, positions="all"),
        attribute(shared_model(), batch, logit(batch)).lens(),
    ):
        assert result.correct is not None
        assert result.preferred is not None
        assert result.correct.tolist() == correct
        assert result.preferred.tolist() == preferred
        assert result.info["forced_choice"]
        assert (result.accuracy.successes, result.accuracy.n) == (sum(preferred), len(batch))
        n_right, n_wrong = ([len(as_list(one)) for one in sets] for sets in (right, wrong))
        assert result.chance.tolist() == [r / (r + w) for r, w in zip(n_right, n_wrong, strict=True)]
        assert result.baselines == {}
    bare = replace(batch, incorrect=None, foils=None)
    result = attribute(shared_model(), bare, logit(bare))
    assert result.preferred is None
    assert result.chance.isnan().all()
    assert result.accuracy.successes == sum(correct)
    assert result.warning is None  # nothing is known to compare with, and some are right


def test_the_rank_in_the_token_lens_is_that_of_the_best_right_token() -> None:
    batch, logits = make(), own_logits()
    ranks = [
        sum(float(x) > max(float(row[t]) for t in as_list(r)) for x in row)
        for row, r in zip(logits, RIGHT, strict=True)
    ]
    lens = token_lens(shared_model(), batch)
    assert lens.target_rank[:, -1].tolist() == ranks
    everywhere = token_lens(shared_model(), batch, positions="all")
    assert [int(everywhere.target_rank[i, n - 1, -1]) for i, n in enumerate(LENGTHS)] == ranks


def test_a_metric_of_ones_own_notion_of_right() -> None:
    """With its own right tokens every prompt is right, by those of the batch none."""
    logits = own_logits()
    likeliest = logits.argmax(1).tolist()
    c = torch.randn(len(LENGTHS), D_VOCAB, generator=torch.Generator().manual_seed(0))
    never = [[(t + 1) % D_VOCAB] for t in likeliest]
    batch = PromptBatch.from_tokens(random_tokens(LENGTHS), never, d_vocab=D_VOCAB, incorrect=[[t] for t in likeliest])
    by_batch = attribute(shared_model(), batch, linear_metric(batch, c))
    assert by_batch.accuracy.successes == 0
    assert str(by_batch.warning).startswith("The model's accuracy 0.000 [0.000, 0.354] is below chance (0.500, ")
    own = [[(t + 5) % D_VOCAB, t] for t in likeliest]
    by_own = attribute(shared_model(), batch, linear_metric(batch, c, answers=own))
    assert by_own.accuracy.successes == len(LENGTHS)
    assert by_own.preferred is None
    assert "forced_choice" not in by_own.info
    assert by_own.warning is None
    assert by_own.chance.isnan().all()
    known = replace(batch, incorrect=None, foils=None).with_column("chance", [0.9] * len(LENGTHS))
    assert "is below chance (0.900, " in str(attribute(shared_model(), known, logit(known)).warning)
    other = attribute(shared_model(), known, linear_metric(known, c, answers=own))
    assert other.chance.isnan().all()  # that of other answers
    assert other.warning is None


def test_a_metric_without_a_notion_of_right(tmp_path: Path) -> None:
    batch = make(incorrect=WRONG)
    c = torch.ones(len(batch), D_VOCAB)
    results = [
        attribute(shared_model(), b, linear_metric(b, c[: len(b)], answers=None)) for b in (batch, batch.select([1, 3]))
    ]
    for result in results:
        assert (result.correct, result.preferred, result.accuracy, result.warning) == (None, None, None, None)
        assert "accuracy: none: the metric has no notion of right" in repr(result)
        assert "no notion of right" in result._repr_html_()
    loaded = dla.load_result(results[0].save(tmp_path / "none.zanj"))
    assert loaded.accuracy is None

    def ask(b: PromptBatch) -> dla.AttributionResult:
        return attribute(shared_model(), b, linear_metric(b, c[: len(b)], answers=None))

    streamed = dla.stream(ask, [batch, batch.select([1, 3])], shards=tmp_path / "shards")
    assert streamed.accuracy is None
    assert streamed.warning is None
    assert "no notion of right" in repr(streamed)
    assert dla.load_result(streamed.save(tmp_path / "stream.zanj")).accuracy is None
    import pandas as pd

    assert not {"correct", "preferred"} & set(pd.read_parquet(tmp_path / "shards").columns)
    with pytest.raises(InputError, match=r"another (notion of right|forced_choice)"):
        dla.stream(
            lambda b: attribute(shared_model(), b, logit(b)) if len(b) == 2 else ask(b), [batch, batch.select([1, 3])]
        )


def test_streams_and_shards_hold_both(tmp_path: Path) -> None:
    import pandas as pd

    batch = make(incorrect=WRONG)
    whole = attribute(shared_model(), batch, logit_diff(batch))
    parts = [batch.select([0, 1, 2]), batch.select([3, 4, 5, 6])]
    streamed = dla.stream(lambda b: attribute(shared_model(), b, logit_diff(b)), parts, shards=tmp_path)
    assert whole.correct is not None
    assert whole.preferred is not None
    assert (streamed.n_correct, streamed.n_preferred) == (int(whole.correct.sum()), int(whole.preferred.sum()))
    assert streamed.accuracy == whole.accuracy
    table = pd.read_parquet(tmp_path)
    assert table["correct"].tolist() == whole.correct.tolist()
    assert table["preferred"].tolist() == whole.preferred.tolist()


def test_saved_and_loaded_both_stay(tmp_path: Path) -> None:
    batch = make(incorrect=WRONG)
    result = attribute(shared_model(), batch, logit_diff(batch))
    loaded = dla.load_result(result.save(tmp_path / "r.zanj"))
    assert isinstance(loaded, dla.AttributionResult)
    for name in ("correct", "preferred"):
        assert torch.equal(getattr(loaded, name), getattr(result, name))
    assert loaded.accuracy == result.accuracy


REFUSED: dict[str, tuple[Any, str]] = {
    "right and wrong": (
        lambda: make(incorrect=[4, 1, [5, 1], 9, 20, 0, 12]),
        "^prompt 2: the token '1' is both right and wrong$",
    ),
    "twice": (
        lambda: PromptBatch.from_tokens([[1]], [[2, 3, 2]], d_vocab=9),
        "^answers of prompt 0: token id 2 stands there twice, expected once$",
    ),
    "none": (
        lambda: PromptBatch.from_tokens([[1], [2]], [[2], []], d_vocab=9),
        "^targets: none for prompt 1, expected",
    ),
    "outside": (
        lambda: PromptBatch.from_tokens([[1], [2]], [[2], [3, 9]], d_vocab=9),
        "^answers of prompt 1: token id 9 outside the vocabulary of 9 tokens$",
    ),
    "half a token": (
        lambda: PromptBatch.from_tokens([[1]], [{2, 2.5}], d_vocab=9),
        "^targets: token ids are whole numbers, got 2.5$",
    ),
    "a float target": (lambda: PromptBatch.from_tokens([[1]], [2.0], d_vocab=9), "whole numbers, got 2.0$"),
    "float targets": (
        lambda: PromptBatch.from_tokens([[1]], torch.tensor([2.0]), d_vocab=9),
        "whole numbers, got float32$",
    ),
    "true": (lambda: PromptBatch.from_tokens([[1]], [True], d_vocab=9), "whole numbers, got True$"),
    "true as a token": (
        lambda: PromptBatch.from_tokens([[1, False]], [1], d_vocab=9),
        "^prompt 0: .* whole numbers, got False$",
    ),
    "a mask as tokens": (
        lambda: PromptBatch.from_tokens([[1], torch.tensor([True])], [1, 2], d_vocab=9),
        "^prompt 1: token ids are whole numbers, got bool$",
    ),
    "float foils": (
        lambda: PromptBatch.from_tokens([[1]], [1], d_vocab=9, incorrect=torch.tensor([3.7])),
        "^incorrect: token ids are whole numbers, got float32$",
    ),
    "labels of another length": (
        lambda: PromptBatch.from_tokens([[1], [2, 3]], [1, 1], d_vocab=9, labels=[["a"], ["b"]]),
        "^prompt 1 has 2 tokens but 1 labels$",
    ),
    "labels of other prompts": (
        lambda: PromptBatch.from_tokens([[1], [2, 3]], [1, 1], d_vocab=9, labels=[["a"]]),
        "^2 prompts but labels for 1$",
    ),
    "labels of another sequence": (
        lambda: replace(make(), sequence_labels=(("a",),) * len(LENGTHS)),
        "^sequence 0 has 5 tokens but 1 labels$",
    ),
    "answers of other targets": (
        lambda: replace(make(), targets=torch.tensor([5, 7, 1, 22, 3, 8, 11])),
        "^answers of prompt 2 begin with 0, expected 1: where one is replaced",
    ),
    "zeros and ones": (
        lambda: make(token_sets={"odd": torch.arange(D_VOCAB).remainder(2).expand(7, -1)}),
        "^token set 'odd' of prompt 0: token id 0 stands there twice, expected once$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    wrong, message = REFUSED[name]
    with pytest.raises((InputError, PromptError), match=message):
        wrong()


@pytest.mark.parametrize("field", ["sequences", "sequence_lengths", "sequence_of", "read_positions", "targets"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_fields_that_are_no_whole_numbers(field: str, dtype: torch.dtype) -> None:
    """The batch's own check, which stands behind the one of shapes that tests have."""
    batch = object.__new__(PromptBatch)
    batch.__dict__.update({**make().__dict__, field: getattr(make(), field).to(dtype)})
    with pytest.raises(PromptError, match=f"^{field}: token ids are whole numbers, got {str(dtype)[6:]}$"):
        batch.__post_init__()


def test_a_metric_of_another_batch_with_the_same_targets() -> None:
    batch = make()
    tokens = random_tokens(LENGTHS)
    tokens[3] = [*tokens[3][:-1], (tokens[3][-1] + 1) % D_VOCAB]
    other = PromptBatch.from_tokens(tokens, RIGHT, d_vocab=D_VOCAB)
    with pytest.raises(InputError, match=r"made for another batch: its prompt 3 has .* \(1 of 7 prompts differ\)"):
        attribute(shared_model(), batch, logit(other))
    fewer = PromptBatch.from_tokens(random_tokens(LENGTHS), [5, 7, 0, 22, 3, 8, 11], d_vocab=D_VOCAB)
    with pytest.raises(InputError, match=r"its prompt 0 has other tokens or other right answers"):
        attribute(shared_model(), batch, logit(fewer))
    order = [6, 0, 3]
    with pytest.raises(InputError, match=r"its prompt 0 has"):
        attribute(shared_model(), batch.select([0, 6, 3]), logit(batch).select(order))
    assert len(attribute(shared_model(), batch.select(order), logit(batch).select(order))) == 3
    again = make(pad_id=3, labels=[["x"] * n for n in LENGTHS])
    assert len(attribute(shared_model(), again, logit(batch))) == 7  # the same prompts, padded and named otherwise


def test_fingerprints_tell_prompts_apart() -> None:
    tokens = [[0], [0, 0], [0, 0, 0], [1, 0], [0, 1], [1], [1, 2, 3], [3, 2, 1], [2, 2, 2], [1, 3, 2]]
    prints = PromptBatch.from_tokens(tokens, [4] * len(tokens), d_vocab=9).fingerprints.tolist()
    assert len(set(prints)) == len(tokens)
    sets = [[0], [1], [0, 1], [0, 3], [1, 2], [0, 1, 2], [3], [0, 4, 5], [1, 2, 6]]
    prints = PromptBatch.from_tokens([[1]] * len(sets), sets, d_vocab=9).fingerprints.tolist()
    assert len(set(prints)) == len(sets)


GIVEN = {torch.float64: 1e-12, torch.float32: 5e-8, torch.float16: 4e-4, torch.bfloat16: 3e-3}


@pytest.mark.parametrize("dtype", GIVEN, ids=str)
def test_coefficients_sum_to_zero_in_the_precision_in_which_they_were_given(dtype: torch.dtype) -> None:
    batch = PromptBatch.from_tokens([[1]] * 2, [1, 2], d_vocab=120)
    c = torch.zeros(2, 120, dtype=torch.float64)
    c[:, :41], c[:, 41:99] = 1 / 41, -1 / 58
    assert linear_metric(batch, c.to(dtype)).shift_invariant
    assert linear_metric(batch, c.to(dtype).to_sparse()).shift_invariant
    assert linear_metric(batch, c.to(dtype)).select([1]).shift_invariant
    off = c.clone()
    off[1, 0] += 2 * max(1e-3, 4 * GIVEN[dtype])  # of a size of 2: more than rounding
    assert not linear_metric(batch, off.to(dtype)).shift_invariant
    exactly = c.to(dtype).double()
    if abs(float(exactly[0].sum())) > 1e-8:  # the same numbers given as exact ones do not sum to zero
        assert not linear_metric(batch, exactly).shift_invariant


def test_coefficients_as_lists_and_sparse_ones() -> None:
    batch = PromptBatch.from_tokens([[1]] * 2, [1, 2], d_vocab=5)
    c = [[0.1, 0, -0.3, 0, 0.2], [0, 0.7, 0, 0, 0]]
    expected = torch.tensor(c, dtype=torch.float64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        listed = linear_metric(batch, c)
    finally:
        torch.set_default_dtype(before)
    for metric in (listed, linear_metric(batch, expected.to_sparse())):
        assert torch.equal(metric.coefficients(), expected)


def test_a_metric_says_in_a_line_what_it_is() -> None:
    batch = make()
    assert repr(logit(batch)) == "LinearMetric('logit of the target', 7 prompts, vocabulary of 23 tokens)"
    named = linear_metric(batch.select([1]), torch.ones(1, D_VOCAB), name="two\nlines")
    assert repr(named) == "LinearMetric('two\\nlines', 1 prompt, vocabulary of 23 tokens)"
