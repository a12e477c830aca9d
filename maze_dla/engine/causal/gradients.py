"""Attribution patching: what patching would do if the model were linear, for all sites at once.

Nanda 2023 ("Attribution patching"), Syed et al. 2023 (arXiv 2310.10348, section 3): the difference of two activations
times the gradient of the metric in the run that is edited. It fails where the model is far from linear, for MLPs of
GPT-2 above all, so it comes with its correlation to exact patching on a sample of sites.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from maze_dla.engine.causal.cells import Swap, Together
from maze_dla.engine.devices import to_device
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import Site

CELLS_OF_SAMPLE = 64  # of each micro-batch


def estimated_changes(
    model: ResidualModel, swap: Swap, differing: Bool[Tensor, "pair unit position"], metric: LinearMetric
) -> Float[Tensor, "pair unit ..."]:
    """The change of the metric by each edit, to first order; positions that are edited together add up."""
    grid, micro = swap.grid, swap.micro
    direction = metric.direction(model.weights.W_U)
    edited = torch.zeros(len(micro.prompts), dtype=torch.bool)
    edited[swap.into] = True
    direction = direction * to_device(edited, direction.device)[:, None]
    sites = [Site(site.name, site.layer, position="all") for site in grid.sites]
    found, gradients = model.forward.gradients(micro, sites, direction)
    changes = torch.zeros(differing.shape, dtype=direction.dtype, device=direction.device)
    into, source = (to_device(micro.rows[x], direction.device) for x in (swap.into, swap.source))
    for site in sites:
        units = [u for u, layer in enumerate(grid.layers) if layer == site.layer]
        by_row = at_least_single(gradients[site])[into]
        apart = (at_least_single(found[site])[source] - at_least_single(found[site])[into]) * by_row
        if site.name == "pattern":
            apart = apart.transpose(1, 2)
        if grid.numbers[units[0]] is not None:
            numbers = torch.tensor([grid.numbers[u] for u in units], device=apart.device)
            apart = apart.index_select(2, numbers)
        per_unit = apart[..., None].flatten(3).sum(-1) if apart.ndim > 3 or site.name == "neurons" else None
        per_unit = apart.sum(-1, keepdim=True) if per_unit is None else per_unit
        changes[:, units] = per_unit.transpose(1, 2)
    changes = changes * to_device(differing, changes.device)
    return changes if grid.together == "each" else changes.sum(-1)


@dataclass(eq=False)
class Sample:
    """Cells, drawn from every micro-batch, that are patched exactly as well, and how well the two agree."""

    seed: int
    estimated: list[Tensor] = field(default_factory=list)
    exact: list[Tensor] = field(default_factory=list)

    def of(self, differing: Bool[Tensor, "pair unit position"], together: Together) -> Bool[Tensor, "pair unit ..."]:
        """Which cells of a micro-batch are drawn; where positions are edited together, all of a unit's."""
        cells = torch.nonzero(differing if together == "each" else differing.any(-1))
        generator = torch.Generator().manual_seed(self.seed + len(self.exact))
        drawn = cells[torch.randperm(len(cells), generator=generator)[:CELLS_OF_SAMPLE]]
        chosen = torch.zeros(differing.shape[: cells.shape[1]], dtype=torch.bool)
        chosen[tuple(drawn.unbind(1))] = True
        return chosen if together == "each" else chosen[..., None].expand(differing.shape)

    def compare(self, estimated: Tensor, exact: Tensor, chosen: Bool[Tensor, "pair unit position"]) -> None:
        """Keep the two numbers of each cell that was drawn."""
        at = chosen if estimated.ndim == 3 else chosen.any(-1)
        for kept, values in ((self.estimated, estimated), (self.exact, exact)):
            kept.append(values[to_device(at, values.device)].double().cpu())

    @property
    def n(self) -> int:
        """How many cells were drawn."""
        return sum(map(len, self.exact))

    @property
    def correlation(self) -> float:
        """Pearson's correlation of estimate and truth; NaN of fewer than two cells, or where either is constant."""
        if self.n < 2:
            return float("nan")
        return float(torch.corrcoef(torch.stack([torch.cat(self.estimated), torch.cat(self.exact)]))[0, 1])
