"""The engine's own forward pass in place of a model's, once it has given the model's logits."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from maze_dla.adapters.transformer_lens.hooked import HookedModel
from maze_dla.adapters.transformer_lens.verified_walks import VerifiedWalks
from maze_dla.engine.causal.wavefront import editable
from maze_dla.engine.edits import EDITABLE, OF_HEADS, Rerun
from maze_dla.engine.forward.cached import CachedDecoding
from maze_dla.engine.forward.continuing import Continuation, WholePasses
from maze_dla.engine.forward.decoder import PreNormDecoder
from maze_dla.engine.model import MicroBatch
from maze_dla.engine.sites import LOGITS, Activations, Site
from maze_dla.results.tolerances import tolerance_of

COMPARED_TOKENS = 4096


@dataclass(frozen=True, eq=False, repr=False)
class VerifiedModel:
    """The engine's own forward pass, once it has been compared with the model itself, in one run.

    The first pass compares the logits of the longest of its sequences, of up to 4,096 tokens. Where they differ it
    warns, and from then on the model itself is run; so it is for sites that the own pass does not come by.
    """

    decoder: PreNormDecoder
    hooked: HookedModel
    agrees: list[bool] = field(default_factory=list)  # empty until they have been compared
    goes_on_alike: list[bool] = field(default_factory=list)  # the same of walks, token by token

    def __call__(self, micro: MicroBatch, sites: Sequence[Site]) -> Activations:
        """Run the sequences once; the activations of the sites, at the read position of every prompt."""
        if self.agrees == [False] or not all(map(self.decoder.has, sites)):
            return self.hooked(micro, sites)
        found = self.decoder(micro, list(sites) if self.agrees else [*sites, LOGITS])
        if not self._compare(found, micro):
            return self.hooked(micro, sites)
        return {site: found[site] for site in sites if site in found}

    def editable(self, micro: MicroBatch, sites: Sequence[Site], edited: Collection[Site]) -> tuple[Activations, Rerun]:
        """Run the sequences once; and what runs copies of prompts with edits, by the own pass where that makes them.

        Raises:
            ModelError: the model has no such site, or it cannot be edited.
        """
        if self.agrees == [False] or not all(map(self.decoder.has, sites)) or not all(map(self._edits, edited)):
            return self.hooked.editable(micro, sites, edited)
        found, rerun = editable(self.decoder, micro, list(sites) if self.agrees else [*sites, LOGITS], edited)
        if not self._compare(found, micro):
            return self.hooked.editable(micro, sites, edited)
        return {site: found[site] for site in sites if site in found}, rerun

    def continued(self, micro: MicroBatch, n_tokens: int) -> Continuation:
        """One walk for each prompt, token by token: by the own pass with keys and values kept, once it has been
        compared with the model after the prompts and again after their first new tokens; else by the model itself.
        """  # fmt: skip
        if [False] in (self.agrees, self.goes_on_alike):
            return WholePasses(self.hooked, micro, n_tokens)
        own = CachedDecoding(self.decoder, micro, n_tokens)
        if not self._compare({LOGITS: own.logits}, micro):
            return WholePasses(self.hooked, micro, n_tokens)
        if self.goes_on_alike:
            return own
        return VerifiedWalks(own, WholePasses(self.hooked, micro, n_tokens, ready=True), self._goes_on_alike)

    def gradients(
        self, micro: MicroBatch, sites: Sequence[Site], direction: Float[Tensor, "prompt d_model"]
    ) -> tuple[Activations, Activations]:
        """The model's own activations and gradients: those of `HookedModel`."""
        return self.hooked.gradients(micro, sites, direction)

    def _edits(self, site: Site) -> bool:
        """Whether the own pass has what an edit replaces."""
        return site.name in OF_HEADS or (site.name in EDITABLE and site.name in self.decoder.shapes)

    def _compare(self, found: Activations, micro: MicroBatch) -> bool:
        """Whether the own pass gives the model's logits, compared once; a warning where it does not."""
        return self.agrees == [True] if self.agrees else self._alike(self.agrees, found[LOGITS], micro)

    def _goes_on_alike(self, logits: Tensor, micro: MicroBatch) -> bool:
        """The same for walks that went on with keys and values that were kept."""
        return self._alike(self.goes_on_alike, logits, micro)

    def _alike(self, agrees: list[bool], logits: Tensor, micro: MicroBatch) -> bool:
        if not agrees:
            gap = self._gap(logits, micro)
            agrees.append(gap <= self._tolerance)
            if agrees == [False]:
                self._warn(gap)
        return agrees == [True]

    def _warn(self, gap: float) -> None:
        warnings.warn(
            f"{self.hooked.name}: the engine's own forward pass gives other logits than the model, "
            f"by {gap:.1e} of their spread (at most {self._tolerance:.0e}); the model itself is run instead",
            stacklevel=3,
        )

    @property
    def _tolerance(self) -> float:
        return tolerance_of(self.hooked.weights.precision)

    def _gap(self, logits: Tensor, micro: MicroBatch) -> float:
        """How far the logits of the longest sequence are from the model's, as a share of how far these are spread.

        Spread is four times the median distance from the median, which of normal numbers is about the largest; single
        logits that are masked away count by their own distance. Infinite where others are finite than in the model.
        """
        row = micro.rows[micro.positions.argmax()]
        chosen = torch.nonzero(micro.rows == row).flatten()
        positions = micro.positions[chosen]
        tokens = micro.tokens[row, None, : int(positions.max()) + 1]
        longest = MicroBatch(tokens, micro.prompts[chosen], torch.zeros_like(chosen), positions)
        capped = self.hooked.weights.logit_cap is not None
        itself = self.hooked if capped else replace(self.hooked, model=_of_few_tokens(self.hooked.model))
        own = itself(longest, [LOGITS])[LOGITS]
        ours = logits[chosen.to(logits.device), : own.shape[-1]]
        if not torch.equal(ours.isfinite(), own.isfinite()):
            return float("inf")
        finite = own.isfinite()  # sums refuse what is no number
        distance = (own - own.nanmedian(-1, keepdim=True).values).abs()
        spread = distance.maximum(4 * distance.nanmedian(-1, keepdim=True).values).clamp_min(1e-12)
        apart = ((ours - own).abs() / spread)[finite & spread.isfinite()]
        return float(apart.detach().amax()) if apart.numel() else 0.0


def _of_few_tokens(model: Any) -> Any:
    """The same model with an unembedding of the first tokens alone, where it has a large one of its own.

    TransformerLens 3 copies all of W_U in every forward pass, which can take as long as the rest of the comparison.
    """
    weights = dict(model.unembed.named_parameters(recurse=False))
    if set(weights) != {"W_U", "b_U"} or weights["W_U"].shape[-1] <= COMPARED_TOKENS:
        return model
    unembed, narrow = copy(model.unembed), copy(model)
    few = {name: nn.Parameter(w.detach()[..., :COMPARED_TOKENS], w.requires_grad) for name, w in weights.items()}
    unembed._parameters = few
    narrow._modules = {**model._modules, "unembed": unembed}
    return narrow
