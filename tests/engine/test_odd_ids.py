"""Ids that are none: every argument of a batch refuses them by a typed error of one line."""

from __future__ import annotations

import warnings
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch

from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, MazeDlaError, PromptError, check_whole, quoted

HUGE = 10**5000  # Python refuses to write it
ODD: dict[str, Any] = {
    "2^63": 2**63,
    "below -2^63": -(2**63) - 1,
    "huge": HUGE,
    "minus huge": -HUGE,
    "list of huge": [HUGE],
    "tuple of huge": (1, [HUGE]),
    "uint64": np.array([2**63], dtype=np.uint64),
    "objects": np.array([HUGE], dtype=object),
    "fraction": 1.5,
    "nan": float("nan"),
    "true": True,
    "torch's true": torch.tensor(True),
    "bytes": b"1",
    "text": "1",
    "no axes": np.array("x"),
    "a mapping": {1: 2},
    "meta": torch.zeros(2, device="meta"),
    "sparse": torch.tensor([1, 0]).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor([torch.tensor([1]), torch.tensor([1, 2])]),
    "quantized": lambda: torch.quantize_per_tensor(torch.tensor([1.0, 2.0]), 1.0, 0, torch.qint8),
}
GOOD: dict[str, Any] = {"tokens": [[1, 2], [3]], "targets": [1, 2], "incorrect": [3, 4], "d_vocab": 5}


def value(name: str) -> Any:
    """One of them; some are made here, since torch warns of their kinds."""
    if not callable(ODD[name]):
        return ODD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ODD[name]()


def made(**given: Any) -> PromptBatch:
    arguments: dict[str, Any] = {**GOOD, **given}
    return PromptBatch.from_tokens(**arguments)


def refused(**given: Any) -> None:
    """By us, or here, in the tests, by the check of an annotation."""
    with pytest.raises((MazeDlaError, jaxtyping.TypeCheckError)) as found:
        made(**given)
    if isinstance(found.value, MazeDlaError):
        said = str(found.value)
        assert said.isprintable()
        assert len(said) <= 1000


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("argument", ["tokens", "targets", "incorrect"])
def test_odd_ids_are_refused(argument: str, name: str) -> None:
    assert len(made()) == 2
    odd = value(name)
    refused(**{argument: odd})
    refused(**{argument: [odd, GOOD[argument][1]]})
    refused(**{argument: [[odd], [3]]})


@pytest.mark.parametrize("argument", ["d_vocab", "d_vocab_in", "pad_id", "labels", "steps", "kinds", "vocabulary"])
def test_odd_sizes_and_labels_are_refused(argument: str) -> None:
    for odd in (HUGE, [HUGE], value("nested"), value("no axes")):
        refused(**{argument: odd})


def test_ids_outside_the_vocabulary() -> None:
    for wrong in (5, -1, 2**62):
        with pytest.raises(PromptError, match=f"prompt 0: token id {wrong} outside the vocabulary of 5 tokens"):
            made(incorrect=[wrong, 3])
        with pytest.raises(PromptError, match=f"prompt 0: token id {wrong} outside the vocabulary of 5 tokens"):
            made(targets=[wrong, 3])
    with pytest.raises(PromptError, match="position 0: token id -1 outside the vocabulary"):
        made(tokens=[[-1, 2], [3]])


def test_a_number_of_5_000_digits_has_a_name() -> None:
    with pytest.raises(PromptError, match="that 64 bits hold, got a number of 16610 bits"):
        made(tokens=[[HUGE], [3]])
    with pytest.raises(InputError, match=r"^seed is at most 9, got a number of 16610 bits$"):
        check_whole("seed", HUGE, 0, 9)
    assert quoted(HUGE) == "a number of 16610 bits"
    assert quoted([HUGE]) == "something of list"
    assert quoted("abc", 3) == "'ab"
