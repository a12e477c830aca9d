"""What the engine needs of a model: a protocol, and the vocabulary of a pre-norm residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from maze_dla.engine.precision import at_least_single


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

    def __post_init__(self) -> None:
        if self.d_vocab_in == -1:
            object.__setattr__(self, "d_vocab_in", self.d_vocab)


@dataclass(frozen=True)
class Norm:
    """A norm. At a given scale it is affine: (centred residual) * weight / scale + bias.

    `weight` and `bias` are None where they were folded away or never were.
    """

    kind: Literal["layer", "rms", "none"]
    weight: Float[Tensor, "d_model"] | None = None
    bias: Float[Tensor, "d_model"] | None = None
    eps: float = 1e-5

    def pull_back(self, direction: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The direction in front of the norm, up to the scale, that the given direction behind it reads."""
        if self.weight is not None:
            direction = direction * self.weight
        return direction - direction.mean(-1, keepdim=True) if self.kind == "layer" else direction

    def constant(self, direction: Float[Tensor, "prompt d_model"]) -> Float[Tensor, "prompt"]:
        """What the norm's bias adds along a direction behind it."""
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
    """What one block writes with: heads through W_O and b_O, neurons through W_out and b_out."""

    W_O: Float[Tensor, "head d_head d_model"]
    b_O: Float[Tensor, "d_model"] | None
    W_out: Float[Tensor, "d_mlp d_model"] | None
    b_out: Float[Tensor, "d_model"] | None


@dataclass(frozen=True)
class Wanted:
    """Which activations a forward pass keeps beside the logits and the final scale."""

    components: bool = False  # embeddings, attention and MLP outputs, heads' z
    neurons: bool = False
    sources: bool = False
    depths: bool = False


@dataclass(frozen=True)
class Reads:
    """One forward pass at the read positions of its prompts; lists run over layers. What was not asked for is empty.

    `logits` are linear in the residual stream: those in front of a soft cap where the model has one.
    `values` and `patterns` serve sources: the values of whole sequences, the pattern's row at the read position.
    """

    logits: Float[Tensor, "prompt vocab"]
    final_scale: Float[Tensor, "prompt"]
    embeddings: dict[str, Float[Tensor, "prompt d_model"]]
    attn_out: list[Float[Tensor, "prompt d_model"]]
    mlp_out: list[Float[Tensor, "prompt d_model"]]
    z: list[Float[Tensor, "prompt head d_head"]]
    neurons: list[Float[Tensor, "prompt d_mlp"]]
    values: list[Float[Tensor, "sequence position head d_head"]]
    patterns: list[Float[Tensor, "prompt head position"]]
    depths: dict[str, Float[Tensor, "prompt d_model"]]

    def at_least_single(self) -> Reads:
        """The same numbers, half precision as float32: what is computed from them then has no further rounding."""
        return Reads(**{field.name: _each_at_least_single(getattr(self, field.name)) for field in fields(self)})


def _each_at_least_single(held: Any) -> Any:
    if isinstance(held, Tensor):
        return at_least_single(held)
    if isinstance(held, dict):
        return {name: at_least_single(values) for name, values in held.items()}
    return [at_least_single(values) for values in held]


def soft_capped(logits: Float[Tensor, "... vocab"], cap: float | None) -> Float[Tensor, "... vocab"]:
    """The logits that a model with a soft cap samples from; without a cap they are as they were."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


@runtime_checkable
class ResidualModel(Protocol):
    """A causal model whose residual stream is a sum, seen through its weights and its reads."""

    @property
    def shape(self) -> ModelShape:
        """Sizes."""
        ...

    @property
    def precision(self) -> torch.dtype:
        """The coarsest dtype that logits are computed in: what sums can be held to."""
        ...

    @property
    def final_norm(self) -> Norm:
        """The norm before the unembedding."""
        ...

    @property
    def blocks(self) -> tuple[BlockWeights, ...]:
        """What each block writes with."""
        ...

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """The unembedding."""
        ...

    @property
    def b_U(self) -> Float[Tensor, "vocab"] | None:
        """Its bias, where it has one."""
        ...

    @property
    def logit_cap(self) -> float | None:
        """What the model caps its logits softly at, behind the `logits` of its reads; None where it does not."""
        ...

    @property
    def info(self) -> Mapping[str, Any]:
        """The model's name and whatever else results should carry."""
        ...

    def read(
        self,
        tokens: Int[Tensor, "sequence position"],
        rows: Int[Tensor, "prompt"],
        positions: Int[Tensor, "prompt"],
        wanted: Wanted,
    ) -> Reads:
        """Run the sequences once and keep what is wanted at (rows[i], positions[i]) for every prompt i."""
        ...
