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

from maze_dla.engine.completeness import check_sums
from maze_dla.engine.devices import sent
from maze_dla.engine.directions import pull_back
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.engine.passes import Parts, check_fit, describe, hits, run
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.queue import ReadPlan
from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.moments import Moments, sum_in_double
from maze_dla.results.tolerances import ROUNDING_OF_LOGITS

ALWAYS_KEPT = (
    *("metric", "correct", "preferred", "constant", "gap", "final_scale"),
    *("layers", "heads", "attn_bias", "mlp_bias"),
)
TOTAL, LARGEST, EMBEDDING = "total of ", "largest of ", "embedding "  # before the names of parts
LOGIT_SIZE = "size of the logits"
SUMMED = ("heads", "neurons", "sources", "sources_by_kind")


def attribute(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    neurons: bool | Literal["mean"] = False,
    sources: bool | Literal["kinds"] = False,
    sequences_at_once: int | None = None,
) -> AttributionResult:
    """Split the metric of every prompt over layers, heads and, on request, neurons and source positions.

    One forward pass. All contributions are in logits, at the scale that the final norm recorded for that prompt.

    Args:
        model: the model, seen through the engine's protocol.
        batch: the prompts.
        metric: a linear functional of the logits, made for this batch.
        neurons: True for [prompt, layer, neuron]; "mean" for mean and variance over prompts alone, which holds no
            array with a prompt axis.
        sources: also split every head over the positions that it attends to; "kinds" keeps only the sums over the
            tokens of each kind that the batch names (a maze's adjacency list, origin, ...).
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers. Default: as
            many as are fast on the model's device.

    Raises:
        InputError: batch or metric do not fit the model, an unknown value of `neurons` or `sources`, or kinds asked of
            a batch that names none.
        CompletenessError: parts do not add up, at 1e-4 of the largest part in float32, 1e-10 in float64 and 5e-2 in
            half precision, of whatever the model computes its logits in (`model.precision`).
    """
    keep = _kept_parts(batch, neurons, sources)
    check_fit(model, batch, metric)
    wanted = Wanted(components=True, neurons=True, sources=bool(sources))
    moments = Moments()
    labels: list[str] = []

    def measure(plan: ReadPlan, reads: Reads) -> Parts:
        here = metric.select(plan.prompts)
        parts = _contributions(model, reads, plan, here, bool(sources))
        labels[:] = _layer_labels(reads, len(model.blocks))
        if sources and plan.kinds is not None:
            parts["sources_by_kind"] = _by_kind(parts["sources"], plan.kinds[plan.rows], len(batch.kinds))
        parts |= hits(reads.logits, here.answers, here.foils)
        keeps = {*keep, LOGIT_SIZE}
        kept = {name: v for name, v in parts.items() if name in keeps or name.startswith(EMBEDDING)} | _totals(parts)
        if neurons and "neurons" in parts:
            moments.add(parts["neurons"])  # the last step: a piece that memory cut short counts once
        return kept

    parts = run(model, batch, wanted, measure, what="attributing", sequences_at_once=sequences_at_once)
    parts["layers"] = _with_embeddings(parts, labels)
    parts["gap"] = _check(parts, model.precision, labels)
    for name in parts.keys() & {"sources", "patterns"}:
        parts[name] = parts[name][..., : int(batch.lengths.max())]
    return AttributionResult(
        correct=parts.pop("correct", None),
        **describe(model, batch, metric, parts[LOGIT_SIZE]),
        layer_labels=tuple(labels),
        neuron_mean=moments.mean,
        neuron_variance=moments.variance,
        kinds=batch.kinds if "sources_by_kind" in parts else (),
        **{name: values for name, values in parts.items() if name in keep},  # pyright: ignore[reportArgumentType]
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
    keep = {*ALWAYS_KEPT, "sources_by_kind"}
    if neurons is True:
        keep |= {"neurons"}
    return keep | {"sources", "patterns"} if sources is True else keep


def _contributions(model: ResidualModel, reads: Reads, plan: ReadPlan, metric: LinearMetric, sources: bool) -> Parts:
    """Every component's inner product with the pulled-back direction."""
    direction, constant = pull_back(model, metric)
    direction = direction / reads.final_scale[:, None]
    embeddings = {EMBEDDING + name: (vector * direction).sum(-1) for name, vector in reads.embeddings.items()}
    layers = []
    parts = defaultdict(list)
    neurons = direction.new_empty(len(direction), len(reads.neurons), model.shape.d_mlp or 0)
    for i, block in enumerate(model.blocks):
        through_W_O = torch.einsum("hed,pd->phe", at_least_single(block.W_O), direction)
        parts["heads"].append((reads.z[i] * through_W_O).sum(-1))
        parts["attn_bias"].append(_along(direction, block.b_O))
        layers.append((reads.attn_out[i] * direction).sum(-1))
        if sources:
            parts["sources"].append(_moved(reads.values[i], through_W_O, plan) * reads.patterns[i])
        parts["mlp_bias"].append(_along(direction, block.b_out))
        if reads.mlp_out:
            layers.append((reads.mlp_out[i] * direction).sum(-1))
        if block.W_out is not None:
            torch.mul(reads.neurons[i], direction @ at_least_single(block.W_out).T, out=neurons[:, i])
    none = direction.new_zeros(len(direction), 0)
    empty = {"heads": none[..., None], "attn_bias": none, "mlp_bias": none}
    return {
        "metric": metric(reads.logits),
        LOGIT_SIZE: metric.size(reads.logits),
        "constant": constant,
        "final_scale": reads.final_scale,
        **embeddings,
        "layers": torch.stack(layers, 1),
        **({"patterns": torch.stack(reads.patterns, 1)} if sources else {}),
        **({"neurons": neurons} if reads.neurons else {}),
        **empty,
        **{name: torch.stack(values, 1) for name, values in parts.items()},
    }


def _moved(
    values: Float[Tensor, "sequence position head d_head"],
    through_W_O: Float[Tensor, "prompt head d_head"],
    plan: ReadPlan,
) -> Float[Tensor, "prompt head position"]:
    """What the value at each position would write if a head looked nowhere else."""
    return torch.einsum("pshe,phe->phs", values[sent(plan.rows, values.device)], through_W_O)


def _layer_labels(reads: Reads, n_layers: int) -> list[str]:
    return [
        f"{i}_{what}"
        for i in range(n_layers)
        for what, found in (("attn_out", reads.attn_out), ("mlp_out", reads.mlp_out))
        if found
    ]


def _with_embeddings(parts: Parts, labels: list[str]) -> Float[Tensor, "prompt component"]:
    """The layers behind the embeddings, whose labels are put in front; pieces may have different ones, or 0 of some."""
    names = [name for name in parts if name.startswith(EMBEDDING)]
    labels[:0] = [name.removeprefix(EMBEDDING) for name in names]
    return torch.cat([parts.pop(name)[:, None] for name in names] + [parts["layers"]], 1)


def _by_kind(
    sources: Float[Tensor, "prompt layer head position"], kinds: Int[Tensor, "prompt position"], n_kinds: int
) -> Float[Tensor, "prompt layer head kind"]:
    """What heads moved from the tokens of each kind."""
    here = sent(kinds[:, : sources.shape[-1], None], sources.device)
    of_kind = (here == torch.arange(n_kinds, device=sources.device)).to(sources)
    return torch.einsum("plhs,psk->plhk", sources, of_kind)


def _along(direction: Float[Tensor, "prompt d_model"], bias: Float[Tensor, "d_model"] | None) -> Tensor:
    return direction.new_zeros(len(direction)) if bias is None else direction @ at_least_single(bias)


def _totals(parts: Parts) -> Parts:
    """The sums of all kinds of parts, in double precision, and their sizes: checks need no more, so arrays can go."""
    found = {name: parts[name] for name in SUMMED if name in parts and parts[name].numel()}
    sizes = {LARGEST + name: torch.linalg.vector_norm(x.flatten(1), torch.inf, dim=1) for name, x in found.items()}
    return {TOTAL + name: sum_in_double(x) for name, x in found.items()} | sizes


def _check(parts: Parts, dtype: torch.dtype, labels: list[str]) -> Float[Tensor, "prompt"]:
    """The gap of each prompt, once every sum has been checked."""
    everything = torch.cat([parts["layers"], parts["constant"][:, None]], 1)
    size = everything.abs().amax(1).maximum(parts["metric"].abs())
    of_logits = size.maximum(ROUNDING_OF_LOGITS * parts[LOGIT_SIZE])
    gap = check_sums(parts["metric"], everything, of_logits, dtype, "metric = contributions + constant")
    wholes = {
        "heads": ("attention layer = heads + b_O", _written(parts, labels, "attn_out"), "attn_bias"),
        "neurons": ("MLP = neurons + b_out", _written(parts, labels, "mlp_out"), "mlp_bias"),
        "sources": ("head = sources", parts["heads"], None),
        "sources_by_kind": ("head = sources by kind", parts["heads"], None),
    }
    for name, (what, whole, bias) in wholes.items():
        if (total := parts.get(TOTAL + name)) is not None:
            both = [total] if bias is None else [total, parts[bias].double()]
            check_sums(whole, torch.stack(both, -1), size.maximum(parts[LARGEST + name]), dtype, what)
    return gap


def _written(parts: Parts, labels: list[str], what: str) -> Float[Tensor, "prompt layer"]:
    return parts["layers"][:, [i for i, label in enumerate(labels) if label.endswith(what)]]
