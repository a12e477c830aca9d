"""Everything that the library says of each prompt, and how far it may move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maze_dla.analysis import (
    ablate,
    activations,
    attention,
    attribute,
    head_scores,
    keep_only,
    logit_lens,
    steer,
    token_lens,
)
from maze_dla.engine.attention.relations import Relations
from maze_dla.engine.metrics import LinearMetric, linear_metric
from maze_dla.engine.prompts import PromptBatch

from .models import N_CTX

Numbers = dict[str, Tensor]
CHANCES = ("probs", "prob", "patterns", "scores", "entropy", "kl")  # of size 1, or sums of numbers of size 1
LARGEST = "largest part"


def coefficients_of(tokens: list[list[int]], d_vocab: int, seed: int = 0) -> Tensor:
    """Coefficients of each prompt: many as those of the first, some far smaller."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(len(tokens), d_vocab, generator=generator, dtype=torch.float64)
    c[::2] = c[0].clone()
    c[2::3] = c[0].clone()
    c[3::4] *= 1e-8
    return c


def batch_of(tokens: list[list[int]], d_vocab: int, **more: Any) -> PromptBatch:
    """Prompts each with an answer, a name and kinds of tokens of its own."""
    places = torch.arange(max(map(len, tokens))).expand(len(tokens), -1)
    more = {"columns": {"maze": tuple(f"maze {i}" for i in range(len(tokens)))}, "unit": "maze", **more}
    kinds = {"kinds": ("even", "odd"), "sequence_kinds": places % 2}
    targets = [(3 * i + 1) % d_vocab for i in range(len(tokens))]
    return PromptBatch.from_tokens(tokens, targets, d_vocab=d_vocab, **kinds, **more)


def metric_of(batch: PromptBatch, coefficients: Tensor) -> LinearMetric:
    """The metric of these coefficients."""
    return linear_metric(batch, coefficients)


def wide(values: Tensor, *axes: int) -> Tensor:
    """Positions filled up to the model's context, NaN as 0."""
    for axis in axes:
        moved = values.transpose(axis, -1)
        values = torch.nn.functional.pad(moved, (0, N_CTX - moved.shape[-1])).transpose(axis, -1)
    return values.nan_to_num()


def plain_numbers(model: Any, batch: PromptBatch, metric: LinearMetric, **how: Any) -> Numbers:
    """Numbers of runs without edits, [prompt, ...] each."""
    neurons = not getattr(model.cfg, "attn_only", False)
    result = attribute(model, batch, metric, neurons=neurons, sources=True, **how)
    found = {name: getattr(result, name) for name in ("metric", "layers", "heads", "attn_bias", "mlp_bias", "constant")}
    found |= {"neurons": result.neurons} if neurons else {}
    found |= {"final_scale": result.final_scale, "correct": result.correct, "sources": wide(result.sources, -1)}
    found["patterns"] = wide(result.patterns, -1)
    for scale in ("own", "final"):
        found[f"{scale} lens"] = logit_lens(model, batch, metric, scale, **how).values
    tokens = token_lens(model, batch, 3, "final", **how)
    found |= {f"final {n}": getattr(tokens, n) for n in ("top_probs", "target_prob", "entropy", "kl")}
    everywhere = token_lens(model, batch, 1, positions="all", **how)
    found |= {f"all {n}": wide(getattr(everywhere, n), 1) for n in ("top_probs", "target_prob", "entropy")}
    found["stream"] = wide(activations(model, batch, site="resid", positions="all", **how).values, 2)
    found["all patterns"] = wide(attention(model, batch, **how).patterns, -1, -2)
    return sized({name: values for name, values in found.items() if values is not None})


def relation_scores(model: Any, batch: PromptBatch, **how: Any) -> Numbers:
    """Scores of heads for a relation that hangs on the tokens: the same token before."""
    same = Relations.of(batch, {"same token": _same_before})
    found = head_scores(model, batch, same, random=0, **how)
    return {"scores": wide(found.values), "uniform scores": wide(found.uniform), "n_queries": found.n_queries}


def _same_before(tokens: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(i, k) for i in range(len(tokens)) for k in range(i) if tokens[i] == tokens[k]]


def edited_numbers(model: Any, batch: PromptBatch, metric: LinearMetric, reference: PromptBatch, **how: Any) -> Numbers:
    """Numbers of runs with edits, [prompt, ...] each; means and donors are of the reference."""
    found = {}
    asked: list[dict[str, Any]] = [
        {"value": "mean", "positions": "all"},
        {"value": "resample", "parts": "layers", "seed": 5},
        {"value": "renormalize", "parts": "source_positions"},
    ]
    for options in asked:
        given = {} if options["value"] == "renormalize" else {"reference": reference}
        effects = ablate(model, batch, metric, **options, **given, **how)
        for name in ("total", "direct", "indirect", "later_heads", "later_mlps", "norm"):
            values = getattr(effects, name)
            axes = [effects.part_axes.index("position") + 1] if "position" in effects.part_axes else []
            found[f"{options['value']} {options.get('positions', '')} {name}"] = wide(values, *axes)
    circuit = keep_only(model, batch, metric, ["L0H0"], reference=reference, **how)
    found |= {"kept": circuit.kept, "ablated": circuit.ablated}
    vector = torch.linspace(-1, 1, model.cfg.d_model, dtype=torch.float64) ** 3
    steered = steer(model, batch, metric, vector, layer=0, strengths=(0.5, 2.0), controls=2, seed=3, **how)
    found |= {"steered": steered.values, "controls": steered.control}
    return found


def sized(found: Numbers) -> Numbers:
    """The numbers with the largest part of each prompt, in logits."""
    parts = [found[n].double().flatten(1) for n in ("layers", "heads", "sources") if n in found]
    parts += [found[n].double()[:, None] for n in ("metric", "constant")]
    return {**found, LARGEST: torch.cat(parts, 1).abs().amax(1)}


def assert_held(seen: Numbers, expected: Numbers, bound: float, largest: Tensor | None = None) -> None:
    """No number has moved by more than `bound` of its prompt's largest part, or of its array's."""
    assert seen.keys() == expected.keys()
    largest = expected[LARGEST] if largest is None else largest
    for name, values in expected.items():
        assert seen[name].shape == values.shape, name
        own, theirs = (held.double().reshape(len(values), -1) for held in (seen[name], values))
        assert torch.equal(own.isfinite(), theirs.isfinite()), name
        size = torch.maximum(largest.double(), theirs.abs().amax(1)) if theirs.shape[1] else largest
        if name.endswith(CHANCES):
            size = size.clamp_min(1.0)
        share = ((own - theirs).abs() / size.clamp_min(1e-300)[:, None]).nan_to_num()
        worst = float(share.amax()) if share.numel() else 0.0
        assert worst <= bound, f"{name} moved by {worst:.1e} of the largest part, at most {bound:.0e}"


def rows(found: Numbers, chosen: list[int]) -> Numbers:
    """The numbers of some prompts."""
    return {name: values[chosen] for name, values in found.items()}
