"""Gradients of a metric at the sites of a model of TransformerLens, by one pass forward and one backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.adapters.transformer_lens.hooked_edits import SiteHook, values_of_heads
from maze_dla.engine.model import MicroBatch, Norm
from maze_dla.engine.sites import Activations, Site
from maze_dla.errors import InputError, ModelError

# not every version goes on with what these hooks show: their gradients follow from those of others
FROM_OTHERS = {"resid_mid": ("attn_out",), "pattern": ("z", "v")}


@dataclass(frozen=True, eq=False, repr=False)
class Tracked:
    """The activations of sites, at all positions, as nodes of the graph that gradients go through.

    The stream of layer 0 is where they end, so that no weight needs a gradient. `resid_mid` has the gradient of what
    attention writes, which it is a sum with; that of `pattern` is the gradient of `z` along the values.
    """

    sites: Sequence[Site]
    nodes: dict[Site, Tensor] = field(default_factory=dict)

    def hooks(self) -> list[SiteHook]:
        """Those that keep the nodes and make the model go on with them."""
        start = Site("resid_pre", 0)
        asked = [(name, site.layer) for site in self.sites for name in (site.name, *FROM_OTHERS.get(site.name, ()))]
        kept = [site for site in dict.fromkeys(Site(*each) for each in asked) if site != start]
        return [
            (start, self._keeper(start, _start_of_graph)),
            *((site, self._keeper(site, torch.clone)) for site in kept),
        ]

    def _keeper(self, site: Site, node: Callable[[Tensor], Tensor]) -> Callable[..., Tensor | None]:
        def keep(activation: Tensor, hook: Any) -> Tensor | None:
            self.nodes[site] = node(activation)
            return None if site.name in FROM_OTHERS else self.nodes[site]

        return keep

    def gradients(self, metric: Float[Tensor, ""]) -> tuple[Activations, Activations]:
        """The activation of each site, and the gradient of the metric there.

        Raises:
            ModelError: a node that the metric does not depend on.
        """
        nodes = {site: node for site, node in self.nodes.items() if site.name not in FROM_OTHERS}
        found = dict(zip(nodes, torch.autograd.grad(metric, list(nodes.values()), allow_unused=True), strict=True))
        unused = [site for site, gradient in found.items() if gradient is None]
        if unused:
            raise ModelError(f"there is no gradient of {unused[0]}: the model does not go on with what it shows there")
        activations = {site: site.pick(self.nodes[_whole(site)].detach()) for site in self.sites}
        return activations, {site: site.pick(self._gradient(_whole(site), found)) for site in self.sites}

    def _gradient(self, site: Site, found: dict[Site, Tensor]) -> Tensor:
        if site.name == "resid_mid":
            return found[Site("attn_out", site.layer)]
        if site.name == "pattern":
            z, v = found[Site("z", site.layer)], self.nodes[Site("v", site.layer)].detach()
            return torch.einsum("sqhd,skhd->shqk", z, values_of_heads(v, z.shape[2]))
        return found[site]


def _start_of_graph(residual: Tensor) -> Tensor:
    return residual.detach().clone().requires_grad_()


def _whole(site: Site) -> Site:
    return Site(site.name, site.layer)


def metric_along(
    final: Float[Tensor, "prompt d_model"], norm: Norm, direction: Float[Tensor, "prompt d_model"]
) -> Float[Tensor, ""]:
    """The sum over prompts of the normed residual along a direction; the norm has its own scale."""
    normed = norm.apply(final, norm.scale(final))
    return (normed * direction.to(normed)).sum()


def refuse_other_gradients(micro: MicroBatch, sites: Sequence[Site], direction: Tensor, d_model: int) -> None:
    """Refuse sites at read positions, and directions of another shape.

    Raises:
        InputError: saying what was given.
    """
    if others := [site for site in sites if site.position != "all"]:
        raise InputError(f"gradients are those at all positions, asked for the read positions of {others[0]}")
    expected = [len(micro.prompts), d_model]
    if list(direction.shape) != expected:
        raise InputError(f"the metric's directions have shape {list(direction.shape)}, expected {expected}")
