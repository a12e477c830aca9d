"""Steering: a vector added to the residual stream, and what the model then answers.

Turner et al. 2023 ("Activation addition", arXiv 2308.10248, section 3); differences of means as in Rimsky et al. 2023
(arXiv 2312.06681, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from maze_dla.engine.causal.parts import parts_of
from maze_dla.engine.causal.reading import AT_THE_END, MetricAtReads
from maze_dla.engine.causal.supplies import mean_at
from maze_dla.engine.completeness import SumChecks
from maze_dla.engine.direct.described import describe, judged
from maze_dla.engine.edits import STREAM, Edit
from maze_dla.engine.fit import check_fit
from maze_dla.engine.forward.running import Parts as Values
from maze_dla.engine.forward.running import in_micro_batches
from maze_dla.engine.ids import first_where
from maze_dla.engine.metrics import LinearMetric
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.precision import at_least_single
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import LOGITS, Site
from maze_dla.errors import InputError, ModelError, check_whole
from maze_dla.results.arrays import as_array
from maze_dla.results.steering import SteerResult

SITES = ("resid_pre", "resid_mid")


def steer(
    model: ResidualModel,
    batch: PromptBatch,
    metric: LinearMetric,
    vector: Any,
    *,
    layer: int,
    site: str = "resid_pre",
    strengths: Sequence[float] = (0.0, 0.5, 1.0, 2.0),
    positions: str | int = "read",
    controls: int = 5,
    seed: int = 0,
    sequences_at_once: int | None = None,
) -> SteerResult:
    """Add a vector to the stream, as `maze_dla.steer` does.

    Raises:
        InputError: batch or metric do not fit the model, a vector of another size or with numbers that are not finite,
            no strengths, an unknown site, layer or position.
        ModelError: a site that the model does not have.
        CompletenessError: the metric is not what the final residual gives.
    """
    check_fit(model, batch, metric)
    shape = model.weights.shape
    if site not in SITES or site not in model.sites:
        raise InputError(f"site is one of {', '.join(s for s in SITES if s in model.sites)}, got {site!r:.60}")
    layer = check_whole("layer", layer, 0)
    if layer >= shape.n_layers:
        raise InputError(f"layer is below the {shape.n_layers} layers of the model, got {layer}")
    work = _Steering(
        model,
        batch,
        metric,
        _vectors(vector, shape.d_model, check_whole("controls", controls, 0), check_whole("seed", seed, 0)),
        Site(site, layer),
        _strengths(strengths),
        _positions(positions, batch),
    )
    found = in_micro_batches(
        model, batch, work.of_micro_batch, what="steering", sequences_at_once=sequences_at_once, share=0.5
    )
    work.checks.finish()
    return work.result(found, seed)


def difference_of_means(
    model: ResidualModel, one: PromptBatch, two: PromptBatch, *, layer: int, site: str = "resid_pre"
) -> Float[Tensor, " d_model"]:
    """The mean activation at the read positions of one set of prompts minus that of another.

    Raises:
        InputError: batches do not fit the model, or a site that holds no vector of the stream's size.
        ModelError: a site that the model does not have, or activations that are not finite, as those of NaN weights.
    """
    if site not in STREAM:
        raise InputError(f"site is one of {', '.join(STREAM)}, got {site!r:.60}")
    layer = check_whole("layer", layer, 0)
    for batch in (one, two):
        check_fit(model, batch)
    return mean_at(model, one, Site(site, layer)) - mean_at(model, two, Site(site, layer))


def component_mean(model: ResidualModel, batch: PromptBatch, part: Any) -> Float[Tensor, " d_model"]:
    """The mean of what a head, an attention layer or an MLP writes at the read positions of a batch, biases left out
    where it is a head.

    Raises:
        InputError: the batch does not fit the model, or a part that the model does not have, or a neuron.
        ModelError: activations that are not finite, as those of NaN weights.
    """  # fmt: skip
    check_fit(model, batch)
    (named,) = parts_of(model, [part], None, (), 0).listed
    mean = mean_at(model, batch, Site(named.site.name, named.layer))
    if named.site.head is None:
        return mean
    if named.site.name != "z":
        raise InputError(f"part is a head, an attention layer or an MLP, got {part!r:.60}")
    W_O = model.weights.blocks[named.layer].W_O
    return mean[named.site.head] @ W_O[named.site.head].double().cpu()


def unembedding_direction(model: ResidualModel, batch: PromptBatch, metric: LinearMetric) -> Float[Tensor, " d_model"]:
    """The mean over prompts of the direction in the stream that raises the metric, of length 1.

    Raises:
        InputError: batch or metric do not fit the model, or directions that cancel each other.
        ModelError: a direction that is not finite, as of NaN weights.
    """
    check_fit(model, batch, metric)
    weights = model.weights
    mean = weights.final_norm.pull_back(metric.direction(weights.W_U)).double().mean(0)
    length = float(mean.norm())
    if not math.isfinite(length):
        raise ModelError("the metric's direction is not finite: look for NaN or infinity in W_U and the final norm")
    if not length > 0:
        raise InputError("the directions of these prompts cancel each other: there is none to steer in")
    return (mean / length).cpu()


def _vectors(vector: Any, d_model: int, controls: int, seed: int) -> Float[Tensor, "vector d_model"]:
    """The vector, and random directions of the same length.

    Raises:
        InputError: a vector of another size, with numbers that are not finite, or of length zero.
    """
    given = as_array("vector", vector, f"vector is {d_model} numbers").detach().cpu()
    if tuple(given.shape) != (d_model,):
        raise InputError(f"vector has shape {tuple(given.shape)}, the model's stream has {d_model} numbers")
    given = given.double()
    if not bool(given.isfinite().all()) or not float(given.norm()) > 0:
        raise InputError("vector has numbers that are not finite, or length zero")
    drawn = torch.randn(controls, d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([given[None], drawn / drawn.norm(dim=1, keepdim=True) * given.norm()])


def _strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    listed = as_array("strengths", strengths, "strengths are numbers").double()
    if listed.ndim != 1 or len(listed) == 0 or not bool(listed.isfinite().all()):
        raise InputError(f"strengths are one or more finite numbers, got {strengths!r:.60}")
    return tuple(listed.tolist())


def _positions(positions: str | int, batch: PromptBatch) -> str | int:
    if positions in ("read", "all"):
        return positions
    if isinstance(positions, str):
        raise InputError(f"positions is 'read', 'all', or how many positions in front of it, got {positions!r:.60}")
    positions = check_whole("positions", positions, 0)
    if (short := batch.lengths <= positions).any():
        i = first_where(short)
        raise InputError(
            f"positions is {positions} in front of the read position, where prompt {i} of {int(batch.lengths[i])} "
            f"tokens has none ({int(short.sum())} of {len(batch)} prompts are so short)"
        )
    return positions


@dataclass(frozen=True, eq=False)
class _Steering:
    """Steering of one batch: vectors, strengths and where they are added."""

    model: ResidualModel
    batch: PromptBatch
    metric: LinearMetric
    vectors: Float[Tensor, "vector d_model"]
    site: Site
    strengths: tuple[float, ...]
    positions: str | int
    checks: SumChecks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", SumChecks(self.model.weights.precision))

    def of_micro_batch(self, micro: MicroBatch) -> tuple[Tensor, Values]:
        """The metric and the answers of the prompts of a micro-batch, for every vector and strength."""
        here, n = self.metric.select(micro.prompts), len(micro.prompts)
        at = "read" if self.positions == "read" else "all"
        held = Site(self.site.name, self.site.layer, position=at)
        plain, rerun = self.model.forward.editable(micro, [*AT_THE_END, LOGITS, held], [held])
        reader = MetricAtReads.of(self.model.weights, here)
        metric, size = reader.check(self.checks, plain, here, micro.prompts)
        logits = at_least_single(plain[LOGITS])
        values: Values = {"metric": metric, "logit_size": size, **judged(logits, here.answers, here.foils)}
        steered, predicted, right = [], [], []
        for k, vector in enumerate(self.vectors):
            for strength in self.strengths:
                edit = self._edit(strength * vector, micro, plain[held])
                found = rerun(torch.arange(n), [edit], [*AT_THE_END, *([LOGITS] if k == 0 else [])])
                steered.append(reader(found))
                if k == 0:
                    after = judged(at_least_single(found[LOGITS]), here.answers, here.foils)
                    predicted.append(after["predicted"])
                    right.append(after.get("preferred" if here.foils is not None else "correct"))
        both = torch.stack(steered, 1).unflatten(1, (len(self.vectors), -1))
        values |= {"values": both[:, 0], "control": both[:, 1:], "answers": torch.stack(predicted, 1)}
        if here.answers is not None:
            values["correct_after"] = torch.stack(right, 1)
        return micro.prompts, values

    def _edit(self, added: Tensor, micro: MicroBatch, plain: Tensor) -> Edit:
        """The edit that puts the stream with the vector in its place."""
        n = len(micro.prompts)
        prompts, positions = torch.arange(n), micro.positions
        if self.positions == "all":
            read = torch.arange(micro.tokens.shape[1]) <= micro.positions[:, None]
            prompts, positions = torch.nonzero(read).unbind(1)
        elif isinstance(self.positions, int):
            positions = micro.positions - self.positions
        held = plain if plain.ndim == 2 else plain[micro.rows[prompts].to(plain.device), positions.to(plain.device)]
        return Edit(self.site, prompts, positions, held + added.to(held))

    def result(self, found: Values, seed: int) -> SteerResult:
        """The result of these numbers."""
        described: Any = describe(self.model, self.batch, self.metric, found.pop("predicted"), found.pop("logit_size"))
        described["info"] |= {
            "site": self.site.name,
            "layer": self.site.layer,
            "positions": self.positions,
            "vector_norm": float(self.vectors[0].norm()),
            "control_seed": seed,
        }
        tokens = found.pop("answers")
        names = {token: self.batch.token_name(token) for token in tokens.unique().tolist()}
        answers = tuple(tuple(names[token] for token in row) for row in tokens.tolist())
        return SteerResult(
            **{"correct": None, **described, **found}, strengths=torch.tensor(self.strengths), answers=answers
        )
