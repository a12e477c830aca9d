"""Parts to ablate: heads, MLPs, layers, neurons, and the attention that heads pay to sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maze_dla.engine.model import ResidualModel
from maze_dla.engine.sites import Site
from maze_dla.errors import InputError, check_list
from maze_dla.results.parts import Head, place_of_head, place_of_neuron
from maze_dla.results.ranking import RankedPart

NAMED = ("heads", "mlps", "layers", "sources", "source_positions")


@dataclass(frozen=True)
class Part:
    """A part of a model: its name, the site that is edited, and of a head's sources the kind of token or position."""

    name: str
    site: Site
    kind: int | None = None
    position: int | None = None

    @property
    def layer(self) -> int:
        """The layer that it is in."""
        assert self.site.layer is not None
        return self.site.layer


@dataclass(frozen=True)
class Parts:
    """Parts, each ablated by itself, in row-major order of the axes of what is found."""

    listed: tuple[Part, ...]
    axes: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each."""
        return tuple(part.name for part in self.listed)

    @property
    def sites(self) -> list[Site]:
        """The sites that hold them, each once, with all heads or neurons."""
        return list(dict.fromkeys(Site(part.site.name, part.layer) for part in self.listed))


def parts_of(
    model: ResidualModel, parts: str | Sequence[Any], heads: Sequence[Head] | None, kinds: Sequence[str], longest: int
) -> Parts:
    """The parts that are named, of prompts with these kinds of tokens, `longest` the most that one has.

    Raises:
        InputError: none of the names, an empty list, something in it that the model does not have or has twice, heads
            where they do not belong, or sources of a batch that names no kinds of tokens.
    """
    shape, n_layers = model.weights.shape, model.weights.shape.n_layers
    if parts in ("sources", "source_positions"):
        return _sources(model, parts == "sources", heads, kinds, longest)
    if heads is not None:
        raise InputError(f"heads goes with parts='sources' and 'source_positions', parts is {parts!r:.60}")
    if parts == "heads":
        every = tuple(_head(i, h) for i in range(n_layers) for h in range(shape.n_heads))
        return Parts(every, ("layer", "head"), (n_layers, shape.n_heads))
    if parts == "mlps" and "mlp_out" in model.sites:
        return Parts(tuple(_layer("mlp_out", i) for i in range(n_layers)), ("layer",), (n_layers,))
    if parts == "layers":
        listed = tuple(_layer(name, i) for i in range(n_layers) for name in _writers(model))
        return Parts(listed, ("component",), (len(listed),))
    expected = f"{', '.join(map(repr, NAMED))}, or a list of names such as 'L5H3', '2_mlp_out', 'L2N117'"
    if isinstance(parts, str):
        why = " (the model has no MLPs)" if parts == "mlps" else ""
        raise InputError(f"parts is {expected}, got {parts!r:.60}{why}")
    return _listed(model, parts, f"parts is {expected}")


def _sources(
    model: ResidualModel, by_kind: bool, heads: Sequence[Head] | None, kinds: Sequence[str], longest: int
) -> Parts:
    """The attention of all heads, or of those that are named, to each kind of token or to each position."""
    shape = model.weights.shape
    if by_kind and not kinds:
        raise InputError("this batch does not say of which kind its tokens are: there are no sources by kind")
    if heads is None:
        places = [(i, h) for i in range(shape.n_layers) for h in range(shape.n_heads)]
        axes, sizes = ("layer", "head"), (shape.n_layers, shape.n_heads)
    else:
        check_list(heads, "heads", "head")
        places = [place_of_head(head, shape.n_layers, shape.n_heads) for head in heads]
        axes, sizes = ("head",), (len(places),)
    names = kinds if by_kind else [f"position {p}" for p in range(longest)]
    listed = tuple(
        Part(f"L{i}H{h} <- {name}", Site("pattern", i, h), **{"kind" if by_kind else "position": k})
        for i, h in places
        for k, name in enumerate(names)
    )
    return Parts(listed, (*axes, "source" if by_kind else "position"), (*sizes, len(names)))


def _listed(model: ResidualModel, parts: Sequence[Any], expected: str) -> Parts:
    """Parts that are given one by one."""
    check_list(parts, "parts", "part")
    found = tuple(_given(model, part, expected) for part in parts)
    if not found:
        raise InputError(f"{expected}, got an empty list")
    names = [part.name for part in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"parts has {twice[0]} twice, expected once")
    return Parts(found, ("part",), (len(found),))


def _given(model: ResidualModel, part: Any, expected: str) -> Part:
    """One part by its name, by layer and head, or as an entry of a ranking."""
    shape = model.weights.shape
    name = part.name if isinstance(part, RankedPart) else part
    if isinstance(name, str) and "N" in name:
        layer, number = place_of_neuron(name, shape.n_layers, shape.d_mlp or 0)
        return Part(f"L{layer}N{number}", Site("neurons", layer, number))
    if isinstance(name, str) and "_" in name:
        layer, _, kind = name.partition("_")
        if layer.isascii() and layer.isdigit() and int(layer) < shape.n_layers and kind in _writers(model):
            return _layer(kind, int(layer))
        raise InputError(f"{expected}; the model has no {name!r:.60}")
    return _head(*place_of_head(name, shape.n_layers, shape.n_heads))


def _writers(model: ResidualModel) -> tuple[str, ...]:
    return tuple(name for name in ("attn_out", "mlp_out") if name in model.sites)


def _head(layer: int, head: int) -> Part:
    return Part(f"L{layer}H{head}", Site("z", layer, head))


def _layer(name: str, layer: int) -> Part:
    return Part(f"{layer}_{name}", Site(name, layer))
