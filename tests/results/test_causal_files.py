"""Patching and ablation in files: they come back as they were, and damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.errors import ResultFileError
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from tests.results.causal_results import make_effects, make_patch, noise


def same(one: Any, two: Any) -> None:
    assert type(one) is type(two)
    for f in fields(one):
        a, b = getattr(one, f.name), getattr(two, f.name)
        if isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        elif f.name == "columns":
            assert {k: list(v) for k, v in a.items()} == {k: list(v) for k, v in b.items()}
        else:
            assert a == b, f.name


def known() -> Any:
    right = noise(24, 3, 4, seed=5) > 0
    return make_effects(correct_after=right, loss=noise(24).abs(), loss_after=noise(24, 3, 4).abs())


def without_mlps() -> Any:
    base = make_effects()
    return replace(base, later_mlps=base.later_mlps[..., :0], total=base.total - base.later_mlps.sum(-1))


RESULTS: dict[str, Callable[[], Any]] = {
    "residual stream": make_patch,
    "heads": lambda: make_patch(("layer", "head"), direction="noise"),
    "heads by position": lambda: make_patch(("layer", "head", "position")),
    "neurons": lambda: make_patch(("neuron",)),
    "no kinds": lambda: make_patch(token_kinds=None, kinds=()),
    "estimated": lambda: make_patch(estimated=True, agreement=0.5, sampled=12),
    "effects of heads": make_effects,
    "effects of MLPs": lambda: make_effects(("layer",)),
    "with accuracy and loss": known,
    "without MLPs": without_mlps,
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    result = RESULTS[kind]()
    same(load_result(result.save(tmp_path / "r.zanj")), result)
    check_result(result.select([3, 1, 0]))


def meddled(values: Tensor, at: tuple[Any, ...], value: Any) -> Tensor:
    changed = values.clone()
    changed[at] = value
    return changed


PATCHES: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "the metric of the other run": (lambda r: {"metric": r.clean}, "metric: not that of the run that 'denoise' edits"),
    "an unknown direction": (lambda r: {"direction": "both"}, "direction: 'both'"),
    "an unknown axis": (lambda r: {"axes": ("depth", "position")}, "axes: "),
    "axes that are too few": (lambda r: {"axes": ("layer",)}, "axes: "),
    "a position that is not the last": (lambda r: {"axes": ("position", "layer")}, "axes: "),
    "names of no neurons": (lambda r: {"neurons": ("L0N1",)}, "neurons: 1 names"),
    "other lengths": (lambda r: {"lengths": r.lengths - 1}, "lengths: not those of prompt_tokens"),
    "a value that is missing": (lambda r: {"values": meddled(r.values, (0, 0, 0), torch.nan)}, "values: some are no"),
    "a value after the end": (lambda r: {"values": meddled(r.values, (0, 0, -1), 1.0)}, "values: some are no numbers"),
    "an infinite value": (lambda r: {"values": meddled(r.values, (0, 0, 0), torch.inf)}, "values: some are no"),
    "an unknown kind": (lambda r: {"token_kinds": meddled(r.token_kinds, (0, 0), 3)}, "token_kinds: not of 3 kinds"),
    "a kind after the end": (lambda r: {"token_kinds": meddled(r.token_kinds, (0, -1), 0)}, "token_kinds: not of 3"),
    "kinds twice": (lambda r: {"kinds": ("a", "a", "b")}, "kinds: expected different names"),
    "an agreement of exact values": (lambda r: {"agreement": 0.5, "sampled": 3}, "agreement: 0.5 at 3 sites"),
    "an agreement above one": (lambda r: {"agreement": 1.5, "estimated": True}, "agreement: 1.5"),
    "no numbers": (lambda r: {"clean": meddled(r.clean, (0,), torch.nan)}, "clean: 1 values that are NaN"),
}
EFFECTS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "a head that does more": (
        lambda r: {"later_heads": meddled(r.later_heads, (2, 1, 1, 2, 0), 0.5)},
        "sum to total - direct: not for prompt 2",
    ),
    "another norm": (lambda r: {"norm": r.norm + 0.01}, "sum to total - direct"),
    "another total": (lambda r: {"total": r.total * 1.1}, "sum to total - direct"),
    "another direct effect": (lambda r: {"direct": r.direct * 1.1}, "sum to total - direct"),
    "no number": (lambda r: {"norm": meddled(r.norm, (0, 0, 0), torch.nan)}, "norm: 1 values that are NaN"),
    "axes that are too few": (lambda r: {"part_axes": ("layer",)}, "part_axes: "),
    "an axis twice": (lambda r: {"part_axes": ("layer", "layer")}, "part_axes: "),
    "names that are too few": (lambda r: {"part_labels": r.part_labels[1:]}, "part_labels: 11 names for 12 parts"),
    "a name twice": (lambda r: {"part_labels": ("L0H0", *r.part_labels[:-1])}, "part_labels: expected different"),
    "a loss below zero": (lambda r: {"loss": -r.metric.abs()}, "loss: some are negative"),
    "a loss after, and none before": (lambda r: {"loss_after": r.total.abs()}, "loss_after: without loss"),
}


def damaged(result: Any, changes: dict[str, Any]) -> Any:
    """Changed behind the back of the checks of its types."""
    copy = replace(result)
    for name, value in changes.items():
        object.__setattr__(copy, name, value)
    return copy


@pytest.mark.parametrize("kind", PATCHES)
def test_patchings_that_no_run_made_are_refused(kind: str, tmp_path: Path) -> None:
    change, message = PATCHES[kind]
    result = make_patch()
    with pytest.raises(ResultFileError, match=message):
        load_result(damaged(result, change(result)).save(tmp_path / "p.zanj"))


@pytest.mark.parametrize("kind", EFFECTS)
def test_effects_that_no_run_made_are_refused(kind: str, tmp_path: Path) -> None:
    change, message = EFFECTS[kind]
    result = make_effects()
    with pytest.raises(ResultFileError, match=message):
        load_result(damaged(result, change(result)).save(tmp_path / "e.zanj"))


def test_sums_may_be_off_by_rounding() -> None:
    result = make_effects()
    size = torch.stack([v.abs().flatten(1).amax(1) for v in (result.total, result.metric[:, None])]).amax(0)
    check_result(replace(result, norm=result.norm + 1e-4 * size[:, None, None]))
    with pytest.raises(ValueError, match="sum to total - direct"):
        check_result(replace(result, norm=result.norm + 4e-4 * size[:, None, None]))


def test_arrays_of_other_prompts_or_parts_are_refused() -> None:
    """Straight to the checks, since with types checked at run time no such result is made."""
    patched, effects = make_patch(), make_effects()
    with pytest.raises(ValueError, match="clean: shape"):
        check_result(damaged(patched, {"clean": patched.clean[1:]}))
    with pytest.raises(ValueError, match="norm: shape"):
        check_result(damaged(effects, {"norm": effects.norm[:, 1:]}))
    with pytest.raises(ValueError, match=r"token_kinds: .*, expected Int"):
        check_result(damaged(patched, {"token_kinds": patched.metric}))
