"""Results side by side: every measure by hand, its interval, and what is not told."""

from __future__ import annotations

import html
import itertools
import math
import re
from dataclasses import replace
from inspect import unwrap
from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.comparison import Comparison, compare
from maze_dla.results.measures import ACCURACY, CHANCE, DEPTH, EFFECTIVE, METRIC, MOVED, SHARES

LABELS = ("embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out")
TOP = ("strongest head: share of squared means", *(f"strongest {k} heads: share of squared means" for k in (3, 10)))
KINDS = ("name", "place", "rest")


def attribution(layers: Any, constant: Any, heads: Any, labels: Any = LABELS, **more: Any) -> AttributionResult:
    """A result whose layers and constant sum to its metric."""
    layers, constant, heads = (torch.as_tensor(t, dtype=torch.float64) for t in (layers, constant, heads))
    n, n_layers = heads.shape[:2]
    described = {
        "correct": torch.ones(n).bool(),
        "prompt_tokens": tuple((f"a{i}",) for i in range(n)),
        "targets": ("b",) * n,
    }
    described |= {"metric": layers.sum(1) + constant, "info": {"model": "tiny", "task": "origin", "unit": "text"}}
    biases = dict.fromkeys(("attn_bias", "mlp_bias"), torch.zeros(n, n_layers))
    rest = {**biases, "constant": constant, "gap": torch.zeros(n), "final_scale": torch.ones(n)}
    return AttributionResult(**described, layers=layers, layer_labels=labels, heads=heads, **rest, **more)


def noisy(n: int = 40, seed: int = 0) -> AttributionResult:
    """A positive metric, whose parts vary over prompts."""
    noise = torch.randn(n, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    layers = noise[:, :6] + torch.tensor([0.5, 0.2, 1.0, 0.5, 3.0, 1.0])
    by_kind = 0.3 * noise[:, 7:].unflatten(1, (2, 2, 3)) + torch.tensor([1.0, -0.5, 2.0])
    return attribution(layers, 1 + noise[:, 6], by_kind.sum(-1), kinds=KINDS, sources_by_kind=by_kind)


def heads_of(means: torch.Tensor, n: int = 100, spread: float = 0.3, seed: int = 0) -> AttributionResult:
    """Heads of these means, noisily; the even ones move from "name", the odd ones from "place"."""
    noise = torch.randn(n, len(means), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    heads = means.double() + spread * noise
    by_kind = torch.zeros(n, 1, len(means), 3, dtype=torch.float64)
    by_kind[:, 0, 0::2, 0], by_kind[:, 0, 1::2, 1] = heads[:, 0::2], heads[:, 1::2]
    layers = torch.stack([torch.zeros(n), heads.sum(1)], 1)
    named = {"kinds": KINDS, "sources_by_kind": by_kind}
    return attribution(layers, torch.ones(n), heads[:, None], ("embed", "0_attn_out"), **named)


def named(result: AttributionResult, names: Any, **info: Any) -> AttributionResult:
    return replace(result, columns={"text": tuple(map(str, names))}, info={**result.info, **info})


def values(result: AttributionResult) -> dict[str, float]:
    compared = compare(result)
    return dict(zip(compared.measures, compared.values[:, 0].tolist(), strict=True))


def numbers_of(compared: Comparison) -> np.ndarray:
    return torch.stack([compared.values, compared.low, compared.high], -1).numpy()


def test_shares_of_the_metric_by_hand() -> None:
    result = noisy()
    metric, layers, seen = result.metric.mean(), result.layers.mean(0), values(result)
    parts = (layers[[2, 4]].sum(), layers[[3, 5]].sum(), layers[:2].sum(), result.constant.mean())
    for name, part in zip(SHARES, parts, strict=True):
        assert seen[name] == pytest.approx(float(part / metric))
    assert sum(seen[name] for name in SHARES) == pytest.approx(1, rel=1e-12)
    depths = torch.tensor([0, 0.25, 0.5, 0.75, 1]).double()  # of the embeddings (constant too), and of four layers
    written = torch.cat([(layers[:2].sum() + result.constant.mean())[None], layers[2:]])
    assert seen[DEPTH] == pytest.approx(float((depths * written).sum() / metric))
    assert seen[METRIC] == pytest.approx(float(metric))
    assert seen[ACCURACY] == 1


def test_squares_without_noise_are_those_of_the_means() -> None:
    means = torch.tensor([3.0, -2.0, 1.0, 0.5])
    seen, squares = values(heads_of(means, spread=0)), means.square()
    assert [seen[name] for name in TOP] == pytest.approx([9 / 14.25, 14 / 14.25, 1])
    assert seen[EFFECTIVE] == pytest.approx(float(squares.sum() ** 2 / squares.square().sum()))
    assert [seen[MOVED + kind] for kind in KINDS] == pytest.approx([10 / 14.25, 4.25 / 14.25, 0])


@pytest.mark.parametrize("n_idle", [0, 140])
def test_powers_are_unbiased_however_many_heads_are_idle(n_idle: int) -> None:
    means = torch.cat([torch.tensor([2.0, 1.0, -0.8]), torch.zeros(n_idle)])
    found = [values(heads_of(means, spread=0.6, seed=seed)) for seed in range(25)]
    squares = means.square()
    truth = {TOP[0]: 4 / 5.64, TOP[1]: 1.0, EFFECTIVE: 5.64**2 / float(squares.square().sum())}
    for name, expected in truth.items():
        assert np.mean([seen[name] for seen in found]) == pytest.approx(expected, rel=0.03)


def test_the_squared_sum_is_that_over_four_different_buckets() -> None:
    from maze_dla.results.measures import squares_of_parts, totals_of

    result = heads_of(torch.tensor([1.0, 0.5]), 12)
    totals = totals_of(result)
    assert totals is not None
    heads, counts = totals.sums["heads"].flatten(1), totals.counts
    four = list(itertools.permutations(range(len(counts)), 4))
    ratio = squares_of_parts(totals)[EFFECTIVE]
    n = sum(float(counts[list(f)].prod()) for f in four)
    top = sum(float((heads[a] * heads[b]).sum() * (heads[c] * heads[d]).sum()) for a, b, c, d in four) / n
    bottom = sum(float(heads[list(f)].prod(0).sum()) for f in four) / n
    assert float(ratio.top[0]) == pytest.approx(top)
    assert float(ratio.bottom[0]) == pytest.approx(bottom)
    without = [f for f in four if 0 not in f]
    n = sum(float(counts[list(f)].prod()) for f in without)
    top = sum(float((heads[a] * heads[b]).sum() * (heads[c] * heads[d]).sum()) for a, b, c, d in without) / n
    assert float(ratio.top[1]) == pytest.approx(top)


def test_a_metric_that_may_be_zero_has_no_shares() -> None:
    result = noisy()
    for shift in (result.metric.mean() - 0.05, 2 * result.metric.mean()):
        compared = compare(replace(result, metric=result.metric - shift))
        cells = dict(compared.table()[1:])
        assert not {*SHARES, DEPTH} & {name for name, cell in cells.items() if cell != "-"}
        assert cells[METRIC] != "-"
    assert "[" in dict(compare(result).table()[1:])[SHARES[0]]


def test_squares_that_may_be_noise_are_not_told() -> None:
    idle = compare(heads_of(torch.zeros(20), spread=1))
    assert {cell for name, cell in idle.table()[1:] if name in (*TOP, EFFECTIVE) or name.startswith(MOVED)} == {"-"}
    few = compare(heads_of(torch.tensor([2.0, 1.0]), 6))
    assert not {*TOP, EFFECTIVE} & set(few.measures)


def test_a_model_without_mlps_or_heads() -> None:
    result = noisy()
    layers, labels = result.layers[:, [0, 1, 2, 4]], (*LABELS[:3], LABELS[4])
    seen = values(attribution(layers, result.constant, result.heads, labels))
    assert seen[SHARES[1]] == 0
    bare = attribution(result.layers, result.constant, torch.zeros(40, 2, 0))
    assert not {*TOP, EFFECTIVE} & set(compare(bare).measures)


def test_measures_do_not_depend_on_the_size_of_the_metric() -> None:
    result = noisy()
    logits = ("metric", "layers", "heads", "attn_bias", "mlp_bias", "constant", "sources_by_kind")
    large, small = compare(replace(result, **{n: 1000 * getattr(result, n) for n in logits})), compare(result)
    rows = [i for i, name in enumerate(small.measures) if name != METRIC]
    assert np.allclose(numbers_of(large)[rows], numbers_of(small)[rows], rtol=1e-6, equal_nan=True)


def test_order_changes_nothing_and_repeated_prompts_leave_the_interval() -> None:
    one = noisy()
    repeated = {f: torch.cat([getattr(one, f)] * 3) for f in vars(one) if isinstance(getattr(one, f), torch.Tensor)}
    repeated = {name: v for name, v in repeated.items() if name not in ("clusters", "buckets")}
    many = replace(one, **repeated, prompt_tokens=one.prompt_tokens * 3, targets=one.targets * 3)
    first, second = compare(named(one, range(40))), compare(named(many, [*range(40)] * 3))
    rows = [i for i, name in enumerate(first.measures) if name != ACCURACY]
    assert np.allclose(numbers_of(first)[rows], numbers_of(second)[rows], rtol=1e-9, equal_nan=True)


def test_one_prompt_has_no_interval() -> None:
    compared = compare(noisy(1))
    assert [name for name, cell in compared.table()[1:] if cell != "-"] == [ACCURACY, METRIC]


def test_results_on_the_same_mazes_are_compared_in_pairs() -> None:
    one, other = noisy(), noisy(seed=1)
    shifted = attribution(one.layers, one.constant + 0.5, one.heads)
    compared = compare(named(one, range(40)), named(shifted, range(40)), named(other, range(40, 80)))
    (found,) = compared.differences
    assert (found.first, found.second) == compared.names[:2]
    metric = found.measures.index(METRIC)
    for seen in (found.values, found.low, found.high):  # every prompt has 0.5 more: no doubt
        assert float(seen[metric]) == pytest.approx(0.5)
    constant = found.measures.index(SHARES[3])
    assert found.low[constant] > 0
    alone = compared.values[compared.measures.index(SHARES[3])]
    assert float(found.values[constant]) == pytest.approx(float(alone[1] - alone[0]))
    assert f"{found.second} minus {found.first}" in repr(compared)
    assert "minus" in compared._repr_html_()
    assert compare(named(one, range(40)), named(other, range(1, 41))).differences == ()
    assert "paired" not in repr(compare(one))


def test_shares_of_a_metric_that_is_hardly_above_zero_are_not_subtracted() -> None:
    """One run in two would tell them, and just those in which they lie far off."""
    one, metric = noisy(), noisy().metric
    weak = attribution(one.layers, one.constant - (metric.mean() - 3 * metric.std() / 40**0.5), one.heads)
    compared = compare(named(one, range(40)), named(weak, range(40)))
    assert "[" in {row[0]: row[2] for row in compared.table()}[SHARES[0]]
    (found,) = compared.differences
    assert METRIC in found.measures
    assert not {*SHARES, DEPTH} & set(found.measures)


@pytest.mark.parametrize("right", [True, False])
def test_two_accuracies_without_an_error_are_not_known_to_be_alike(right: bool) -> None:
    """60 of 60 right, twice: the difference is as uncertain as either."""
    one = noisy()
    object.__setattr__(one, "correct", torch.full((40,), right))
    compared = compare(named(one, range(40)), named(one, range(40)))
    (found,) = compared.differences
    low, high = one.accuracy.interval
    at = found.measures.index(ACCURACY)
    assert float(found.low[at]) == pytest.approx(low - high)
    assert float(found.high[at]) == pytest.approx(high - low)
    mixed = noisy()
    object.__setattr__(mixed, "correct", torch.arange(40) % 2 == 0)
    (found,) = compare(named(one, range(40)), named(mixed, range(40))).differences
    assert 0 < float(found.high[at] - found.low[at]) < 0.5


def test_a_model_without_skill_does_not_stand_beside_a_solver_without_a_word() -> None:
    solver, other = (named(noisy(seed=i), range(40), model=f"m{i}") for i in range(2))
    object.__setattr__(other, "correct", torch.zeros(40).bool())
    compared = compare(solver, other)
    assert compared.notes == (f"{compared.names[1]}: {other.warning}",)
    assert compared.notes[0] in repr(compared)


def test_other_questions_are_said() -> None:
    one = named(noisy(), range(40), metric="a", task="x")
    other = named(noisy(seed=1), range(40), metric="b", task="x")
    assert compare(one, other).notes == ("Other metrics (a; b): their measures answer other questions.",)
    both = compare(one, named(noisy(seed=1), range(40), metric="b", task="y"))
    assert [note.split(" (")[0] for note in both.notes] == ["Other metrics", "Other tasks"]
    assert all(note in repr(both) for note in both.notes)
    assert compare(one, one).notes == ()


def test_chance_stands_beside_accuracy() -> None:
    result = noisy()
    object.__setattr__(result, "columns", {**result.columns, "chance": torch.tensor([0.5, 0.25] * 20)})
    assert dict(compare(result).table()[1:])[CHANCE] == "37.5%"
    assert compare(result).measures[:3] == (ACCURACY, CHANCE, METRIC)


INFO = {"model": "a", "task": "t"}
FILES = [{**INFO, "checkpoint": f"runs/{name}.zanj"} for name in ("m.iter_10", "m.iter_200", "m.final")]


@pytest.mark.parametrize(
    ("infos", "names"),
    [
        ([INFO, {**INFO, "model": "b"}], ("a", "b")),
        ([INFO, {**INFO, "task": "u"}], ("a, t", "a, u")),
        ([INFO, INFO], ("1: a", "2: a")),
        (FILES, ("a, step 10", "a, step 200", "a, m.final.zanj")),
        ([{**INFO, "prepend_bos": True}, {**INFO, "prepend_bos": False}], ("a, with BOS", "a, without BOS")),
    ],
)
def test_names_are_distinct(infos: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    assert compare(*(replace(noisy(), info=info) for info in infos)).names == names


@pytest.fixture(scope="module")
def two() -> Comparison:
    """Two results with different kinds of tokens, one of them in both."""
    first, second = heads_of(torch.tensor([3.0, 2.0])), heads_of(torch.tensor([3.0, 1.0]), seed=1)
    return compare(first, replace(second, kinds=("rest", "wall", "end"), info={"model": "<b>&", "task": "origin"}))


def test_results_with_different_kinds_have_rows_for_all(two: Comparison) -> None:
    missing = {name: tuple(c == "-" for c in cells) for name, *cells in two.table() if name.startswith(MOVED)}
    first = dict.fromkeys((f"{MOVED}name", f"{MOVED}place"), (False, True))
    second = dict.fromkeys((f"{MOVED}wall", f"{MOVED}end"), (True, False))
    assert missing == {**first, f"{MOVED}rest": (False, False), **second}


def test_the_frame_has_every_number_in_its_place(two: Comparison) -> None:
    frame = two.to_frame()
    assert list(frame.columns) == ["measure", "model", "value", "low", "high"]
    assert list(zip(frame["measure"], frame["model"], strict=True)) == [*itertools.product(two.measures, two.names)]
    assert np.array_equal(frame.to_numpy()[:, 2:].astype(float), numbers_of(two).reshape(-1, 3), equal_nan=True)


def test_the_table_rounds_the_numbers(two: Comparison) -> None:
    for i, k in itertools.product(range(len(two.measures)), range(2)):
        cell = two.table()[1 + i][1 + k]
        unit, allowed = {METRIC: (1, 5.1e-4), EFFECTIVE: (1, 0.0501)}.get(two.measures[i], (100, 0.0501))
        assert ("%" in cell) == (unit == 100 and cell != "-")
        shown = [float(n) for n in re.findall(r"-?\d+\.?\d*", cell)] or [math.nan] * 3
        assert shown == pytest.approx(unit * numbers_of(two)[i, k], rel=0, abs=allowed, nan_ok=True)


def test_text_and_html_say_what_the_table_says(two: Comparison) -> None:
    cells, page = [cell for row in two.table() for cell in row], two._repr_html_()
    assert re.split(r"\n| {2,}", repr(two)) == cells
    assert [html.unescape(cell) for cell in re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", page)] == cells
    assert "<b>" not in page


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match=r"^compare needs at least one result of attribute, got none$"):
        compare()
    with pytest.raises(InputError, match=r"^compare takes results of attribute or streams of them, got LensResult$"):
        unwrap(compare)(noisy(), noisy().lens())  # in tests the annotation refuses first
