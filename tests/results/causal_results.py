"""Results of patching, ablation, circuits and steering by hand: several lengths, several of one maze, seeded noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maze_dla.results.circuits import CircuitResult
from maze_dla.results.effects import EffectResult
from maze_dla.results.patching import PatchResult
from maze_dla.results.steering import SteerResult

KINDS = ("adjacency list", "target", "path")
SIZES = {"layer": 3, "head": 4, "neuron": 5}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def described(lengths: list[int], n_mazes: int | None, **info: Any) -> dict[str, Any]:
    n = len(lengths)
    mazes = tuple(f"maze {i % (n_mazes or n)}" for i in range(n))
    return {
        "correct": torch.arange(n) % 4 > 0,
        "prompt_tokens": tuple(tuple(f"t{p}" for p in range(length)) for length in lengths),
        "targets": ("x",) * n,
        "info": {"model": "tiny", "task": "first_path_choice", "metric": "logit difference", "unit": "maze", **info},
        "columns": {"maze": mazes, "distance": torch.arange(n) % 3},
    }


def site_effect(axes: tuple[str, ...], width: int) -> Tensor:
    """The share that each site recovers, with positions aligned at the last one; the last sites recover most."""
    shape = [width if axis == "position" else SIZES[axis] for axis in axes]
    return torch.linspace(-0.2, 1, int(torch.tensor(shape).prod())).reshape(shape)


def make_patch(
    axes: tuple[str, ...] = ("layer", "position"),
    lengths: tuple[int, ...] = (5, 7, 6, 7) * 6,
    *,
    n_mazes: int | None = 12,
    apart: float = 4.0,
    direction: str = "denoise",
    spread: float = 0.3,
    **changes: Any,
) -> PatchResult:
    """Each prompt's change is a fixed share of the distance between its runs, with noise."""
    n, width = len(lengths), max(lengths)
    corrupted = noise(n, seed=1) - 1
    clean = corrupted + apart + 0.5 * noise(n, seed=2)
    share = site_effect(axes, width)
    rows = (clean - corrupted).view(-1, *[1] * len(axes)) * share + spread * noise(n, *share.shape, seed=3)
    values = corrupted.view(-1, *[1] * len(axes)) + rows
    kinds = torch.full((n, width), -1)
    for i, length in enumerate(lengths):
        kinds[i, :length] = torch.arange(length) % 3
        if axes[-1] == "position":
            values[i] = shifted(values[i], length)
    more = {"neurons": tuple(f"L2N{7 * i}" for i in range(SIZES["neuron"]))} if axes == ("neuron",) else {}
    fields = {
        **described(list(lengths), n_mazes, change="target"),
        "metric": (clean if direction == "noise" else corrupted).clone(),
        "clean": clean,
        "corrupted": corrupted,
        "values": values,
        "site": "resid_pre" if "position" in axes else "z",
        "direction": direction,
        "axes": axes,
        "lengths": torch.tensor(lengths),
        "kinds": KINDS,
        "token_kinds": kinds,
        **more,
    }
    return PatchResult(**{**fields, **changes})


def shifted(values: Tensor, length: int) -> Tensor:
    """The last `length` columns moved to the left, NaN after them."""
    width = values.shape[-1]
    return torch.nn.functional.pad(values[..., width - length :], (0, width - length), value=torch.nan)


def make_effects(
    part_axes: tuple[str, ...] = ("layer", "head"), n: int = 24, *, n_mazes: int | None = 12, **changes: Any
) -> EffectResult:
    """Heads of the first layer are mostly indirect, L1H0 is repaired, L1H1 has the other sign, the last are direct."""
    n_layers, n_heads = SIZES["layer"], SIZES["head"]
    shape = [SIZES[axis] for axis in part_axes]
    direct = torch.linspace(-1, 1, int(torch.tensor(shape).prod())).reshape(shape) + 0.05 * noise(n, *shape, seed=1)
    heads = 0.02 * noise(n, *shape, n_layers, n_heads, seed=2)
    mlps, norm = 0.02 * noise(n, *shape, n_layers, seed=3), 0.01 * noise(n, *shape, seed=4)
    if part_axes == ("layer", "head"):
        mlps[:, 0, :, 1] -= 2.0
        direct[:, 1, :2] = 1 + 0.05 * noise(n, 2, seed=5)
        heads[:, 1, 0, 2, 3] -= 0.6
        heads[:, 1, 1, 2, 3] -= 1.7
    total = direct + heads.sum((-1, -2)) + mlps.sum(-1) + norm
    names = {
        ("layer", "head"): [f"L{i}H{j}" for i in range(n_layers) for j in range(n_heads)],
        ("layer",): [f"MLP {i}" for i in range(n_layers)],
    }
    fields = {
        **described([5] * n, n_mazes, parts="heads", value="mean", positions="read", reference="0123abcd"),
        "metric": 3 + noise(n, seed=6),
        "total": total,
        "direct": direct,
        "part_axes": part_axes,
        "part_labels": tuple(names[part_axes]),
        "later_heads": heads,
        "later_mlps": mlps,
        "norm": norm,
    }
    return EffectResult(**{**fields, **changes})


def make_circuit(n: int = 24, *, n_mazes: int | None = 12, **changes: Any) -> CircuitResult:
    """The parts that are kept do about half of what the whole model does beyond none of them."""
    ablated = noise(n, seed=1)
    metric = ablated + 4 + 0.3 * noise(n, seed=2)
    about = {"chosen_on": 20, "share_where_chosen": 0.92, "share_asked": 0.9, "value": "mean", "positions": "read"}
    fields = {
        **described([5] * n, n_mazes, **about),
        "metric": metric,
        "kept": ablated + 2 + 0.3 * noise(n, seed=3),
        "ablated": ablated,
        "parts": ("L2H3", "0_mlp_out"),
    }
    return CircuitResult(**{**fields, **changes})


def make_steered(n: int = 24, *, n_mazes: int | None = 12, controls: int = 3, **changes: Any) -> SteerResult:
    """Each unit of strength adds two logits and turns the answer at 2; random directions take a little away."""
    strengths = torch.tensor([0.0, 2.0, -1.0])
    metric = 3 + noise(n, seed=1)
    random = 0.5 * strengths.abs() + 0.2 * noise(n, controls, 3, seed=3) * (strengths != 0)
    fields = {
        **described([5] * n, n_mazes, site="resid_pre", layer=1, positions="read", vector_norm=2.0, control_seed=0),
        "predicted": ("x",) * n,
        "metric": metric,
        "strengths": strengths,
        "values": metric[:, None] + 2 * strengths + 0.1 * noise(n, 3, seed=2) * (strengths != 0),
        "control": metric[:, None, None] - random,
        "answers": (("x", "y", "x"),) * n,
        "correct_after": torch.tensor([[True, False, True]]).repeat(n, 1),
    }
    return SteerResult(**{**fields, **changes})
