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
from maze_dla.engine.directions import pull_back
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import Reads, ResidualModel, Wanted
from maze_dla.engine.passes import SEQUENCES_AT_ONCE, check_fit, describe, hits, in_batch_order, run
from maze_dla.engine.prompts import PromptBatch, ReadPlan
from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult

Parts = dict[str, Tensor]
ALWAYS_KEPT = (
    *("metric", "correct", "constant", "gap", "final_scale"),
    *("layers", "heads", "attn_bias", "mlp_bias"),
)


def attribute(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    *,
    neurons: bool | Literal["mean"] = False,
    sources: bool | Literal["kinds"] = False,
    sequences_at_once: int = SEQUENCES_AT_ONCE,
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
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.

    Raises:
        InputError: batch or metric do not fit the model, an unknown value of `neurons` or `sources`, or kinds asked of
            a batch that names none.
        CompletenessError: parts do not add up, at 1e-4 of the largest part in float32, 1e-10 in float64 and 5e-2 in
            half precision, of whatever the model computes its logits in (`model.precision`).
    """
    keep = _kept_parts(batch, neurons, sources)
    check_fit(model, batch, metric)
    wanted = Wanted(components=True, neurons=True, sources=bool(sources))
    moments = _Moments()
    collected: dict[str, list[Tensor]] = defaultdict(list)
    order: list[Tensor] = []
    labels: tuple[str, ...] = ()
    for plan, reads in run(model, batch, wanted, what="attributing", sequences_at_once=sequences_at_once):
        parts, labels = _contributions(model, reads, plan, metric.select(plan.prompts), bool(sources))
        if sources and plan.kinds is not None:
            parts["sources_by_kind"] = _by_kind(parts["sources"], plan.kinds[plan.rows], len(batch.kinds))
        parts["correct"] = hits(reads, batch, plan)
        parts |= _checked(parts, model, plan.prompts)
        if neurons and "neurons" in parts:
            moments.add(parts["neurons"])
        order.append(plan.prompts)
        for name in parts.keys() & keep:
            collected[name].append(parts[name])
    for name in collected.keys() & {"sources", "patterns"}:
        collected[name] = _same_width(collected[name], int(batch.lengths.max()))
    joined = {name: in_batch_order(order, pieces) for name, pieces in collected.items()}
    return AttributionResult(
        **describe(model, batch, metric),
        layer_labels=labels,
        neuron_mean=moments.mean,
        neuron_variance=moments.variance,
        kinds=batch.kinds if "sources_by_kind" in joined else (),
        **joined,  # pyright: ignore[reportArgumentType]
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


class _Moments:
    """Mean and variance over prompts that arrive in pieces (Chan et al. 1983, Am. Stat. 37, p. 242)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, values: Float[Tensor, "prompt ..."]) -> None:
        values = values.double().cpu()
        n, mean = len(values), values.mean(0)
        squares = (values - mean).pow(2).sum(0)
        if self.mean is None or self._squares is None:
            self.n, self.mean, self._squares = n, mean, squares
            return
        total, shift = self.n + n, mean - self.mean
        self._squares = self._squares + squares + shift.pow(2) * (self.n * n / total)
        self.mean = self.mean + shift * (n / total)
        self.n = total

    @property
    def variance(self) -> Tensor | None:
        return None if self._squares is None else self._squares / (self.n - 1 if self.n > 1 else float("nan"))


def _same_width(pieces: list[Tensor], width: int) -> list[Tensor]:
    """Source positions cut or filled up to the longest prompt; nothing is moved from behind a read position."""
    return [torch.nn.functional.pad(p[..., :width], (0, max(width - p.shape[-1], 0))) for p in pieces]


def _contributions(
    model: ResidualModel, reads: Reads, plan: ReadPlan, metric: LinearMetric, sources: bool
) -> tuple[Parts, tuple[str, ...]]:
    """Every component's inner product with the pulled-back direction."""
    direction, constant = pull_back(model, metric)
    direction = direction / reads.final_scale[:, None]
    layers = {name: (vector * direction).sum(-1) for name, vector in reads.embeddings.items()}
    heads, attn_bias, mlp_bias, neurons, moved = [], [], [], [], []
    for i, block in enumerate(model.blocks):
        through_W_O = torch.einsum("hed,pd->phe", block.W_O, direction)
        heads.append((reads.z[i] * through_W_O).sum(-1))
        attn_bias.append(_along(direction, block.b_O))
        layers[f"{i}_attn_out"] = (reads.attn_out[i] * direction).sum(-1)
        if sources:
            values = torch.einsum("pshe,phe->phs", reads.values[i][plan.rows.to(direction.device)], through_W_O)
            moved.append(values * reads.patterns[i])
        mlp_bias.append(_along(direction, block.b_out))
        if block.W_out is not None:
            layers[f"{i}_mlp_out"] = (reads.mlp_out[i] * direction).sum(-1)
            neurons.append(reads.neurons[i] * (direction @ block.W_out.T))
    none = direction.new_zeros(len(direction), 0)
    parts = {
        "metric": metric(reads.logits),
        "constant": constant,
        "final_scale": reads.final_scale,
        "layers": torch.stack(list(layers.values()), 1),
        "heads": torch.stack(heads, 1) if heads else none[..., None],
        "attn_bias": torch.stack(attn_bias, 1) if attn_bias else none,
        "mlp_bias": torch.stack(mlp_bias, 1) if mlp_bias else none,
    }
    if neurons:
        parts["neurons"] = torch.stack(neurons, 1)
    if sources:
        parts["sources"] = torch.stack(moved, 1)
        parts["patterns"] = torch.stack(reads.patterns, 1)
    return parts, tuple(layers)


def _by_kind(
    sources: Float[Tensor, "prompt layer head position"], kinds: Int[Tensor, "prompt position"], n_kinds: int
) -> Float[Tensor, "prompt layer head kind"]:
    """What heads moved from the tokens of each kind."""
    of_kind = torch.nn.functional.one_hot(kinds[:, : sources.shape[-1]], n_kinds).to(sources)
    return torch.einsum("plhs,psk->plhk", sources, of_kind)


def _along(direction: Float[Tensor, "prompt d_model"], bias: Float[Tensor, "d_model"] | None) -> Tensor:
    return direction.new_zeros(len(direction)) if bias is None else direction @ bias


def _checked(parts: Parts, model: ResidualModel, prompts: Tensor) -> Parts:
    """The gap of each prompt, once every sum has been checked."""
    parts = {name: values.cpu() for name, values in parts.items()}
    everything = torch.cat([parts["layers"], parts["constant"][:, None]], 1)
    size = everything.abs().amax(1).maximum(parts["metric"].abs())
    dtype = model.precision
    gap = check_sums(parts["metric"], everything, size, dtype, "metric = contributions + constant", prompts)
    n_embeddings = parts["layers"].shape[1] - len(model.blocks) * (2 if "neurons" in parts else 1)
    written = parts["layers"][:, n_embeddings:]
    attn = written[:, ::2] if "neurons" in parts else written
    heads = torch.cat([parts["heads"], parts["attn_bias"][:, :, None]], -1)
    check_sums(attn, heads, size, dtype, "attention layer = heads + b_O", prompts)
    if "neurons" in parts:
        neurons = torch.cat([parts["neurons"], parts["mlp_bias"][:, :, None]], -1)
        check_sums(written[:, 1::2], neurons, size, dtype, "MLP = neurons + b_out", prompts)
    if "sources" in parts:
        check_sums(parts["heads"], parts["sources"], size, dtype, "head = sources", prompts)
    if "sources_by_kind" in parts:
        check_sums(parts["heads"], parts["sources_by_kind"], size, dtype, "head = sources by kind", prompts)
    return {"gap": gap}
