"""Results of `mlp_outliers`: scores, rankings, random positions, tables and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from maze_dla.results.outliers import MlpOutliersResult
from tests.results.outlier_results import LENGTHS, make_outliers
from tests.results.test_causal_files import same


def changed(name: str, at: tuple[int, int, int], value: float) -> MlpOutliersResult:
    result = make_outliers()
    numbers = getattr(result, name).clone()
    numbers[at] = value
    return replace(result, **{name: numbers})


def test_the_score_is_the_increase_over_the_outlier_score() -> None:
    result = make_outliers()
    expected = result.loss_increase / result.outlier
    torch.testing.assert_close(result.score, expected, equal_nan=True)
    here = ~result.loss_increase.isnan()
    assert (result.ratio[here] - 3).abs().max() < 1e-9
    assert make_outliers(normed=False).ratio[here].eq(1).all()


def test_the_largest_scores_come_first_with_their_tokens_and_layers() -> None:
    result = make_outliers()
    rows, frame = result.top(), result.to_frame()
    assert len(rows) == result.k == 4
    frame = frame[frame.offset < 0].sort_values("score", ascending=False)
    for row, (_, expected) in zip(result.top(len(frame)), frame.iterrows(), strict=True):
        for name in row._fields:
            assert getattr(row, name) == expected[name], name
        assert row.token == f"t{row.position}"
    assert len(result.to_frame()) == 2 * sum(LENGTHS)
    assert set(frame["layer"]) == {1, 3}


def test_last_positions_and_constant_activations_are_not_ranked() -> None:
    best = make_outliers().top(1)[0]
    at = (best.prompt, (1, 3).index(best.layer), best.position)
    constant = changed("outlier", at, 0.0)
    assert constant.score[at] == torch.inf
    assert best.name not in {row.name for row in constant.top(99)}
    assert "not ranked: 1 positions whose neurons are all the same: the score is infinite" in repr(constant)
    assert "not ranked" not in repr(make_outliers())
    ranked = make_outliers().top(99)
    assert len(ranked) == 2 * sum(n - 1 for n in LENGTHS)
    assert all(row.position < LENGTHS[row.prompt] - 1 for row in ranked)


def test_no_increase_has_no_score_even_without_an_outlier_score() -> None:
    assert changed("outlier", (0, 0, 4), 0.0).score[0, 0, 4] == 0


def test_random_positions_are_those_of_the_seed() -> None:
    result = make_outliers()
    names = [row.name for row in result.control]
    assert len(set(names)) == 6
    assert names == [row.name for row in result.control]
    assert names != [row.name for row in replace(result, seed=1).control]
    everything = replace(result, controls=999).control
    assert {row.name for row in everything} == {row.name for row in result.top(99)}


def test_random_positions_have_the_interval_of_their_mazes() -> None:
    result = replace(make_outliers(), controls=999)
    summary = result.control_summary("outlier")
    assert float(summary.mean) == pytest.approx(float(result.outlier[result.ranked].mean()))
    assert (summary.n, summary.n_clusters) == (36, 2)
    assert float(summary.low) < float(summary.mean) < float(summary.high)
    with pytest.raises(InputError, match="unknown number 'token', random positions have loss_increase, outlier, "):
        result.control_summary("token")
    with pytest.raises(InputError, match="there are no random positions: controls is 0"):
        replace(result, controls=0).control_summary()


def test_it_says_in_words_whether_there_is_a_norm() -> None:
    assert "scores: outlier scores before and after the norm inside the MLP" in repr(make_outliers())
    assert "no norm inside the MLP: outlier scores before and after are the same numbers, each ratio is 1" in repr(
        make_outliers(normed=False)
    )
    assert "6 random positions: loss " in repr(make_outliers())
    assert "random" not in repr(make_outliers(controls=0))
    assert make_outliers().table["loss"].tolist() == make_outliers().loss.tolist()


@pytest.mark.parametrize("normed", [True, False])
def test_a_result_comes_back_as_it_was(normed: bool, tmp_path: Path) -> None:
    result = make_outliers(normed)
    same(load_result(result.save(tmp_path / "r.zanj")), result)
    chosen = result.select([2, 0])
    assert chosen.outlier.shape == (2, 2, 5)
    assert torch.equal(chosen.loss_increase[0, :, :3], result.loss_increase[2, :, :3])
    check_result(chosen)
    same(load_result(chosen.save(tmp_path / "chosen.zanj")), chosen)


DAMAGED: dict[str, tuple[Any, str]] = {
    "a number in padding": (lambda: changed("norm", (0, 0, 6), 1.0), "norm: some are no numbers, or are numbers after"),
    "no number": (lambda: changed("outlier", (0, 0, 1), torch.nan), "outlier: some are no numbers"),
    "negative": (lambda: changed("outlier_after", (0, 0, 1), -1.0), "outlier_after: some are negative"),
    "a last position": (lambda: changed("loss_increase", (0, 1, 4), 0.1), "loss_increase: not 0 at a last position"),
    "too large": (lambda: changed("outlier", (0, 1, 2), 99.0), "outlier: larger than the activation's length allows"),
    "no norm": (lambda: replace(make_outliers(), normed=False), "outlier_after: not that before"),
    "layers": (lambda: replace(make_outliers(), layers=(1, 1)), "layers: "),
    "seed": (lambda: replace(make_outliers(), seed=-1), "seed: -1, expected a whole number of at least 0"),
    "loss": (lambda: replace(make_outliers(), loss=-make_outliers().loss), "loss: some are negative"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_are_refused(what: str, tmp_path: Path) -> None:
    make, message = DAMAGED[what]
    with pytest.raises(ResultFileError, match=message):
        load_result(make().save(tmp_path / "r.zanj"))
