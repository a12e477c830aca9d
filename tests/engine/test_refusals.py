"""Batches, metrics and options that do not fit are refused before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maze_dla.analysis import attribute, logit_lens
from maze_dla.engine.metrics import linear_metric, logit
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from tests.engine.small_models import make_model, micro_batches

BATCH = PromptBatch.from_tokens([[1, 2, 3], [4, 5]], [6, 7], d_vocab=9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequence_of": torch.tensor([0, 2])}, "outside the 2 that are there"),
        ({"sequence_of": torch.tensor([0, -1])}, "outside the 2 that are there"),
        ({"sequence_lengths": torch.tensor([5, 2])}, "a sequence of 5 tokens in an array 3 wide"),
        ({"sequence_labels": (("a",),)}, "sequence_labels has 1 entries, there are 2 sequences"),
    ],
)
def test_a_batch_that_does_not_hold_together(change, message):
    with pytest.raises(Exception, match=message) as raised:
        replace(BATCH, **change)
    assert isinstance(raised.value, InputError)


def test_a_metric_of_another_vocabulary():
    model = make_model()
    tokens = [[1, 2, 3], [4, 5]]
    batch = PromptBatch.from_tokens(tokens, [6, 7], d_vocab=model.cfg.d_vocab)
    other = linear_metric(BATCH, torch.ones(2, 9))
    with pytest.raises(InputError, match=f"vocabulary of 9 tokens, the model of {model.cfg.d_vocab}"):
        attribute(model, batch, other)


@pytest.mark.parametrize("option", [{"sequences_at_once": 0}, {"sequences_at_once": -1}])
def test_fewer_than_one_sequence_at_once(option):
    model = make_model()
    batch = PromptBatch.from_tokens([[1, 2, 3]], [6], d_vocab=model.cfg.d_vocab)
    with pytest.raises(InputError, match="at least 1"):
        logit_lens(model, batch, logit(batch), **option)


@pytest.mark.parametrize("neurons", ["all", None])
def test_neurons_by_another_word(neurons):
    from maze_dla.engine.direct import attribution

    unchecked = getattr(attribution.attribute, "__wrapped__", attribution.attribute)
    model = make_model()
    batch = PromptBatch.from_tokens([[1, 2, 3]], [6], d_vocab=model.cfg.d_vocab)
    with pytest.raises(Exception, match="neurons"):
        unchecked(model, batch, logit(batch), neurons=neurons)


def test_a_sequence_that_no_prompt_reads_is_not_run():
    three = PromptBatch.from_tokens([[1, 2, 3], [4, 5], [6]], [6, 7, 8], d_vocab=9)
    two = replace(
        three,
        sequence_of=torch.tensor([2, 0, 2]),
        read_positions=torch.tensor([0, 1, 0]),
    )
    taken = micro_batches(two, 8)
    assert [plan.tokens[:, 0].tolist() for plan in taken] == [[1, 6]]
    assert sorted(torch.cat([plan.prompts for plan in taken]).tolist()) == [0, 1, 2]


def test_a_metric_of_another_batch_of_the_same_size():
    model = make_model()
    batch, other = (
        PromptBatch.from_tokens([[1, 2, 3], [4, 5]], targets, d_vocab=model.cfg.d_vocab) for targets in ([6, 7], [7, 6])
    )
    with pytest.raises(InputError, match="made for another batch"):
        attribute(model, batch, logit(other))
    assert len(attribute(model, batch.select([1]), logit(batch).select([1]))) == 1


def test_what_is_no_batch_and_no_metric():
    model = make_model()
    batch = PromptBatch.from_tokens([[1, 2, 3]], [6], d_vocab=model.cfg.d_vocab)
    with pytest.raises(Exception, match="PromptBatch"):
        attribute(model, [1], logit(batch))
    with pytest.raises(Exception, match="LinearMetric"):
        attribute(model, batch, "neighbors")


@pytest.mark.parametrize(("tokens", "targets"), [([[0.5, 1.9]], [1]), ([[1, 2]], [1.7]), ([["ab"]], [1])])
def test_token_ids_that_are_no_whole_numbers(tokens, targets):
    with pytest.raises(Exception, match=r"whole numbers|violates|type|dtype"):
        PromptBatch.from_tokens(tokens, targets, d_vocab=9)
