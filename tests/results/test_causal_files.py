"""Patching, ablation, circuits and steering in files: they come back as they were, and damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.errors import InputError, ResultFileError
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from tests.results.causal_results import make_circuit, make_effects, make_patch, make_steered, noise


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
    "a circuit": make_circuit,
    "a circuit without parts": lambda: make_circuit(parts=()),
    "steering": make_steered,
    "steering without answers that are right": lambda: make_steered(correct=None, correct_after=None),
    "steering without random directions": lambda: make_steered(controls=0),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    result = RESULTS[kind]()
    same(load_result(result.save(tmp_path / "r.zanj")), result)
    chosen = result.select([3, 1, 0])
    check_result(chosen)
    same(load_result(chosen.save(tmp_path / "chosen.zanj")), chosen)


def test_a_selection_has_the_numbers_of_its_prompts() -> None:
    circuit, steered = make_circuit(), make_steered()
    for name in ("metric", "kept", "ablated"):
        assert torch.equal(getattr(circuit.select([3, 1]), name), getattr(circuit, name)[[3, 1]]), name
    assert circuit.select([3, 1]).parts == circuit.parts
    steered = replace(steered, answers=tuple((f"a{i}", "y", "x") for i in range(24)))
    chosen = steered.select([3, 1])
    for name in ("metric", "values", "control", "correct_after"):
        assert torch.equal(getattr(chosen, name), getattr(steered, name)[[3, 1]]), name
    assert torch.equal(chosen.strengths, steered.strengths)
    assert [row[0] for row in chosen.answers] == ["a3", "a1"]


def test_they_say_what_they_are() -> None:
    circuit, steered = make_circuit(), make_steered()
    assert repr(circuit).startswith("CircuitResult\n  model: tiny\n")
    assert "parts kept: 2: L2H3, 0_mlp_out\n" in repr(circuit)
    assert f"share kept: {circuit.share.shown(0)}" in repr(circuit)
    assert circuit.share.shown(0).startswith("0.5")
    assert "parts kept: 0: none" in repr(make_circuit(parts=()))
    assert "share kept: -" in repr(make_circuit(ablated=circuit.metric))
    lines = [line for line in repr(steered).split("\n") if "strength" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["strength 0", "strength 2", "strength -1"]
    assert lines[1].count("random directions") == 1
    assert "nan" not in repr(make_steered(controls=0))
    assert "random directions" not in repr(make_steered(controls=0))


def test_steering_by_strength() -> None:
    steered = make_steered()
    assert steered.by_strength.mean[0] == pytest.approx(float(steered.metric.double().mean()))
    assert steered.beyond_control.low[1] > 0 > steered.beyond_control.high[2]
    assert [float(share) for share in steered.changed] == [0, 1, 0]
    assert steered.accuracy_after is not None
    assert [float(share) for share in steered.accuracy_after] == [1, 0, 1]
    assert make_steered(correct=None, correct_after=None).accuracy_after is None
    table = steered.to_frame()
    assert len(table) == 24 * 3
    assert table["value"].tolist() == steered.values.flatten().tolist()


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


CIRCUITS: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "no number": (lambda r: {"kept": meddled(r.kept, (0,), torch.nan)}, "kept: 1 values that are NaN"),
    "an infinite number": (lambda r: {"ablated": meddled(r.ablated, (0,), torch.inf)}, "ablated: 1 values that are"),
    "a part twice": (lambda r: {"parts": ("L2H3", "L2H3")}, "parts: expected different names"),
    "a part that is no text": (lambda r: {"parts": (3,)}, "parts: |parameter 'parts'"),
}
STEERED: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "no number": (lambda r: {"values": meddled(r.values, (0, 0), torch.nan)}, "values: 1 values that are NaN"),
    "a strength without end": (lambda r: {"strengths": meddled(r.strengths, (0,), torch.inf)}, "strengths: 1 values"),
    "a control that is none": (lambda r: {"control": meddled(r.control, (0, 0, 0), torch.nan)}, "control: 1 values"),
    "answers of too few prompts": (lambda r: {"answers": r.answers[1:]}, "answers: not 3 texts for each of 24"),
    "answers of too few strengths": (lambda r: {"answers": (("x", "y"),) * 24}, "answers: not 3 texts for each of 24"),
    "answers that are no text": (lambda r: {"answers": ((1, 2, 3),) * 24}, "answers: |parameter 'answers'"),
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


@pytest.mark.parametrize("kind", CIRCUITS)
def test_circuits_that_no_run_made_are_refused(kind: str, tmp_path: Path) -> None:
    change, message = CIRCUITS[kind]
    result = make_circuit()
    with pytest.raises(ResultFileError, match=message):
        load_result(damaged(result, change(result)).save(tmp_path / "c.zanj"))


@pytest.mark.parametrize("kind", STEERED)
def test_steering_that_no_run_made_is_refused(kind: str, tmp_path: Path) -> None:
    change, message = STEERED[kind]
    result = make_steered()
    with pytest.raises(ResultFileError, match=message):
        load_result(damaged(result, change(result)).save(tmp_path / "s.zanj"))


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
    steered = make_steered()
    with pytest.raises(ValueError, match=r"(strengths|values): shape"):
        check_result(damaged(steered, {"strengths": steered.strengths[1:]}))
    with pytest.raises(ValueError, match="kept: shape"):
        check_result(damaged(make_circuit(), {"kept": patched.metric[1:]}))


@pytest.mark.parametrize("kind", RESULTS)
def test_groups_are_selections(kind: str, tmp_path: Path) -> None:
    """The numbers of each group are those of its prompts, and what is not of each prompt is refused by its name."""
    result = RESULTS[kind]()
    grouped = result.group_by("distance")
    assert grouped.labels == (0, 1, 2)
    for name, values in result.per_prompt().items():
        for group in range(3):
            alone = values[result.columns["distance"] == group].double().mean(0)
            torch.testing.assert_close(grouped.summary(name).mean[group], alone, equal_nan=True)
    assert grouped.metric_summary().mean.shape == (3,)
    assert len(grouped.to_frame()) > 0
    assert "distance" in repr(grouped)
    names = ", ".join(result.per_prompt())
    with pytest.raises(InputError, match=f"(?s)'heads'.*{names}"):
        grouped.summary("heads")
    back: Any = load_result(grouped.save(tmp_path / "g.zanj"))
    for one, two in zip(back.results, grouped.results, strict=True):
        same(one, two)


def test_groups_have_shares_of_their_own() -> None:
    chosen = [i for i in range(24) if i % 3 == 0]
    patched, circuit = make_patch(), make_circuit()
    share = patched.group_by("distance").results[0].recovered
    torch.testing.assert_close(share.mean, patched.select(chosen).recovered.mean, equal_nan=True)
    assert not torch.equal(share.mean, patched.recovered.mean)
    assert circuit.group_by("distance").results[0].share.shown(0) == circuit.select(chosen).share.shown(0)
