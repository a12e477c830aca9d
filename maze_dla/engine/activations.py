"""Activations of prompts at chosen positions: every (prompt, position) is read as a prompt of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.devices import to_device
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.direct.lens import depth_labels, depths_of
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts, run
from maze_dla.engine.ids import NONE, first_where
from maze_dla.engine.metrics import logit
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import FINAL_RESIDUAL, LOGITS, Activations, Site
from maze_dla.errors import InputError, ModelError, check_kind, check_whole, whole_number
from maze_dla.results.activations import ActivationResult
from maze_dla.results.arrays import as_array

SITES = ("resid", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z", "neurons")
GIB = 1 << 30
TAKES = "positions is 'read', 'all', a list of positions, or an array with a position for each prompt"


def activations(
    model: ResidualModel,
    batch: PromptBatch,
    *,
    site: str = "resid_pre",
    positions: Any = "read",
    layers: Any = None,
    limit_gib: Any = 2.0,
    sequences_at_once: int | None = None,
) -> ActivationResult:
    """The activations of a site, as `maze_dla.activations` returns them.

    Raises:
        InputError: the batch does not fit the model, an unknown site, layer or position, or more than `limit_gib`.
        ModelError: a site that the model does not have.
    """
    check_fit(model, batch)
    sites = sites_of(model, site, layers)
    places = _positions(positions, batch)
    _check_size(_numbers_of(model, site) * len(sites), places, model, limit_gib)
    read = _Read.of(batch, places.index)
    asked = logit(batch)

    def measure(micro: MicroBatch, found: Activations) -> Parts:
        wanted = read.is_wanted[micro.prompts]
        here = to_device(torch.nonzero(wanted).flatten(), found[LOGITS].device)
        values = torch.stack([found[s].index_select(0, here) for s in sites], 1)
        read.put(values, micro.prompts[wanted])
        answers = asked.select(read.prompt_of[micro.prompts])
        return {"metric": answers(found[LOGITS]), **judged(found[LOGITS], answers.answers, answers.foils)}

    parts = run(model, read.batch, [*sites, LOGITS], measure, what="activations", sequences_at_once=sequences_at_once)
    parts = {name: values[read.at_end] for name, values in parts.items()}
    described: Any = describe(model, batch, asked, parts.pop("predicted"))
    described["info"] |= {"site": site, "positions": places.words}
    values, axes = _arranged(read.values, places)
    return ActivationResult(
        **{"correct": None, **described, **parts},
        values=values,
        site=site,
        axes=axes,
        layer_labels=labels_of(site, sites, model.weights.shape.n_layers),
        positions=places.index,
    )


def sites_of(model: ResidualModel, site: str, layers: Any = None) -> list[Site]:
    """The sites that are recorded, one for each entry of the layer axis.

    Raises:
        InputError: an unknown site or layer, or no layer.
        ModelError: a site that the model does not have.
    """
    if not isinstance(site, str) or site not in SITES:
        raise InputError(f"site is one of {', '.join(SITES)}, got {site!r:.60}")
    n_layers = model.weights.shape.n_layers
    chosen = _layers(layers, n_layers)
    if site == "resid":
        return [s for s in depths_of(model) if (n_layers - 1 if s.layer is None else s.layer) in chosen]
    if site == "resid_post":
        return [FINAL_RESIDUAL if i == n_layers - 1 else Site("resid_pre", i + 1) for i in chosen]
    if site not in model.sites:
        raise ModelError(f"the model has no {site}, it has {', '.join(s for s in SITES if s in model.sites)}")
    return [Site(site, i) for i in chosen]


def labels_of(site: str, sites: Sequence[Site], n_layers: int) -> tuple[str, ...]:
    """A name for each: 0_pre, 0_mid, final_post of the stream, else 0_attn_out, 1_z; 0_post after the first layer."""
    if site == "resid_post":
        return tuple(f"{(n_layers if s.layer is None else s.layer) - 1}_post" for s in sites)
    return depth_labels(sites)


def _layers(layers: Any, n_layers: int) -> list[int]:
    if layers is None:
        return list(range(n_layers))
    given = [layers] if whole_number(layers) is not None else layers
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise InputError(f"layers are None or numbers from 0 to {n_layers - 1}, got {layers!r:.60}")
    chosen = [check_whole("a layer", i, 0, n_layers - 1) for i in given]
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"layers are one or more different numbers from 0 to {n_layers - 1}, got {layers!r:.60}")
    return chosen


@dataclass(frozen=True)
class _Places:
    """The positions of each prompt, filled up with -1; in words; and whether they have an axis of their own."""

    index: Int[Tensor, "prompt position"]
    words: str
    several: bool


def _positions(positions: Any, batch: PromptBatch) -> _Places:
    """Positions as callers give them: from 0, or from the end, where -1 is the read position.

    Raises:
        InputError: none of what is taken, a position that a prompt does not have, or one twice.
    """
    if isinstance(positions, str) and positions == "read":
        return _Places(batch.read_positions[:, None].clone(), "read", several=False)
    if isinstance(positions, str) and positions == "all":
        at = torch.arange(int(batch.lengths.max())).expand(len(batch), -1)
        return _Places(torch.where(at < batch.lengths[:, None], at, NONE), "all", several=True)
    if whole_number(positions) is not None:
        given = torch.full((len(batch), 1), int(positions))
        return _Places(_inside(given, batch), f"{int(positions)} of every prompt", several=False)
    if isinstance(positions, list | tuple | range):
        given = as_array("positions", list(positions), TAKES)
        if given.ndim != 1 or given.numel() == 0 or given.dtype != torch.int64:
            raise InputError(f"{TAKES}, got {positions!r:.60}")
        words = ", ".join(map(str, given.tolist()))
        return _Places(_inside(given.expand(len(batch), -1), batch), f"{words} of every prompt", several=True)
    if not hasattr(positions, "shape") or isinstance(positions, str):
        raise InputError(f"{TAKES}, got {positions!r:.60}")
    given = as_array("positions", positions, TAKES)
    if given.shape != (len(batch),) or given.dtype != torch.int64:
        raise InputError(f"{TAKES}: whole numbers [{len(batch)}], got {given.dtype} of shape {tuple(given.shape)}")
    return _Places(_inside(given[:, None], batch), "one of each prompt", several=False)


def _inside(given: Int[Tensor, "prompt position"], batch: PromptBatch) -> Int[Tensor, "prompt position"]:
    lengths = batch.lengths[:, None]
    found = torch.where(given < 0, given + lengths, given)
    if (outside := ((found < 0) | (found >= lengths)).any(1)).any():
        i = first_where(outside)
        raise InputError(
            f"prompt {i} has {int(batch.lengths[i])} tokens, so no position {', '.join(map(str, given[i].tolist()))} "
            f"({int(outside.sum())} of {len(batch)} prompts are too short)"
        )
    ordered = found.sort(1).values
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise InputError(f"positions are different from each other, got {given[0].tolist()!r:.60}")
    return found


def _numbers_of(model: ResidualModel, site: str) -> int:
    shape = model.weights.shape
    return {"z": shape.n_heads * shape.d_head, "neurons": shape.d_mlp or 0}.get(site, shape.d_model)


def _check_size(numbers: int, places: _Places, model: ResidualModel, limit_gib: Any) -> None:
    """Refuse an array larger than the limit, before anything is run."""
    check_kind(limit_gib, int | float, "limit_gib is a number")
    size = places.index.numel() * numbers * max(model.weights.W_U.element_size(), 4) / GIB
    if not size <= limit_gib:
        n, width = places.index.shape
        raise InputError(
            f"activations of {n} prompts at {width} position{'s' * (width != 1)} each, {numbers} numbers a position, "
            f"take {size:.2g} GiB, and limit_gib is {limit_gib:g}: choose fewer layers or prompts, positions='read' or "
            "a list, write_activations (which holds one shard at a time), or a larger limit_gib"
        )


@dataclass(frozen=True, eq=False)
class _Read:
    """The batch that is run, in which every position that is wanted is a prompt; each prompt's read position as well.

    Values are put in rows, one for each position that is wanted, prompt by prompt.
    """

    batch: PromptBatch
    prompt_of: Int[Tensor, " read"]
    at_end: Int[Tensor, " prompt"]
    is_wanted: Tensor
    row_of: Int[Tensor, " read"]
    kept: dict[str, Tensor]

    @classmethod
    def of(cls, batch: PromptBatch, index: Int[Tensor, "prompt position"]) -> _Read:
        end = batch.read_positions
        apart = torch.where((index == end[:, None]).any(1), NONE, end)
        whole = torch.cat([index, apart[:, None]], 1)
        prompt_of, column = torch.nonzero(whole >= 0).unbind(1)
        at = whole[prompt_of, column]
        is_wanted = column < index.shape[1]
        at_end = torch.nonzero(at == end[prompt_of]).flatten()
        expanded = replace(
            batch,
            sequence_of=batch.sequence_of[prompt_of],
            read_positions=at,
            targets=batch.targets[prompt_of],
            answers=batch.answers[prompt_of],
            token_sets={},
            incorrect=None,
            foils=None,
            steps=None,
            columns={},
        )
        return cls(expanded, prompt_of, at_end, is_wanted, is_wanted.long().cumsum(0) - 1, {})

    def put(self, values: Float[Tensor, "some layer ..."], reads: Int[Tensor, " some"]) -> None:
        """Values of some of the positions that are wanted."""
        if "values" not in self.kept:
            n = int(self.is_wanted.sum())
            self.kept["values"] = torch.empty(n, *values.shape[1:], dtype=values.dtype)
        self.kept["values"][self.row_of[reads]] = values.cpu()

    @property
    def values(self) -> Float[Tensor, "row layer ..."]:
        """One row for each position that is wanted."""
        return self.kept["values"]


def _arranged(rows: Float[Tensor, "row layer *head feature"], places: _Places) -> tuple[Tensor, tuple[str, ...]]:
    """[prompt, layer, (head), (position), feature], NaN after a prompt's end, and the axes after the prompt."""
    head = ("head",) if rows.ndim == 4 else ()
    if not places.several:
        return rows, ("layer", *head, "feature")
    held = places.index >= 0
    values = rows.new_full((*held.shape, *rows.shape[1:]), torch.nan)
    values[held] = rows
    return values.movedim(1, -2).contiguous(), ("layer", *head, "position", "feature")
