"""Values that take the place of what is ablated: zero, a mean over prompts, or what another prompt has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.engine.devices import to_device
from maze_dla.engine.forward.running import Parts as Values
from maze_dla.engine.forward.running import run
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import Activations, Site
from maze_dla.errors import InputError, ModelError, PromptError
from maze_dla.results.columns import groups_of

Value = Literal["zero", "mean", "resample"]
Positions = Literal["read", "all"]


@runtime_checkable
class Supply(Protocol):
    """The values to put at a site, with all heads or neurons, at positions of prompts of a micro-batch."""

    def __call__(
        self, site: Site, prompts: Int[Tensor, " entry"], positions: Int[Tensor, " entry"]
    ) -> Float[Tensor, "entry ..."]:
        """The values, one for each entry."""
        ...


@dataclass(frozen=True, eq=False)
class Supplies:
    """Makes the supply of each micro-batch of a batch: prepared once, with whatever all of them need."""

    model: ResidualModel
    batch: PromptBatch
    reference: PromptBatch
    value: str
    positions: Positions
    sites: Sequence[Site]
    donors: Int[Tensor, " prompt"] | None = None
    means: dict[Site, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: ResidualModel,
        batch: PromptBatch,
        reference: PromptBatch,
        value: str,
        positions: Positions,
        sites: Sequence[Site],
        seed: int,
    ) -> Supplies:
        """Means over the reference, or a donor for each prompt.

        Raises:
            InputError: an unknown value, or means at all positions of prompts whose tokens are of no kind.
            PromptError: a prompt that no other can give its activations to.
        """
        if value not in get_args(Value):
            raise InputError(f"value is 'zero', 'mean' or 'resample', got {value!r:.60}")
        donors, means = None, {}
        if value == "resample":
            donors = donors_of(batch, reference, positions, seed)
        if value == "mean":
            means = _means(model, reference, positions, sites)
        return cls(model, batch, reference, value, positions, sites, donors, means)

    def for_micro_batch(self, micro: MicroBatch, plain: Activations) -> Supply:
        """The supply of a micro-batch, whose plain run shows what shapes the sites have."""
        if self.value == "mean":
            return _Mean(self.means, micro, self.positions)
        if self.value == "zero":
            return _Zero(plain)
        assert self.donors is not None
        chosen = self.reference.select(self.donors[micro.prompts])
        held = run(self.model, chosen, self._recorded(), _kept, what="running donors")
        return _Donors(held, self.positions)

    def _recorded(self) -> list[Site]:
        return [Site(site.name, site.layer, position=self.positions) for site in self.sites]


def donors_of(batch: PromptBatch, reference: PromptBatch, positions: Positions, seed: int) -> Int[Tensor, " prompt"]:
    """For each prompt another one of the reference, about something else; at all positions, one as long.

    Each prompt draws by itself, by what it is: neither the order of the batch nor the other prompts matter.

    Raises:
        PromptError: naming a prompt for which there is none.
    """
    names = [*_listed(batch.columns[batch.unit]), *_listed(reference.columns[reference.unit])]
    numbers = groups_of(tuple(map(str, names)))
    about, of_reference = numbers[: len(batch)], numbers[len(batch) :]
    chosen, without = torch.zeros(len(batch), dtype=torch.long), []
    for i in range(len(batch)):
        fitting = of_reference != about[i]
        if positions == "all":
            fitting &= reference.lengths == batch.lengths[i]
        among = torch.nonzero(fitting).flatten()
        if len(among) == 0:
            without.append(i)
            continue
        generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + int(batch.fingerprints[i])) % 2**63)
        chosen[i] = among[int(torch.randint(len(among), (), generator=generator))]
    if without:
        raise PromptError(_no_donor(batch, reference, positions, without))
    return chosen


def _no_donor(batch: PromptBatch, reference: PromptBatch, positions: Positions, without: Sequence[int]) -> str:
    """Which prompts have no donor, what the reference has, and what to give in place of it."""
    lengths, others = batch.lengths[list(without)], f"another {reference.unit}"
    long = f" of {int(lengths[0])} tokens" if positions == "all" else ""
    problem = f"prompt {without[0]}: the reference has no prompt{long} about {others} to take activations from"
    share = f"{len(without)} of {len(batch)} prompts have none"
    if positions == "read":
        return f"{problem} ({share}): give a reference= with prompts about more than one {reference.unit}"
    return (
        f"{problem}. At all positions a donor is as long as its prompt: {share}, of {_counted(lengths)} tokens, and "
        f"the reference's {len(reference)} prompts are of {_counted(reference.lengths)} tokens. Give a reference= with "
        f"prompts about others of each of the lengths asked for, or value='mean', or positions='read'"
    )


def _counted(lengths: Int[Tensor, " prompt"], most: int = 8) -> str:
    """Lengths and how many prompts have each: "5 (2 prompts), 7 (1)"."""
    found, counts = lengths.unique(return_counts=True)
    named = [f"{n} ({k})" for n, k in zip(found.tolist(), counts.tolist(), strict=True)]
    named[0] = named[0].replace(")", " prompt)" if int(counts[0]) == 1 else " prompts)")
    return ", ".join(named[:most]) + f" and {len(named) - most} other lengths" * (len(named) > most)


def _listed(column: Tensor | tuple[str, ...]) -> Sequence[object]:
    return column.tolist() if isinstance(column, Tensor) else column


def _kept(micro: MicroBatch, found: Activations) -> Values:
    """The activations of each prompt; at all positions, those of its sequence."""
    rows = micro.rows
    return {
        Site(s.name, s.layer): x if s.position == "read" else x[to_device(rows, x.device)].movedim(1, -1)
        for s, x in found.items()
    }


def _means(
    model: ResidualModel, reference: PromptBatch, positions: Positions, sites: Sequence[Site]
) -> dict[Site, Tensor]:
    """The mean of each site over the reference's read positions; at all positions, by kind of token, [kind, ...].

    Raises:
        InputError: means at all positions of prompts whose tokens are of no kind.
        ModelError: naming a prompt whose activations are not finite.
    """
    if positions == "all" and reference.sequence_kinds is None:
        raise InputError(
            "means at all positions are by kind of token, and the reference does not say of which kind its tokens are"
        )
    n_kinds = len(reference.kinds) if positions == "all" else 1
    sums: dict[Site, Tensor] = {}
    counts = torch.zeros(n_kinds, dtype=torch.float64)
    finite: list[tuple[Site, Tensor, Tensor]] = []

    def add(micro: MicroBatch, found: Activations) -> Values:
        kinds, at, prompts = torch.zeros(len(micro.prompts), dtype=torch.long), None, micro.prompts
        if positions == "all":
            assert micro.kinds is not None
            read = torch.arange(micro.tokens.shape[1]) <= micro.positions[:, None]
            prompt, position = torch.nonzero(read).unbind(1)
            at, prompts = (micro.rows[prompt], position), micro.prompts[prompt]
            kinds = micro.kinds[at]
        counts.index_add_(0, kinds, torch.ones(len(kinds), dtype=torch.float64))
        for site, held in found.items():
            values = held if at is None else held[tuple(to_device(index, held.device) for index in at)]
            empty = values.new_zeros(n_kinds, *values.shape[1:], dtype=torch.float64)
            total = sums.setdefault(Site(site.name, site.layer), empty)
            total.index_add_(0, to_device(kinds, values.device), values.double())
            finite.append((site, prompts, values.flatten(1).isfinite().all(1)))
        return {}

    asked = [Site(site.name, site.layer, position=positions) for site in sites]
    run(model, reference, asked, add, what="averaging the reference")
    _check_finite(finite)
    return {site: x / counts.clamp_min(1).view(-1, *[1] * (x.ndim - 1)).to(x.device) for site, x in sums.items()}


def _check_finite(finite: Sequence[tuple[Site, Int[Tensor, " _"], Bool[Tensor, " _"]]]) -> None:
    """Refuse activations that are not finite; on a device nothing has waited for this.

    Raises:
        ModelError: naming the prompt and the site.
    """
    for site, prompts, held in finite:
        if not bool(held.all()):
            prompt = int(prompts[~held.cpu()].min())
            raise ModelError(
                f"prompt {prompt}: {site.name} of layer {site.layer} has numbers that are not finite, so there is no "
                "mean of it: look for NaN or infinity among the model's weights"
            )


def mean_at(model: ResidualModel, batch: PromptBatch, site: Site) -> Float[Tensor, " ..."]:
    """The mean of a site over the read positions of a batch, in double precision, on the CPU.

    Raises:
        ModelError: naming a prompt whose activation is not finite.
    """
    return _means(model, batch, "read", [site])[Site(site.name, site.layer)][0].cpu()


@dataclass(frozen=True, eq=False)
class _Zero:
    plain: Activations

    def __call__(self, site: Site, prompts: Tensor, positions: Tensor) -> Tensor:
        held = self.plain[site]
        return held.new_zeros(len(prompts), *held.shape[1:])


@dataclass(frozen=True, eq=False)
class _Mean:
    means: dict[Site, Tensor]
    micro: MicroBatch
    positions: Positions

    def __call__(self, site: Site, prompts: Tensor, positions: Tensor) -> Tensor:
        held, kinds = self.means[site], torch.zeros_like(prompts)
        if self.positions == "all":
            assert self.micro.kinds is not None
            kinds = self.micro.kinds[self.micro.rows[prompts], positions]
        return held.index_select(0, to_device(kinds, held.device))


@dataclass(frozen=True, eq=False)
class _Donors:
    held: Values
    positions: Positions

    def __call__(self, site: Site, prompts: Tensor, positions: Tensor) -> Tensor:
        held = self.held[site]
        return held[prompts] if self.positions == "read" else held.movedim(-1, 1)[prompts, positions]
