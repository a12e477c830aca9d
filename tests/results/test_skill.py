"""The accuracy beside chance and plain strategies: against sums written out, in streams, and by simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import t as student_t

from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.base import skill_rows
from maze_dla.results.columns import checked_columns
from maze_dla.results.lens import LensResult
from maze_dla.results.loading import load_result
from maze_dla.results.skill import NO_MORE, NO_SKILL, AccuracyComparison
from maze_dla.results.streaming import stream

NAN = float("nan")


def judged(
    right: list[int] | torch.Tensor, chance: Any, clusters: Any = None, single: Any = None, **strategies: Any
) -> LensResult:
    right = torch.as_tensor(right).bool()
    n = len(right)
    columns: dict[str, Any] = {"maze": torch.arange(n) if clusters is None else torch.as_tensor(clusters)}
    given = {"chance": chance, **strategies}
    columns |= {k: torch.as_tensor(v, dtype=torch.float64).expand(n) for k, v in given.items() if v is not None}
    columns["candidates"] = torch.as_tensor(2 if single is None else single).expand(n)
    info = {"model": "tiny", "unit": "maze", "baselines": list(strategies)}
    values = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
    shared: dict[str, Any] = {"info": info, "columns": columns, "values": values, "labels": ("final_post",)}
    return LensResult(values[:, 0], right, (("a",),) * n, ("b",) * n, scale="final", **shared)


def drawn(n: int, seed: int = 0) -> LensResult:
    """Prompts about a few things each, some with one candidate, some to which a strategy does not apply."""
    g = torch.Generator().manual_seed(seed)
    clusters = torch.randint(0, n // 3, (n,), generator=g)
    single = torch.randint(1, 4, (n,), generator=g)
    chance = torch.where(single > 1, 1 / single, NAN)
    walk = torch.rand(n, generator=g).where(torch.rand(n, generator=g) < 0.8, torch.tensor(NAN))
    return judged(
        torch.rand(n, generator=g) < 0.7, chance, clusters, single, walk=walk, stay=torch.rand(n, generator=g)
    )


def by_hand(values: list[float], clusters: list[int]) -> tuple[float, float, float]:
    n, mean = len(values), sum(values) / len(values)
    groups = {g: sum(v - mean for v, c in zip(values, clusters, strict=True) if c == g) for g in clusters}
    error = (len(groups) / (len(groups) - 1) * sum(s * s for s in groups.values())) ** 0.5 / n
    reach = float(student_t.ppf(0.975, len(groups) - 1)) * error
    return mean, mean - reach, mean + reach


@pytest.mark.parametrize("seed", [0, 1])
def test_comparisons_are_paired_and_clustered(seed: int) -> None:
    result = drawn(60, seed)
    skill, columns = result.skill, {k: v.tolist() for k, v in result.columns.items()}  # pyright: ignore
    assert skill is not None
    assert [c.name for c in skill.comparisons] == ["chance", "walk", "stay"]
    assert skill.n_single == sum(c == 1 for c in columns["candidates"]) > 5
    for compared in skill.comparisons:
        rows = [i for i, v in enumerate(columns[compared.name]) if v == v and columns["candidates"][i] > 1]
        clusters = [columns["maze"][i] for i in rows]
        plain = [columns[compared.name][i] for i in rows]
        above = [float(result.correct[i]) - v for i, v in zip(rows, plain, strict=True)]  # pyright: ignore
        assert compared.n == len(rows) < 60
        for summary, values in ((compared.plain, plain), (compared.difference, above)):
            seen = [float(x) for x in (summary.mean, summary.low, summary.high)]
            assert seen == pytest.approx(by_hand(values, clusters))
        assert compared.accuracy == pytest.approx(sum(float(result.correct[i]) for i in rows) / len(rows))  # pyright: ignore


def test_a_stream_says_what_the_whole_says(tmp_path: Path) -> None:
    """To the letter where each prompt is about a thing of its own."""
    whole = drawn(60)
    whole = replace(whole, columns={**whole.columns, "maze": torch.arange(60)})
    pieces = [cut(whole, slice(a, b)) for a, b in ((0, 10), (10, 11), (11, 60))]
    one_by_one = iter(pieces)
    streamed = stream(lambda batch: next(one_by_one), [None] * 3)
    loaded: Any = load_result(streamed.save(tmp_path / "stream.zanj"))
    assert whole.skill is not None
    for result in (streamed, loaded):
        assert result.skill is not None
        assert result.skill.n_single == whole.skill.n_single
        for mine, expected in zip(result.skill.comparisons, whole.skill.comparisons, strict=True):
            assert (mine.name, mine.n) == (expected.name, expected.n)
            for which in ("plain", "difference"):
                for end in ("mean", "low", "high"):
                    seen, right = (getattr(getattr(c, which), end) for c in (mine, expected))
                    torch.testing.assert_close(seen, right)
        assert skill_rows(result.skill) == skill_rows(whole.skill)
        assert result.warning == whole.warning


def cut(result: LensResult, rows: slice) -> LensResult:
    fields: dict[str, Any] = {name: getattr(result, name)[rows] for name in ("metric", "correct", "values")}
    fields |= {"prompt_tokens": result.prompt_tokens[rows], "targets": result.targets[rows]}
    return replace(result, **fields, columns={k: v[rows] for k, v in result.columns.items()})


def test_streams_of_other_strategies_do_not_mix() -> None:
    pieces = iter([judged([1, 0], 0.5, walk=0.5), judged([1, 0], 0.5, jump=0.5)])
    with pytest.raises(InputError, match=r"another labels: .*jump.* where the first had .*walk"):
        stream(lambda batch: next(pieces), [None] * 2)


@pytest.mark.parametrize(
    ("name", "change"), [("plain", 2.0), ("compared", -1.0), ("above_plain", 1.0), ("plain_compared", 0.1)]
)
def test_a_stream_that_no_answers_make_is_refused(name: str, change: float, tmp_path: Path) -> None:
    streamed = stream(lambda batch: batch, [drawn(30)])  # pyright: ignore
    load_result(streamed.save(tmp_path / "good.zanj"))
    bad = replace(streamed, means={**streamed.means, name: streamed.means[name] + change})
    with pytest.raises(ResultFileError, match=f"means of {name}: not those of any answers to 30 prompts"):
        load_result(bad.save(tmp_path / "bad.zanj"))
    lacking = {k: v for k, v in streamed.means.items() if k != "single_candidate"}
    with pytest.raises(ResultFileError, match="not all of compared, plain"):
        load_result(replace(streamed, means=lacking).save(tmp_path / "bad.zanj"))


def test_sentences() -> None:
    half = [1, 0] * 30
    at_chance = judged(half, 0.5, single=[1, *[2] * 59], walk=[1.0, *[0.9, 0.8] * 29, 0.9])
    text = str(at_chance.warning)
    assert text.startswith(
        "The model's accuracy 0.492 on 59 of 60 prompts (left out: 1 with a single candidate) cannot"
    )
    assert "told from chance (0.500, paired difference -0.008 [-0.140, 0.123]) and is below the strategy" in text
    assert text.endswith(NO_SKILL)
    assert "is below chance (0.900, " in str(judged(half, 0.9).warning)
    assert judged(half, 0.1, walk=0.2).warning is None
    as_walk = str(judged(half, 0.1, walk=0.5, stay=0.3).warning)
    assert as_walk.startswith(f"The model's accuracy {judged(half, 0.1).accuracy} cannot be told from the strategy")
    assert '"walk" (0.500' in as_walk
    assert as_walk.endswith(NO_MORE)
    second = str(judged(half, 0.1, best=0.9, walk=0.5).warning)
    assert 'cannot be told from the strategy "walk"' in second
    assert 'and is below the strategy "best"' in second
    same = judged(half, 0.5, walk=0.5)
    assert "walk" not in str(same.warning)  # which is chance itself
    assert "walk" not in repr(same)


def test_where_a_plain_rule_is_always_right_no_model_can_be_better() -> None:
    """As for <PATH_END>: the model is not to blame, the question is too easy."""
    easy = str(judged([1] * 30, 0.5, walk=1.0, stay=0.3).warning)
    assert easy.endswith(
        'leaves nothing to tell: without a model, "walk" is right on every one of these prompts too, '
        "so that being right shows no skill."
    )
    assert "told from" not in easy
    assert "cannot be told from" in str(judged([1] * 30, 0.5, walk=0.99).warning)
    assert "is below the strategy" in str(judged([1] * 25 + [0] * 25, 0.1, walk=1.0).warning)
    wrong = str(judged([1, 0] * 15, 0.5, walk=1.0).warning)
    assert "cannot be told from chance" in wrong
    assert 'is below the strategy "walk"' in wrong


def test_where_nothing_is_known_only_no_right_answer_at_all_is_told() -> None:
    none = judged([0] * 5, NAN)
    assert none.warning == f"The model answers none of these 5 prompts rightly: {NO_SKILL}"
    assert judged([1, *[0] * 99], None).warning is None
    for unknown in (NAN, None):
        result = judged([0, 1], unknown)
        assert result.chance.isnan().all()
        assert ("chance", "not known") in skill_rows(result.skill)
    dead_ends = judged([1, 1], NAN, single=1)
    assert ("chance", "none: all have a single candidate") in skill_rows(dead_ends.skill)
    assert dead_ends.warning is None


@pytest.mark.parametrize(("n", "verdict"), [(1, "the same"), (3, "the same"), (4, "above"), (40, "above")])
def test_a_few_right_answers_prove_nothing(n: int, verdict: str) -> None:
    """All right: Student's t knows no error, Wilson's interval with as many clusters does."""
    right: Any = judged([1] * n, 0.5).skill
    assert right.chance.verdict == verdict
    wrong: Any = judged([0] * n, 0.5).skill
    assert wrong.chance.verdict == {"above": "below"}.get(verdict, verdict)
    together: Any = judged([1] * 40, 0.5, clusters=[0] * 20 + [1] * 20).skill
    assert together.chance.verdict == "the same"  # twenty prompts about each of two things


def test_one_in_twenty_models_without_skill_is_told_otherwise() -> None:
    g = torch.Generator().manual_seed(0)
    found = [verdict_by_chance(g) for _ in range(400)]
    assert 0.02 < sum(v != "the same" for v in found) / 400 < 0.08
    skilled = [verdict_by_chance(g, 0.25) for _ in range(50)]
    assert sum(v == "above" for v in skilled) > 45


def verdict_by_chance(g: torch.Generator, skill: float = 0.0) -> str:
    """Of a model that guesses, and answers two prompts about a thing alike."""
    chance = torch.tensor([0.5, 1 / 3])[torch.randint(0, 2, (60,), generator=g)].repeat_interleave(2)
    guess = torch.rand(60, generator=g).repeat_interleave(2)
    found: Any = judged(guess < chance + skill, chance, torch.arange(60).repeat_interleave(2)).skill
    assert isinstance(found.chance, AccuracyComparison)
    return found.chance.verdict


def test_chance_is_a_probability() -> None:
    assert checked_columns({"chance": [0.5, NAN]}, 2)["chance"][0] == 0.5
    for bad in ([50.0, 0.5], [-0.1, 0.5], ["a", "b"]):
        with pytest.raises(InputError, match="the column 'chance' holds probabilities from 0 to 1"):
            checked_columns({"chance": bad}, 2)
