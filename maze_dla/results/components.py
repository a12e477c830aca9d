"""Components, which add to the residual stream, and their names in tables, pictures and files."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Component:
    """A part that writes to the residual stream: an embedding, or a layer's attention, MLP, head or bias.

    `kind` is "embed", "pos_embed", "added" (whatever else stands in the stream before the first block), "attn_out",
    "mlp_out", "head", ..., or "norm" (of a contrast alone: by what the final norm's scale differs between two runs);
    `layer` is None for what belongs to no block, `head` for what is no head.
    """

    kind: str
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        """As "embed", "3_attn_out" or "L5H3"."""
        if self.head is not None:
            return f"L{self.layer}H{self.head}"
        return self.kind if self.layer is None else f"{self.layer}_{self.kind}"

    @classmethod
    def named(cls, label: str) -> Component:
        """The component of a name: the inverse of `str`."""
        if head := re.fullmatch(r"L(\d+)H(\d+)", label):
            return cls("head", int(head[1]), int(head[2]))
        if of_layer := re.fullmatch(r"(\d+)_(.+)", label):
            return cls(of_layer[2], int(of_layer[1]))
        return cls(label)
