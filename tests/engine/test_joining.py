"""Two batches joined say what each says alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError

from .small_models import D_VOCAB, make_batch, shared_model

SHORT, LONG = (5, 9, 3), (31, 12)


def mask(*ids: int) -> torch.Tensor:
    return torch.zeros(D_VOCAB, dtype=torch.bool).index_fill_(0, torch.tensor(ids), True)


def asked(batch: PromptBatch, others: str = "all") -> dla.AttributionResult:
    return dla.attribute(shared_model(), batch, dla.correct_vs_other(batch, others=others))


def test_an_attribution_of_the_sum_is_that_of_both() -> None:
    one, two = make_batch(SHORT), make_batch(LONG, seed=5)
    whole, parts = asked(one + two), [asked(one), asked(two)]
    for name in ("metric", "layers", "heads", "constant", "correct"):
        expected = torch.cat([getattr(part, name) for part in parts])
        assert torch.allclose(getattr(whole, name).double(), expected.double(), atol=2e-5, rtol=1e-5), name
    assert whole.prompt_tokens == (*parts[0].prompt_tokens, *parts[1].prompt_tokens)
    assert not torch.allclose(asked(two + one).metric, whole.metric)
    assert torch.equal((one + two).select([3, 4]).fingerprints, two.fingerprints)


def test_answers_foils_and_token_sets_of_other_widths() -> None:
    more: dict[str, Any] = {"info": {"seed": 0}}
    own = {"own": torch.tensor([[1, -1], [2, 3], [4, 5]]), "one": mask(1, 2), "alike": mask(5)}
    one = PromptBatch.from_tokens(
        [[1, 2], [3], [4, 5]],
        [[6, 7, 8], 9, 10],
        d_vocab=D_VOCAB,
        incorrect=[1, 2, 3],
        token_sets={**own, "dense": mask(*range(20))},
        **more,
    )
    theirs = {"own": torch.tensor([[7, 8, 9]]), "one": mask(3), "alike": mask(5)}
    two = PromptBatch.from_tokens(
        [[2, 3, 4]],
        [11],
        d_vocab=D_VOCAB,
        incorrect=[[4, 5]],
        token_sets={**theirs, "dense": mask(*range(1, 22))},
        info={"seed": 1},
    )
    both = one + two
    assert both.answers.tolist() == [[6, 7, 8], [9, -1, -1], [10, -1, -1], [11, -1, -1]]
    assert both.foils is not None
    assert both.foils.tolist() == [[1, -1], [2, -1], [3, -1], [4, 5]]
    for name in ("own", "one", "alike", "dense"):
        expected = torch.cat([one.others(name), two.others(name)])
        assert torch.equal(both.others(name), expected), name
    assert both.token_sets["alike"].ndim == 1
    assert both.token_sets["one"].dtype == torch.int64  # ids of few tokens, a mask of many
    assert both.token_sets["dense"].dtype == torch.bool
    assert both.info == {"seed": "0 + 1"}
    assert (both + two).info == {"seed": "0 + 1"}
    for name in ("own", "one", "dense"):
        parts = torch.cat([asked(part, name).metric for part in (one, two)])
        assert torch.allclose(asked(both, name).metric, parts, atol=2e-5, rtol=1e-5), name


def test_columns_of_both() -> None:
    one = make_batch(SHORT).with_column("size", [1, 2, 3]).with_column("name", ["a", "b", "c"])
    two = make_batch(LONG).with_column("size", [4.5, 5.5]).with_column("name", ["d", "e"])
    table = asked(one + two).table
    assert table["size"].tolist() == [1, 2, 3, 4.5, 5.5]
    assert table["name"].tolist() == list("abcde")
    with pytest.raises(InputError, match=r"the column 'size' is missing in the second of the batches: give it to both"):
        one + make_batch(LONG)
    with pytest.raises(InputError, match=r"the column 'size' is missing in the first of the batches"):
        make_batch(LONG) + two
    words = make_batch(LONG).with_column("size", ["x", "y"]).with_column("name", ["d", "e"])
    with pytest.raises(InputError, match=r"the column 'size' holds texts in one of the batches and numbers"):
        one + words


KINDS = {"kinds": ("a", "b"), "sequence_kinds": torch.ones(3, 9, dtype=torch.long)}
REFUSED: dict[str, tuple[PromptBatch, str]] = {
    "kinds": (make_batch(SHORT, **KINDS), "alike in kinds, got () and ('a', 'b')"),
    "steps": (make_batch(SHORT, steps=torch.arange(3)), "both have steps or neither, the first has none"),
    "incorrect": (make_batch(SHORT, d_vocab_in=23), "alike in d_vocab_in, got None and 23"),
    "sets": (make_batch(SHORT, token_sets={"x": mask(1)}), "the token set 'x' is missing in the first"),
    "bos": (make_batch(SHORT, info={"prepend_bos": True}), "alike in prepend_bos, got None and True"),
    "vocabulary": (make_batch(SHORT, vocabulary=list(map(str, range(23)))), "have one vocabulary, got two that differ"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_batches_that_do_not_fit(case: str) -> None:
    other, message = REFUSED[case]
    with pytest.raises(InputError, match=re.escape(message)):
        make_batch(LONG) + other
    assert len(other + other) == 6


def test_only_batches_of_one_class_are_joined() -> None:
    with pytest.raises(TypeError):
        make_batch(SHORT) + 3  # pyright: ignore[reportOperatorIssue]
    maze = dla.load_maze_model().prompts(n_mazes=2)
    with pytest.raises(InputError, match=r"batches of one class are joined, got PromptBatch and MazePromptBatch"):
        make_batch(SHORT) + maze
