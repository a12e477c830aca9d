"""Fields that no batch can have are refused with an error of ours; whole numbers of every dtype are taken.

Called without the checks of shapes that tests have, which would refuse some of it first.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.engine.metrics import correct_vs_other, linear_metric, logit, logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError
from tests.engine.small_models import make_batch

HUGE = 2**70
ABOVE = 2**63
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)


def make(tokens: Any = ((1, 2, 3), (4, 5)), targets: Any = (6, 7), d_vocab: Any = 9, **more: Any) -> PromptBatch:
    """from_tokens without the checks of shapes."""
    unchecked = inspect.unwrap(PromptBatch.from_tokens.__func__)  # pyright: ignore[reportFunctionMemberAccess]
    return unchecked(PromptBatch, tokens, targets, d_vocab=d_vocab, **more)


def changed(**fields: Any) -> PromptBatch:
    """The batch's own checks, of a batch with some fields replaced."""
    batch = object.__new__(PromptBatch)
    batch.__dict__.update({**make().__dict__, **fields})
    inspect.unwrap(PromptBatch.__post_init__)(batch)
    return batch


def without_values(*shape: int, dtype: torch.dtype = torch.long) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device="meta")


MASK = "a boolean mask, or the ids of each of the 2 prompts filled up with -1"
IDS = "token ids are whole numbers"
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "labels that are none": (
        {"labels": [None, ["a", "b"]]},
        InputError,
        "labels of prompt 0 are a list with an entry for each token, got None",
    ),
    "labels that are numbers": (
        {"labels": [["a", "b", "c"], ["a", 5]]},
        InputError,
        "labels of prompt 1 are strings, got 5",
    ),
    "labels in one text": (
        {"labels": ["abc", "de"]},
        InputError,
        "labels of prompt 0 are a list with an entry for each token, got 'abc'",
    ),
    "labels without an order": (
        {"labels": [["a", "b", "c"], {"x": "y"}]},
        InputError,
        "labels of prompt 1 are a list with an entry for each token, got {'x': 'y'}",
    ),
    "a huge d_vocab": ({"d_vocab": HUGE}, InputError, f"d_vocab is at most {ABOVE - 1}, got {HUGE}"),
    **{
        f"padded with {wrong!r}": ({"pad_id": wrong}, InputError, f"pad_id is a whole number, got {wrong!r}")
        for wrong in ("x", 2.5, True, None)
    },
    "padded with a huge number": ({"pad_id": HUGE}, InputError, f"pad_id is at most {ABOVE - 1}, got {HUGE}"),
    "a huge token": ({"tokens": [[1], [2, HUGE]]}, PromptError, f"prompt 1: {IDS} that 64 bits hold, got {HUGE}"),
    "a huge target": ({"targets": [-HUGE, 3]}, PromptError, f"targets: {IDS} that 64 bits hold, got {-HUGE}"),
    "a huge one of a set": (
        {"targets": [1, {2, HUGE}]},
        PromptError,
        f"targets: {IDS} that 64 bits hold, got {HUGE}",
    ),
    "a huge tensor": (
        {"targets": torch.tensor([1, ABOVE], dtype=torch.uint64)},
        PromptError,
        f"targets: numbers are at most {ABOVE - 1}, got {ABOVE}",
    ),
    "a huge array": (
        {"incorrect": np.array([1, ABOVE], dtype=np.uint64)},
        PromptError,
        f"incorrect: numbers are at most {ABOVE - 1}, got {ABOVE}",
    ),
    "sets that cannot be put in order": ({"targets": [{1j, 2j}, 3]}, PromptError, f"targets: {IDS}, got "),
    "targets of no width": (
        {"targets": torch.zeros(2, 0, dtype=torch.long)},
        InputError,
        "targets: one id or a set of ids for each prompt, got the shape (2, 0)",
    ),
    "tokens without an order": (
        {"tokens": {(1, 2)}},
        InputError,
        "tokens are a list with an entry for each prompt, got {(1, 2)}",
    ),
    "tokens by number": (
        {"tokens": {0: [1]}},
        InputError,
        "tokens are a list with an entry for each prompt, got {0: [1]}",
    ),
    "tokens in a table": (
        {"tokens": pd.DataFrame({"a": [1]})},
        InputError,
        "tokens are a list with an entry for each prompt, got ",
    ),
    "one number": ({"targets": np.array(3)}, InputError, "targets are a list with an entry for each prompt, got array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    given, kind, message = REFUSED[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        make(**given)


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no sequences": ({"sequences": None}, f"sequences: {IDS}, got None"),
    "one sequence": ({"sequences": torch.tensor([1, 2])}, "sequences has shape (2,), expected 2 axes"),
    "empty sequences": (
        {"sequences": torch.zeros(2, 0, dtype=torch.long)},
        "sequences has shape (2, 0), expected at least one token",
    ),
    "one length": ({"sequence_lengths": torch.tensor(3)}, "sequence_lengths has shape (), expected 1 axes"),
    "sets of targets": ({"targets": torch.tensor([[6], [7]])}, "targets has shape (2, 1), expected 1 axes"),
    "labels in one text": (
        {"sequence_labels": "ab"},
        "sequence_labels are a list with an entry for each sequence, got 'ab'",
    ),
    "labels by number": ({"sequence_labels": (("a", "b", 1), ("c", "d"))}, "labels of sequence 0 are strings, got 1"),
    "no labels": (
        {"sequence_labels": (("a", "b", "c"), None)},
        "labels of sequence 1 are a list with an entry for each token, got None",
    ),
    "empty kinds": (
        {"kinds": ("a",), "sequence_kinds": torch.zeros(0, 3, dtype=torch.long)},
        "sequence_kinds has shape (0, 3) and numbers up to 0, expected (2, 3) and numbers of the 1 kinds",
    ),
    "d_vocab_in in words": ({"d_vocab_in": "x"}, "d_vocab_in is a whole number, got 'x'"),
    "half of d_vocab_in": ({"d_vocab_in": 10.5}, "d_vocab_in is a whole number, got 10.5"),
    "no d_vocab_in": ({"d_vocab_in": 0}, "d_vocab_in is at least 1, got 0"),
    "a set that is no mask": (
        {"token_sets": {"a": [1, 2]}},
        f"token set 'a' is int64 of shape (2,), expected {MASK}",
    ),
    "a set of other lengths": (
        {"token_sets": {"a": [[1, 2], [3]]}},
        f"token set 'a' is {MASK}, got [[1, 2], [3]]",
    ),
    "no set": ({"token_sets": {"a": None}}, f"token set 'a' is {MASK}, got None"),
    "sets without names": ({"token_sets": [1]}, "token_sets is a mapping from names, got list"),
    "sets by number": (
        {"token_sets": {1: [True] * 9}},
        "token_sets is a mapping from names, which are strings, got 1",
    ),
    "a set named all": (
        {"token_sets": {"all": [True] * 9}},
        "a token set cannot be named 'all', which stands for the whole vocabulary",
    ),
    "another vocabulary": ({"vocabulary": ["a"] * 8}, "vocabulary has 8 tokens, d_vocab is 9"),
    "a vocabulary of numbers": (
        {"vocabulary": [*"abcdefgh", 5]},
        "the tokens of a vocabulary are strings, got 5",
    ),
    "a range as vocabulary": ({"vocabulary": range(9)}, "the tokens of a vocabulary are strings, got 0"),
    "no vocabulary": (
        {"vocabulary": 9},
        "the tokens of a vocabulary are a list with an entry for each id, got 9",
    ),
    "info in a list": ({"info": [1]}, "info is a mapping from names, got list"),
    "no kinds": ({"kinds": None}, "kinds are a list with an entry for each kind of token, got None"),
    "kinds in one text": (
        {"kinds": "ab"},
        "kinds are a list with an entry for each kind of token, got 'ab'",
    ),
    "kinds by number": ({"kinds": (1, 2)}, "kinds are strings, got 1"),
    "kinds twice": ({"kinds": ("a", "b", "a")}, "kinds has 'a' twice, expected once"),
    "without values": ({"targets": without_values(2)}, "targets has no values: it lies on the meta device"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_a_batch_are_refused(name: str) -> None:
    fields, message = FIELDS[name]
    with pytest.raises((InputError, PromptError), match=f"^{re.escape(message)}$"):
        changed(**fields)


BATCH = make()
WITHOUT_VALUES: dict[str, Any] = {
    "prompt 0": lambda: make(tokens=without_values(2, 3)),
    "prompt 1": lambda: make(tokens=[[1], [2, without_values()]]),
    "targets": lambda: make(targets=without_values(2)),
    "targets ": lambda: make(targets=[1, without_values()]),
    "targets  ": lambda: make(targets=[1, {without_values()}]),
    "incorrect": lambda: make(incorrect=[[1, 2], without_values(2)]),
    "incorrect ": lambda: logit_diff(BATCH, without_values(2)),
    "token set 'a'": lambda: changed(token_sets={"a": without_values(9, dtype=torch.bool)}),
    "the choice of prompts": lambda: BATCH.select(without_values(2)),
    "the choice of prompts ": lambda: logit(BATCH).select(without_values(2, dtype=torch.bool)),
    "the array of coefficients": lambda: linear_metric(BATCH, without_values(2, 9, dtype=torch.float32)),
    "the array of coefficients ": lambda: linear_metric(BATCH, [without_values(9)] * 2),
    "answers": lambda: linear_metric(BATCH, torch.ones(2, 9), answers=without_values(2)),
    "the mask of others": lambda: correct_vs_other(BATCH, without_values(9, dtype=torch.bool)),
    "the mask of others ": lambda: BATCH.others(without_values(2, 9, dtype=torch.bool)),
}


@pytest.mark.parametrize("what", WITHOUT_VALUES)
def test_tensors_without_values_are_refused(what: str) -> None:
    with pytest.raises(InputError, match=f"^{what.strip()} has no values: it lies on the meta device$"):
        WITHOUT_VALUES[what]()


def test_complex_coefficients_are_refused() -> None:
    with pytest.raises(InputError, match=r"^coefficients are real numbers, got complex64$"):
        linear_metric(BATCH, torch.ones(2, 9, dtype=torch.complex64))


@pytest.mark.parametrize("dtype", [*UNSIGNED, torch.int16, torch.int64], ids=str)
def test_prompts_are_chosen_by_whole_numbers_of_any_dtype(dtype: torch.dtype) -> None:
    batch = make([[i % 7] for i in range(300)], [i % 5 for i in range(300)])
    chosen = torch.tensor([200, 3], dtype=dtype)
    for way in (chosen, chosen.numpy()):
        picked = inspect.unwrap(PromptBatch.select)(batch, way)
        assert picked.targets.tolist() == [0, 3]
        assert picked.tokens.tolist() == [[4], [3]]
    backwards = inspect.unwrap(PromptBatch.select)(batch, np.arange(300)[::-1])
    assert backwards.targets.tolist() == batch.targets.tolist()[::-1]


@pytest.mark.parametrize("dtype", UNSIGNED, ids=str)
def test_token_ids_of_unsigned_dtypes(dtype: torch.dtype) -> None:
    tokens = torch.tensor([[200, 2], [3, 4]], dtype=dtype)
    targets, incorrect = torch.tensor([5, 6], dtype=dtype), torch.tensor([7, 8], dtype=dtype)
    for way in (lambda t: t, lambda t: t.numpy(), list, lambda t: list(t.numpy())):
        batch = make(way(tokens), way(targets), 250, incorrect=way(incorrect))
        assert batch.tokens.tolist() == [[200, 2], [3, 4]]
        assert (batch.targets.tolist(), batch.foils.tolist()) == ([5, 6], [[7], [8]])
        assert changed(d_vocab=250, token_sets={"a": tokens}).token_sets["a"].tolist() == [[200, 2], [3, 4]]
    assert make(targets=pd.Series([5, 6], index=[1, 0], dtype=str(dtype)[6:])).targets.tolist() == [5, 6]


def test_lists_are_taken_where_they_hold_what_is_wanted() -> None:
    sets = {"mask": [True, False] + [False] * 7, "ids": [[1, -1], [2, 3]]}
    batch = changed(token_sets=sets, kinds=["a"], vocabulary=np.array([*"abcdefghi"]))
    assert torch.nonzero(batch.token_set("mask")).tolist() == [[0]]
    assert batch.token_set("ids").sum(1).tolist() == [1, 2]
    assert (batch.kinds, batch.vocabulary) == (("a",), tuple("abcdefghi"))


def test_what_is_computed_first_in_inference_mode_is_no_tensor_of_it() -> None:
    vocabulary = load_maze_model().vocabulary
    with torch.inference_mode(), torch.device("meta"):
        batch = PromptBatch.from_tokens([[1, 2, 3], [4, 5]], [6, 7], d_vocab=9)
        kept = (batch.lengths, batch.tokens, vocabulary.lattice_sizes)
        assert batch.labels == (("1", "2", "3"), ("4", "5"))
    assert not any(tensor.is_inference() for tensor in kept)
    assert {tensor.device.type for tensor in kept} == {"cpu"}


def test_what_only_some_batches_know_is_none_in_others() -> None:
    batch = make_batch()
    assert (batch.steps, batch.geometry(0)) == (None, None)


def test_steps_are_selected_with_their_prompts() -> None:
    batch = make_batch((5, 9, 7), steps=torch.tensor([4, 8, 6]))
    assert batch.steps is not None
    assert batch.select([2, 0]).steps.tolist() == [6, 4]  # pyright: ignore
