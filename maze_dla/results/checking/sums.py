"""Checks of the numbers of a saved attribution and of a saved lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.results.checking.shapes import check_finite
from maze_dla.results.components import Component
from maze_dla.results.tolerances import PRECISIONS, ROUNDING_OF_LOGITS, tolerance_of
from maze_dla.results.words import HALVES

LARGEST_LOGIT = 1e4
OF_FEW_LOGITS = (
    "logit of the target",
    "logit difference",
    "correct minus mean of ",
)  # coefficients of 2 at most by size
MANY = 1e5  # a sum over a vocabulary may be of logits so many times as large as itself
MAY_BE_UNKNOWN = ("neuron_variance", "neuron_error")  # of one prompt, or of one cluster
EXACT = 1e-11  # of what was computed from saved numbers in double precision


@dataclass(frozen=True)
class Slack:
    """How far sums may be from their whole: what a run in this precision lets pass.

    `size` is the largest part of each prompt, `rounding` what the metric may be off by since logits are rounded.
    """

    size: Float[Tensor, " prompt"]
    tolerance: float
    rounding: float

    @classmethod
    def of(cls, info: Mapping[str, Any], dtype: torch.dtype, size: Float[Tensor, " prompt"]) -> Slack:
        """That of parts of this size; `dtype` is for files of version 0.1, which do not say what models computed in.

        Raises:
            ValueError: the info names no precision that models compute in, or a rounding of none of their logits.
        """
        name, rounding = info.get("precision", str(dtype).removeprefix("torch.")), info.get("rounding", 0.0)
        if not isinstance(name, str) or name not in PRECISIONS:
            raise ValueError(f"info: precision {name!r:.80}, expected one of {', '.join(PRECISIONS)}")
        tolerance, few = tolerance_of(PRECISIONS[name]), str(info.get("metric")).startswith(OF_FEW_LOGITS)
        logits = LARGEST_LOGIT if few else MANY * max(float(size.max()), 1.0)
        is_half = info.get("part") in HALVES
        largest = tolerance * (1.0 if is_half else ROUNDING_OF_LOGITS) * logits
        if isinstance(rounding, bool) or not isinstance(rounding, int | float) or not 0 <= rounding <= largest:
            raise ValueError(f"info: rounding {rounding!r:.80}, expected a number between 0 and {largest:.3g}")
        # a half of a contrast is a difference of what was rounded in its two runs, of whose size its rounding is
        return cls(size.clamp_min(rounding / tolerance if is_half else 1e-12), tolerance, float(rounding))

    def of_parts(self, values: Float[Tensor, "prompt ..."]) -> Slack:
        """The same for sums of these parts, of which single ones may be larger than all together."""
        if not values[0].numel():
            return self
        return replace(self, size=self.size.maximum(values.double().abs().flatten(1).amax(1)))

    def check(self, what: str, whole: Tensor, parts: Tensor, rounding: float = 0.0) -> None:
        """Refuse parts that do not sum to their whole, [prompt, ...].

        Raises:
            ValueError: naming the sum and the worst prompt.
        """
        if not whole.numel():
            return
        gap = (whole.double() - parts.double()).abs().reshape(len(whole), -1).amax(1)
        over = gap - 2 * self.tolerance * self.size - rounding
        if not (worst := over.max()) <= 0:
            i = int((over == worst).int().argmax())
            raise ValueError(f"{what}: not for prompt {i}, by {float(gap[i]):.3g}")


def check_lens(result: Any) -> None:
    """Refuse a lens whose last depth is not the metric.

    Raises:
        ValueError: naming the field.
    """
    for name in ("metric", "values"):
        check_finite(name, getattr(result, name))
    slack = _slack(result, result.values)
    slack.check("values: the last depth is the metric", result.metric, result.values[:, -1], slack.rounding)


def check_attribution(result: Any, slack: Slack | None = None) -> None:
    """Refuse an attribution whose parts do not sum to their wholes, or whose labels are not those of its layers.

    Args:
        result: the attribution.
        slack: how far sums may be off; default: as far as the result's own parts say.

    Raises:
        ValueError: naming the field.
    """
    for name, value in vars(result).items():
        if isinstance(value, Tensor) and value.is_floating_point() and name not in MAY_BE_UNKNOWN:
            check_finite(name, value)
    _check_labels(result)
    if not (getattr(result, "final_scale", result.heads.new_ones(1)) > 0).all():
        raise ValueError("final_scale: some are not above zero")
    slack = slack or _slack(result, torch.cat([result.layers, result.constant[:, None]], 1))
    parts = result.layers.double().sum(1) + result.constant.double()
    slack.check("layers and constant sum to the metric", result.metric, parts, slack.rounding)
    replace(slack, tolerance=EXACT).check(
        "gap is the metric minus its parts", result.metric.double() - parts, result.gap
    )
    for name, bias, written in (("heads", "attn_bias", "attn_out"), ("neurons", "mlp_bias", "mlp_out")):
        if (values := getattr(result, name)) is not None:
            both = values.double().sum(2) + getattr(result, bias).double()
            slack.of_parts(values).check(f"{name} and {bias} sum to their layers", _written(result, written), both)
    for name in ("sources", "sources_by_kind"):
        if (values := getattr(result, name)) is not None:
            slack.of_parts(values).check(f"{name} sum to heads", result.heads, values.double().sum(-1))
    _check_neurons(result, slack)
    if hasattr(result, "patterns") and (result.sources is not None or result.patterns is not None):
        _check_patterns(result, slack)


def _slack(result: Any, parts: Float[Tensor, "prompt part"]) -> Slack:
    size = parts.double().abs().amax(1).maximum(result.metric.double().abs())
    return Slack.of(result.info, result.metric.dtype, size)


def _check_labels(result: Any) -> None:
    """Embeddings, then each layer's attention and, in models that have them, its MLP; in a half the norm's part."""
    components, n = result.components, result.heads.shape[1]
    if result.info.get("part") in HALVES:
        if components[-1:] != (Component("norm"),):
            raise ValueError(f"layer_labels: the last of a half is the norm's part, got {result.layer_labels!r:.200}")
        components = components[:-1]
    kinds = ("attn_out", "mlp_out") if any(c.kind == "mlp_out" for c in components) else ("attn_out",)
    expected = tuple(Component(kind, i) for i in range(n) for kind in kinds)
    start = components[: len(components) - len(expected)]
    if not start or any(c.layer is not None or c.kind == "norm" for c in start) or components[len(start) :] != expected:
        raise ValueError(
            f"layer_labels: expected embeddings and the components of {n} layers, got {result.layer_labels!r:.200}"
        )


def _written(result: Any, kind: str) -> Float[Tensor, "prompt layer"]:
    columns = result.of_kind(kind)
    if columns.shape[1] != result.heads.shape[1]:
        raise ValueError(f"layer_labels: {columns.shape[1]} of {kind} for {result.heads.shape[1]} layers")
    return columns


def _check_neurons(result: Any, slack: Slack) -> None:
    """Mean and variance are those of the neurons, which sum to their layers."""
    neurons, mean, variance = result.neurons, result.neuron_mean, result.neuron_variance
    if (mean is None) != (variance is None):
        raise ValueError("neuron_mean: without neuron_variance, or the other way round")
    if mean is None:
        return
    if not ((variance >= 0) | (variance.isnan() if len(result) == 1 else False)).all() or variance.isinf().any():
        raise ValueError("neuron_variance: some are negative or no numbers")
    if (error := result.neuron_error) is not None and not ((error >= 0) | error.isnan()).all():
        raise ValueError("neuron_error: some are negative")
    if (sums := result.neuron_sums) is not None:
        wide = replace(slack, size=len(result) * slack.size.max()[None], tolerance=EXACT)
        wide.check("neuron_sums sum to the mean of neurons", len(result) * mean[None].double(), sums.sum(0)[None])
    of_means = replace(slack, size=slack.size.mean()[None])
    layer_mean, bias = (t.double().mean(0)[None] for t in (_written(result, "mlp_out"), result.mlp_bias))
    of_means = of_means.of_parts(mean[None])
    of_means.check("neuron_mean and mlp_bias sum to the mean of their layers", layer_mean, mean.double().sum(1) + bias)
    if neurons is None:
        return
    exact = replace(slack, size=slack.size.max()[None], tolerance=EXACT)
    exact.check("neuron_mean is the mean of neurons", mean[None], neurons.double().mean(0)[None])
    if len(result) > 1:
        squared = replace(exact, size=exact.size**2)
        squared.check("neuron_variance is that of neurons", variance[None], neurons.double().var(0)[None])


def _check_patterns(result: Any, slack: Slack) -> None:
    """Attention is a share of each of the prompt's own tokens; some models have sinks, which take a part of it."""
    if result.sources is None or result.patterns is None:
        raise ValueError("patterns: without sources, or the other way round")
    beyond = after_the_end(result, result.patterns.shape[-1])[:, None, None]
    for name in ("sources", "patterns"):
        if (getattr(result, name).ne(0) & beyond).any():
            raise ValueError(f"{name}: not zero behind a prompt's tokens")
    if (result.patterns < 0).any() or (result.patterns.double().sum(-1) > 1 + max(slack.tolerance, 1e-4)).any():
        raise ValueError("patterns: some are no shares of one")


def after_the_end(result: Any, n_positions: int) -> Bool[Tensor, "prompt position"]:
    """Which positions are after each prompt's end.

    Raises:
        ValueError: another number of positions than the longest prompt has.
    """
    lengths = torch.tensor([len(tokens) for tokens in result.prompt_tokens])
    if n_positions != int(lengths.max()):
        raise ValueError(f"prompt_tokens: the longest has {int(lengths.max())}, arrays have {n_positions} positions")
    return torch.arange(n_positions) >= lengths[:, None]
