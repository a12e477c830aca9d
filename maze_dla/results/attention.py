"""The result of `attention`: how much every query of a prompt attends to every key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.base import PromptResult
from maze_dla.results.parts import Head, place_of_head
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd

UNITS = ("bytes", "KB", "MB", "GB", "TB")


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class AttentionResult(PromptResult):
    """Attention of all queries of each prompt, a share from 0 to 1; `metric` is the logit of the target.

    The shape is the same whichever heads were chosen: [prompt, head, query, key], heads as in `head_labels`. A row
    sums to 1 over its keys, of which those after the query have 0; rows of queries after a prompt's end are NaN. The
    row of the last token is what `AttributionResult.patterns` holds.

    Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """

    patterns: Float[Tensor, "prompt head query key"]
    head_labels: tuple[str, ...]
    """The name of each head, as "L5H3"; of all heads, layer by layer."""

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Layer and number of each head."""
        return tuple(place_of_head(name, 10**6, 10**6) for name in self.head_labels)

    @property
    def n_bytes(self) -> int:
        """The memory that the patterns take."""
        return self.patterns.numel() * self.patterns.element_size()

    def index_of(self, head: Head) -> int:
        """Where a head stands on the axis of heads, given as (5, 3), as "L5H3" or as an entry of `scores.top(...)`.

        Raises:
            InputError: none of these, or a head that was not chosen.
        """
        place = place_of_head(head, 10**6, 10**6)
        if place not in self.places:
            some = ", ".join(self.head_labels[:8]) + (", ..." if len(self.head_labels) > 8 else "")
            raise InputError(f"L{place[0]}H{place[1]} is not among the heads of this result: {some}")
        return self.places.index(place)

    @torch_defaults()
    def of_head(self, head: Head) -> Float[Tensor, "prompt query key"]:
        """The patterns of one head.

        Raises:
            InputError: a head that was not chosen.
        """
        return self.patterns[:, self.index_of(head)]

    @torch_defaults()
    def at_read(self) -> Float[Tensor, "prompt head key"]:
        """The attention that the last token of each prompt pays."""
        last = torch.tensor([len(tokens) - 1 for tokens in self.prompt_tokens])
        return self.patterns[torch.arange(len(self)), :, last]

    @torch_defaults()
    def to_frame(self, least: float | int = 0.0) -> pd.DataFrame:
        """One row for each prompt, head, query and key up to the query. Of all that is long: choose, or give `least`.

        Columns: prompt, head, query, key (positions), query_token, key_token, attention.

        Args:
            least: attention below it is left out.

        Raises:
            InputError: no number from 0 to 1.
        """
        import pandas as pd

        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise InputError(f"least is a share of attention from 0 to 1, got {least!r:.60}")
        causal = torch.ones(self.patterns.shape[-2:], dtype=torch.bool).tril()
        held = (self.patterns >= least) & causal  # NaN is not
        at = held.nonzero()
        table = pd.DataFrame({name: at[:, i].numpy() for i, name in ((0, "prompt"), (2, "query"), (3, "key"))})
        table.insert(1, "head", [self.head_labels[i] for i in at[:, 1].tolist()])
        for name, axis in (("query_token", 2), ("key_token", 3)):
            table[name] = [self.prompt_tokens[i][p] for i, p in at[:, [0, axis]].tolist()]
        return table.assign(attention=self.patterns[held].numpy())

    def _summary_rows(self) -> list[tuple[str, str]]:
        shape = " x ".join(map(str, self.patterns.shape))
        labels = self.head_labels
        named = ", ".join(labels) if len(labels) <= 6 else f"{len(labels)}, from {labels[0]} to {labels[-1]}"
        patterns = f"{shape} (prompt, head, query, key), {size_in_words(self.n_bytes)}"
        return [*super()._summary_rows(), ("heads", named), ("patterns", patterns)]


def size_in_words(n_bytes: float | int) -> str:
    """A number of bytes as "1.2 GB"."""
    for unit in UNITS[:-1]:
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} {UNITS[-1]}"
