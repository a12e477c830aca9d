"""Total, direct and indirect effect of edits of one part each, and what the indirect one goes through, exactly.

With u_i and u'_i the unscaled contributions (activation times pulled-back direction) in the plain and the edited run
and s and s' the final scales: total = m' - m; direct = (u'_e - u_e)/s of the edited part e; each later part j takes
(u'_j - u_j)/s, the norm (1/s' - 1/s) * sum over i of u'_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.causal.parts import Part
from maze_dla.engine.causal.reading import AT_THE_END, MetricAtReads
from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.devices import to_device
from maze_dla.engine.forward.running import Parts as Values
from maze_dla.engine.model import ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.sites import FINAL_SCALE, Activations, Site

HEADS, MLPS, LAYERS = ("z", "pattern"), ("mlp_out", "neurons"), ("attn_out",)


@dataclass(frozen=True, eq=False)
class EffectReader:
    """Reads the effects of branches in which one part each was edited, at the read positions of a micro-batch."""

    model: ResidualModel
    plain: Activations
    metric: MetricAtReads
    through_W_O: Sequence[Float[Tensor, "prompt head d_head"]]

    @classmethod
    def of(cls, model: ResidualModel, plain: Activations, metric: MetricAtReads) -> EffectReader:
        """The reader of a micro-batch, by its plain run."""
        scaled = metric.direction / at_least_single(plain[FINAL_SCALE])[:, None]
        through = [torch.einsum("hed,pd->phe", at_least_single(b.W_O), scaled) for b in model.weights.blocks]
        return cls(model, plain, metric, through)

    def sites(self, parts: Sequence[Part]) -> list[Site]:
        """The sites to record in branches in which these parts are edited."""
        names = ["z", *(["mlp_out"] if "mlp_out" in self.model.sites else [])]
        layers = range(min(part.layer for part in parts), self.model.weights.shape.n_layers)
        attention = dict.fromkeys(Site(part.site.name, part.layer) for part in parts if part.site.name in LAYERS)
        return [*AT_THE_END, *(Site(name, i) for i in layers for name in names), *attention]

    def __call__(self, found: Activations, prompts: Int[Tensor, " branch"], parts: Sequence[Part]) -> Values:
        """The effects of branches of these prompts, a part each."""
        device = self.metric.direction.device
        at = to_device(prompts, device)
        plain, edited = self.metric(self.plain).index_select(0, at), self.metric(found, prompts)
        scale = at_least_single(self.plain[FINAL_SCALE]).index_select(0, at)
        heads, mlps = self._changes(found, at)
        own = torch.tensor([part.layer for part in parts], device=device)
        here = torch.arange(len(parts), device=device)
        direct = plain.new_zeros(len(parts))
        for names, changes in ((HEADS, heads), (MLPS, mlps), (LAYERS, None)):
            of_kind = torch.tensor([part.site.name in names for part in parts], device=device)
            chosen = here[of_kind]
            if len(chosen) == 0:
                continue
            if changes is None:
                direct[chosen] = self._attention(found, at, own)[chosen]
                continue
            index = (chosen, own[chosen])
            if changes is heads:
                numbers = [part.site.head or 0 for part in parts]
                index = (*index, torch.tensor(numbers, device=device)[chosen])
            direct[chosen] = changes[index]
            changes[index[:2]] = 0.0  # the other heads of the layer are not later: what they differ by is rounding
        unscaled = (edited - self.metric.constant.index_select(0, at)) * at_least_single(found[FINAL_SCALE])
        norm = unscaled * (1 / at_least_single(found[FINAL_SCALE]) - 1 / scale)
        return {"total": edited - plain, "direct": direct, "later_heads": heads, "later_mlps": mlps, "norm": norm}

    def _changes(
        self, found: Activations, at: Int[Tensor, " branch"]
    ) -> tuple[Float[Tensor, "branch layer head"], Float[Tensor, "branch mlp"]]:
        """The change of each head's and MLP's contribution, at the plain run's scale; zero for layers not recorded."""
        shape = self.model.weights.shape
        has_mlps = "mlp_out" in self.model.sites
        heads = self.metric.constant.new_zeros(len(at), shape.n_layers, shape.n_heads)
        mlps = self.metric.constant.new_zeros(len(at), shape.n_layers if has_mlps else 0)
        scaled = (self.metric.direction / at_least_single(self.plain[FINAL_SCALE])[:, None]).index_select(0, at)
        for site, values in found.items():
            if site.layer is None or site.name == "attn_out":
                continue
            apart = at_least_single(values) - at_least_single(self.plain[site]).index_select(0, at)
            if site.name == "z":
                heads[:, site.layer] = (apart * self.through_W_O[site.layer].index_select(0, at)).sum(-1)
            else:
                mlps[:, site.layer] = (apart * scaled).sum(-1)
        return heads, mlps

    def _attention(
        self, found: Activations, at: Int[Tensor, " branch"], layers: Int[Tensor, " branch"]
    ) -> Float[Tensor, " branch"]:
        """The change of the contribution of the attention of a layer of each branch, at the plain run's scale."""
        scaled = (self.metric.direction / at_least_single(self.plain[FINAL_SCALE])[:, None]).index_select(0, at)
        changed = scaled.new_zeros(len(at))
        for site, values in found.items():
            if site.name == "attn_out":
                apart = at_least_single(values) - at_least_single(self.plain[site]).index_select(0, at)
                changed = torch.where(layers == site.layer, (apart * scaled).sum(-1), changed)
        return changed


def check_effects(
    checks: SumChecks,
    effects: Values,
    size: Float[Tensor, " branch"],
    prompts: Int[Tensor, " branch"],
) -> None:
    """Check that the total effect of each branch is the sum of the direct effect and all that it goes through."""
    parts = [effects["direct"], effects["norm"], *effects["later_heads"].flatten(1).unbind(1)]
    parts += effects["later_mlps"].unbind(1)
    what = "total effect = direct + later heads + later MLPs + norm"
    checks.add(effects["total"], torch.stack(parts, 1), size, what, prompts)
