"""Ablation: effects that sum, parts of which direct effects mislead, ranking, accuracy and loss, tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from maze_dla.errors import InputError
from maze_dla.results.disagreements import disagreements_of
from maze_dla.results.effects import EffectResult
from maze_dla.results.statistics import Summary, proportion
from tests.results.causal_results import make_effects, noise


def of_means(direct: list[float], indirect: list[float], spread: float = 0.05) -> EffectResult:
    """Three MLPs with these effects."""
    base = make_effects(("layer",))
    d = torch.tensor(direct) + spread * noise(24, 3, seed=7)
    through = torch.tensor(indirect) + spread * noise(24, 3, seed=8)
    mlps = torch.zeros(24, 3, 3)
    mlps[..., 2] = through
    zeros = torch.zeros(24, 3)
    return replace(base, direct=d, total=d + through, later_heads=0 * base.later_heads, later_mlps=mlps, norm=zeros)


def test_rounding_of_one_sign_is_no_disagreement() -> None:
    """A part that does nothing loses the same to rounding in every prompt: its interval is narrow and excludes zero."""
    found = of_means([1.0, -1e-7, 1.0], [-0.7, 1e-7, 0.0], spread=0.0).disagreements()
    assert [one.name for one in found] == ["MLP 0"]
    small = of_means([1.0, -1e-3, 1.0], [-0.7, 1e-3, 0.0], spread=0.0).disagreements()
    assert [one.name for one in small] == ["MLP 0", "MLP 1"]


def test_the_indirect_effect_is_the_rest_and_what_it_goes_through() -> None:
    result = make_effects()
    torch.testing.assert_close(result.indirect + result.direct, result.total)
    heads, mlps, norm = result.indirect_by
    torch.testing.assert_close(heads.sum((-1, -2)) + mlps.sum(-1) + norm, result.indirect, atol=1e-5, rtol=0)
    assert not torch.allclose(mlps.sum(-1) + norm, result.indirect, atol=0.1)
    assert heads is result.later_heads


@pytest.mark.parametrize(
    ("direct", "indirect", "kinds"),
    [
        (1.0, -1.5, ("other sign", "mostly indirect", "repair")),
        (1.0, -0.7, ("repair",)),
        (-1.0, 0.7, ("repair",)),
        (1.0, -0.4, ()),
        (1.0, 0.7, ()),
        (0.2, 0.9, ("mostly indirect",)),
        (0.0, 0.9, ("mostly indirect",)),
        (0.0, 0.0, ()),
    ],
)
def test_what_direct_attribution_gets_wrong(direct: float, indirect: float, kinds: tuple[str, ...]) -> None:
    found = of_means([direct, 1.0, 1.0], [indirect, 0.0, 0.0]).disagreements()
    assert [(one.name, one.kinds) for one in found] == ([("MLP 0", kinds)] if kinds else [])


@pytest.mark.parametrize(("direct", "indirect"), [(1.0, -1.5), (1.0, -0.7), (0.2, 0.9)])
def test_what_may_be_noise_is_not_listed(direct: float, indirect: float) -> None:
    assert of_means([direct] * 3, [indirect] * 3, spread=0.05).disagreements()
    assert not of_means([direct] * 3, [indirect] * 3, spread=30.0).disagreements()


def one(mean: float, sure: bool) -> Summary:
    """A part's mean with an interval that excludes zero or not."""
    value = torch.tensor([mean], dtype=torch.float64)
    reach = 0.1 if sure else 10.0
    return Summary(value, value, value - reach, value + reach, n=24, n_clusters=12)


@pytest.mark.parametrize(
    ("unsure", "kinds"),
    [
        ("none", ("other sign", "mostly indirect", "repair")),
        ("direct", ("mostly indirect",)),
        ("total", ("mostly indirect", "repair")),
        ("indirect", ("other sign",)),
    ],
)
def test_each_kind_asks_for_the_intervals_that_it_names(unsure: str, kinds: tuple[str, ...]) -> None:
    means = {"direct": 1.0, "total": -0.5, "indirect": -1.5}
    found = disagreements_of(["MLP 0"], *(one(mean, name != unsure) for name, mean in means.items()))
    assert [part.kinds for part in found] == [kinds]


def test_one_maze_tells_nothing() -> None:
    assert make_effects().disagreements()
    assert not make_effects(n_mazes=1).disagreements()


def test_disagreements_carry_clustered_intervals_and_are_sorted() -> None:
    result = make_effects()
    found = {one.name: one for one in result.disagreements()}
    assert list(found) == sorted(found, key=lambda name: -abs(float(found[name].indirect.mean)))
    assert set(found) == {"L0H0", "L0H1", "L0H2", "L0H3", "L1H0", "L1H1"}
    assert found["L1H0"].kinds == ("repair",)
    assert found["L1H1"].kinds == ("other sign", "mostly indirect", "repair")
    summary = result.summarized(result.total)
    assert float(found["L1H1"].total.low) == float(summary.low[1, 1])
    assert found["L1H1"].total.n_clusters == 12


def test_a_line_says_all_three_effects() -> None:
    one = of_means([1.0, 1, 1], [-1.5, 0, 0]).disagreements()[0]
    line = repr(one)
    assert line.startswith("MLP 0: direct +")
    for name in ("direct", "total", "indirect"):
        s = getattr(one, name)
        assert f"{name} {float(s.mean):+.3f} [{float(s.low):+.3f}, {float(s.high):+.3f}]" in line
    assert line.endswith(": other sign; mostly indirect; overturned, no repair")


@pytest.mark.parametrize(
    ("total", "sure", "words"),
    [
        (0.3, True, "repair"),
        (0.3, False, "repair"),
        (0.0, False, "repair"),
        (-0.5, False, "repair of all of it or more"),
        (-0.5, True, "overturned, no repair"),
    ],
)
def test_repair_is_said_of_totals_between_zero_and_the_direct_effect(total: float, sure: bool, words: str) -> None:
    (found,) = disagreements_of(["MLP 0"], one(1.0, True), one(total, sure), one(total - 1.0, True), ["repair"])
    assert "repair" in found.kinds  # by the definition: opposed, and at least half the direct effect's size
    assert found.in_words[-1] == repr(found).rsplit("; ", 1)[-1].rsplit(": ", 1)[-1] == words
    assert found.overturned == (words == "overturned, no repair")


@pytest.mark.parametrize("unsure", ["direct", "total", "indirect"])
def test_an_effect_whose_interval_includes_zero_is_marked(unsure: str) -> None:
    means = {"direct": 1.0, "total": -0.5, "indirect": -1.5}
    (found,) = disagreements_of(["MLP 0"], *(one(mean, name != unsure) for name, mean in means.items()))
    assert repr(found).count("(includes zero)") == 1
    assert f"{unsure} {means[unsure]:+.3f} [{means[unsure] - 10:+.3f}, {means[unsure] + 10:+.3f}] (inc" in repr(found)


def test_kinds_can_be_chosen() -> None:
    result = make_effects()
    assert [one.name for one in result.disagreements("other sign")] == ["L1H1"]
    assert {one.name for one in result.disagreements("repair", "other sign")} == {"L1H0", "L1H1"}
    with pytest.raises(InputError, match=r"kinds of disagreement are 'other sign', .*, got 'sign'"):
        result.disagreements("sign")


def test_the_strongest_are_those_of_the_total_effect() -> None:
    result = make_effects()
    assert [part.name for part in result.top(3)] == ["L0H0", "L0H1", "L0H2"]
    assert result.top(1)[0].mean == pytest.approx(float(result.total.double().mean(0)[0, 0]), abs=0.05)
    assert result.top(1)[0].chosen is not None
    by_direct = replace(result, total=result.direct)
    assert by_direct.top(1)[0].name != "L0H1"


def test_accuracy_and_loss_where_they_are_known() -> None:
    result = make_effects()
    assert result.accuracy_after is None
    assert result.loss_change is None
    right = noise(24, 3, 4, seed=5) > 0
    loss, after = noise(24, seed=6).abs(), noise(24, 3, 4, seed=7).abs()
    known = replace(result, correct_after=right, loss=loss, loss_after=after)
    shares = known.accuracy_after
    assert shares is not None
    assert shares["L1H2"] == proportion(right[:, 1, 2], result.clusters)
    assert list(shares) == list(result.part_labels)
    change = known.loss_change
    assert change is not None
    torch.testing.assert_close(change.mean, (after - loss[:, None, None]).double().mean(0))
    assert {"correct_after", "loss_after"} <= set(known.to_frame().columns)


def test_the_table_has_a_row_for_each_prompt_and_part() -> None:
    result = make_effects()
    table = result.to_frame()
    assert len(table) == 24 * 12
    row = table.set_index(["prompt", "part"]).loc[(3, "L1H2")]
    assert (row["layer"], row["head"]) == (1, 2)
    assert row["total"] == pytest.approx(float(result.total[3, 1, 2]))
    assert row["later_mlps"] == pytest.approx(float(result.later_mlps[3, 1, 2].sum()), abs=1e-6)
    through = table[["later_heads", "later_mlps", "norm"]].sum(axis=1)
    assert through.to_numpy() == pytest.approx(table["indirect"].to_numpy(), abs=1e-5)


def test_selections_and_groups() -> None:
    result = make_effects()
    part = result.select([5, 1])
    assert part.later_heads.equal(result.later_heads[[5, 1]])
    assert part.part_labels == result.part_labels
    grouped = result.group_by("distance")
    torch.testing.assert_close(grouped.summary("indirect").mean[2], result.indirect[2::3].double().mean(0))
    with pytest.raises(InputError, match="unknown number 'heads', this result has metric, total, direct, indirect"):
        grouped.summary("heads")


def test_a_model_without_mlps_has_no_column_of_them() -> None:
    base = make_effects()
    none: dict[str, Any] = {"later_mlps": base.later_mlps[..., :0], "total": base.total - base.later_mlps.sum(-1)}
    result = replace(base, **none)
    torch.testing.assert_close(result.indirect_by.by_route().sum(-1).float(), result.indirect, atol=1e-5, rtol=0)


def test_the_lines_name_parts_and_the_largest_disagreement() -> None:
    text = repr(make_effects())
    for words in ("parts: heads", "value: mean", "positions: read", "strongest total effects: L0H0"):
        assert words in text
    assert "direct misleads: 6 of 12 parts; the largest: L0H" in text
