"""The result of keeping some parts and ablating everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.results.base import PromptResult, format_mean
from maze_dla.results.recovered import Recovered, recovered_share
from maze_dla.results.torch_defaults import torch_defaults

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CircuitResult(PromptResult):
    """The metric with some heads and MLPs kept and all others ablated, in logits; `metric` is that of the whole model.

    Of a set that `find_circuit` found, prompts are those of mazes that did not choose it; `info["chosen_on"]` says how
    many chose, and `info["share_where_chosen"]` what the set kept there.
    """

    kept: Float[Tensor, " prompt"]
    """The metric with only the parts kept."""
    ablated: Float[Tensor, " prompt"]
    """The metric with all heads and MLPs ablated."""
    parts: tuple[str, ...]
    """The parts that are kept, as "L5H3" and "2_mlp_out"; of a set that was found, in the order they were added."""

    @property
    @torch_defaults()
    def share(self) -> Recovered:
        """(E[kept] - E[ablated]) / (E[whole model] - E[ablated]): 0 where nothing is kept, 1 where the parts do it all.

        A single number with a clustered bootstrap. It may be above 1, where what is left out works against the metric.
        "-" where the whole model cannot be told from one with everything ablated.
        """
        present = torch.ones(len(self), 1, dtype=torch.bool)
        values = self.kept[:, None]
        return recovered_share(values, self.metric, self.ablated, present, self.clusters, ("parts",), ("kept",))

    def per_prompt(self) -> dict[str, Float[Tensor, "prompt ..."]]:
        """The numbers of each prompt whose shape does not depend on how long prompts are."""
        return {**super().per_prompt(), "kept": self.kept, "ablated": self.ablated}

    @torch_defaults()
    def to_frame(self) -> pd.DataFrame:
        """One row for each prompt, in logits.

        Columns: prompt, metric (of the whole model), kept and ablated.
        """
        import pandas as pd

        numbers = {name: getattr(self, name).numpy() for name in ("metric", "kept", "ablated")}
        return pd.DataFrame({"prompt": range(len(self)), **numbers})

    def _summary_rows(self) -> list[tuple[str, str]]:
        rows = [*super()._summary_rows(), ("parts kept", f"{len(self.parts)}: {', '.join(self.parts) or 'none'}")]
        for name, values in (("with these alone", self.kept), ("with all ablated", self.ablated)):
            rows.append((name, f"{format_mean(self.summarized(values))} logits"))
        rows.append(("share kept", self.share.shown(0)))
        if "share_where_chosen" in self.info:
            chosen = f"{float(self.info['share_where_chosen']):.2f} of {self.info.get('chosen_on', '?')} other prompts"
            rows.append(("share where they were chosen", chosen))
        return rows
