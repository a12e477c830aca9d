"""Logit lens: the metric as it can be read from the residual stream at every depth.

nostalgebraist 2020, "interpreting GPT: the logit lens".
"""

from __future__ import annotations

import torch
from torch import Tensor

from maze_dla.engine.completeness import check_sums
from maze_dla.engine.directions import pull_back
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.engine.passes import Parts, check_fit, describe, hits, run
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.queue import ReadPlan
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
    labels: list[str] = []

    def measure(plan: ReadPlan, reads: Reads) -> Parts:
        part = metric.select(plan.prompts)
        direction, constant = pull_back(model, part)
        labels[:] = reads.depths
        depths = scaled_depths(model, reads, scale)
        values = torch.stack([(x * direction).sum(-1) / s + constant for x, s in depths], 1)
        parts = {"metric": part(reads.logits), "values": values, "logit_size": part.size(reads.logits)}
        parts |= hits(reads.logits, part.answers, part.foils)
        return parts | (compared_norms(model, depths) if scale == "own" else {})

    wanted = Wanted(depths=True)
    parts = run(model, batch, wanted, measure, what="logit lens", sequences_at_once=sequences_at_once)
    size = parts["values"].abs().amax(1).maximum(parts["metric"].abs())
    logit_size = parts.pop("logit_size")
    size = size.maximum(ROUNDING_OF_LOGITS * logit_size)
    check_sums(parts["metric"], parts["values"][:, -1:], size, model.precision, "metric = the last depth")
    check_norms(parts, model.precision)
    described = describe(model, batch, metric, logit_size)
    correct = parts.pop("correct", None)
    return LensResult(correct=correct, **described, labels=tuple(labels), scale=scale, **parts)  # pyright: ignore[reportArgumentType]


def scaled_depths(model: ResidualModel, reads: Reads, scale: Scale) -> list[tuple[Tensor, Tensor]]:
    """The residual at every depth with the scale to read it at, [..., d_model] and [...]."""
    residuals = list(reads.depths.values())
    if scale == "final":
        return [(x, reads.final_scale) for x in residuals]
    # the last depth is read at the scale that the model recorded, which is its own
    return [(x, model.final_norm.scale(x)) for x in residuals[:-1]] + [(residuals[-1], reads.final_scale)]


def compared_norms(model: ResidualModel, depths: list[tuple[Tensor, Tensor]]) -> Parts:
    """Where depths that are read at their own scale are furthest from what the model's own final norm makes of them.

    "norm" is the model's number there, "our_norm" the one that is read, "norm_size" the largest by size; empty where
    the model has no norm to ask.
    """
    own_norm = getattr(model, "own_norm", None)
    normed = None if own_norm is None else own_norm(torch.stack([x for x, _ in depths], 1))
    if normed is None:
        return {}
    ours = torch.stack([model.final_norm.apply(x, s) for x, s in depths], 1).flatten(1)
    normed = normed.flatten(1).to(ours)
    worst = (ours - normed).abs().nan_to_num(nan=torch.inf).argmax(1, keepdim=True)
    found = {"norm": normed.gather(1, worst)[:, 0], "our_norm": ours.gather(1, worst)[:, 0]}
    return {**found, "norm_size": normed.abs().amax(1)}


def check_norms(parts: Parts, dtype: torch.dtype) -> None:
    """Take the numbers of `compared_norms` out again, once they are known to agree.

    Raises:
        CompletenessError: a depth that the model's own final norm reads otherwise.
    """
    if "norm" in parts:
        norm, ours, size = (parts.pop(name) for name in ("norm", "our_norm", "norm_size"))
        check_sums(norm, ours[:, None], size, dtype, "the model's own final norm = the norm at each depth's own scale")


def check_scale(scale: str) -> None:
    """Refuse what is neither "final" nor "own"."""
    if scale not in ("final", "own"):
        raise InputError(f"scale is 'final' or 'own', got {scale!r}")
