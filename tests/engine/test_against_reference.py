"""Every number of the engine against the same mathematics written out in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.analysis import attribute, logit_lens
from maze_dla.engine.direct.lens import Scale
from maze_dla.engine.metrics import LinearMetric

from .reference import Run, run
from .small_models import HOOKED, MODERN, make_batch, random_metric, random_tokens, shared_model

CASES = {
    "LN-float64": ({}, torch.float64, 1e-9),
    "LN-float32": ({}, torch.float32, 1e-4),
    "LN-odd-heads": ({"n_heads": 5, "d_head": 3}, torch.float64, 1e-9),
    "LN-12-layers": ({"n_layers": 12}, torch.float64, 1e-9),
    "LNPre": ({"normalization_type": "LNPre"}, torch.float64, 1e-4),
    "RMS": ({"normalization_type": "RMS"}, torch.float32, 1e-4),
    "RMSPre": ({"normalization_type": "RMSPre"}, torch.float32, 1e-4),
    "no-norm": ({"normalization_type": None}, torch.float64, 1e-8),  # nothing bounds this residual: logits of 1e3
    "attn-only": ({"attn_only": True}, torch.float64, 1e-9),
    "gated-rotary-grouped": (MODERN, torch.float32, 1e-4),
    **({"parallel": ({"parallel_attn_mlp": True}, torch.float64, 1e-9)} if HOOKED else {}),  # bridges: see adapters
    "grouped-float64": ({"n_heads": 6, "n_key_value_heads": 2}, torch.float64, 1e-9),
}
# what plain decoders are read by is the engine's own forward pass; the model itself with hooks must say the same
HOOKED_CASES = ("LN-float64", "LN-float32", "LN-odd-heads", "LNPre", "RMS", "no-norm", "attn-only")
CASES |= {f"{name}-hooked": CASES[name] for name in HOOKED_CASES}


def engine_of(name: str) -> Any:
    return "hooked" if name.endswith("-hooked") else "auto"


@cache
def case(name: str) -> tuple[Any, Any, LinearMetric, Any, list[Run], Tensor, float]:
    """Model, batch, metric, the library's result, the reference runs and the metric's coefficients."""
    settings, dtype, tolerance = CASES[name]
    model, batch = shared_model(dtype, **settings), make_batch()
    metric = random_metric(batch)
    how = {"neurons": not settings.get("attn_only", False), "sources": True, "sequences_at_once": 3}
    result = attribute(model, batch, metric, **how, forward=engine_of(name))
    runs = [run(model, ids) for ids in random_tokens()]
    return model, batch, metric, result, runs, metric.coefficients(), tolerance


def assert_close(seen: Tensor, expected: Tensor, tolerance: float) -> None:
    assert seen.shape == expected.shape
    size = max(1.0, float(expected.abs().max()))
    gap = float((seen.double() - expected).abs().max())
    assert gap < tolerance * size, f"{gap:.2e} apart where {tolerance:.0e} of {size:.3g} is allowed"


def pushed(name: str, vectors: Any) -> Tensor:
    """[prompt, ...]: contributions of the vectors that `vectors(run, position)` picks."""
    _, batch, _, _, runs, c, _ = case(name)
    reads = batch.read_positions.tolist()
    each = zip(runs, reads, c, strict=True)
    return torch.stack([r.contribution(vectors(r, at), coefficients, at) for r, at, coefficients in each])


@pytest.mark.parametrize("name", CASES)
def test_metric_and_layers(name: str) -> None:
    _, batch, _, result, runs, c, tolerance = case(name)
    logits = torch.stack([r.logits[-1] for r in runs])
    assert_close(result.metric, (c * logits).sum(1), tolerance)
    assert result.layer_labels == tuple(runs[0].layers)
    layers = pushed(name, lambda r, at: torch.stack([v[at] for v in r.layers.values()]))
    assert_close(result.layers, layers, tolerance)
    assert_close(result.constant, (c * logits).sum(1) - layers.sum(1), tolerance)
    assert torch.equal(result.correct, logits.argmax(1) == batch.targets)
    scales = torch.stack([r.scale_of(r.final)[-1] for r in runs])
    assert_close(result.final_scale, scales, tolerance)


@pytest.mark.parametrize("name", CASES)
def test_heads_and_their_bias(name: str) -> None:
    *_, result, _, _, tolerance = case(name)
    heads = pushed(name, lambda r, at: torch.stack([torch.stack([h[at] for h in layer]) for layer in r.heads]))
    assert_close(result.heads, heads, tolerance)
    assert_close(result.attn_bias, pushed(name, lambda r, at: torch.stack([b[at] for b in r.attn_bias])), tolerance)
    other_order = result.heads.flip(-1)
    assert (other_order.double() - heads).abs().max() > 1e-2  # the comparison can tell heads apart


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("attn-only")])
def test_neurons_and_their_bias(name: str) -> None:
    *_, result, _, _, tolerance = case(name)
    neurons = pushed(name, lambda r, at: torch.stack([n[at] for n in r.neurons]))
    assert result.neurons is not None
    assert_close(result.neurons, neurons, tolerance)
    assert_close(result.mlp_bias, pushed(name, lambda r, at: torch.stack([b[at] for b in r.mlp_bias])), tolerance)


def test_attention_only_has_no_neurons() -> None:
    *_, result, _, _, _ = case("attn-only")
    assert result.neurons is None
    assert result.neuron_mean is None
    assert torch.equal(result.mlp_bias, torch.zeros_like(result.mlp_bias))


@pytest.mark.parametrize("name", CASES)
def test_sources_and_patterns(name: str) -> None:
    _, batch, _, result, runs, c, tolerance = case(name)
    width = int(batch.lengths.max())
    assert result.sources is not None
    assert result.patterns is not None
    assert result.sources.shape[-1] == result.patterns.shape[-1] == width
    for p, (r, at) in enumerate(zip(runs, batch.read_positions.tolist(), strict=True)):
        moved = torch.stack([torch.stack([s[at] for s in layer]) for layer in r.sources])
        paid = torch.stack([torch.stack([s[at] for s in layer]) for layer in r.patterns])
        assert_close(result.sources[p][..., : at + 1], r.contribution(moved, c[p], at), tolerance)
        assert_close(result.patterns[p][..., : at + 1], paid, tolerance)


@pytest.mark.parametrize("scale", ["final", "own"])
@pytest.mark.parametrize("name", CASES)
def test_lens(name: str, scale: Scale) -> None:
    model, batch, metric, _, runs, c, tolerance = case(name)
    lens = logit_lens(model, batch, metric, scale=scale, sequences_at_once=3, forward=engine_of(name))
    assert lens.labels == tuple(runs[0].depths)
    assert lens.scale == scale
    rows = []
    for r, coefficients in zip(runs, c, strict=True):
        final = r.scale_of(r.final)
        depths = [r.logits_at(x, final if scale == "final" else r.scale_of(x))[-1] for x in r.depths.values()]
        rows.append(torch.stack(depths) @ coefficients)
    assert_close(lens.values, torch.stack(rows), tolerance)


@pytest.mark.parametrize("name", ["LN-float64", "RMS", "no-norm"])
def test_a_head_contributes_what_its_removal_takes_away(name: str) -> None:
    """Elhage et al. 2021: removed from the final residual at the frozen scale, a head takes its contribution along."""
    _, _, _, result, runs, c, tolerance = case(name)
    for p, r in enumerate(runs):
        scale = r.scale_of(r.final)
        whole = r.logits[-1] @ c[p]
        for layer, heads in enumerate(r.heads):
            for head, vector in enumerate(heads):
                drop = whole - r.logits_at(r.final - vector, scale)[-1] @ c[p]
                assert abs(drop - result.heads[p, layer, head]) < tolerance * max(1, abs(whole))


def test_removal_at_an_unfrozen_scale_takes_something_else_away() -> None:
    _, _, _, result, runs, c, _ = case("LN-float64")
    apart = []
    for p, r in enumerate(runs):
        without = r.final - r.heads[0][0]
        drop = r.logits[-1] @ c[p] - r.logits_at(without, r.scale_of(without))[-1] @ c[p]
        apart.append(abs(float(drop - result.heads[p, 0, 0])))
    assert max(apart) > 1e-2
