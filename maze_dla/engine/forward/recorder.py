"""The activations that the engine's own forward pass keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.forward.prefixes import SharedPrefixes
from maze_dla.engine.sites import LOSSES, Activations, Site
from maze_dla.errors import ModelError

Place = tuple[str, int | None]  # a site's name and layer


class ActivationRecorder:
    """Copies of the activations that sites ask for, taken before the pass changes them.

    What is read lies in arrays made before the pass: small ones made on the way would lie between large ones that come
    and go, and keep their memory from being used again.
    """

    def __init__(
        self, sites: Sequence[Site], shapes: Mapping[str, tuple[int, ...]], prefixes: SharedPrefixes, like: Tensor
    ) -> None:
        self._sites, self._shapes, self._prefixes = sites, shapes, prefixes
        self._at: Tensor | None = prefixes.reads
        self._found: dict[Site, Tensor] = {}
        self._recorded: set[Place] = set()
        self._everywhere = {(site.name, site.layer) for site in sites if site.position == "all"}
        layers: dict[str, set[int | None]] = defaultdict(set)
        for site in sites:
            if site.name in shapes and site.position == "read":
                layers[site.name].add(site.layer)
        self._reads = {
            (name, layer): row
            for name, chosen in layers.items()
            for layer, row in zip(
                chosen, like.new_empty(len(chosen), len(prefixes.reads), prod(shapes[name])), strict=True
            )
        }

    def wants(self, name: str, layer: int, position: Literal["read", "all"] = "read") -> bool:
        """Whether a site of this name and layer is asked for, at read positions or everywhere."""
        return any(s.name == name and s.layer == layer and s.position == position for s in self._sites)

    def needs_all_tokens(self, layer: int) -> bool:
        """Whether more of a layer is asked for than what enters its attention and what is at read positions."""
        entering = ("resid_pre", "q", "k", "v")
        asked = [place for place in self._everywhere if place[1] == layer or place[0] == LOSSES.name]
        return any(place[0] not in entering for place in asked)

    def record(self, layer: int | None, **values: Float[Tensor, "token _"]) -> None:
        """Copies of what the tokens have in a layer, where it is asked for."""
        for name, value in values.items():
            self._recorded.add((name, layer))
            if (out := self._reads.get((name, layer))) is not None:
                if self._at is None:
                    out.copy_(value)
                else:
                    torch.index_select(value, 0, self._at, out=out)
            if (name, layer) in self._everywhere:
                whole = self._prefixes.spread(value).unflatten(-1, self._shapes[name])
                self._found[Site(name, layer, position="all")] = whole.clone()

    def record_as_it_is(self, site: Site, value: Tensor) -> None:
        """An activation that nothing changes any more."""
        self._found[site] = value

    def only_reads_from_here(self, x: Float[Tensor, "token d"]) -> Float[Tensor, "prompt d"]:
        """The rows that are read, without a copy of the others; from here on arrays have no others.

        `x[at]` would take several times as long on a CPU.
        """
        if self._at is not None:
            x, self._at = x.index_select(0, self._at), None
        return x

    def activations(self) -> Activations:
        """Everything that was asked for.

        Raises:
            ModelError: a site that the pass did not come by.
        """
        found = {}
        for site in self._sites:
            place = (site.name, site.layer)
            value = self._found.get(Site(*place, position=site.position))
            if value is None:
                if place not in self._recorded or place not in self._reads:
                    raise ModelError(f"the model has no {site}")
                value = self._reads[place].unflatten(-1, self._shapes[site.name])
            found[site] = site.pick(value)
        return found
