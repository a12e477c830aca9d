"""Memory that every layer of the engine's own forward pass uses again."""

from __future__ import annotations

from math import prod

from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.model import ModelShape


class Workspace:
    """Memory for queries, keys and values, then for neurons, of one layer after another.

    Arrays of these sizes, made and let go in every layer, would leave holes that none of the others fits into.
    """

    def __init__(self, shape: ModelShape, n_tokens: int, n_places: int, like: Tensor) -> None:
        self._three = (3, n_places, shape.n_heads * shape.d_head)
        self._d_mlp = shape.d_mlp or 0
        self._all = like.new_empty(max(prod(self._three), n_tokens * self._d_mlp))

    def for_attention(self) -> Float[Tensor, "3 place heads"]:
        """Queries, keys and values; gone once neurons are written."""
        return self._all[: prod(self._three)].view(self._three)

    def for_neurons(self, n: int) -> Float[Tensor, "n d_mlp"]:
        """The neurons of `n` tokens; gone once the next layer's queries are written."""
        return self._all[: n * self._d_mlp].view(n, self._d_mlp)
