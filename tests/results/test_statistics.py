"""Means and shares with their intervals, against numpy, scipy and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from maze_dla.results.moments import PART, sum_in_double
from maze_dla.results.statistics import Proportion, proportion, summarize, summary_from_moments


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("n", [2, 3, 40])
def test_summary(n: int, dtype: torch.dtype) -> None:
    values = torch.randn(n, 3, 2, generator=torch.Generator().manual_seed(0)).to(dtype) * 5 + 100
    summary, array = summarize(values), values.double().numpy()
    mean, error = array.mean(0), array.std(0, ddof=1) / np.sqrt(n)
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=error)
    for seen, expected in (
        (summary.mean, mean),
        (summary.standard_error, error),
        (summary.low, low),
        (summary.high, high),
    ):
        assert seen.shape == (3, 2)
        assert np.allclose(seen.numpy(), expected, rtol=1e-10)
    assert summary.n == n
    normal = stats.norm.interval(0.95, loc=mean, scale=error)[0]
    assert not np.allclose(summary.low.numpy(), normal, rtol=1e-6)  # Student's t, not the normal distribution


@pytest.mark.parametrize("n", [1, 3, PART // 2])
def test_sums_in_double_keep_what_single_precision_loses(n: int) -> None:
    values = torch.tensor([1e8, 1.0, -1e8, 2.0]).repeat(n, 2, 1)
    assert torch.equal(sum_in_double(values), torch.full((n, 2), 3.0, dtype=torch.float64))


def test_summary_by_hand() -> None:
    """1, 2, 3, 6: mean 3, variance 14/3, standard error sqrt(14/12), t(0.975, 3) = 3.182446."""
    summary = summarize(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert float(summary.mean) == 3
    assert float(summary.standard_error) == pytest.approx(math.sqrt(14 / 12))
    assert float(summary.high) == pytest.approx(3 + 3.182446305 * math.sqrt(14 / 12), rel=1e-8)
    assert float(summary.low) == pytest.approx(3 - 3.182446305 * math.sqrt(14 / 12), rel=1e-8)


def test_one_prompt_has_a_mean_and_no_interval() -> None:
    summary = summarize(torch.tensor([[2.5, -1.0]]))
    assert summary.mean.tolist() == [2.5, -1.0]
    for unknown in (summary.standard_error, summary.low, summary.high):
        assert unknown.isnan().all()
    assert not summarize(torch.tensor([[2.5], [2.0]])).low.isnan().any()


def test_summary_from_moments_is_that_of_the_values() -> None:
    values = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    direct, moments = summarize(values), summary_from_moments(values.mean(0), values.var(0), 9)
    for name in ("mean", "standard_error", "low", "high"):
        assert torch.allclose(getattr(direct, name), getattr(moments, name), atol=1e-14)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1),
    ],
)
def test_wilson_interval_of_published_values(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17, p. 857, table I, method 3."""
    assert Proportion(successes, n).interval == pytest.approx((low, high), abs=5.1e-5)
    assert Proportion(successes, n).value == successes / n


@pytest.mark.parametrize(("successes", "n"), [(1, 3), (7, 9), (50, 100), (999, 1000)])
def test_wilson_interval_solves_its_equation(successes: int, n: int) -> None:
    """The limits are the shares p whose own standard error puts them z away from the one that was seen."""
    seen = successes / n
    for limit in Proportion(successes, n).interval:
        assert abs(seen - limit) / math.sqrt(limit * (1 - limit) / n) == pytest.approx(stats.norm.ppf(0.975), rel=1e-6)
    other = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert Proportion(successes, n).interval == pytest.approx((other.low, other.high), abs=1e-6)
    plain = 1.96 * math.sqrt(seen * (1 - seen) / n)
    assert Proportion(successes, n).interval != pytest.approx((seen - plain, seen + plain), abs=1e-4)


def test_a_share_says_its_interval() -> None:
    assert str(Proportion(8, 10)) == "0.800 [0.490, 0.943]"


def test_a_share_of_one_prompt_a_maze_is_the_plain_one() -> None:
    held = torch.arange(40) % 3 == 0
    assert proportion(held, torch.arange(40)) == Proportion(14, 40)


@pytest.mark.parametrize("times", [2, 5])
def test_prompts_asked_twice_leave_the_share_as_uncertain_as_once(times: int) -> None:
    held = torch.arange(40) % 3 == 0
    repeated = proportion(held.repeat(times), torch.arange(40).repeat(times))
    assert repeated.n_clusters == 40
    assert repeated.interval == pytest.approx(Proportion(14, 40).interval, abs=2e-3)
    assert Proportion(14 * times, 40 * times).interval != pytest.approx(Proportion(14, 40).interval, abs=0.02)


def test_all_right_counts_mazes() -> None:
    for held in (torch.ones(60).bool(), torch.zeros(60).bool()):
        clustered = proportion(held, torch.arange(20).repeat_interleave(3))
        assert clustered.interval == Proportion(20 * int(held[0]), 20).interval


def test_errors_that_fall_evenly_on_mazes_are_no_certainty() -> None:
    """Each of four mazes has one right and one wrong prompt: the clustered variance is zero."""
    even = proportion(torch.tensor([True, False] * 4), torch.arange(4).repeat_interleave(2))
    assert even.effective_n == 16
    assert even.interval == Proportion(8, 16).interval
    assert proportion(torch.tensor([True, False]), torch.zeros(2).long()).effective_n == 1


def test_the_effective_number_by_hand() -> None:
    """Two prompts each of three mazes, right: 2, 2, 0. p = 2/3; Var = 3/2 (4/9 + 4/9 + 16/9) / 36 = 1/9."""
    share = proportion(torch.tensor([1, 1, 1, 1, 0, 0]).bool(), torch.arange(3).repeat_interleave(2))
    assert share.effective_n == pytest.approx(6 / ((1 / 9) * 5 / (2 / 9)))
