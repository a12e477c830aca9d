"""A model as the engine needs it: weights, sites and a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from maze_dla.engine.edits import Rerun
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import EMBEDDINGS, Activations, Site


@dataclass(frozen=True)
class ModelShape:
    """Sizes; `d_mlp` is None for models of attention only.

    `d_vocab` is the number of outputs, the columns of W_U; `d_vocab_in` that of tokens which the model reads, the rows
    of W_E, by default as many.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int | None
    d_vocab: int
    n_ctx: int
    d_vocab_in: int = -1
    n_kv_heads: int = -1

    def __post_init__(self) -> None:
        if self.d_vocab_in == -1:
            object.__setattr__(self, "d_vocab_in", self.d_vocab)
        if self.n_kv_heads == -1:
            object.__setattr__(self, "n_kv_heads", self.n_heads)


@dataclass(frozen=True)
class Norm:
    """A norm. At a given scale it is affine: (centred residual) * weight / scale + bias.

    `weight` and `bias` are None where they were folded away or never were.
    """

    kind: Literal["layer", "rms", "none"]
    weight: Float[Tensor, " d_model"] | None = None
    bias: Float[Tensor, " d_model"] | None = None
    eps: float = 1e-5

    def pull_back(self, direction: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The direction in front of the norm, up to the scale, that the given direction after it reads."""
        if self.weight is not None:
            direction = direction * self.weight
        return direction - direction.mean(-1, keepdim=True) if self.kind == "layer" else direction

    def constant(self, direction: Float[Tensor, "prompt d_model"]) -> Float[Tensor, " prompt"]:
        """The norm's bias along a direction after it."""
        return direction.new_zeros(len(direction)) if self.bias is None else direction @ at_least_single(self.bias)

    def scale(self, residual: Float[Tensor, "... d_model"]) -> Float[Tensor, "..."]:
        """The scale that a residual has of its own: what the norm divides by; in float32 for half precision."""
        residual = at_least_single(residual)  # squares of more than 256 are infinite in float16
        if self.kind == "none":
            return torch.ones_like(residual[..., 0])
        if self.kind == "layer":
            residual = residual - residual.mean(-1, keepdim=True)
        return (residual.pow(2).mean(-1) + self.eps).sqrt()

    def apply(
        self, residual: Float[Tensor, "... d_model"], scale: Float[Tensor, "..."]
    ) -> Float[Tensor, "... d_model"]:
        """The norm at a frozen scale; in float32 for half precision."""
        residual = at_least_single(residual)
        if self.kind == "layer":
            residual = residual - residual.mean(-1, keepdim=True)
        normed = residual / scale[..., None]
        normed = normed if self.weight is None else normed * self.weight
        return normed if self.bias is None else normed + self.bias

    def __call__(self, residual: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The norm at the residual's own scale."""
        if self.kind == "layer":
            return functional.layer_norm(residual, residual.shape[-1:], self.weight, self.bias, self.eps)
        return self.apply(residual, self.scale(residual))


@dataclass(frozen=True)
class BlockWeights:
    """The weights that one block writes with: heads through W_O and b_O, neurons through W_out and b_out.

    `inner_norm` is the norm between the activation function and W_out, which models with SoLU have.
    """

    W_O: Float[Tensor, "head d_head d_model"]
    b_O: Float[Tensor, " d_model"] | None
    W_out: Float[Tensor, "d_mlp d_model"] | None
    b_out: Float[Tensor, " d_model"] | None
    inner_norm: Norm | None = None


def soft_capped(logits: Float[Tensor, "... vocab"], cap: float | None) -> Float[Tensor, "... vocab"]:
    """The logits that a model with a soft cap samples from; without a cap they are as they were."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


@dataclass(frozen=True, eq=False, repr=False)
class ModelWeights:
    """The weights that a model writes and reads out with, as they are stored.

    `precision` is the coarsest dtype that logits are computed in, which sums are held to. Where `logit_cap` is a
    number, the model caps its logits softly at it.
    """

    shape: ModelShape
    precision: torch.dtype
    blocks: tuple[BlockWeights, ...]
    final_norm: Norm
    W_U: Float[Tensor, "d_model vocab"]
    b_U: Float[Tensor, " vocab"] | None = None
    logit_cap: float | None = None

    def logits(
        self, residual: Float[Tensor, "prompt d_model"], scale: Float[Tensor, " prompt"]
    ) -> Float[Tensor, "prompt vocab"]:
        """The logits of residuals at a frozen scale, before a soft cap."""
        logits = at_least_single(self.final_norm.apply(residual, scale).to(self.W_U.dtype) @ self.W_U)
        return logits if self.b_U is None else logits + self.b_U


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Part of a batch for one forward pass: which sequences to run, and what to read in them."""

    tokens: Int[Tensor, "sequence position"]
    prompts: Int[Tensor, " prompt"]
    rows: Int[Tensor, " prompt"]
    positions: Int[Tensor, " prompt"]
    kinds: Int[Tensor, "sequence position"] | None = None


@runtime_checkable
class ForwardPass(Protocol):
    """Runs the sequences of a micro-batch once and returns the activations of the sites, for every prompt.

    Raises:
        ModelError: the model has no such site, or does not show it.
    """

    def __call__(self, micro: MicroBatch, sites: Sequence[Site]) -> Activations:
        """The activation of each site."""
        ...

    def editable(self, micro: MicroBatch, sites: Sequence[Site], edited: Collection[Site]) -> tuple[Activations, Rerun]:
        """Run the sequences once; the activation of each site, and what runs copies of prompts with edits.

        Args:
            micro: the sequences, and what to read in them.
            sites: what to record in the plain run.
            edited: the sites that are going to be edited: those at "read" at read positions alone.

        Raises:
            ModelError: the model has no such site, or it cannot be edited.
        """
        ...

    def gradients(
        self, micro: MicroBatch, sites: Sequence[Site], direction: Float[Tensor, "prompt d_model"]
    ) -> tuple[Activations, Activations]:
        """Run the sequences once forward and once backward; the activations of sites, and the metric's gradients there.

        The metric is summed over the prompts: the final norm of the residual at each read position, its scale included,
        along the prompt's direction. Several prompts of one sequence add to one gradient.

        Args:
            micro: the sequences, and where they are read.
            sites: those of layers, at all positions.
            direction: what the metric reads of the normed residual, as `metric.direction(W_U)` gives it.

        Raises:
            InputError: a site at the read position, or directions of another shape.
            ModelError: the model has no such site, or does not go on with what it shows there.
        """
        ...


@dataclass(frozen=True, eq=False, repr=False)
class ResidualModel:
    """A causal model whose residual stream is a sum: its weights, and a forward pass that shows its activations.

    `sites` are the names of those that it has in its layers and before them. `info` is what results say of it.
    `own_norm` is the model's own final norm, [prompt, depth, d_model] to the same, for comparison; `vocabulary` its
    tokens by id; `source` the model that was looked at, which is run by one caller at a time.
    """

    weights: ModelWeights
    forward: ForwardPass
    sites: frozenset[str]
    info: Mapping[str, Any]
    own_norm: Callable[[Tensor], Tensor] | None = None
    vocabulary: Sequence[str] | None = None
    source: Any = None

    @property
    def embeddings(self) -> tuple[str, ...]:
        """The sites before the first block."""
        return tuple(name for name in EMBEDDINGS if name in self.sites)
