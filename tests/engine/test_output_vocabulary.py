"""Models whose outputs are not the tokens that they read: classifiers, modular addition."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import LinearMetric, correct_vs_other, logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError
from tests.engine.small_models import hooked_view

from .small_models import D_VOCAB, random_tokens, shared_model

TOKENS = random_tokens((6, 3, 9, 4), seed=5)  # of 23 tokens
FEW, MANY = 5, 31
TARGETS, FOILS = [0, 4, 2, 3], [1, 0, 3, 4]
ENGINES: Any = ("auto", "hooked")


def ask(d_vocab: int, **more: Any) -> tuple[Any, PromptBatch, Tensor]:
    """A model of so many outputs, a batch for it, and the model's own logits for each prompt."""
    model = shared_model(d_vocab_out=d_vocab)
    batch = PromptBatch.from_tokens(TOKENS, TARGETS, d_vocab=d_vocab, incorrect=FOILS, **more)
    with torch.no_grad():
        logits = torch.stack([model(torch.tensor([ids]))[0, -1] for ids in TOKENS])
    assert logits.shape == (4, d_vocab)
    return model, batch, logits


def test_the_tokens_are_larger_than_the_fewer_outputs() -> None:
    assert max(map(max, TOKENS)) > FEW
    shape = hooked_view(shared_model(d_vocab_out=FEW)).weights.shape
    assert (shape.d_vocab_in, shape.d_vocab) == (D_VOCAB, FEW)
    shape = hooked_view(shared_model()).weights.shape
    assert (shape.d_vocab_in, shape.d_vocab) == (D_VOCAB, D_VOCAB)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("d_vocab", [FEW, MANY])
def test_metrics_of_the_outputs(engine: Any, d_vocab: int) -> None:
    model, batch, logits = ask(d_vocab)
    rows = torch.arange(4)
    right = logits[rows, TARGETS]
    wanted: list[tuple[LinearMetric, Tensor]] = [
        (logit_diff(batch), right - logits[rows, FOILS]),
        (correct_vs_other(batch), right - (logits.sum(1) - right) / (d_vocab - 1)),
    ]
    for metric, expected in wanted:
        result = attribute(model, batch, metric, neurons=True, sources=True, forward=engine)
        torch.testing.assert_close(result.metric, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(result.layers.sum(1) + result.constant, expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(result.correct, logits.argmax(1) == torch.tensor(TARGETS))
        lens = logit_lens(model, batch, metric, forward=engine)
        torch.testing.assert_close(lens.values[:, -1], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("d_vocab", [FEW, MANY])
def test_the_token_lens_names_outputs(engine: Any, d_vocab: int) -> None:
    names = [f"class {i}" for i in range(d_vocab)]
    model, batch, logits = ask(d_vocab, vocabulary=names)
    result = token_lens(model, batch, k=2, forward=engine)
    expected = [[names[t] for t in row] for row in logits.topk(2).indices.tolist()]
    assert [result.top_tokens(i)[-1] for i in range(4)] == expected
    assert result.targets == tuple(names[t] for t in TARGETS)
    with pytest.raises(InputError, match=re.escape(f"the model reads 23 tokens and has {d_vocab} outputs")):
        token_lens(model, batch, positions="all", forward=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_tokens_that_the_model_does_not_read_are_refused_when_it_runs(engine: Any) -> None:
    model = shared_model(d_vocab_out=MANY)
    batch = PromptBatch.from_tokens([[1], [2, D_VOCAB, 3], [30, 1]], [25, 26, 30], d_vocab=MANY)
    with pytest.raises(PromptError, match=r"^prompt 1, position 1: token id 23 outside the 23 tokens that the model"):
        attribute(model, batch, correct_vs_other(batch), forward=engine)
    fits = batch.select([0])
    assert len(attribute(model, fits, correct_vs_other(fits), forward=engine)) == 1
    with pytest.raises(PromptError, match=r"^sequence 1, position 1: token id 23 outside the vocabulary of 23 tokens"):
        PromptBatch.from_tokens([[1], [2, D_VOCAB, 3]], [25, 26], d_vocab=MANY, d_vocab_in=D_VOCAB)


def test_a_token_that_no_prompt_reads_may_be_anything() -> None:
    model, one = shared_model(), PromptBatch.from_tokens([[1, 2, 3, 99]], [5], d_vocab=D_VOCAB)
    fields = {name: getattr(one, name) for name in ("sequences", "sequence_lengths", "sequence_labels", "targets")}
    read = PromptBatch(**fields, d_vocab=D_VOCAB, sequence_of=torch.tensor([0]), read_positions=torch.tensor([2]))
    seen = attribute(model, read, correct_vs_other(read))
    plain = PromptBatch.from_tokens([[1, 2, 3]], [5], d_vocab=D_VOCAB)
    torch.testing.assert_close(seen.metric, attribute(model, plain, correct_vs_other(plain)).metric)
    with pytest.raises(PromptError, match=r"^prompt 0, position 3: token id 99 outside the 23 tokens"):
        attribute(model, one, correct_vs_other(one))


def test_targets_and_sets_are_checked_against_the_outputs() -> None:
    with pytest.raises(PromptError, match=r"^the target of prompt 1: token id 5 outside the vocabulary of 5 tokens"):
        PromptBatch.from_tokens([[9], [9]], [4, 5], d_vocab=FEW)
    _, batch, _ = ask(FEW)
    with pytest.raises(InputError, match=re.escape("shape (5,) or (4, 5), got torch.bool with shape (23,)")):
        correct_vs_other(batch, torch.ones(D_VOCAB, dtype=torch.bool))
    with pytest.raises(InputError, match="the batch has a vocabulary of 31 tokens, the model of 5"):
        attribute(shared_model(d_vocab_out=FEW), ask(MANY)[1], correct_vs_other(ask(MANY)[1]))
