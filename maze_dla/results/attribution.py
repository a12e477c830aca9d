"""The result of a direct logit attribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.base import PromptResult, format_mean
from maze_dla.results.lens import LensResult
from maze_dla.results.statistics import Summary, summarize, summary_from_moments
from maze_dla.results.words import of_a_layer

if TYPE_CHECKING:
    import pandas as pd


class RankedPart(NamedTuple):
    """A head or neuron with its mean contribution over prompts and 95% interval, in logits."""

    layer: int
    number: int
    mean: float
    low: float
    high: float
    name: str

    def __repr__(self) -> str:
        """As "L5H3 +0.350 [+0.199, +0.500]"; without an interval where there was one prompt."""
        interval = "" if math.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.name} {self.mean:+.3f}{interval}"


@dataclass(frozen=True, eq=False, repr=False)
class AttributionResult(PromptResult):
    """Contributions to the metric at the frozen scale of the final norm, all in logits.

    For every prompt `layers.sum(1) + constant = metric`, up to `gap` (`metric` minus the sum). `layers` has one column
    for each of `layer_labels`: embed, pos_embed, 0_attn_out, 0_mlp_out, ... Whatever else was in the residual stream
    before the first block is `added`: a steering vector, positions without a hook of their own. Within a layer, heads
    and `attn_bias` (b_O) sum to its attention; neurons and `mlp_bias` (b_out) to its MLP; sources to their head. b_V
    reaches a head through its pattern, so it is part of the head and of its sources. The bias of the final norm and
    b_U form the constant.

    `neurons` is [prompt, layer, neuron] where each prompt's were asked for; `neuron_mean` and `neuron_variance`
    (over prompts, unbiased) are there whenever neurons were asked for. `sources` and `patterns`, [prompt, layer,
    head, position], hold what each head moved from each position and the attention it paid there;
    `sources_by_kind`, [prompt, layer, head, kind], sums the sources over the tokens of each of `kinds`.

    Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; nostalgebraist 2020, "interpreting GPT:
    the logit lens"; Wang et al. 2022 (arXiv 2211.00593), section 3.
    """

    layers: Float[Tensor, "prompt component"]
    layer_labels: tuple[str, ...]
    heads: Float[Tensor, "prompt layer head"]
    attn_bias: Float[Tensor, "prompt layer"]
    mlp_bias: Float[Tensor, "prompt layer"]
    constant: Float[Tensor, "prompt"]
    gap: Float[Tensor, "prompt"]
    final_scale: Float[Tensor, "prompt"]
    neurons: Float[Tensor, "prompt layer neuron"] | None = None
    neuron_mean: Float[Tensor, "layer neuron"] | None = None
    neuron_variance: Float[Tensor, "layer neuron"] | None = None
    sources: Float[Tensor, "prompt layer head position"] | None = None
    patterns: Float[Tensor, "prompt layer head position"] | None = None
    kinds: tuple[str, ...] = ()
    sources_by_kind: Float[Tensor, "prompt layer head kind"] | None = None

    def top_heads(self, k: int = 5) -> list[RankedPart]:
        """The `k` heads with the largest mean contribution by size, in either direction, strongest first."""
        return strongest(summarize(self.heads), k, "H")

    def top_neurons(self, k: int = 5) -> list[RankedPart]:
        """The `k` neurons with the largest mean contribution by size; needs neurons to have been asked for."""
        if self.neuron_mean is None or self.neuron_variance is None:
            raise InputError(
                "this result has no neurons: ask with attribute(..., neurons=True) or neurons='mean'; "
                "models of attention alone and mixtures of experts have none"
            )
        return strongest(summary_from_moments(self.neuron_mean, self.neuron_variance, len(self)), k, "N")

    def lens(self) -> LensResult:
        """The logit lens at the final norm's recorded scale, which is the running sum of the layers."""
        running = self.constant.double()[:, None] + self.layers.double().cumsum(1)
        n_embeddings = sum(not of_a_layer(label) for label in self.layer_labels)
        written = self.layer_labels[n_embeddings:]
        labels = ["0_pre" if written else "final_post"]
        for label, following in zip(written, [*written[1:], None], strict=False):
            if following is None:
                labels.append("final_post")
            elif label.endswith("_attn_out") and following == label.replace("_attn_out", "_mlp_out"):
                labels.append(label.replace("_attn_out", "_mid"))
            else:
                labels.append(f"{following.split('_')[0]}_pre")
        values = running[:, n_embeddings - 1 :].to(self.layers.dtype)
        if self.info.get("parallel_attn_mlp"):  # attention and MLP read the same residual stream
            kept = [i for i, label in enumerate(labels) if not label.endswith("_mid")]
            values, labels = values[:, kept], [labels[i] for i in kept]
        return LensResult(
            self.metric,
            self.correct,
            self.prompt_tokens,
            self.targets,
            self.info,
            values=values,
            labels=tuple(labels),
            scale="final",
            preferred=self.preferred,
        )

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        names = ("metric", "layers", "heads", "attn_bias", "mlp_bias", "constant", "final_scale", "gap")
        asked_for = ("neurons", "sources_by_kind")
        found = {name: getattr(self, name) for name in (*names, *asked_for)}
        return {name: values for name, values in found.items() if values is not None} | {"lens": self.lens().values}

    def labels_of(self) -> dict[str, tuple[str, ...]]:
        """Names for the last axis of some of them."""
        kinds = {"sources_by_kind": self.kinds} if self.sources_by_kind is not None else {}
        return {"layers": self.layer_labels, "lens": self.lens().labels, **kinds}

    def layer_summary(self) -> Summary:
        """Mean, standard error and interval of each layer's contribution over prompts."""
        return summarize(self.layers)

    def to_frame(self) -> pd.DataFrame:
        """Columns prompt, kind (constant, layer, head, attn_bias, mlp_bias), component, layer, head, contribution."""
        import pandas as pd

        frames = [_rows("constant", ["constant"], self.constant[:, None])]
        frames.append(_rows("layer", list(self.layer_labels), self.layers))
        n_layers, n_heads = self.heads.shape[1:]
        names = [f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]
        heads = _rows("head", names, self.heads.flatten(1))
        heads["layer"] = torch.arange(n_layers).repeat_interleave(n_heads).repeat(len(self)).numpy()
        heads["head"] = torch.arange(n_heads).repeat(n_layers * len(self)).numpy()
        frames.append(heads)
        for kind, values in (("attn_bias", self.attn_bias), ("mlp_bias", self.mlp_bias)):
            frames.append(_rows(kind, [f"{i}_{kind}" for i in range(values.shape[1])], values))
        table = pd.concat(frames, ignore_index=True)
        table[["layer", "head"]] = table[["layer", "head"]].astype("Int64")
        return table.reindex(columns=["prompt", "kind", "component", "layer", "head", "contribution"])

    def _facts(self) -> list[tuple[str, str]]:
        heads = ", ".join(f"{h.name} {h.mean:+.2f}" for h in self.top_heads(3))
        gap = f"{float(self.gap.abs().max()):.1e} logits at most"
        return [*super()._facts(), ("strongest heads", heads), ("completeness gap", gap)]


def strongest(summary: Summary, k: int, letter: str) -> list[RankedPart]:
    """The parts of a [layer, part] summary with the largest means by size."""
    if k < 0:
        raise InputError(f"k is at least 0, got {k}")
    width = summary.mean.shape[1]
    order = summary.mean.abs().flatten().argsort(descending=True, stable=True)[:k].tolist()
    ranked = []
    for layer, number in (divmod(i, width) for i in order):
        mean, low, high = (float(t[layer, number]) for t in (summary.mean, summary.low, summary.high))
        ranked.append(RankedPart(layer, number, mean, low, high, f"L{layer}{letter}{number}"))
    return ranked


def _rows(kind: str, names: list[str], values: Tensor) -> pd.DataFrame:
    import pandas as pd

    n = len(values)
    return pd.DataFrame(
        {
            "prompt": torch.arange(n).repeat_interleave(len(names)).numpy(),
            "kind": kind,
            "component": names * n,
            "layer": None,
            "head": None,
            "contribution": values.reshape(-1).numpy(),
        }
    )


__all__ = ["AttributionResult", "RankedPart", "format_mean"]
