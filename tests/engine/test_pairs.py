"""Pairs: what has to be alike in both prompts, and the batch of both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maze_dla.engine.metrics import logit_diff
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import D_VOCAB


def test_pairs_differ_where_they_were_changed_and_nowhere_else() -> None:
    pairs = random_pairs()
    changed = pairs.changed()
    assert changed.sum(1).tolist() == [1] * len(pairs)
    assert changed.int().argmax(1).tolist() == [max(int(n) - 4, 0) for n in pairs.clean.lengths]
    assert repr(pairs) == "PromptPairs(task 'random', change 'one token', 7 pairs of 5 to 40 tokens)"


def test_repr_names_what_was_left_out() -> None:
    pairs = replace(random_pairs(), info={"change": "target", "left_out": 3, "why": {"no exit": 2, "no path": 1}})
    assert repr(pairs).endswith("7 pairs of 5 to 40 tokens; 3 left out (2: no exit; 1: no path))")


def test_selected_pairs_stay_pairs() -> None:
    pairs = random_pairs()
    few = pairs.select([4, 1])
    assert few.clean.labels == (pairs.clean.labels[4], pairs.clean.labels[1])
    assert few.corrupted.labels == (pairs.corrupted.labels[4], pairs.corrupted.labels[1])
    assert few.corrupted.targets.tolist() == pairs.corrupted.targets[[4, 1]].tolist()
    assert len(pairs.select(pairs.clean.lengths > 10)) == 5


def test_selected_pairs_tell_from_how_many() -> None:
    made = replace(random_pairs(), info={"change": "target", "left_out": 3})
    few = made.select([4, 1])
    assert few.info == {**made.info, "selected_from": 7}
    assert few.select([0]).info == few.info
    assert (made.n_made, few.n_made) == (7, 7)
    assert "selected_from" not in made.info
    assert "2 pairs of " in repr(few)
    assert repr(few).endswith(" tokens, selected from 7; 3 left out)")


def test_pairs_without_wrong_tokens_are_left_out() -> None:
    pairs = random_pairs()
    wrong = torch.zeros(len(pairs), D_VOCAB, dtype=torch.bool)
    wrong[torch.arange(7), pairs.clean.targets] = True
    wrong[[1, 5]] = True
    kept = replace(pairs, clean=replace(pairs.clean, token_sets={"wrong": wrong})).having("wrong")
    assert kept.clean.labels == (pairs.clean.labels[1], pairs.clean.labels[5])
    assert kept.corrupted.labels == (pairs.corrupted.labels[1], pairs.corrupted.labels[5])
    with pytest.raises(InputError, match="unknown token set 'wrong'"):
        pairs.having("wrong")
    wrong[:] = False
    wrong[torch.arange(7), pairs.clean.targets] = True
    with pytest.raises(InputError, match="none of the 7 prompts has a token in 'wrong' beside its target"):
        replace(pairs, clean=replace(pairs.clean, token_sets={"wrong": wrong})).having("wrong")


def test_joined_are_the_clean_prompts_and_then_the_corrupted_ones() -> None:
    pairs = random_pairs()
    joined = pairs.joined()
    assert joined.labels == pairs.clean.labels + pairs.corrupted.labels
    assert joined.targets.tolist() == [*pairs.clean.targets.tolist(), *pairs.corrupted.targets.tolist()]


def test_both_prompts_of_a_pair_are_about_one_thing() -> None:
    pairs = random_pairs()
    assert pairs.corrupted.columns["text"] == pairs.clean.columns["text"]
    assert len(set(pairs.clean.columns["text"])) == len(pairs)


TOKENS = [[1, 2, 3], [4, 5]]


def plain(tokens: list[list[int]], **more: object) -> PromptBatch:
    return PromptBatch.from_tokens(tokens, [0] * len(tokens), d_vocab=D_VOCAB, **more)


@pytest.mark.parametrize(
    ("corrupted", "error", "message"),
    [
        (lambda: plain([[1, 2, 3]]), InputError, "2 clean prompts but 1 corrupted ones"),
        (
            lambda: plain([[1, 2, 3], [4, 5, 6]]),
            PromptError,
            "pair 1: the clean prompt has 2 tokens, the corrupted one 3",
        ),
        (lambda: plain([[4, 5, 0], [1, 2]]).select([0, 1]), None, ""),
        (
            lambda: replace(plain(TOKENS), sequence_of=torch.tensor([0, 0]), read_positions=torch.tensor([2, 1])),
            InputError,
            "read sequences of other numbers",
        ),
        (
            lambda: PromptBatch.from_tokens(TOKENS, [0, 0], d_vocab=9),
            InputError,
            "clean prompts have a vocabulary of 23 tokens, corrupted ones 9",
        ),
        (lambda: plain(TOKENS, vocabulary=list("bcdefghijklmnopqrstuvwx")), InputError, "other names for their tokens"),
    ],
)
def test_what_is_no_pair_is_refused(corrupted: object, error: type[Exception] | None, message: str) -> None:
    clean = plain(TOKENS, vocabulary=list("abcdefghijklmnopqrstuvw"))
    if error is None:
        assert len(PromptPairs(clean, corrupted())) == 2  # pyright: ignore[reportCallIssue]
        return
    with pytest.raises(error, match=message):
        PromptPairs(clean, corrupted())  # pyright: ignore[reportCallIssue]


def test_the_metric_of_pairs_sets_the_corrupted_answers_against_the_clean_ones() -> None:
    pairs = random_pairs()
    c = logit_diff(pairs).coefficients()
    i = torch.arange(len(pairs))
    assert c[i, pairs.clean.targets].tolist() == [1] * len(pairs)
    assert c[i, pairs.corrupted.targets].tolist() == [-1] * len(pairs)
    assert c.abs().sum(1).tolist() == [2] * len(pairs)
    assert logit_diff(pairs).answers is not None
    assert logit_diff(pairs).foils is None


def test_several_answers_weigh_the_same() -> None:
    clean = PromptBatch.from_tokens([[1, 2]], [[3, 4]], d_vocab=D_VOCAB)
    corrupted = PromptBatch.from_tokens([[1, 5]], [[6, 7, 8, 9]], d_vocab=D_VOCAB)
    c = logit_diff(PromptPairs(clean, corrupted)).coefficients()[0]
    assert c[[3, 4]].tolist() == [0.5] * 2
    assert c[6:10].tolist() == [-0.25] * 4
    shared = PromptBatch.from_tokens([[1, 5]], [[4, 7]], d_vocab=D_VOCAB)
    with pytest.raises(InputError, match="the incorrect token equals the target '4'"):
        logit_diff(PromptPairs(clean, shared))


def test_pairs_without_a_corrupted_answer_have_no_logit_difference() -> None:
    pairs = replace(random_pairs(), unanswered="nobody knows")
    with pytest.raises(InputError, match="no right answer to set against: nobody knows"):
        logit_diff(pairs)
    assert logit_diff(pairs, pairs.corrupted.targets).name == "logit difference"
