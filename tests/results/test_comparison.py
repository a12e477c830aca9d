"""Results side by side: every measure by hand, and its interval against scipy."""

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
from scipy import stats

from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.comparison import Comparison, compare

LABELS = ("embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out")
SHARES = ("written by attention", "written by MLPs", "written by embeddings", "in the constant")
MOST, MOST_SHARE = "heads that carry 90% of the positive part", "the same as a share of all heads"
TAKEN, HALF = "taken away by negative heads", "depth at which the lens reaches half"
MOVED, KINDS = "moved by heads from: ", ("name", "place", "rest")


def attribution(layers: Any, constant: Any, heads: Any, labels: Any = LABELS, **more: Any) -> AttributionResult:
    """A result whose layers and constant sum to its metric."""
    layers, constant, heads = (torch.as_tensor(t, dtype=torch.float64) for t in (layers, constant, heads))
    n, n_layers = heads.shape[:2]
    described = {"correct": torch.ones(n).bool(), "prompt_tokens": (("a",),) * n, "targets": ("b",) * n}
    described |= {"metric": layers.sum(1) + constant, "info": {"model": "tiny", "task": "origin"}}
    biases = dict.fromkeys(("attn_bias", "mlp_bias"), torch.zeros(n, n_layers))
    rest = {**biases, "constant": constant, "gap": torch.zeros(n), "final_scale": torch.ones(n)}
    return AttributionResult(**described, layers=layers, layer_labels=labels, heads=heads, **rest, **more)


def by_hand() -> AttributionResult:
    """Two prompts. Means: metric 20; layers .5, .5, 1, 2, 13, 1.5; constant 1.5; heads 2, -3, 9, 2."""
    first = [[[0.0, 1, 0], [-3, 0, 1]], [[0, 3, 0], [-3, 3, -1]]]
    second = [[[2.0, 1, 0], [-5, 0, 1]], [[12, 3, 0], [3, 3, -1]]]
    layers, heads = [[1, 0, 2, 1, 4, 1], [0, 1, 0, 3, 22, 2]], [[[1, -2], [3, -1]], [[3, -4], [15, 5]]]
    return attribution(layers, [1, 2], heads, kinds=KINDS, sources_by_kind=torch.tensor([first, second]))


def noisy(n: int = 40, seed: int = 0) -> AttributionResult:
    """A positive metric, whose parts vary over prompts."""
    noise = torch.randn(n, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    layers = noise[:, :6] + torch.tensor([0.5, 0.2, 1.0, 0.5, 3.0, 1.0])
    by_kind = 0.3 * noise[:, 7:].unflatten(1, (2, 2, 3)) + torch.tensor([1.0, -0.5, 2.0])
    return attribution(layers, 1 + noise[:, 6], by_kind.sum(-1), kinds=KINDS, sources_by_kind=by_kind)


def with_heads(*means: float) -> AttributionResult:
    return attribution(by_hand().layers, [1, 2], torch.tensor([[means]] * 2, dtype=torch.float64))


def values(result: AttributionResult) -> dict[str, float]:
    compared = compare(result)
    return dict(zip(compared.measures, compared.values[:, 0].tolist(), strict=True))


def numbers_of(compared: Comparison) -> np.ndarray:
    return torch.stack([compared.values, compared.low, compared.high], -1).numpy()


def interval(result: AttributionResult, seed: int = 0) -> list[float]:
    return numbers_of(compare(result, seed=seed))[0, 0, 1:].tolist()  # of the share of attention


def test_every_measure_by_hand() -> None:
    """A head's sign on one prompt comes from the prompts of the other half, here from the other prompt."""
    expected = {
        "written by attention": (1 + 13) / 20,
        "written by MLPs": (2 + 1.5) / 20,
        "written by embeddings": (0.5 + 0.5) / 20,
        "in the constant": 1.5 / 20,
        MOST: 2,  # 9 + 2 is more than 0.9 * (9 + 2 - 0.5): the last head's signs are the wrong ones
        MOST_SHARE: 2 / 4,
        TAKEN: (3 - 2.5) / (2 + 9 - 0.5),
        HALF: 3 / 4,  # the lens reads 2.5, 3.5, 5.5, 18.5, 20
        f"{MOVED}name": (0 + 4 + 0 - 3) / 10,
        f"{MOVED}place": (1 + 0 + 3 + 3) / 10,
        f"{MOVED}rest": (0 + 1 + 0 + 1) / 10,
    }
    seen = values(by_hand())
    assert list(seen) == list(expected)
    assert seen == pytest.approx(expected, rel=1e-12)


def with_idle_heads(n: int, spread: float, seed: int, signal: tuple[float, ...] = (3.0,)) -> AttributionResult:
    """Some heads that move something from "name", and 140 that do nothing, noisily, with "place"."""
    noise = spread * torch.randn(
        n, 140 + len(signal), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    heads = noise + torch.cat([torch.tensor(signal, dtype=torch.float64), torch.zeros(140)])
    by_kind = torch.stack([heads, torch.zeros_like(heads), torch.zeros_like(heads)], -1)
    by_kind[:, len(signal) :] = by_kind[:, len(signal) :].roll(1, -1)
    layers = torch.zeros(n, 2, dtype=torch.float64)
    layers[:, 1] = heads.sum(1)
    named = {"kinds": KINDS, "sources_by_kind": by_kind[:, None]}
    return attribution(layers, torch.ones(n), heads[:, None], ("embed", "0_attn_out"), **named)


def test_heads_that_do_nothing_count_for_nothing() -> None:
    seen = []
    for seed in range(20):
        compared = compare(with_idle_heads(40, 0.3, seed))
        rows = dict(zip(compared.measures, numbers_of(compared)[:, 0], strict=True))
        assert all(low <= value <= high for value, low, high in rows.values() if low == low)
        seen.append([rows[name][0] for name in (MOVED + "name", MOVED + "place", TAKEN)])
    assert np.mean(seen, axis=0) == pytest.approx([1, 0, 0], abs=0.1)


@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_intervals_hold_the_truth_about_as_often_as_they_say(spread: float) -> None:
    held = 0
    for seed in range(60):
        compared = compare(with_idle_heads(50, spread, seed, signal=(2.0, 1.0, -0.8)), seed=seed)
        row = compared.measures.index(TAKEN)
        held += bool(compared.low[row, 0] <= 0.8 / 3 <= compared.high[row, 0])
    assert held >= 50  # 57 are expected


def test_shares_sum_to_one() -> None:
    seen = values(noisy())
    assert sum(seen[name] for name in SHARES) == pytest.approx(1, rel=1e-12)
    assert sum(seen[MOVED + kind] for kind in KINDS) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("constant", [-18.5, -30.0])
def test_a_metric_that_is_not_positive_has_no_shares_and_no_half(constant: float) -> None:
    compared = compare(attribution(by_hand().layers, [constant] * 2, by_hand().heads))
    assert [name for name, cell in compared.table()[1:] if cell == "-"] == [*SHARES, HALF]
    for numbers in (compared.values, compared.low, compared.high):
        assert [name for name, nan in zip(compared.measures, numbers.isnan(), strict=True) if nan] == [*SHARES, HALF]


@pytest.mark.parametrize(
    ("means", "most", "taken"),
    [
        ((9.0, 1.0, -5.0), 1, 0.5),
        ((8.95, 1.0, 0.05), 2, 0),
        ((0.1,) * 10, 9, 0),
        ((2.0, 0.0, 2.0, -2.0, -1.0), 2, 0.75),
        ((-4.0, 1.0), 1, 4),
    ],
)
def test_heads_that_add_and_heads_that_take_away(means: tuple[float, ...], most: int, taken: float) -> None:
    seen = values(with_heads(*means))
    assert (seen[MOST], seen[MOST_SHARE], seen[TAKEN]) == pytest.approx((most, most / len(means), taken), rel=1e-7)


def test_without_a_positive_head_none_carry_most() -> None:
    seen = values(with_heads(-1.0, 0.0))
    assert np.isnan([seen[MOST], seen[MOST_SHARE], seen[TAKEN]]).all()


def test_nothing_taken_away_has_no_sign() -> None:
    compared = compare(with_heads(1.0, 2.0))
    assert dict(compared.table()[1:])[TAKEN] == "0.0% [0.0%, 0.0%]"


def test_float32_rounding_needs_no_further_head() -> None:
    heads = torch.tensor([[[0.7, 0.2, 0.1]]] * 2)
    assert values(attribution(by_hand().layers, [1, 2], heads))[MOST] == 2


def test_a_share_of_what_may_be_nothing_has_no_interval() -> None:
    result = noisy()
    compared = compare(replace(result, metric=result.metric - result.metric.mean() + 0.05))
    assert "[" not in dict(compared.table()[1:])["written by attention"]


@pytest.mark.parametrize(
    ("layers", "depth"),
    [
        ((5, 0, 1, 1, 1, 1), 0),
        ((4, 0, 1, 1, 1, 3), 0.25),
        ((0, 0, 2, 4, 2, 2), 0.5),
        ((0, 0, 6, -5, 8, 1), 0.25),
        ((0, 0, 1, 1, 1, 7), 1),
    ],
)
def test_depth_of_half(layers: tuple[int, ...], depth: float) -> None:
    assert values(attribution([layers, layers], [0, 0], by_hand().heads))[HALF] == depth


def test_a_model_without_mlps() -> None:
    layers, labels = by_hand().layers[:, [0, 1, 2, 4]], (*LABELS[:3], LABELS[4])
    seen = values(attribution(layers, [1, 2], by_hand().heads, labels))
    assert [seen[name] for name in SHARES] == pytest.approx([14 / 16.5, 0, 1 / 16.5, 1.5 / 16.5])
    assert seen[HALF] == 1  # the lens reads 2.5, 3.5, 16.5


def test_a_model_without_heads() -> None:
    none = by_hand().sources_by_kind[:, :, :0]
    seen = values(attribution(by_hand().layers, [1, 2], torch.zeros(2, 2, 0), kinds=KINDS, sources_by_kind=none))
    assert [name for name, value in seen.items() if math.isnan(value)] == [MOST, MOST_SHARE, TAKEN]
    assert not any(name.startswith(MOVED) for name in seen)


def test_measures_do_not_depend_on_the_size_of_the_metric() -> None:
    result = noisy()
    logits = ("metric", "layers", "heads", "attn_bias", "mlp_bias", "constant", "sources_by_kind")
    large = compare(replace(result, **{name: 1000 * getattr(result, name) for name in logits}))
    assert np.allclose(numbers_of(large), numbers_of(compare(result)), rtol=1e-9)


def test_the_interval_is_that_of_its_seed() -> None:
    assert interval(noisy(), seed=3) == interval(noisy(), seed=3)
    assert interval(noisy(), seed=3) != interval(noisy(), seed=4)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    compare(noisy())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_interval_is_scipys() -> None:
    result = noisy()
    parts = result.layers[:, [2, 4]].sum(1).numpy(), result.metric.numpy()
    how = {"paired": True, "method": "percentile", "n_resamples": 20_000, "random_state": 0}
    other = stats.bootstrap(parts, lambda a, m, axis: a.mean(axis) / m.mean(axis), **how)
    low, high = other.confidence_interval
    share = values(result)[SHARES[0]]
    assert share == pytest.approx(parts[0].mean() / parts[1].mean())
    assert low < share < high
    for seed in range(4):
        assert interval(result, seed) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_the_interval_shrinks_with_the_root_of_the_number_of_prompts() -> None:
    few = noisy()
    many = attribution(few.layers.repeat(16, 1), few.constant.repeat(16), few.heads.repeat(16, 1, 1))
    wide, narrow = (np.mean([np.diff(interval(result, seed=i)) for i in range(4)]) for result in (few, many))
    assert wide / narrow == pytest.approx(4, rel=0.1)


def test_one_prompt_has_no_interval() -> None:
    compared = compare(noisy(1))
    assert (np.isnan(numbers_of(compared)) == [False, True, True]).all()
    assert not any("[" in cell for _, cell in compared.table())


@pytest.mark.parametrize(
    ("model", "task", "names"),
    [("b", "t", ("a", "b")), ("a", "u", ("a, t", "a, u")), ("a", "t", ("1: a, t", "2: a, t"))],
)
def test_names_are_distinct(model: str, task: str, names: tuple[str, ...]) -> None:
    infos = ({"model": "a", "task": "t"}, {"model": model, "task": task})
    assert compare(*(replace(by_hand(), info=info) for info in infos)).table()[0] == ("", *names)


@pytest.fixture(scope="module")
def two() -> Comparison:
    """Two results with different kinds of tokens, one of them in both."""
    return compare(noisy(), replace(noisy(seed=1), kinds=("rest", "wall", "end"), info={"model": "<b>&"}))


def test_results_with_different_kinds_have_rows_for_all(two: Comparison) -> None:
    missing = {name: tuple(c == "-" for c in cells) for name, *cells in two.table() if name.startswith(MOVED)}
    first = dict.fromkeys((f"{MOVED}name", f"{MOVED}place"), (False, True))
    second = dict.fromkeys((f"{MOVED}wall", f"{MOVED}end"), (True, False))
    assert missing == {**first, f"{MOVED}rest": (False, False), **second}
    assert two.values[two.measures.index(f"{MOVED}rest"), 1] == values(two.results[1])[f"{MOVED}rest"]


def test_the_frame_has_every_number_in_its_place(two: Comparison) -> None:
    frame = two.to_frame()
    assert list(frame.columns) == ["measure", "model", "value", "low", "high"]
    assert list(zip(frame["measure"], frame["model"], strict=True)) == [*itertools.product(two.measures, two.names)]
    assert np.array_equal(frame.to_numpy()[:, 2:].astype(float), numbers_of(two).reshape(-1, 3), equal_nan=True)


def test_the_table_rounds_the_numbers(two: Comparison) -> None:
    for i, k in itertools.product(range(len(two.measures)), range(2)):
        cell = two.table()[1 + i][1 + k]
        unit, allowed = (1, 0.5) if two.measures[i] == MOST else (100, 0.0501)
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
        unwrap(compare)(by_hand(), by_hand().lens())  # in tests the annotation refuses first
