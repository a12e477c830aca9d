"""A result of some prompts is the result of these prompts asked alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.checking import check_result
from tests.engine.small_models import make_batch, random_metric, shared_model

CHOSEN = [5, 0, 2]
SIZES = [3, 8, 1, 9, 2, 7, 5]


def batch() -> PromptBatch:
    named = torch.zeros(7, 23, dtype=torch.bool)
    named[:, :4] = True
    kinds = torch.arange(7 * 40).reshape(7, 40) % 2
    more = {"kinds": ("even", "odd"), "sequence_kinds": kinds, "token_sets": {"some": named}}
    return make_batch(**more).with_column("size", SIZES).with_column("name", list("abcdefg"))


def attribution(chosen: list[int] | None = None, **options: Any) -> dla.AttributionResult:
    asked = {"neurons": True, "sources": True, **options}
    part = batch() if chosen is None else batch().select(chosen)
    metric = random_metric(batch()) if chosen is None else random_metric(batch()).select(chosen)
    return dla.attribute(shared_model(), part, metric, **asked)


def same(one: Any, two: Any) -> None:
    """Every field is alike, numbers up to the rounding of another batch."""
    assert type(one) is type(two)
    for f in fields(one):
        a, b = getattr(one, f.name), getattr(two, f.name)
        if isinstance(a, Tensor):
            assert a.shape == b.shape, f.name
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5, equal_nan=True)
        elif f.name == "info":
            assert {k: v for k, v in a.items() if k != "rounding"} == {k: v for k, v in b.items() if k != "rounding"}
        elif f.name == "columns":
            assert {k: list(v) for k, v in a.items()} == {k: list(v) for k, v in b.items()}
        elif f.name != "token_names":
            assert a == b, f.name


def test_a_selection_is_what_these_prompts_give_alone() -> None:
    part = attribution().select(CHOSEN)
    same(part, attribution(CHOSEN))
    check_result(part)
    assert part.sources is not None
    assert part.sources.shape[-1] == 17  # the longest of the chosen, not of all
    assert part.table.index.tolist() == [0, 1, 2]
    assert part.table["size"].tolist() == [7, 3, 1]
    assert part.table["name"].tolist() == ["f", "a", "c"]
    with pytest.raises(AssertionError):
        same(attribution().select(CHOSEN[::-1]), part)


@pytest.mark.parametrize("positions", ["read", "all"])
def test_a_selection_of_a_token_lens(positions: Any) -> None:
    def ask(part: PromptBatch) -> Any:
        return dla.token_lens(shared_model(), part, positions=positions)

    part = ask(batch()).select(CHOSEN)
    same(part, ask(batch().select(CHOSEN)))
    check_result(part)


def test_a_selection_of_a_lens_and_of_kinds() -> None:
    whole = dla.logit_lens(shared_model(), batch(), dla.logit(batch()))
    chosen = batch().select(CHOSEN)
    same(whole.select(CHOSEN), dla.logit_lens(shared_model(), chosen, dla.logit(chosen)))
    same(attribution(sources="kinds").select(CHOSEN), attribution(CHOSEN, sources="kinds"))


def test_masks_of_every_kind_choose_alike() -> None:
    result = attribution()
    expected = result.select([1, 3, 5]).metric
    mask = result.table["size"] > 5
    wrong = mask.copy()
    wrong[0] = True
    for given in (mask, mask.to_numpy(), torch.tensor(mask.tolist()), mask.tolist(), mask.astype("boolean")):
        assert torch.equal(result.select(given).metric, expected)
        assert batch().select(given).columns["name"] == ("b", "d", "f")
    assert torch.equal(result.select(result.table[mask].index).metric, expected)
    assert torch.equal(result.select(pd.Series([1, 3, 5], index=list("xyz"))).metric, expected)
    assert not torch.equal(result.select(wrong).metric, expected[: len(expected)])


def test_a_selection_of_a_selection() -> None:
    once = attribution().select([6, 4, 2, 0])
    same(once.select([1, 3]), attribution().select([4, 0]))
    assert torch.equal(once.select([-1]).metric, attribution().select([0]).metric)


def test_neurons_that_are_no_longer_known_are_left_out_and_said_to_be() -> None:
    part = attribution(neurons="mean").select(CHOSEN)
    assert part.neuron_mean is None
    assert part.neuron_variance is None
    with pytest.raises(InputError, match=r"nor selections and groups without neurons=True"):
        part.summary("neurons")
    held = attribution().select(CHOSEN)
    assert held.neurons is not None
    torch.testing.assert_close(held.summary("neurons").mean, held.neurons.double().mean(0))


def test_clusters_go_with_their_prompts() -> None:
    result = dla.attribute(shared_model(), mazes := of_mazes(), dla.logit(mazes))
    assert result.clusters.tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert result.select([6, 4, 5, 0]).clusters.tolist() == [0, 1, 0, 2]
    assert result.select([6, 4, 5, 0]).metric_summary().n_clusters == 3


def of_mazes() -> PromptBatch:
    return make_batch(unit="maze", columns={"maze": tuple("aabbcdd")})


REFUSED = {
    "another table's mask": lambda r: r.select(r.table[r.table["size"] > 2]["size"] > 5),
    "a table in another order": lambda r: r.select(r.table.sort_values("size")["size"] > 5),
    "a longer table": lambda r: r.select(pd.Series([True] * 9)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_masks_of_other_tables_are_refused(case: str) -> None:
    with pytest.raises(InputError, match=r"a mask of prompts has the index of the result's table, 0 to 6, got \d rows"):
        REFUSED[case](attribution())


def test_what_chooses_nothing_is_refused() -> None:
    result = attribution()
    for nothing in ([], result.table["size"] > 100, np.zeros(7, dtype=bool)):
        with pytest.raises(InputError, match=r"^none of 7 prompts is chosen, expected at least one$"):
            result.select(nothing)
    with pytest.raises(InputError, match=r"holds true and false, got 1 missing values"):
        result.select(pd.Series([True] * 6 + [None], dtype="boolean"))
    for wrong, message in (
        ([7], "prompt 7 outside the 7 prompts"),
        ([0.5], "prompts are chosen by a list"),
        (result.table, "prompts are chosen by a list"),
        ([True, False], r"a mask of prompts has shape \(7,\), got \(2,\)"),
    ):
        with pytest.raises(InputError, match=message):
            result.select(wrong)
