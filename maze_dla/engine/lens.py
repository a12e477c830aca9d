"""Logit lens: the metric as it can be read from the residual stream at every depth.

nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from maze_dla.engine.completeness import check_sums
from maze_dla.engine.directions import pull_back
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.engine.passes import SEQUENCES_AT_ONCE, check_fit, describe, hits, in_batch_order, run
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.lens import LensResult, Scale


def logit_lens(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    scale: Scale = "final",
    *,
    sequences_at_once: int = SEQUENCES_AT_ONCE,
) -> LensResult:
    """The metric read from the residual stream at every depth, in logits.

    Args:
        model: the model, seen through the engine's protocol.
        batch: the prompts.
        metric: a linear functional of the logits, made for this batch.
        scale: "final" reads every depth at the scale that the final norm recorded, so that the difference between
            two depths is what the layer between them contributes; "own" lets the final norm see each depth as if it
            were the last, as the original logit lens does. They can differ a lot in early layers.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.

    Raises:
        InputError: batch or metric do not fit the model, or an unknown scale.
        CompletenessError: the last depth is not the metric.
    """
    check_scale(scale)
    check_fit(model, batch, metric)
    collected: dict[str, list[Tensor]] = defaultdict(list)
    order: list[Tensor] = []
    labels: tuple[str, ...] = ()
    wanted = Wanted(depths=True)
    for plan, reads in run(model, batch, wanted, what="logit lens", sequences_at_once=sequences_at_once):
        part = metric.select(plan.prompts)
        labels = tuple(reads.depths)
        direction, constant = pull_back(model, part)
        depths = scaled_depths(model, reads, scale)
        values = torch.stack([(x * direction).sum(-1) / s + constant for x, s in depths], 1)
        whole = part(reads.logits)
        size = values.abs().amax(1).maximum(whole.abs())
        check_sums(whole, values[:, -1:], size, model.precision, "metric = the last depth", plan.prompts)
        order.append(plan.prompts)
        for name, piece in (("metric", whole), ("correct", hits(reads, batch, plan)), ("values", values)):
            collected[name].append(piece)
    joined = {name: in_batch_order(order, pieces) for name, pieces in collected.items()}
    return LensResult(**describe(model, batch, metric), labels=labels, scale=scale, **joined)


def scaled_depths(model: ResidualModel, reads: Reads, scale: Scale) -> list[tuple[Tensor, Tensor]]:
    """The residual at every depth with the scale to read it at, [..., d_model] and [...]."""
    residuals = list(reads.depths.values())
    if scale == "final":
        return [(x, reads.final_scale) for x in residuals]
    # the last depth is read at the scale that the model recorded, which is its own
    return [(x, model.final_norm.scale(x)) for x in residuals[:-1]] + [(residuals[-1], reads.final_scale)]


def check_scale(scale: str) -> None:
    """Refuse what is neither "final" nor "own"."""
    if scale not in ("final", "own"):
        raise InputError(f"scale is 'final' or 'own', got {scale!r}")
