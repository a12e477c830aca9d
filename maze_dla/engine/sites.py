"""Addresses of activations: the same for recording one and for putting something else in its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from maze_dla.errors import ModelError

EMBEDDINGS = ("embed", "pos_embed", "added")  # what stands in the stream before the first block, in this order
HEAD_AXIS = {"pattern": 1, "neurons": -1, "mlp_mid": -1}  # of all other sites of heads it is the last but one


@dataclass(frozen=True)
class Site:
    """A place in the forward pass: whose activation, in which layer and head, and where in the sequence.

    A forward pass takes sites and returns a mapping from each of them to its activation. At the position "read" that is
    [prompt, ...], the activation at each prompt's read position; at "all" it is [sequence, position, ...]. Where `head`
    is None, all heads are there; of `neurons`, `head` is the number of one. Those from
    `final_residual` to `logits`, and `added`, are there at "read" alone, `losses` at "all" alone. At "read" an
    embedding is what stands in the stream, at "all" what the model shows, which some models multiply by a factor before
    they add it.

    | name | layer | what is there |
    | --- | --- | --- |
    | `embed`, `pos_embed` | None | what an embedding writes, [d_model] |
    | `added` | None | the rest of the stream before the first block; missing where there is none, [d_model] |
    | `resid_pre`, `resid_mid` | yes | the residual stream in front of attention and in front of the MLP, [d_model] |
    | `attn_out`, `mlp_out` | yes | what they write, biases included, [d_model] |
    | `z` | yes | what each head brings, in front of W_O, [head, d_head] |
    | `q` | yes | queries, before rotation, [head, d_head] |
    | `k`, `v` | yes | keys, before rotation, and values, one for each key-value head, [head, d_head] |
    | `pattern` | yes | attention paid, [head, key position]; at "all" [head, query position, key position] |
    | `neurons` | yes | the MLP's neurons as W_out reads them: after the activation function, and a norm of theirs |
    | `mlp_mid` | yes | the same before that norm; missing in models without one inside the MLP, [d_mlp] |
    | `final_residual` | None | the stream after the last block, [d_model] |
    | `final_scale` | None | what the final norm divides by, [] |
    | `logits` | None | linear in the stream: in front of a soft cap where the model has one, [vocab] |
    | `losses` | None | the cross entropy of the sequence's next token, in nats; NaN at the last position, [] |
    """

    name: str
    layer: int | None = None
    head: int | None = None
    position: Literal["read", "all"] = "read"

    def __str__(self) -> str:
        head = "" if self.head is None else f", head {self.head}"
        return self.name if self.layer is None else f"{self.name} of layer {self.layer}{head}"

    def pick(self, activation: Tensor) -> Tensor:
        """The activation of this site's head or neuron out of that of all.

        Raises:
            ModelError: there is no such head or neuron.
        """
        if self.head is None:
            return activation
        axis = HEAD_AXIS.get(self.name, -2)
        least = (3 if self.position == "read" else 4) - (self.name == "neurons")
        if activation.ndim < least or not 0 <= self.head < activation.shape[axis]:
            raise ModelError(f"the model has no {self}")
        return activation.select(axis, self.head)


ADDED, FINAL_RESIDUAL, FINAL_SCALE, LOGITS = map(Site, ("added", "final_residual", "final_scale", "logits"))
LOSSES = Site("losses", position="all")
Activations = Mapping[Site, Tensor]


def in_all_layers(names: Iterable[str], n_layers: int) -> list[Site]:
    """The sites of these names at the read position in every layer, layer by layer."""
    names = tuple(names)
    return [Site(name, layer) for layer in range(n_layers) for name in names]
