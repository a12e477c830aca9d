"""The cells of a patching: a layer, head or neuron, at one position or at several together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from maze_dla.engine.devices import to_device
from maze_dla.engine.edits import BEFORE_ATTENTION, OF_HEADS, STREAM, Edit
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.sites import Activations, Site
from maze_dla.errors import InputError, ModelError, check_list
from maze_dla.results.parts import Neuron, place_of_neuron

Together = Literal["each", "all", "read"]
OF_KEY_VALUE_HEADS = ("k", "v")
SEEN_EVERYWHERE = ("q", "k", "v", "pattern")  # the engine's own pass shows them at all positions alone


@dataclass(frozen=True)
class Grid:
    """The units of one site, layer by layer, and whether each position is a cell or they are edited together."""

    site: str
    layers: tuple[int, ...]
    numbers: tuple[int | None, ...]  # heads or neurons
    together: Together
    n_layers: int

    @property
    def sites(self) -> list[Site]:
        """The sites of all units; behind the last attention, at the read position alone."""
        everywhere = self.together != "read" or self.site in SEEN_EVERYWHERE
        at_the_end = self.site not in BEFORE_ATTENTION
        return [
            Site(self.site, i, position="all" if everywhere and not (at_the_end and i == self.n_layers - 1) else "read")
            for i in sorted(set(self.layers))
        ]

    @property
    def at(self) -> Literal["read", "all"]:
        """Whether read positions alone are edited."""
        return "read" if self.together == "read" else "all"

    @property
    def edited(self) -> list[Site]:
        """The sites that are going to be edited."""
        return [Site(self.site, i, position=self.at) for i in sorted(set(self.layers))]


def grid_of(
    model: ResidualModel, site: str, positions: str | None, neurons: Sequence[Neuron] | None
) -> tuple[Grid, tuple[str, ...]]:
    """The grid of a site, and the axes of what is found.

    Raises:
        InputError: an unknown site or value of `positions`, or neurons that are missing, none, or of another site.
        ModelError: a site that the model does not have.
    """
    known = (*STREAM, *OF_HEADS, "neurons")
    if site not in known:
        raise InputError(f"site is one of {', '.join(known)}, got {site!r:.60}")
    if site not in model.sites:
        raise ModelError(f"the model has no {site}, it has {', '.join(n for n in known if n in model.sites)}")
    default = "each" if site in STREAM else "all"
    together = default if positions is None else positions
    if together not in ("each", "all", "read"):
        raise InputError(f"positions is 'each', 'all' or 'read', got {positions!r:.60}")
    n_layers = model.weights.shape.n_layers
    axes: tuple[str, ...]
    if site == "neurons":
        layers, numbers = _neurons(model, neurons)
        axes = ("neuron",)
    elif neurons is not None:
        raise InputError(f"neurons are given for the site 'neurons', the site is {site!r}")
    elif site in STREAM:
        layers, numbers, axes = tuple(range(n_layers)), (None,) * n_layers, ("layer",)
    else:
        n_heads = model.weights.shape.n_kv_heads if site in OF_KEY_VALUE_HEADS else model.weights.shape.n_heads
        layers = tuple(i for i in range(n_layers) for _ in range(n_heads))
        numbers, axes = tuple(range(n_heads)) * n_layers, ("layer", "head")
    axes = (*axes, "position") if together == "each" else axes
    return Grid(site, layers, numbers, together, n_layers), axes


def _neurons(model: ResidualModel, neurons: Sequence[Neuron] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Layers and numbers of the neurons."""
    shape = model.weights.shape
    if neurons is not None:
        check_list(neurons, "neurons", "neuron")
    if not neurons:
        raise InputError("the site 'neurons' needs neurons=[(layer, number), ...]: there are too many to patch all")
    places = [place_of_neuron(neuron, shape.n_layers, shape.d_mlp or 0) for neuron in neurons]
    if twice := [place for place in places if places.count(place) > 1]:
        raise InputError(f"neurons has L{twice[0][0]}N{twice[0][1]} twice, expected once")
    return tuple(i for i, _ in places), tuple(n for _, n in places)


@dataclass(frozen=True, eq=False)
class Swap:
    """Prompts whose activations are replaced, and those that supply them, of one micro-batch: pair by pair."""

    into: Int[Tensor, " pair"]
    source: Int[Tensor, " pair"]
    grid: Grid
    micro: MicroBatch
    plain: Activations

    def differing(self) -> Bool[Tensor, "pair unit position"]:
        """Where the two runs have other activations, up to the read position; a causal model's agree in front of the
        first token that differs.
        """  # fmt: skip
        rows, reads = self.micro.rows, self.micro.positions[self.into]
        tokens = self.micro.tokens
        places = torch.arange(tokens.shape[1])
        differ = (tokens[rows[self.into]] != tokens[rows[self.source]]).cummax(1).values
        allowed = differ & (places <= reads[:, None])
        if self.grid.together == "read":
            allowed &= places == reads[:, None]
        found = torch.zeros(len(self.into), len(self.grid.layers), tokens.shape[1], dtype=torch.bool)
        for site in self.grid.sites:
            units = [u for u, layer in enumerate(self.grid.layers) if layer == site.layer]
            at = torch.nonzero(allowed if site.position == "all" else allowed & (places == reads[:, None]))
            pair, position = at.unbind(1)
            apart = self._values(site, self.into[pair], position) != self._values(site, self.source[pair], position)
            by_unit = self._by_unit(apart, units)[..., None].flatten(2).any(-1).cpu()  # [entry, unit]
            found[pair[:, None], torch.tensor(units), position[:, None]] = by_unit
        return found

    def edits(self, entries: Int[Tensor, "entry 3"], branches: Int[Tensor, " entry"]) -> list[Edit]:
        """The edits that put the other run's activations in place, of entries (pair, unit, position)."""
        made = []
        layers = {site.layer: site for site in self.grid.sites}
        for unit in entries[:, 1].unique().tolist():
            of_unit = torch.nonzero(entries[:, 1] == unit).flatten()
            pair, _, position = entries[of_unit].unbind(1)
            site = layers[self.grid.layers[unit]]
            values = self._by_unit(self._values(site, self.source[pair], position), [unit])[:, 0]
            edited = Site(self.grid.site, site.layer, self.grid.numbers[unit], self.grid.at)
            made.append(Edit(edited, branches[of_unit], position, values))
        return made

    def _values(self, site: Site, prompts: Int[Tensor, " entry"], positions: Int[Tensor, " entry"]) -> Tensor:
        """The activations of prompts of the micro-batch at a site, [entry, ...]."""
        held = self.plain[site]
        if site.position == "read":
            return held.index_select(0, to_device(prompts, held.device))
        rows, at = (to_device(x, held.device) for x in (self.micro.rows[prompts], positions))
        return held[rows, :, at] if site.name == "pattern" else held[rows, at]

    def _by_unit(self, values: Tensor, units: Sequence[int]) -> Tensor:
        """Activations [entry, ...] by unit, [entry, unit, ...]."""
        numbers = [n for n in (self.grid.numbers[u] for u in units) if n is not None]
        if not numbers:
            return values[:, None]
        return values.index_select(1, torch.tensor(numbers, device=values.device))


def entries_in_chunks(
    differing: Bool[Tensor, "pair unit position"], together: Together, most: int
) -> Iterator[tuple[Int[Tensor, "entry 3"], Int[Tensor, " entry"]]]:
    """Entries (pair, unit, position) and the branch of each, numbered in every chunk anew: about `most` entries.

    Where each position is a cell, those of one position come together, since their branches are about as long.
    """
    entries = torch.nonzero(differing)
    if len(entries) == 0:
        return
    if together == "each":
        entries = entries[entries[:, 2].argsort(stable=True)]
        for chunk in entries.split(most):
            yield chunk, torch.arange(len(chunk))
        return
    _, counts = torch.unique_consecutive(entries[:, 0] * differing.shape[1] + entries[:, 1], return_counts=True)
    at = 0
    while at < len(counts):
        fitting = int((counts[at:].cumsum(0) <= most).sum())
        here = counts[at : at + max(fitting, 1)]
        first = int(counts[:at].sum())
        chunk = entries[first : first + int(here.sum())]
        yield chunk, torch.repeat_interleave(torch.arange(len(here)), here)
        at += len(here)
