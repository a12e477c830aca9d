"""Direct logit attribution: which components write the metric, exactly.

The metric's direction is pulled back through the unembedding, the frozen final norm and W_O or W_out, and meets each
component's own small activation: no component's output in the residual stream is ever stacked.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.direct.directions import project, pull_back
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import EMBEDDINGS, FINAL_SCALE, LOGITS, Activations, Site, in_all_layers
from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.buckets import buckets_of
from maze_dla.results.columns import groups_of
from maze_dla.results.components import Component
from maze_dla.results.moments import PromptMoments, sum_in_double
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS

FIELDS = (
    *("metric", "predicted", "correct", "preferred", "constant", "final_scale"),
    *("heads", "attn_bias", "mlp_bias", "sources_by_kind", "logit_size"),
)


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
    keep = _kept_parts(batch, neurons, sources)
    check_fit(model, batch, metric)
    n_layers, checks = model.weights.shape.n_layers, SumChecks(model.weights.precision)
    about = batch.columns[batch.unit]
    moments = PromptMoments(groups_of(about), buckets_of(about))
    written = [name for name in ("attn_out", "mlp_out") if name in model.sites]
    sites = [Site(name) for name in model.embeddings] + [FINAL_SCALE, LOGITS]
    sites += in_all_layers(["z", *written, *(["neurons"] if "neurons" in model.sites else [])], n_layers)
    if sources:
        sites += [Site("v", layer, position="all") for layer in range(n_layers)] + in_all_layers(["pattern"], n_layers)

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        here = metric.select(micro.prompts)
        parts = _contributions(model, found, micro, here)
        if sources and micro.kinds is not None:
            parts["sources_by_kind"] = _by_kind(parts["sources"], micro.kinds[micro.rows], len(batch.kinds))
        _check(checks, parts, micro.prompts)
        parts |= judged(found[LOGITS], here.answers, here.foils)
        if neurons and "neurons" in parts:
            # the last step: a micro-batch that memory cut short counts once
            moments.add(parts["neurons"], micro.prompts)
        return {name: values for name, values in parts.items() if name in keep or isinstance(name, Component)}

    parts = run(model, batch, sites, measure, what="attributing", sequences_at_once=sequences_at_once)
    checks.finish()
    writers = [Site(name) for name in model.embeddings] + in_all_layers(written, n_layers)
    components = [c for c in (Component(site.name, site.layer) for site in writers) if c in parts]
    for name in parts.keys() & {"sources", "patterns"}:
        parts[name] = parts[name][..., : int(batch.lengths.max())]
    layers = torch.stack([parts.pop(component) for component in components], 1)
    return AttributionResult(
        correct=parts.pop("correct", None),
        **describe(model, batch, metric, parts.pop("predicted"), parts.pop("logit_size")),
        layers=layers,
        gap=parts["metric"].double() - torch.cat([layers, parts["constant"][:, None]], 1).double().sum(1),
        layer_labels=tuple(map(str, components)),
        neuron_mean=moments.mean,
        neuron_variance=moments.variance,
        neuron_error=moments.error,
        neuron_crossed=moments.crossed,
        neuron_sums=moments.sums,
        kinds=batch.kinds if "sources_by_kind" in parts else (),
        **parts,
    )


def _kept_parts(batch: PromptBatch, neurons: object, sources: object) -> set[str]:
    """The arrays with a prompt axis that are kept for what was asked.

    Raises:
        InputError: an unknown value, or kinds asked of a batch that names none.
    """
    if not (isinstance(neurons, bool) or neurons == "mean"):
        raise InputError(f"neurons is False, True or 'mean', got {neurons!r}")
    if not (isinstance(sources, bool) or sources == "kinds"):
        raise InputError(f"sources is False, True or 'kinds', got {sources!r}")
    if sources == "kinds" and batch.sequence_kinds is None:
        raise InputError("this batch does not say of which kind its tokens are: sources is False or True")
    return {
        *FIELDS,
        *({"neurons"} if neurons is True else ()),
        *({"sources", "patterns"} if sources is True else ()),
    }


def _contributions(model: ResidualModel, found: Activations, micro: MicroBatch, metric: LinearMetric) -> Parts:
    """Every component's inner product with the pulled-back direction."""
    weights = model.weights
    direction, constant = pull_back(weights, metric)
    direction = direction / found[FINAL_SCALE][:, None]
    of_layers = defaultdict(list)
    neurons = direction.new_empty(len(direction), weights.shape.n_layers, weights.shape.d_mlp or 0)
    for i, block in enumerate(weights.blocks):
        through_W_O = torch.einsum("hed,pd->phe", at_least_single(block.W_O), direction)
        of_layers["heads"].append((found[Site("z", i)] * through_W_O).sum(-1))
        of_layers["attn_bias"].append(project(block.b_O, direction))
        of_layers["mlp_bias"].append(project(block.b_out, direction))
        if (pattern := found.get(Site("pattern", i))) is not None:
            values = found[Site("v", i, position="all")]
            of_layers["patterns"].append(pattern)
            of_layers["sources"].append(value_contributions(values, through_W_O, micro) * pattern)
        if block.W_out is not None:
            out = direction @ at_least_single(block.W_out).T
            torch.mul(found[Site("neurons", i)], out, out=neurons[:, i])
    return {
        "metric": metric(found[LOGITS]),
        "logit_size": metric.size(found[LOGITS]),
        "constant": constant,
        "final_scale": found[FINAL_SCALE],
        **{
            Component(site.name, site.layer): (written * direction).sum(-1)
            for site, written in found.items()
            if site.name in (*EMBEDDINGS, "attn_out", "mlp_out")
        },
        **({"neurons": neurons} if neurons.numel() else {}),
        **{name: torch.stack(values, 1) for name, values in of_layers.items()},
    }


def value_contributions(
    values: Float[Tensor, "sequence position kv_head d_head"],
    through_W_O: Float[Tensor, "prompt head d_head"],
    micro: MicroBatch,
) -> Float[Tensor, "prompt head position"]:
    """The contribution of the value at each position if a head looked nowhere else."""
    values = values.repeat_interleave(through_W_O.shape[1] // values.shape[2], 2)
    return torch.einsum("pshe,phe->phs", values[to_device(micro.rows, values.device)], through_W_O)


def _by_kind(
    sources: Float[Tensor, "prompt layer head position"], kinds: Int[Tensor, "prompt position"], n_kinds: int
) -> Float[Tensor, "prompt layer head kind"]:
    """Contributions that heads moved from the tokens of each kind."""
    here = to_device(kinds[:, : sources.shape[-1], None], sources.device)
    of_kind = (here == torch.arange(n_kinds, device=sources.device)).to(sources)
    return torch.einsum("plhs,psk->plhk", sources, of_kind)


def _check(checks: SumChecks, parts: Parts, prompts: Int[Tensor, " prompt"]) -> None:
    """Check every sum of a micro-batch."""
    writers = {c: values for c, values in parts.items() if isinstance(c, Component)}
    everything = torch.stack([*writers.values(), parts["constant"]], 1)
    size = everything.abs().amax(1).maximum(parts["metric"].abs())
    of_logits = size.maximum(ROUNDING_OF_LOGITS * parts["logit_size"])
    checks.add(parts["metric"], everything, of_logits, "metric = contributions + constant", prompts)
    wholes = {
        "heads": ("attention layer = heads + b_O", _of_kind(writers, "attn_out"), "attn_bias"),
        "neurons": ("MLP = neurons + b_out", _of_kind(writers, "mlp_out"), "mlp_bias"),
        "sources": ("head = sources", parts["heads"], None),
        "sources_by_kind": ("head = sources by kind", parts["heads"], None),
    }
    for name, (what, whole, bias) in wholes.items():
        if (values := parts.get(name)) is not None:
            total = sum_in_double(values)
            both = [total] if bias is None else [total, parts[bias].to(total)]
            largest = torch.linalg.vector_norm(values.flatten(1), torch.inf, dim=1)
            checks.add(whole, torch.stack(both, -1), size.maximum(largest), what, prompts)


def _of_kind(writers: dict[Component, Tensor], kind: str) -> Float[Tensor, "prompt layer"]:
    """Contributions of the attention or the MLP of each layer; no columns where no layer has one."""
    columns = [values for component, values in writers.items() if component.kind == kind]
    return torch.stack(columns, 1) if columns else next(iter(writers.values()))[:, None][:, :0]
