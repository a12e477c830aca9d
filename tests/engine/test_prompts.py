"""A prompt's numbers belong to the prompt: not to its batch, its padding or its order."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.forward.running import SequenceQueue
from maze_dla.engine.metrics import correct_vs_other, logit
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ModelError, PromptError

from .small_models import (
    D_VOCAB,
    LENGTHS,
    make_batch,
    make_model,
    micro_batches,
    random_metric,
    random_tokens,
    shared_model,
)

ORDER = [3, 6, 0, 5, 1, 4, 2]


def numbers(batch: PromptBatch, metric: Any = None, **how: Any) -> dict[str, torch.Tensor]:
    """All that the three methods say, [prompt, ...]."""
    model, metric = shared_model(), random_metric(batch) if metric is None else metric
    result = attribute(model, batch, metric, neurons=True, sources=True, **how)
    tokens = token_lens(model, batch, **how)
    return {
        **{name: getattr(result, name) for name in ("metric", "correct", "layers", "heads", "neurons", "constant")},
        "sources": torch.nn.functional.pad(result.sources, (0, 48 - result.sources.shape[-1])),
        "patterns": torch.nn.functional.pad(result.patterns, (0, 48 - result.patterns.shape[-1])),
        "lens": logit_lens(model, batch, metric, scale="own", **how).values,
        **{name: getattr(tokens, name) for name in ("top_ids", "top_probs", "target_rank", "entropy", "kl")},
    }


def assert_same(seen: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, values in expected.items():
        assert torch.allclose(seen[name].double(), values.double(), rtol=1e-5, atol=2e-5), name


@pytest.fixture(scope="module")
def together() -> dict[str, torch.Tensor]:
    return numbers(make_batch())


def test_alone_and_together(together: dict[str, torch.Tensor]) -> None:
    batch = make_batch()
    metric = random_metric(batch)
    for p in range(len(batch)):
        assert_same(numbers(batch.select([p]), metric.select([p])), {k: v[[p]] for k, v in together.items()})
    with pytest.raises(AssertionError):  # another prompt has other numbers
        assert_same(numbers(batch.select([1]), metric.select([1])), {k: v[[2]] for k, v in together.items()})


def test_any_order(together: dict[str, torch.Tensor]) -> None:
    batch = make_batch()
    seen = numbers(batch.select(ORDER), random_metric(batch).select(ORDER))
    assert_same(seen, {k: v[ORDER] for k, v in together.items()})
    assert batch.select(ORDER).tokens[0].tolist()[: LENGTHS[3]] == random_tokens()[3]


@pytest.mark.parametrize("pad_id", [1, D_VOCAB - 1])
def test_any_pad_id(pad_id: int, together: dict[str, torch.Tensor]) -> None:
    batch = make_batch(pad_id=pad_id)
    assert (batch.sequences[0, LENGTHS[0] :] == pad_id).all()
    assert_same(numbers(batch), together)


@pytest.mark.parametrize("pad_id", [-1, D_VOCAB, 10**6])
def test_a_pad_id_outside_the_vocabulary_changes_nothing_either(pad_id: int, together: dict[str, torch.Tensor]) -> None:
    assert_same(numbers(make_batch(pad_id=pad_id)), together)


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_any_number_at_once(at_once: int, together: dict[str, torch.Tensor]) -> None:
    assert_same(numbers(make_batch(), sequences_at_once=at_once), together)


def prefixes(shared: bool) -> PromptBatch:
    """Prompts that are prefixes of two sequences, out of order, as a batch that shares them or one that does not."""
    sequences = random_tokens((33, 21))
    reads = [(1, 20), (0, 4), (0, 32), (1, 7), (0, 4), (0, 19)]
    targets = [1, 2, 3, 4, 5, 6]
    if not shared:
        return PromptBatch.from_tokens([sequences[s][: at + 1] for s, at in reads], targets, d_vocab=D_VOCAB)
    padded = torch.zeros(2, 33, dtype=torch.long)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = torch.tensor(ids)
    return PromptBatch(
        sequences=padded,
        sequence_lengths=torch.tensor([33, 21]),
        sequence_of=torch.tensor([s for s, _ in reads]),
        read_positions=torch.tensor([at for _, at in reads]),
        targets=torch.tensor(targets),
        d_vocab=D_VOCAB,
        sequence_labels=tuple(tuple(map(str, ids)) for ids in sequences),
    )


@pytest.mark.parametrize("at_once", [1, 16])
def test_prefixes_of_one_sequence_share_it(at_once: int) -> None:
    shared, apart = prefixes(True), prefixes(False)
    assert shared.labels == apart.labels
    assert torch.equal(shared.lengths, apart.lengths)
    assert_same(numbers(shared, sequences_at_once=at_once), numbers(apart))
    assert sum(len(plan.tokens) for plan in micro_batches(shared, 16)) == 2  # and run only once
    assert sum(len(plan.tokens) for plan in micro_batches(apart, 16)) == 6
    part = [5, 2, 0]
    assert_same(numbers(shared.select(part)), numbers(apart.select(part)))


def test_all_positions_of_shared_sequences() -> None:
    shared, apart = (token_lens(shared_model(), prefixes(s), positions="all") for s in (True, False))
    for name in ("top_ids", "top_probs", "target_rank", "entropy", "kl"):
        a, b = getattr(shared, name), getattr(apart, name)
        assert torch.allclose(a.double(), b.double(), atol=2e-5, equal_nan=True), name


def test_a_sequence_may_outgrow_the_context_after_the_read_positions() -> None:
    sequence = random_tokens((60,))[0]
    batch = PromptBatch.from_tokens([sequence], [3], d_vocab=D_VOCAB)
    fields = {
        "sequences": batch.sequences,
        "sequence_lengths": batch.sequence_lengths,
        "sequence_of": torch.zeros(2).long(),
    }
    long = PromptBatch(
        **fields,
        read_positions=torch.tensor([47, 10]),
        targets=torch.tensor([3, 4]),
        d_vocab=D_VOCAB,
        sequence_labels=batch.sequence_labels,
    )
    short = PromptBatch.from_tokens([sequence[:48], sequence[:11]], [3, 4], d_vocab=D_VOCAB)
    assert_same(numbers(long), numbers(short))


def test_plans_hold_every_prompt_once_with_its_tokens() -> None:
    """The longest first."""
    for batch in (make_batch(), prefixes(True), make_batch(tuple(range(1, 45)))):
        for at_once in (1, 3, 50):
            seen = []
            for plan in micro_batches(batch, at_once, tokens_at_once=100):
                assert len(plan.tokens) <= at_once
                assert plan.tokens.numel() <= 100 + 8 * len(plan.tokens) or len(plan.tokens) == 1
                for prompt, row, at in zip(plan.prompts.tolist(), plan.rows, plan.positions, strict=True):
                    n = int(batch.lengths[prompt])
                    assert int(at) == n - 1
                    assert plan.tokens[row, :n].tolist() == batch.tokens[prompt, :n].tolist()
                    seen.append(prompt)
            assert sorted(seen) == list(range(len(batch)))
    longest = [int(plan.positions.max()) for plan in micro_batches(make_batch(), 1)]
    assert longest == sorted(longest, reverse=True)


def test_what_was_taken_last_can_be_given_back() -> None:
    queue = SequenceQueue(make_batch(), 48)
    queue.take(2, 1000)
    plan = queue.take(3, 1000)
    assert plan is not None
    queue.give_back(plan)
    again = queue.take(1, 1000)
    assert again is not None
    assert again.prompts.tolist() == plan.prompts[:1].tolist()
    queue.take(7, 1000)
    assert queue.take(1, 1000) is None


def test_sequences_that_begin_alike_run_side_by_side() -> None:
    tokens = [[1, 2, 3, 4], [5, 2, 3, 4], [1, 2, 3, 9], [5, 2, 3, 9]]
    batch = PromptBatch.from_tokens(tokens, [0] * 4, d_vocab=D_VOCAB)
    assert sorted(sorted(plan.prompts.tolist()) for plan in micro_batches(batch, 2)) == [[0, 2], [1, 3]]


def with_sets() -> PromptBatch:
    common = torch.zeros(D_VOCAB, dtype=torch.bool)
    common[[4, 5]] = True
    own = torch.zeros(3, D_VOCAB, dtype=torch.bool)
    own[0, [1, 2]], own[1, 2], own[2, [3, 4, 9]] = True, True, True
    tokens, sets = [[7], [7, 8], [7, 8, 9]], {"common": common, "own": own}
    return PromptBatch.from_tokens(tokens, [1, 2, 4], d_vocab=D_VOCAB, token_sets=sets)


def held(mask: torch.Tensor) -> list[list[int]]:
    return [torch.nonzero(row).flatten().tolist() for row in mask]


def test_token_sets_and_others() -> None:
    batch = with_sets()
    everything = list(range(D_VOCAB))
    assert held(batch.others("all")) == [[v for v in everything if v != t] for t in (1, 2, 4)]
    assert held(batch.others("common")) == [[4, 5], [4, 5], [5]]
    assert held(batch.others("own")) == [[2], [], [3, 9]]
    assert held(batch.others(batch.token_sets["own"])) == held(batch.others("own"))
    assert held(batch.token_set("own")) == [[1, 2], [2], [3, 4, 9]]  # the set itself is as before
    assert batch.token_set("all").all()


def test_select_and_having() -> None:
    batch = with_sets()
    assert batch.having("own").targets.tolist() == [1, 4]
    assert held(batch.having("own").others("own")) == [[2], [3, 9]]
    assert len(batch.having("all")) == len(batch.having("common")) == 3
    assert held(batch.select([2, 0]).others("common")) == [[5], [4, 5]]
    assert batch.select([2, 0]).labels == (("7", "8", "9"), ("7",))
    assert batch.select([2, 2, -3]).targets.tolist() == [4, 4, 1]
    mask = [True, False, True]
    assert batch.select(mask).targets.tolist() == batch.select(torch.tensor(mask)).targets.tolist() == [1, 4]
    correct_vs_other(batch.having("own"), "own")
    with pytest.raises(InputError, match="prompt 1 has no other token in 'own'"):
        correct_vs_other(batch, "own")


def test_what_a_batch_says_of_itself() -> None:
    batch = make_batch(info={"task": "first_path_choice"})
    assert repr(batch) == "PromptBatch(task 'first_path_choice', 7 prompts of 5 to 40 tokens)"
    assert repr(make_batch()) == "PromptBatch(7 prompts of 5 to 40 tokens)"
    assert batch.tokens.shape == (7, 40)
    assert batch.lengths.tolist() == list(LENGTHS)
    assert batch.labels[0] == tuple(map(str, random_tokens()[0]))
    assert batch.token_name(7) == "7"
    assert make_batch(vocabulary=[f"<{v}>" for v in range(D_VOCAB)]).token_name(7) == "<7>"


def lone(**changes: Any) -> PromptBatch:
    fields: dict[str, Any] = {
        "sequences": torch.zeros(1, 4, dtype=torch.long),
        "sequence_lengths": torch.tensor([3]),
        "sequence_of": torch.tensor([0, 0]),
        "read_positions": torch.tensor([2, 1]),
        "targets": torch.tensor([1, 1]),
        "d_vocab": 5,
        "sequence_labels": (("0", "0", "0"),),
    }
    return PromptBatch(**{**fields, **changes})


def unseen(**changes: Any) -> None:
    """The batch's own checks alone: in tests its shapes are looked at first."""
    batch = object.__new__(PromptBatch)
    batch.__dict__.update({**lone().__dict__, **changes})
    batch.__post_init__()


def from_tokens(tokens: Any, targets: Any, **more: Any) -> PromptBatch:
    return PromptBatch.from_tokens(tokens, targets, d_vocab=5, **more)


def ask(batch: PromptBatch, n: int | None = None) -> Any:
    return attribute(shared_model(), batch, logit(batch if n is None else batch.select(range(n))))


ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "no prompts": (lambda: from_tokens([], []), InputError, "a batch needs at least one prompt, got none"),
    "none selected": (lambda: lone().select([]), InputError, "a batch needs at least one prompt, got none"),
    "targets missing": (
        lambda: from_tokens([[1], [2]], [1]),
        InputError,
        "2 prompts but 1 targets: each prompt needs one",
    ),
    "empty prompt": (
        lambda: from_tokens([[1], []], [1, 1]),
        PromptError,
        "prompt 1 has no tokens, expected at least one",
    ),
    "id outside": (
        lambda: from_tokens([[1], [2, 3, 5, 9]], [1, 1], d_vocab_in=5),
        PromptError,
        "sequence 1, position 2: token id 5 outside the vocabulary of 5 tokens",
    ),
    "id negative": (
        lambda: from_tokens([[1], [-2]], [1, 1]),
        PromptError,
        "sequence 1, position 0: token id -2 outside the vocabulary",
    ),
    "target outside": (
        lambda: from_tokens([[1], [2]], [1, 7]),
        PromptError,
        "the target of prompt 1: token id 7 outside the vocabulary of 5 tokens",
    ),
    "read position behind": (
        lambda: lone(read_positions=torch.tensor([2, 3])),
        PromptError,
        "prompt 1: read position 3 outside its 3 tokens",
    ),
    "read position negative": (
        lambda: lone(read_positions=torch.tensor([-1, 2])),
        PromptError,
        "prompt 0: read position -1 outside its 3 tokens",
    ),
    "read positions missing": (
        lambda: unseen(read_positions=torch.tensor([2])),
        InputError,
        "read_positions has 1 entries, targets has 2",
    ),
    "sequences missing": (
        lambda: unseen(sequence_of=torch.tensor([0])),
        InputError,
        "sequence_of has 1 entries, targets has 2",
    ),
    "incorrect tokens missing": (
        lambda: unseen(incorrect=torch.tensor([2])),
        InputError,
        "incorrect has 1 entries, targets has 2",
    ),
    "kinds of another shape": (
        lambda: unseen(kinds=("a", "b"), sequence_kinds=torch.zeros(1, 3, dtype=torch.long)),
        InputError,
        "sequence_kinds has shape (1, 3) and numbers up to 0, expected (1, 4) and numbers of the 2 kinds",
    ),
    "kinds without a name": (
        lambda: lone(kinds=("a", "b"), sequence_kinds=torch.full((1, 4), 2)),
        InputError,
        "sequence_kinds has shape (1, 4) and numbers up to 2, expected (1, 4) and numbers of the 2 kinds",
    ),
    "mask of another shape": (
        lambda: lone().others(torch.ones(3, 5, dtype=torch.bool)),
        InputError,
        "a mask of others is boolean with shape (5,) or (2, 5), got torch.bool with shape (3, 5)",
    ),
    "unknown set": (
        lambda: with_sets().others("cells"),
        InputError,
        "unknown token set 'cells': this batch has 'all', 'common', 'own', or give a mask",
    ),
    "nothing left": (
        lambda: with_sets().select([1]).having("own"),
        InputError,
        "none of the 1 prompts has a token in 'own' beside its target",
    ),
    "selected outside": (lambda: lone().select([0, 2]), InputError, "prompt 2 outside the 2 prompts"),
    "chosen by halves": (
        lambda: lone().select(torch.tensor([0.5])),
        InputError,
        "prompts are chosen by a list of their numbers or by a mask, got tensor([0.5000])",
    ),
    "chosen by one number": (
        lambda: lone().select(torch.tensor(-1)),
        InputError,
        "prompts are chosen by a list of their numbers or by a mask, got tensor(-1)",
    ),
    "mask of other prompts": (
        lambda: lone().select([True, False, True]),
        InputError,
        "a mask of prompts has shape (2,), got (3,)",
    ),
    "too long": (
        lambda: ask(make_batch((5, 49, 50))),
        PromptError,
        "prompt 2 has 50 tokens, the model's context holds 48",
    ),
    "another vocabulary": (lambda: ask(lone()), InputError, "the batch has a vocabulary of 5 tokens, the model of 23"),
    "another batch's metric": (
        lambda: ask(make_batch(), 3),
        InputError,
        "the metric was made for 3 prompts, the batch has 7",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_seen_and_what_was_expected(name: str) -> None:
    make, kind, message = ERRORS[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as error:
        make()
    assert isinstance(error.value, ValueError)
    assert type(error.value) is kind


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(ModelError, match="the model's attention is bidirectional"):
        attribute(make_model(attention_dir="bidirectional"), make_batch(), logit(make_batch()))
    attribute(make_model(attention_dir="causal"), make_batch(), logit(make_batch()))


def test_the_longest_prompt_that_fits_is_answered() -> None:
    batch = make_batch((48, 1))
    assert len(ask(batch)) == 2


def test_ids_after_a_sequences_end_are_not_looked_at() -> None:
    lone(sequences=torch.tensor([[0, 1, 2, 99]]), d_vocab_in=5)
    with pytest.raises(PromptError, match="sequence 0, position 2: token id 99"):
        lone(sequences=torch.tensor([[0, 1, 99, 0]]), d_vocab_in=5)
