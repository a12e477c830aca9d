"""Groups of a result are selections of it; a stream by groups is the whole by groups."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.groups import GroupedResult
from maze_dla.results.statistics import Summary
from tests.engine.small_models import make_batch, random_metric, shared_model

SIZES = [3, 8, 1, 9, 1, 8, 5]
NAMES = ("metric", "layers", "heads", "attn_bias", "mlp_bias", "constant", "final_scale", "lens", "neurons")


def batch() -> PromptBatch:
    kinds = {"kinds": ("even", "odd"), "sequence_kinds": torch.arange(7 * 40).reshape(7, 40) % 2}
    columns = {"maze": tuple("abcabcc"), "size": torch.tensor(SIZES), "name": tuple("xyxyxyz")}
    return make_batch(unit="maze", columns=columns, **kinds)


def whole(**options: Any) -> dla.AttributionResult:
    asked = {"neurons": True, "sources": "kinds", **options}
    return dla.attribute(shared_model(), batch(), random_metric(batch()), **asked)


def numbers_of(summary: Summary) -> list[torch.Tensor]:
    return [summary.mean, summary.standard_error, summary.low, summary.high]


def row(summary: Summary, group: int) -> list[np.ndarray]:
    return [values[group].numpy() for values in numbers_of(summary)]


def test_a_group_is_a_selection() -> None:
    result = whole()
    grouped = result.group_by("size")
    assert grouped.labels == (1, 3, 5, 8, 9)
    assert grouped.n == (2, 1, 1, 2, 1)
    for name in (*NAMES, "sources_by_kind", "moved_by_kind"):
        found = grouped.summary(name)
        for i, label in enumerate(grouped.labels):
            alone = result.select(result.table["size"] == label).summary(name)
            for seen, expected in zip(row(found, i), numbers_of(alone), strict=True):
                assert np.allclose(seen, expected.numpy(), equal_nan=True), name
    assert not torch.allclose(found.mean[0], found.mean[3])


def test_one_group_is_the_whole() -> None:
    result = whole()
    for grouped in (result.group_by([0] * 7), result.group_by("size", bins=1), result.group_by("size", bins=[0, 10])):
        assert len(grouped) == 1
        for name in NAMES:
            found, expected = grouped.summary(name), result.summary(name)
            for seen, known in zip(row(found, 0), numbers_of(expected), strict=True):
                if name != "neurons":  # whose intervals over all prompts come from their variance
                    assert np.allclose(seen, known.numpy(), atol=1e-6), name
        assert grouped.top_heads(2)[0][0].name == result.top_heads(1)[0].name
        assert grouped.accuracy[0] is not None
        assert float(grouped.accuracy[0]) == float(result.accuracy)  # pyright: ignore[reportArgumentType]


def test_intervals_are_clustered_and_unknown_for_one_maze() -> None:
    grouped = whole().group_by("size", bins=[0, 2, 9])
    assert grouped.labels == ("[0, 2)", "[2, 9]")
    assert (grouped.n, grouped.n_clusters) == ((2, 5), (2, 3))
    alone = whole().group_by("maze")
    assert alone.n_clusters == (1, 1, 1)
    assert alone.metric_summary().low.isnan().all()
    assert alone.metric_summary().mean.isfinite().all()
    assert alone.table["metric_low"].isna().all()


def test_groups_of_text_stand_as_they_come_and_numbers_ascend() -> None:
    result = whole()
    assert result.group_by("name").labels == ("x", "y", "z")
    assert result.select([6, 1, 0]).group_by("name").labels == ("z", "y", "x")
    assert result.group_by([0.5, -1, 2, 2, 2, -1, 0.5]).labels == (-1, 0.5, 2)
    assert result.group_by([i > 2 for i in range(7)]).labels == (False, True)
    assert result.group_by(result.table["size"] * 2).column == "size"
    assert result.group_by(np.arange(7) % 2).column == "values"


def test_bins_of_as_many_prompts() -> None:
    result = whole()
    two = result.group_by("size", bins=2)
    assert two.labels == ("1 to 5", "8 to 9")  # ties stay together
    assert two.n == (4, 3)
    many = result.group_by("size", bins=50)
    assert many.labels == ("1", "3", "5", "8", "9")
    for n in range(1, 8):
        assert sum(result.group_by("size", bins=n).n) == 7
        assert len(result.group_by("size", bins=n)) <= n
    assert result.group_by("size", bins=[-math.inf, 5, 100, math.inf]).labels == ("[-inf, 5)", "[5, 100)")


def test_lenses_have_groups() -> None:
    result = dla.logit_lens(shared_model(), batch(), dla.logit(batch()), "own")
    grouped = result.group_by("name")
    assert grouped.summary("values").mean.shape == (3, len(result.labels))
    torch.testing.assert_close(grouped.summary("values").mean[1], result.values[[1, 3, 5]].double().mean(0))
    tokens = dla.token_lens(shared_model(), batch()).group_by("name")
    assert tokens.summary("entropy").mean.shape[0] == 3
    with pytest.raises(InputError, match=r"heads are of results of attribute, these groups hold LensResult"):
        grouped.top_heads()
    with pytest.raises(InputError, match=r"unknown number 'heads', this result has metric, values"):
        grouped.summary("heads")


def test_what_groups_say_of_themselves() -> None:
    grouped = whole().group_by("size", bins=[0, 2, 9])
    table = grouped.table
    assert list(table.columns) == [
        *("n", "n_clusters", "accuracy", "accuracy_low", "accuracy_high"),
        *("metric", "metric_low", "metric_high"),
    ]
    assert table.index.name == "size"
    assert table.loc["[2, 9]", "n"] == 5
    text = repr(grouped)
    assert text.startswith("GroupedResult of 2 groups by size\n")
    assert "[2, 9]" in text
    assert "size [2, 9]: The model answers none of these 5 prompts rightly" in text
    assert "<table" in grouped._repr_html_()
    assert whole().group_by("metric", bins=2).table.index.name == "metric"


PARTS = ([0, 1, 2], [3], [4, 5, 6])


def streamed(group_by: Any = "size", bins: Any = None, **options: Any) -> dla.StreamedResult:
    def ask(part: list[int]) -> dla.AttributionResult:
        chosen = random_metric(batch()).select(part)
        return dla.attribute(shared_model(), batch().select(part), chosen, **options)

    return dla.stream(ask, PARTS, group_by=group_by, bins=bins)


@pytest.mark.parametrize("bins", [None, [0, 4, 9]])
@pytest.mark.parametrize("column", ["size", "name"])
def test_a_stream_by_groups_is_the_whole_by_groups(column: str, bins: Any) -> None:
    bins = None if column == "name" else bins
    found, expected = streamed(column, bins, neurons=True).groups, whole(sources=False).group_by(column, bins)
    assert isinstance(found, GroupedResult)
    assert (found.column, found.labels, found.n) == (column, expected.labels, expected.n)
    for name in NAMES:
        torch.testing.assert_close(
            found.summary(name).mean.double(), expected.summary(name).mean.double(), atol=1e-5, rtol=1e-4
        )
    assert found.table["accuracy"].tolist() == expected.table["accuracy"].tolist()
    assert not torch.allclose(found.metric_summary().mean[0], found.metric_summary().mean[1])


def test_streams_without_groups_have_none(tmp_path: Any) -> None:
    assert streamed(None).groups is None
    grouped = streamed(neurons="mean").groups
    assert grouped is not None
    with pytest.raises(InputError, match=r"nor selections and groups without neurons=True"):
        grouped.summary("neurons")
    assert dla.load_result(streamed(None).save(tmp_path / "x.zanj")).groups is None  # pyright: ignore


def as_they_were(seen: Any, expected: GroupedResult) -> None:
    assert isinstance(seen, GroupedResult)
    assert (seen.column, seen.labels, seen.n) == (expected.column, expected.labels, expected.n)
    for name in ("metric", "heads", "lens"):
        for a, b in zip(numbers_of(seen.summary(name)), numbers_of(expected.summary(name)), strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)
    assert str(seen) == str(expected)


@pytest.mark.parametrize("by", ["size", "name", [True, False] * 3 + [True]])
def test_groups_come_back_from_files(by: Any, tmp_path: Path) -> None:
    grouped = whole().group_by(by)
    as_they_were(dla.load_result(grouped.save(tmp_path / "g.zanj")), grouped)
    lenses = whole().lens().group_by("size", bins=2)
    kept = dla.load_result(lenses.save(tmp_path / "l.zanj"))
    assert isinstance(kept, GroupedResult)
    assert kept.labels == lenses.labels


@pytest.mark.parametrize("bins", [None, [0, 4, float("inf")]])
def test_a_stream_keeps_its_groups_in_its_file(bins: Any, tmp_path: Path) -> None:
    found = streamed(bins=bins)
    kept = dla.load_result(found.save(tmp_path / "x.zanj"))
    assert isinstance(kept, dla.StreamedResult)
    assert found.groups is not None
    as_they_were(kept.groups, found.groups)
    as_they_were(dla.load_result(found.groups.save(tmp_path / "g.zanj")), found.groups)


DAMAGED = {
    "labels: 3, no two alike, expected one": lambda g: replace(g, labels=g.labels[:3]),
    "no two alike, expected one for each": lambda g: replace(g, labels=(*g.labels[:-1], g.labels[0])),
    "results: not all of one kind": lambda g: replace(g, results=(*g.results[:-1], g.results[-1].lens())),
    "layers and constant sum to the metric: not for prompt 0": lambda g: replace(
        g, results=(*g.results[:-1], shifted(g.results[-1]))
    ),
}


def shifted(result: dla.AttributionResult) -> dla.AttributionResult:
    return replace(result, metric=result.metric + 1)


@pytest.mark.parametrize("message", DAMAGED)
def test_damaged_groups_are_refused(message: str, tmp_path: Path) -> None:
    bad = DAMAGED[message](whole().group_by("size"))
    with pytest.raises(ResultFileError, match=message):
        dla.load_result(bad.save(tmp_path / "g.zanj"))


def test_groups_of_other_prompts_than_the_stream_s_are_refused(tmp_path: Path) -> None:
    found = streamed()
    assert found.groups is not None
    fewer = replace(found.groups, labels=found.groups.labels[1:], results=found.groups.results[1:])
    with pytest.raises(ResultFileError, match="groups: 5 prompts of 7"):
        dla.load_result(replace(found, groups=fewer).save(tmp_path / "x.zanj"))
    with pytest.raises(ResultFileError, match="groups: expected streams of AttributionResult"):
        dla.load_result(replace(found, groups=whole().group_by("size")).save(tmp_path / "x.zanj"))


@pytest.mark.parametrize("grouped", [lambda: whole().group_by("size"), lambda: streamed(neurons=True).groups])
def test_the_frame_has_every_mean_of_every_group(grouped: Any) -> None:
    found = grouped()
    table = found.to_frame()
    heads = table[(table["number"] == "heads") & (table["group"] == 8)]
    group = found.labels.index(8)
    assert heads["mean"].tolist() == pytest.approx(found.summary("heads").mean[group].flatten().tolist())
    assert set(heads["n"]) == {found.n[group]} == {2}
    assert heads["index"].iloc[-1] == tuple(n - 1 for n in found.summary("heads").mean.shape[1:])
    assert set(table["group"]) == set(found.labels)
    layers = table[(table["number"] == "layers") & (table["group"] == 8)]
    assert layers["label"].tolist() == list(found.results[0].layer_labels)


REFUSED = {
    "no column 'sise': this result has maze, size, name": lambda: whole().group_by("sise"),
    "values to group by are a list with an entry for each prompt, got 3": lambda: whole().group_by(3),
    "has 6 values, expected one for each of 7 prompts": lambda: whole().group_by([1] * 6),
    "values has no value for prompt 1: select the prompts": lambda: whole().group_by([1.0, math.nan] + [2.0] * 5),
    "bins are of numbers, got the text 'x'": lambda: whole().group_by("name", bins=2),
    "bins are of numbers, got the text 'x' ": lambda: whole().group_by("name", bins=[0, 1]),
    "bins is None, a number of bins, or their edges in ascending order, got 0": lambda: whole().group_by("size", 0),
    "or their edges in ascending order, got [3, 1]": lambda: whole().group_by("size", [3, 1]),
    "or their edges in ascending order, got [3]": lambda: whole().group_by("size", [3]),
    "or their edges in ascending order, got 'x'": lambda: whole().group_by("size", "x"),
    "or their edges in ascending order, got 2.5": lambda: whole().group_by("size", 2.5),
    "the value 8 is outside the edges 0 to 5: an edge may be float('inf')": lambda: whole().group_by("size", [0, 5]),
    "a Series to group by has the index of the result's table": lambda: whole().group_by(
        whole().table["size"].sort_values()
    ),
    "group_by is the name of a column, got None": lambda: streamed(None, [1, 2]),
    "bins of a stream are edges, such as": lambda: streamed("size", 4),
    "no column 'sise'": lambda: streamed("sise"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_groups_that_cannot_be_made(message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message.strip())):
        REFUSED[message]()
