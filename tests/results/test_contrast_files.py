"""A contrast in one file: it comes back as it was, and damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.errors import ResultFileError
from maze_dla.results.contrast import PARTS, ContrastResult
from tests.engine.pairs_of_tokens import random_pairs
from tests.engine.small_models import shared_model


@pytest.fixture(scope="module")
def result() -> ContrastResult:
    return dla.contrast(shared_model(), random_pairs(), neurons=True, sources=True)


def same(one: Any, two: Any) -> None:
    assert type(one) is type(two)
    for f in fields(one):
        a, b = getattr(one, f.name), getattr(two, f.name)
        if isinstance(a, Tensor):
            assert a.equal(b), f.name
        elif f.name in PARTS:
            same(a, b)
        elif f.name == "columns":
            assert list(a) == list(b)
        else:
            assert a == b, f.name


def test_all_four_come_back_from_one_file(result: ContrastResult, tmp_path: Path) -> None:
    same(dla.load_result(result.save(tmp_path / "c.zanj")), result)


@pytest.mark.parametrize("part", ["dependent", "shared"])
def test_a_half_is_saved_alone(result: ContrastResult, part: str, tmp_path: Path) -> None:
    half = getattr(result, part)
    same(dla.load_result(half.save(tmp_path / "h.zanj")), half)
    same(dla.load_result(half.lens().save(tmp_path / "l.zanj")), half.lens())


def test_halves_of_prompts_that_hardly_differ_are_saved_too(tmp_path: Path) -> None:
    """Their dependent part is no more than rounding of what the runs are made of."""
    pairs = random_pairs()
    same_prompts = replace(pairs, corrupted=replace(pairs.clean, targets=pairs.corrupted.targets, answers=None))
    found = dla.contrast(shared_model(), same_prompts, neurons=True)
    assert found.dependent.layers.abs().max() == 0
    dla.load_result(found.save(tmp_path / "c.zanj"))
    dla.load_result(found.dependent.save(tmp_path / "d.zanj"))


def meddled(result: ContrastResult, part: str, **changes: Any) -> ContrastResult:
    return replace(result, **{part: replace(getattr(result, part), **changes)})


def moved(half: Any, by: float) -> Any:
    """Another metric, with a constant that makes up for it."""
    metric, constant = half.metric + by, half.constant + by
    gap = metric.double() - torch.cat([half.layers, constant[:, None]], 1).double().sum(1)
    return replace(half, metric=metric, constant=constant, gap=gap)


DAMAGE: dict[str, tuple[Callable[[ContrastResult], ContrastResult], str]] = {
    "halves swapped": (lambda r: replace(r, dependent=r.shared, shared=r.dependent), "dependent: of part 'shared'"),
    "a half of other prompts": (
        lambda r: meddled(r, "shared", prompt_tokens=tuple((*t[:-1], "x") for t in r.shared.prompt_tokens)),
        "shared: of part 'shared', or of other prompts than clean",
    ),
    "a head changed with its layer": (
        lambda r: meddled(
            r,
            "dependent",
            heads=r.dependent.heads * 1.5,
            attn_bias=r.dependent.attn_bias - 0.5 * r.dependent.heads.sum(-1),
            sources=r.dependent.sources * 1.5,
            sources_by_kind=r.dependent.sources_by_kind * 1.5,
        ),
        "dependent: heads are half of the runs'",
    ),
    "another metric": (
        lambda r: replace(r, shared=moved(r.shared, 1.0)),
        "shared: metric is half of the runs'",
    ),
    "fewer prompts in one run": (
        lambda r: replace(r, corrupted=dla.contrast(shared_model(), random_pairs(lengths=(5, 9))).corrupted),
        "corrupted: ",
    ),
    "a half without its norm": (
        lambda r: meddled(
            r, "shared", layers=r.shared.layers[:, :-1], layer_labels=r.shared.layer_labels[:-1], gap=r.shared.gap
        ),
        "the last of a half is the norm's part",
    ),
    "a run with a norm": (
        lambda r: meddled(
            r,
            "clean",
            layers=torch.cat([r.clean.layers, torch.zeros(len(r), 1)], 1),
            layer_labels=(*r.clean.layer_labels, "norm"),
        ),
        "layer_labels: expected embeddings and the components",
    ),
    "neurons missing in one": (
        lambda r: meddled(r, "clean", neurons=None, neuron_mean=None, neuron_variance=None),
        "neurons are missing in one of the results",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_contrasts_that_no_run_made_are_refused(result: ContrastResult, kind: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[kind]
    with pytest.raises(ResultFileError, match=message):
        dla.load_result(damage(result).save(tmp_path / "c.zanj"))


def test_the_table_says_of_which_part_each_row_is(result: ContrastResult) -> None:
    table = result.to_frame()
    assert table["part"].unique().tolist() == list(PARTS)
    sums = table.groupby(["part", "prompt"])["contribution"].sum()
    for part in PARTS:
        assert sums[part].tolist() == pytest.approx(getattr(result, part).metric.tolist(), abs=1e-4)
    assert (table["component"] == "norm").sum() == 2 * len(result)


def test_halves_can_be_streamed() -> None:
    model, batches = shared_model(), [random_pairs(), random_pairs(seed=3)]
    halves = [dla.contrast(model, pairs).dependent for pairs in batches]
    stream = dla.stream(lambda pairs: dla.contrast(model, pairs).dependent, batches)
    torch.testing.assert_close(
        stream.head_summary().mean, torch.cat([half.heads for half in halves]).double().mean(0), atol=1e-6, rtol=0
    )
    assert stream.info["part"] == "dependent"
