"""Logit lens: the metric as it can be read from the residual stream at every depth.

nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.direct.directions import pull_back
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, FINAL_SCALE, LOGITS, Activations, Site, in_all_layers
from maze_dla.errors import InputError
from maze_dla.results.lens import LensResult, Scale
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS


def logit_lens(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    scale: Scale = "final",
    *,
    sequences_at_once: int | None = None,
) -> LensResult:
    """The metric read from the residual stream at every depth, in logits, as `maze_dla.logit_lens` does.

    Raises:
        InputError: batch or metric do not fit the model, or an unknown scale.
        CompletenessError: the last depth is not the metric, or the model's own norm reads a depth otherwise.
    """
    check_scale(scale)
    check_fit(model, batch, metric)
    depths, checks = depths_of(model), SumChecks(model.weights.precision)

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        here, logits = metric.select(micro.prompts), found[LOGITS]
        direction, constant = pull_back(model.weights, here)
        scaled = scaled_depths(model, found, depths, scale)
        values = torch.stack([(x * direction).sum(-1) / s + constant for x, s in scaled], 1)
        parts = {"metric": here(logits), "values": values, "logit_size": here.size(logits)}
        size = values.abs().amax(1).maximum(parts["metric"].abs()).maximum(ROUNDING_OF_LOGITS * parts["logit_size"])
        checks.add(parts["metric"], values[:, -1:], size, "metric = the last depth", micro.prompts)
        if scale == "own":
            check_own_scales(checks, model, scaled, micro.prompts)
        return parts | judged(logits, here.answers, here.foils)

    sites = [*depths, FINAL_SCALE, LOGITS]
    parts = run(model, batch, sites, measure, what="logit lens", sequences_at_once=sequences_at_once)
    checks.finish()
    described = describe(model, batch, metric, parts.pop("predicted"), parts.pop("logit_size"))
    correct = parts.pop("correct", None)
    return LensResult(correct=correct, **described, labels=depth_labels(depths), scale=scale, **parts)


def depths_of(model: ResidualModel) -> list[Site]:
    """The sites at which the residual stream is read, from the embeddings to the last block."""
    names = [name for name in ("resid_pre", "resid_mid") if name in model.sites]
    return [*in_all_layers(names, model.weights.shape.n_layers), FINAL_RESIDUAL]


def depth_labels(depths: Sequence[Site]) -> tuple[str, ...]:
    """As 0_pre, 0_mid, 1_pre, ..., final_post."""
    return tuple(
        "final_post" if site == FINAL_RESIDUAL else f"{site.layer}_{site.name.removeprefix('resid_')}"
        for site in depths
    )


def scaled_depths(
    model: ResidualModel, found: Activations, depths: Sequence[Site], scale: Scale
) -> list[tuple[Tensor, Tensor]]:
    """The residual at every depth with the scale to read it at, [prompt, d_model] and [prompt]."""
    if scale == "final":
        return [(found[site], found[FINAL_SCALE]) for site in depths]
    # the last depth is read at the scale that the model recorded, which is its own
    norm = model.weights.final_norm
    own = [(found[site], norm.scale(found[site])) for site in depths[:-1]]
    return [*own, (found[depths[-1]], found[FINAL_SCALE])]


def check_own_scales(
    checks: SumChecks, model: ResidualModel, scaled: list[tuple[Tensor, Tensor]], prompts: Int[Tensor, " prompt"]
) -> None:
    """Compare depths that are read at their own scale with what the model's own final norm makes of them."""
    if model.own_norm is None:
        return
    ours = torch.stack([model.weights.final_norm.apply(x, s) for x, s in scaled], 1).flatten(1)
    normed = model.own_norm(torch.stack([x for x, _ in scaled], 1)).flatten(1).to(ours)
    worst = (ours - normed).abs().nan_to_num(nan=torch.inf).argmax(1, keepdim=True)
    norm, our_norm, size = normed.gather(1, worst)[:, 0], ours.gather(1, worst), normed.abs().amax(1)
    what = "the model's own final norm = the norm at each depth's own scale"
    checks.add(norm, our_norm, size, what, prompts)


def check_scale(scale: str) -> None:
    """Refuse what is neither "final" nor "own"."""
    if scale not in ("final", "own"):
        raise InputError(f"scale is 'final' or 'own', got {scale!r}")
