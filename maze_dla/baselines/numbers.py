"""The numbers that a baseline holds: means with their labels, and those of every prompt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens.refusals import foreign_errors_named
from maze_dla.analysis.direct import attribute, logit_lens, predict
from maze_dla.analysis.running import running
from maze_dla.engine.forward.running import in_micro_batches
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.lens import LensResult
from maze_dla.results.tolerances import HALF_TOLERANCE, TOLERANCES

# how far a number may be from the recorded one, as a share of the largest part: in float32 what other engines, batches
# and versions of the libraries move at most; sums are held to ten times that
FLOAT32_TOLERANCE = 1e-5
OF_EACH = " of each prompt"
LARGEST_PER_PROMPT = 250_000  # numbers; beyond, a baseline holds their means alone


@dataclass(frozen=True)
class Number:
    """One quantity with an axis of labels, or a number for each prompt.

    `tolerance` is a share of `largest`, the largest part (or value) beside it, in the units of the values.
    """

    values: np.ndarray
    labels: tuple[str, ...] | None  # None where the first axis is that of prompts
    tolerance: float
    largest: float
    interval: tuple[float, float] | None = None

    @property
    def allowed(self) -> float:
        """How far a value may be from the recorded one."""
        return self.tolerance * self.largest


@dataclass(frozen=True)
class Measured:
    """All numbers of a run by their names, the likeliest token of each prompt, and where two are about as likely."""

    numbers: dict[str, Number]
    predicted: tuple[str, ...]
    near_ties: tuple[int, ...]

    def labels_of(self, name: str) -> tuple[str, ...]:
        """The names along the axes of a number of each prompt beside that of prompts: those of its mean."""
        mean = self.numbers.get(name.removesuffix(OF_EACH))
        return () if mean is None else mean.labels or ()


def tolerance_in(dtype: torch.dtype) -> float:
    """The share of the largest part that a baseline recorded in this precision allows."""
    return FLOAT32_TOLERANCE if dtype == torch.float32 else TOLERANCES.get(dtype, HALF_TOLERANCE)


def measure(model: Any, batch: PromptBatch, metric: LinearMetric, options: dict[str, Any]) -> Measured:
    """Everything that a baseline holds, of a model and its prompts.

    Args:
        model: a `MazeModel` or a model of TransformerLens.
        batch: the prompts.
        metric: made for them.
        options: `sequences_at_once` and `forward`, as `attribute` takes them.

    Raises:
        InputError, ModelError, CompletenessError: as `attribute`.
    """
    result = attribute(model, batch, metric, sources="kinds" if batch.kinds else False, **options)
    lens = logit_lens(model, batch, metric, scale="own", **options)
    called = _called(model, batch, metric, options.get("sequences_at_once"))
    tolerance = tolerance_in(getattr(torch, result.info["precision"]))
    ties = _near_ties(model, batch, tolerance * _largest(result.layers), options)
    means = _means(result, lens, called, tolerance)
    if result.accuracy is not None:
        found = result.accuracy
        values = np.array([found.value])
        means["accuracy"] = Number(values, ("share",), len(ties) / len(batch), 1.0, found.interval)
    each = _per_prompt(result, lens, called, tolerance)
    if sum(number.values.size for number in each.values()) > LARGEST_PER_PROMPT:
        each = {}
    return Measured({**means, **each}, result.predicted or (), ties)


def _called(model: Any, batch: PromptBatch, metric: LinearMetric, sequences_at_once: int | None) -> Tensor:
    """The metric of each prompt when the model itself is called, with whatever it does beside what its weights say."""
    with running(model, "hooked") as residual:
        net = residual.source
        name = str(residual.info["model"])

        def compute(micro: MicroBatch) -> tuple[Tensor, dict[str, Tensor]]:
            tokens = micro.tokens.to(residual.weights.W_U.device)
            # a tokenizer would mark tokens that look like padding
            mask = {} if getattr(net, "tokenizer", None) is None else {"attention_mask": torch.ones_like(tokens)}
            with foreign_errors_named(name, "calling it"):
                logits = net(tokens, return_type="logits", **mask)
            read = logits[micro.rows.to(logits.device), micro.positions.to(logits.device)]
            return micro.prompts, {"metric": metric.select(micro.prompts)(at_least_single(read))}

        run = {"what": "calling the model", "sequences_at_once": sequences_at_once}
        return in_micro_batches(residual, batch, compute, **run)["metric"]


def _means(result: AttributionResult, lens: LensResult, called: Tensor, tolerance: float) -> dict[str, Number]:
    """The means over prompts."""
    size = _largest(result.layers)
    heads = [f"L{layer}H{head}" for layer, head in np.ndindex(*result.heads.shape[1:])]
    layers = (*result.layer_labels, "constant")
    parts: dict[str, tuple[Tensor, Iterable[str], float]] = {
        "layers": (torch.cat([result.layers, result.constant[:, None]], 1), layers, size),
        "heads": (result.heads, heads, size),
        "attn_bias": (result.attn_bias, (f"L{i}" for i in range(result.attn_bias.shape[1])), size),
        "lens": (lens.values, lens.labels, max(size, _largest(lens.values))),
        "final_scale": (result.final_scale, ("mean",), _largest(result.final_scale)),
    }
    if result.sources_by_kind is not None:
        names = [f"{head} {kind}" for head in heads for kind in result.kinds]
        parts["sources"] = (result.sources_by_kind, names, size)
    found = {
        name: Number(_mean(values), tuple(labels), tolerance, largest)
        for name, (values, labels, largest) in parts.items()
    }
    summary = result.summarized(called)
    interval = (float(summary.low), float(summary.high)) if summary.n_clusters > 1 else None
    found["metric"] = Number(_mean(called), ("mean",), tolerance, _largest_of_metric(result, tolerance), interval)
    return found


def _largest_of_metric(result: AttributionResult, tolerance: float) -> float:
    """The largest part, or what in half precision the rounding of logits alone comes to, as sums are held to it."""
    rounding = float(result.info.get("rounding", 0.0)) if tolerance == HALF_TOLERANCE else 0.0
    return max(_largest(result.layers), rounding / tolerance)


def _per_prompt(result: AttributionResult, lens: LensResult, called: Tensor, tolerance: float) -> dict[str, Number]:
    """The numbers of each prompt."""
    size = _largest(result.layers)
    arrays = {
        "metric": (called, _largest_of_metric(result, tolerance)),
        "layers": (result.layers, size),
        "heads": (result.heads, size),
        "lens": (lens.values, max(size, _largest(lens.values))),
    }
    return {
        f"{name}{OF_EACH}": Number(_array(values), None, tolerance, largest)
        for name, (values, largest) in arrays.items()
    }


def _near_ties(model: Any, batch: PromptBatch, closer_than: float, options: dict[str, Any]) -> tuple[int, ...]:
    """The prompts whose two likeliest tokens are closer in logits than numbers may move."""
    likeliest = predict(model, batch, k=min(2, batch.d_vocab), **_batches(options)).probability.to_numpy()
    pairs = np.log(likeliest.reshape(len(batch), -1).astype(np.float64).clip(1e-300))
    return tuple(int(i) for i in np.flatnonzero(pairs[:, 0] - pairs[:, -1] <= 2 * closer_than))


def _batches(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name == "sequences_at_once"}


def _largest(values: Tensor) -> float:
    return max(float(values.abs().max()), 1e-12)


def _mean(values: Tensor) -> np.ndarray:
    return values.double().mean(0).flatten().cpu().numpy()


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
