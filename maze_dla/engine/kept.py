"""The memory of the engine's own forward pass: what it keeps, and what every layer uses again."""

from __future__ import annotations

from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.model import ModelShape, Reads, Wanted


class Room:
    """Memory that every layer uses again: for queries, keys and values, then for neurons.

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


class Kept:
    """What a pass keeps for `Reads` of the rows that are read.

    What every layer has lies in arrays made before the pass: small ones made on the way would lie between large ones
    that come and go, and keep their memory from being used again.
    """

    def __init__(self, shape: ModelShape, wanted: Wanted, at: Int[Tensor, "prompt"], like: Tensor) -> None:
        self.wanted = wanted
        self._at: Tensor | None = at
        self._n_heads = shape.n_heads
        widths = {"pre": shape.d_model, "mid": shape.d_model} if wanted.depths else {}
        if wanted.components:
            widths |= {"z": shape.n_heads * shape.d_head, "attn_out": shape.d_model, "mlp_out": shape.d_model}
        if wanted.neurons:
            widths |= {"neurons": shape.d_mlp or 0}
        here = [name for name in widths if shape.d_mlp or name not in ("mid", "neurons", "mlp_out")]
        self._layers = {name: like.new_empty(shape.n_layers, len(at), widths[name]) for name in here}
        self._embeddings: dict[str, Tensor] = {}
        self.values: list[Tensor] = []
        self.patterns: list[Tensor] = []

    def keep_embeddings(self, **values: Float[Tensor, "token d"]) -> None:
        """What the embeddings write, where it is wanted."""
        if self.wanted.components:
            self._embeddings = {name: self._rows(value) for name, value in values.items()}

    def only_reads_from_here(self, x: Float[Tensor, "token d"]) -> Float[Tensor, "prompt d"]:
        """The rows that are read; from here on arrays have no others."""
        x, self._at = self._rows(x), None
        return x

    def keep(self, i: int, **values: Float[Tensor, "token _"]) -> None:
        """A copy of what layer `i` has, where it is wanted."""
        for name in values.keys() & self._layers.keys():
            if self._at is None:
                self._layers[name][i] = values[name]
            else:
                torch.index_select(values[name], 0, self._at, out=self._layers[name][i])

    def reads(
        self, logits: Float[Tensor, "prompt vocab"], scale: Float[Tensor, "prompt"], final: Float[Tensor, "prompt d"]
    ) -> Reads:
        """Everything together."""
        of_layers = {name: list(arrays) for name, arrays in self._layers.items()}
        pre, mid = of_layers.pop("pre", []), of_layers.pop("mid", [])
        depths: dict[str, Tensor] = {}
        for i in range(len(pre)):
            depths |= {f"{i}_pre": pre[i]} | ({f"{i}_mid": mid[i]} if mid else {})
        z = [x.unflatten(-1, (self._n_heads, -1)) for x in of_layers.pop("z", [])]
        return Reads(
            logits=logits,
            final_scale=scale,
            embeddings=self._embeddings,
            attn_out=of_layers.get("attn_out", []),
            mlp_out=of_layers.get("mlp_out", []),
            z=z,
            neurons=of_layers.get("neurons", []),
            values=self.values,
            patterns=self.patterns,
            depths={**depths, "final_post": final},
        )

    def _rows(self, x: Float[Tensor, "token d"]) -> Float[Tensor, "prompt d"]:
        """`x[at]` would take several times as long on a CPU."""
        return x if self._at is None else x.index_select(0, self._at)
