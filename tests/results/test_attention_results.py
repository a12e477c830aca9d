"""Attention results: what they conclude, what they say, and their files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from maze_dla.results.statistics import summarize
from maze_dla.results.streaming import stream
from tests.results.attention_results import LABELS, RELATIONS, make_attention, make_distances, make_scores
from tests.results.test_causal_files import same

RESULTS: dict[str, Callable[..., Any]] = {
    "patterns": make_attention,
    "patterns of one head": lambda: make_attention(n_heads=1),
    "scores": make_scores,
    "scores of one maze": lambda: make_scores(n_mazes=1),
    "distances": make_distances,
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    result = RESULTS[kind]()
    same(load_result(result.save(tmp_path / "r.zanj")), result)
    chosen = result.select([2, 0])
    check_result(chosen)
    same(load_result(chosen.save(tmp_path / "chosen.zanj")), chosen)
    assert repr(load_result(tmp_path / "r.zanj")) == repr(result)
    with pytest.raises(InputError, match=r"streams are of attribute, logit_lens and token_lens, got (Att|Head|Dist)"):
        stream(lambda batch: result, [0])


def test_only_what_is_above_its_own_baseline_counts() -> None:
    scores = make_scores()
    assert scores.same_in_all.tolist() == [True, False, False]
    assert scores.against == ("uniform attention", "another maze's keys", "another maze's keys")
    found = {(RELATIONS[r], LABELS[3 * layer + head]) for r, layer, head in scores.is_above.nonzero().tolist()}
    assert found == {("previous token", "L0H1"), ("connected cells", "L1H2")}
    in_uniform = replace(scores, overlap=torch.ones_like(scores.overlap))
    assert bool(in_uniform.is_above[1, 1, 0])  # which the baseline of other mazes keeps out
    assert not make_scores(n_mazes=1).is_above.any()


def test_the_table_has_each_number_in_its_row() -> None:
    scores = make_scores()
    table = scores.to_frame()
    assert len(table) == 3 * 6
    row = table[(table.relation == "connected cells") & (table["head"] == "L1H2")].iloc[0]
    own, other = scores.values[:, 1, 1, 2], scores.random[:, 1, 1, 2]
    expected, above = summarize(own, scores.clusters), summarize(own - other, scores.clusters)
    assert (row.layer, row.number, row.prompts) == (1, 2, 24)
    assert (row.score, row.low, row.high) == pytest.approx((*map(float, (expected.mean, expected.low, expected.high)),))
    assert (row.above, row.above_low) == pytest.approx((float(above.mean), float(above.low)))
    assert (row.uniform, row.random) == pytest.approx((0.1, float(other.mean())), abs=1e-6)
    assert table[table.relation == "elsewhere"].prompts.tolist() == [18] * 6
    last = scores.values[:, 2, 0, 0]
    seen = table[table.relation == "elsewhere"].iloc[0]
    assert seen.score == pytest.approx(float(last[~last.isnan()].double().mean()))


def test_top_heads_are_those_farthest_above() -> None:
    scores = make_scores()
    first, second = scores.top("connected cells", 2)
    assert (first.name, first.layer, first.head) == ("L1H2", 1, 2)
    assert first.above == pytest.approx(0.5, abs=0.02)
    assert first.low < first.above < first.high
    assert first.score - first.baseline == pytest.approx(first.above, abs=0.02)
    assert second.above < 0.05
    assert first.chosen == 1.0
    assert repr(first).startswith("L1H2 pays them 0.69 (another maze's keys: 0.20), +0.49")
    assert scores.top("previous token", 1)[0].against == "uniform attention"
    assert scores.top("connected cells", 0) == []
    below = replace(scores, values=scores.values - 0.15)
    assert below.top("elsewhere", 6)[0].above > below.top("elsewhere", 6)[-1].above  # the farthest below is no top head
    with pytest.raises(InputError, match="no relation 'x', there are previous token, connected cells, elsewhere"):
        scores.top("x")


def test_scores_say_what_a_reader_may_conclude() -> None:
    text = repr(make_scores())
    assert text.startswith("HeadScores\n  model: tiny\n")
    assert "connected cells: 1 of 6 heads 0.1 or more above another maze's keys, 1 at all; L1H2 pays them 0.69" in text
    assert "previous token: 1 of 6 heads 0.1 or more above uniform attention, 1 at all; L0H1 pays them 0.80" in text
    assert "elsewhere: 0 of 6 heads 0.1 or more above another maze's keys, 0 at all\n" in text + "\n"
    assert "logits" not in text


def test_correlations_are_averaged_as_fishers_z() -> None:
    result = make_distances()
    found = result.correlation_summary()
    z = summarize(result.correlation[:, 0].double().atanh(), result.clusters)
    assert float(found.mean[0]) == pytest.approx(math.tanh(float(z.mean)))
    assert float(found.low[0]) == pytest.approx(math.tanh(float(z.low)))
    assert math.isnan(float(found.mean[2]))
    assert result.shown_correlation("L0H0").startswith("-0.8")
    assert result.to_frame().prompts.tolist() == [24, 24, 0]
    by_distance = result.attention_summary()
    assert float(by_distance.mean[0, 5]) == pytest.approx(float(result.attention[1::2, 0, 5].double().mean()))
    assert "largest rank correlations: L0H0 -0.8" in repr(result)
    with pytest.raises(InputError, match="L5H5 is not among the heads of this result: L0H0"):
        result.index_of("L5H5")


def put(values: Tensor, at: tuple[Any, ...], value: Any) -> Tensor:
    changed = values.clone()
    changed[at] = value
    return changed


DAMAGE: dict[str, tuple[Callable[[], Any], Callable[[Any], dict[str, Any]], str]] = {
    "attention to later keys": (
        make_attention,
        lambda r: {"patterns": put(r.patterns, (0, 0, 1, 2), 0.1)},
        "patterns: attention to keys after their query",
    ),
    "attention below zero": (
        make_attention,
        lambda r: {"patterns": put(r.patterns, (0, 0, 1, 0), -0.1)},
        "patterns: below 0",
    ),
    "a query after the end": (
        make_attention,
        lambda r: {"patterns": put(r.patterns, (0, 0, 6), 0.0)},
        "patterns: some are no numbers, or are numbers at queries after",
    ),
    "names of other heads": (make_attention, lambda r: {"head_labels": LABELS[:5]}, "head_labels: 5 names for 6 heads"),
    "names of no heads": (make_attention, lambda r: {"head_labels": (*LABELS[:5], "MLP")}, "head is .layer, head."),
    "a score above one": (
        make_scores,
        lambda r: {"values": put(r.values, (0, 0, 0, 0), 1.5)},
        "values: some are no",
    ),
    "scores without queries": (
        make_scores,
        lambda r: {"n_queries": put(r.n_queries, (1, 0), 0)},
        "values: numbers where no query counts",
    ),
    "no such relation": (make_scores, lambda r: {"relations": RELATIONS[:2]}, "relations: 2 names for 3 of them"),
    "queries below zero": (make_scores, lambda r: {"n_queries": -r.n_queries}, "n_queries: below 0"),
    "another correlation": (make_distances, lambda r: {"correlation": r.correlation * 3}, "correlation: some are not"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(name: str, tmp_path: Path) -> None:
    make, change, message = DAMAGE[name]
    result = make()
    check_result(result)
    damaged = replace(result, **change(result))
    with pytest.raises(ResultFileError, match=message):
        load_result(damaged.save(tmp_path / "r.zanj"))
