"""Contributions to a metric: a vector whose entries are labelled by components, that can be added and scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.arrays import as_array
from maze_dla.results.components import Component

Factor = Any  # a number, or an array [prompt]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Contributions:
    """Contributions of every prompt, all in logits; they add, subtract and scale where their labels agree.

    `layers` has one column for each of `layer_labels`: embed, pos_embed, 0_attn_out, 0_mlp_out, ... Whatever else was
    in the residual stream before the first block is `added`: a steering vector, positions without a hook of their own.
    Within a layer, heads and `attn_bias` (b_O) sum to its attention; neurons and `mlp_bias` (b_out) to its MLP; sources
    to their head. b_V reaches a head through its pattern, so it is part of the head and of its sources. The bias of the
    final norm and b_U form the constant.

    `neurons`, [prompt, layer, neuron], and `sources`, [prompt, layer, head, position], what each head moved from each
    position, are there where they were asked for; `sources_by_kind`, [prompt, layer, head, kind], sums the sources over
    the tokens of each of `kinds`.
    """

    layers: Float[Tensor, "prompt component"]
    layer_labels: tuple[str, ...]
    heads: Float[Tensor, "prompt layer head"]
    attn_bias: Float[Tensor, "prompt layer"]
    mlp_bias: Float[Tensor, "prompt layer"]
    constant: Float[Tensor, " prompt"]
    neurons: Float[Tensor, "prompt layer neuron"] | None = None
    sources: Float[Tensor, "prompt layer head position"] | None = None
    kinds: tuple[str, ...] = ()
    sources_by_kind: Float[Tensor, "prompt layer head kind"] | None = None

    @property
    def components(self) -> tuple[Component, ...]:
        """The components of `layers`, by kind and layer."""
        return tuple(map(Component.named, self.layer_labels))

    def of_kind(self, kind: str) -> Float[Tensor, "prompt layer"]:
        """The columns of `layers` of one kind of component, such as "attn_out", in the order of layers."""
        return self.layers[:, [component.kind == kind for component in self.components]]

    def total(self) -> Float[Tensor, " prompt"]:
        """The sum of everything: the metric, in double precision."""
        return self.layers.double().sum(1) + self.constant.double()

    def __add__(self, other: Contributions) -> Contributions:
        """Entry by entry.

        Raises:
            InputError: other labels, or another number of prompts.
        """
        return self._combined(other, torch.add)

    def __sub__(self, other: Contributions) -> Contributions:
        """Entry by entry.

        Raises:
            InputError: other labels, or another number of prompts.
        """
        return self._combined(other, torch.sub)

    def __mul__(self, factor: Factor) -> Contributions:
        """Every entry times a number, or times one number for each prompt.

        Raises:
            InputError: no number, or another number of factors than of prompts.
        """
        takes = "contributions are multiplied by a number, or by one for each prompt"
        given = as_array("factors", factor, takes)
        if given.is_complex() or given.shape not in ((), self.constant.shape):
            raise InputError(f"{takes}: {len(self.constant)}, got {given.dtype} of shape {tuple(given.shape)}")
        return self._made(lambda x: x * (given.view(-1, *[1] * (x.ndim - 1)) if given.ndim else given.item()))

    __rmul__ = __mul__
    __array_ufunc__ = None  # numpy leaves the multiplication to this class

    def _combined(self, other: Contributions, operation: Callable[[Tensor, Tensor], Tensor]) -> Contributions:
        if not isinstance(other, Contributions):
            return NotImplemented
        for name in ("layer_labels", "kinds"):
            one, two = getattr(self, name), getattr(other, name)
            if one != two and one and two:
                raise InputError(f"contributions with other {name}: {one} and {two}")
        theirs, ours = other._numbers(), self._numbers()
        both = {name: (ours[name], theirs[name]) for name in ours if name in theirs}  # what one lacks, the sum lacks
        for name, (one, two) in both.items():
            if one.shape != two.shape:
                raise InputError(f"contributions of other shapes: {name} {tuple(one.shape)} and {tuple(two.shape)}")
        return self._of({name: operation(*pair) for name, pair in both.items()})

    def _made(self, change: Callable[[Tensor], Tensor]) -> Contributions:
        return self._of({name: change(x) for name, x in self._numbers().items()})

    def _of(self, numbers: dict[str, Tensor]) -> Contributions:
        """Contributions with these labels."""
        kinds = self.kinds if "sources_by_kind" in numbers else ()
        return Contributions(layer_labels=self.layer_labels, kinds=kinds, **numbers)  # pyright: ignore

    def _numbers(self) -> dict[str, Tensor]:
        """The arrays, all of which are linear in the metric and the residual stream."""
        found = {f.name: getattr(self, f.name) for f in fields(Contributions)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
