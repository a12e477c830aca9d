"""Columns of prompts: taken in any form, refused where they do not fit, and kept by results and files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from engine.small_models import make_batch, make_model

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.columns import checked_columns, groups_of, name_of
from maze_dla.results.statistics import summarize


@pytest.mark.parametrize(
    "given",
    [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3], np.uint8), torch.tensor([1, 2, 3]), pd.Series([1, 2, 3])],
    ids=lambda x: type(x).__name__,
)
def test_numbers_in_any_form(given: Any) -> None:
    assert torch.equal(torch.as_tensor(checked_columns({"n": given}, 3)["n"]), torch.tensor([1, 2, 3]))


@pytest.mark.parametrize(
    "given", [["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"])], ids=lambda x: type(x).__name__
)
def test_texts_in_any_form(given: Any) -> None:
    assert checked_columns({"t": given}, 2)["t"] == ("a", "b")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([1], "columns are a mapping from names to lists, got list"),
        ({"metric": [1, 2]}, "a column's name is a text other than prompt, answer, predicted, correct, preferred, met"),
        ({"": [1, 2]}, "a column's name is a text other than"),
        ({3: [1, 2]}, "got 3"),
        ({"n": [1, 2, 3]}, "the column 'n' has 3 values, expected one for each of 2 prompts"),
        ({"n": "ab"}, "got 'ab'"),
        ({"n": [1, "a"]}, "the column 'n' holds numbers, or texts, one for each prompt, got [1, 'a']"),
        ({"n": [[1], [2]]}, "got int64 of shape (2, 1)"),
        ({"n": [1j, 2]}, "got complex64 of shape (2,)"),
        ({"n": [None, "a"]}, "holds numbers, or texts"),
    ],
)
def test_what_is_no_column(given: Any, problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        checked_columns(given, 2)


def test_groups_are_numbered_as_they_come() -> None:
    assert groups_of(("b", "a", "b")).tolist() == [0, 1, 0]
    assert groups_of(torch.tensor([5.0, 5.0, 2.0])).tolist() == [0, 0, 1]


def test_names_of_texts_tell_them_apart() -> None:
    assert name_of(("ab", "c")) != name_of(("a", "bc"))
    assert name_of(("a", "\ud800")) == name_of(["a", "\ud800"])


def test_prompts_of_one_sequence_are_one_thing_where_nothing_else_is_said() -> None:
    batch = PromptBatch(
        sequences=torch.tensor([[1, 2, 3], [4, 5, 6]]),
        sequence_lengths=torch.tensor([3, 3]),
        sequence_of=torch.tensor([0, 1, 0]),
        read_positions=torch.tensor([0, 1, 2]),
        targets=torch.tensor([1, 2, 3]),
        d_vocab=7,
        sequence_labels=(("1", "2", "3"), ("4", "5", "6")),
    )
    first, second, third = batch.columns["text"]
    assert first == third != second
    assert batch.select([2, 1]).columns["text"] == (third, second)


def test_columns_go_from_batches_to_results_and_files(tmp_path: Path) -> None:
    batch = make_batch().with_column("half", [i % 2 for i in range(len(make_batch()))])
    model, metric = make_model(), dla.logit(batch)
    results = [
        dla.attribute(model, batch, metric),
        dla.attribute(model, batch, metric).lens(),
        dla.logit_lens(model, batch, metric, scale="own"),
        dla.token_lens(model, batch),
        dla.token_lens(model, batch, positions="all"),
    ]
    for i, result in enumerate(results):
        read = dla.load_result(result.save(tmp_path / f"{i}.zanj"))
        for one in (result, read):
            assert not isinstance(one, dla.StreamedResult)
            table = one.table
            assert list(table) == ["text", "half", "answer", "predicted", "correct", "metric"]
            assert table["half"].tolist() == [i % 2 for i in range(len(batch))]
            assert table["correct"].tolist() == [
                a == p for a, p in zip(table["answer"], table["predicted"], strict=True)
            ]
            assert table["metric"].tolist() == result.metric.tolist()


def test_predicted_is_what_the_model_itself_says() -> None:
    batch, model = make_batch(), make_model()
    said = [str(int(model(row[:n][None])[0, -1].argmax())) for row, n in zip(batch.tokens, batch.lengths, strict=True)]
    assert len(set(said)) > 1
    for result in (dla.attribute(model, batch, dla.logit(batch)), dla.token_lens(model, batch)):
        assert result.predicted == tuple(said)


def test_a_column_of_another_length_in_a_file_is_refused(tmp_path: Path) -> None:
    batch = make_batch()
    result = dla.attribute(make_model(), batch, dla.logit(batch))
    object.__setattr__(result, "columns", {"text": ("a",)})
    with pytest.raises(ResultFileError, match="the column 'text' has 1 values, expected one for each of"):
        dla.load_result(result.save(tmp_path / "x.zanj"))


def test_a_column_is_not_replaced() -> None:
    batch = make_batch()
    with pytest.raises(InputError, match="there is a column 'text' already: text"):
        batch.with_column("text", range(len(batch)))


def test_a_column_of_one_s_own_is_given_anew() -> None:
    batch = make_batch()
    n = len(batch)
    first = batch.with_column("size", range(n))
    again = first.select(range(n - 1)).with_column("size", ["a"] * (n - 1))
    assert again.columns["size"] == ("a",) * (n - 1)
    assert first.columns["size"].tolist() == list(range(n))  # pyright: ignore
    with pytest.raises(InputError, match="there is a column 'text' already: text, size"):
        again.with_column("text", range(n - 1))


def test_means_are_clustered_by_what_prompts_are_about() -> None:
    """As in numpy, from the sums of each cluster; and twice the same prompts say no more than once."""
    generator = torch.Generator().manual_seed(0)
    values, clusters = torch.randn(9, 2, generator=generator), torch.tensor([0, 1, 0, 2, 2, 2, 3, 1, 0])
    summary, y = summarize(values, clusters), values.double().numpy()
    sums = np.stack([(y - y.mean(0))[clusters.numpy() == g].sum(0) for g in range(4)])
    assert np.allclose(summary.standard_error.numpy(), np.sqrt(4 / 3 * (sums**2).sum(0)) / 9, rtol=1e-12)
    assert (summary.n, summary.n_clusters) == (9, 4)
    once, twice = summarize(values), summarize(values.repeat(2, 1), torch.arange(9).repeat(2))
    torch.testing.assert_close(twice.low, once.low)
    assert (summarize(values.repeat(2, 1)).low > once.low).all()  # narrower where the copies count as new
    assert summarize(values, torch.zeros(9, dtype=torch.long)).low.isnan().all()
