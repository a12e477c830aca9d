"""Direct logit attribution: which components write the metric, exactly."""

from __future__ import annotations

from typing import Literal

import torch

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.direct.directions import pull_back
from maze_dla.engine.direct.parts import (
    by_kind,
    check_parts,
    components_of,
    contributions,
    fields_of,
    kept_parts,
    sites_to_record,
    sizes,
    value_contributions,
)
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import FINAL_SCALE, LOGITS, Activations, Site
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.buckets import buckets_of
from maze_dla.results.columns import groups_of
from maze_dla.results.components import Component
from maze_dla.results.moments import PromptMoments, neuron_fields


def attribute(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    neurons: bool | Literal["mean"] = False,
    sources: bool | Literal["kinds"] = False,
    sequences_at_once: int | None = None,
) -> AttributionResult:
    """Split the metric of every prompt over layers, heads, neurons and sources, as `maze_dla.attribute` does.

    One forward pass. All contributions are in logits, at the scale that the final norm recorded for that prompt.

    Raises:
        InputError: batch or metric do not fit the model, an unknown value of `neurons` or `sources`, or kinds asked of
            a batch that names none.
        CompletenessError: parts do not add up.
    """
    keep = kept_parts(batch, neurons, sources)
    check_fit(model, batch, metric)
    about, checks = batch.columns[batch.unit], SumChecks(model.weights.precision)
    moments = PromptMoments(groups_of(about), buckets_of(about))

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        here = metric.select(micro.prompts)
        parts = parts_of_run(model, found, micro, here, batch.kinds)
        check_parts(checks, parts, micro.prompts, *sizes(parts))
        parts |= judged(found[LOGITS], here.answers, here.foils)
        if neurons and "neurons" in parts:
            # the last step: a micro-batch that memory cut short counts once
            moments.add(parts["neurons"], micro.prompts)
        return {name: values for name, values in parts.items() if name in keep or isinstance(name, Component)}

    sites = sites_to_record(model, sources)
    parts = run(model, batch, sites, measure, what="attributing", sequences_at_once=sequences_at_once)
    checks.finish()
    described = describe(model, batch, metric, parts.pop("predicted"), parts.pop("logit_size"))
    fields = fields_of(parts, components_of(model, parts), batch, neuron_fields(moments))
    return AttributionResult(**described, **fields)


def parts_of_run(
    model: ResidualModel, found: Activations, micro: MicroBatch, metric: LinearMetric, kinds: tuple[str, ...]
) -> Parts:
    """All parts of the metric of each prompt, at its own scale; sources where values and patterns were recorded."""
    direction, constant = pull_back(model.weights, metric)
    patterns = [found[Site("pattern", i)] for i in range(len(model.weights.blocks)) if Site("pattern", i) in found]

    def sources(layer: int, through_W_O: torch.Tensor) -> torch.Tensor:
        values = found[Site("v", layer, position="all")]
        return value_contributions(values, through_W_O, micro) * patterns[layer]

    scaled = direction / found[FINAL_SCALE][:, None]
    parts: Parts = {
        "metric": metric(found[LOGITS]),
        "logit_size": metric.size(found[LOGITS]),
        "constant": constant,
        "final_scale": found[FINAL_SCALE],
        **contributions(model, found, scaled, sources=sources if patterns else None),
        **({"patterns": torch.stack(patterns, 1)} if patterns else {}),
    }
    if patterns and micro.kinds is not None:
        parts["sources_by_kind"] = by_kind(parts["sources"], micro.kinds[micro.rows], len(kinds))
    return parts
