"""Sequences with shared prefixes deduplicated, and where prompts read in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from maze_dla.engine.devices import to_device

MAX_UNIQUE_SHARE = (
    0.96  # below this share of different tokens, moving keys and values together costs less than it saves
)


@dataclass(frozen=True)
class SharedPrefixes:
    """The tokens of some sequences, each once for all sequences that agree up to it: a causal model cannot tell them
    apart. Where hardly any do, every place of the padded array stands for itself, and nothing has to be moved.

    `reads` says for each prompt which of them it reads; `first_index` names each one's first place in the flattened
    array of sequences, and `token_at` says for each place which one it is.
    """

    ids: Int[Tensor, " token"]
    positions: Int[Tensor, " token"]
    reads: Int[Tensor, " prompt"]
    n_sequences: int
    first_index: Int[Tensor, " token"] | None = None
    token_at: Int[Tensor, " place"] | None = None

    def spread(
        self, values: Float[Tensor, "token d"], out: Float[Tensor, "place d"] | None = None
    ) -> Float[Tensor, "sequence position d"]:
        """Values of the tokens at every place that they stand for, written to `out` if they have to be moved."""
        moved = values if self.token_at is None else torch.index_select(values, 0, self.token_at, out=out)
        return moved.unflatten(0, (self.n_sequences, -1))

    def gather(self, values: Float[Tensor, "sequence position d"]) -> Float[Tensor, "token d"]:
        """Values of all places, one for each of the tokens."""
        flat = values.flatten(0, 1)
        return flat if self.first_index is None else flat.index_select(0, self.first_index)


def shared_prefixes(
    tokens: Int[Tensor, "sequence position"],
    rows: Int[Tensor, " prompt"],
    positions: Int[Tensor, " prompt"],
    device: torch.device,
) -> SharedPrefixes:
    """Sequences with shared prefixes deduplicated, to read (rows[i], positions[i]) for every prompt i.

    Everything is worked out where the arguments are, best on the CPU, and sent to the device.
    """
    n, width = tokens.shape
    everywhere = torch.arange(width).repeat(n)
    first, needed = _first_places(tokens, rows, positions)
    if int(needed.sum()) > MAX_UNIQUE_SHARE * n * width:
        ids, where, reads = tokens.flatten(), everywhere, rows * width + positions
        return SharedPrefixes(to_device(ids, device), to_device(where, device), to_device(reads, device), n)
    first_index = torch.nonzero(needed).flatten()
    number = torch.zeros(n * width, dtype=torch.long)
    number[first_index] = torch.arange(len(first_index))
    token_at = number[first]
    ids, where, reads = tokens.flatten()[first_index], everywhere[first_index], token_at[rows * width + positions]
    ids, where, reads, first_index, token_at = (
        to_device(t, device) for t in (ids, where, reads, first_index, token_at)
    )
    return SharedPrefixes(ids, where, reads, n, first_index, token_at)


def _first_places(
    tokens: Int[Tensor, "sequence position"], rows: Int[Tensor, " prompt"], positions: Int[Tensor, " prompt"]
) -> tuple[Int[Tensor, " place"], Bool[Tensor, " place"]]:
    """For each place the first one with the same tokens up to it, and which of the first ones some prompt needs."""
    n, width = tokens.shape
    listed = tokens.tolist()
    order = torch.tensor(sorted(range(n), key=listed.__getitem__))  # what share a prefix become neighbours
    ordered = tokens[order]
    as_before = torch.zeros(n, width, dtype=torch.bool)
    as_before[1:] = (ordered[1:] == ordered[:-1]).cumprod(1).bool()
    ranks = torch.arange(n)[:, None].expand(n, width)
    owner = order[torch.where(as_before, 0, ranks).cummax(0).values]
    first = torch.empty_like(owner)
    first[order] = owner * width + torch.arange(width)
    ends = torch.zeros(n, dtype=torch.long).scatter_reduce(0, rows, positions + 1, reduce="amax")
    read = torch.arange(width) < ends[:, None]
    needed = torch.zeros(n * width, dtype=torch.bool)
    needed[first[read]] = True
    return first.flatten(), needed


@dataclass(frozen=True)
class Slots:
    """A place for each prompt in an array [sequence, slot], for arithmetic on the sequences that prompts read."""

    rows: Int[Tensor, " prompt"]
    slots: Int[Tensor, " prompt"]
    positions: Int[Tensor, "sequence slot"]

    def fill(self, values: Float[Tensor, " prompt *rest"]) -> Float[Tensor, "sequence slot *rest"]:
        """The prompts' values in their places, zero elsewhere."""
        array = values.new_zeros(*self.positions.shape, *values.shape[1:])
        array[self.rows, self.slots] = values
        return array

    def take(self, values: Float[Tensor, "sequence slot *rest"]) -> Float[Tensor, " prompt *rest"]:
        """The prompts' values from their places."""
        return values[self.rows, self.slots]


def slots_of(
    rows: Int[Tensor, " prompt"], positions: Int[Tensor, " prompt"], n_sequences: int, device: torch.device
) -> Slots:
    """The place of each prompt among those that read the same sequence."""
    order = rows.argsort(stable=True)
    counts = rows.bincount(minlength=n_sequences)
    slots = torch.empty_like(rows)
    slots[order] = torch.arange(len(rows)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    where = torch.zeros(n_sequences, int(counts.max()), dtype=torch.long)
    where[rows, slots] = positions
    return Slots(to_device(rows, device), to_device(slots, device), to_device(where, device))
