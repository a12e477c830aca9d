"""Methods that find the same numbers: a plain forward pass, the tutorial's, and maze_dla's own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.analysis import attribute
from maze_dla.bench.models import N_TASKS
from maze_dla.engine.metrics import logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import MazeDlaError

AGREEMENT = 1e-3
Neurons = Callable[[Any, Any, Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Numbers:
    """The numbers of every method but the plain forward pass, in logits; `lens` up to a constant of each prompt."""

    lens: Float[Tensor, "prompt depth"]
    layers: Float[Tensor, "prompt component"]
    heads: Float[Tensor, "prompt layer head"]
    neurons: Float[Tensor, "prompt layer neuron"]


def plain_forward(model: Any, tokens: Int[Tensor, "prompt position"], batch_size: int) -> None:
    """The forward pass that any analysis needs: `model(tokens)`, padded on the right."""
    with torch.no_grad():
        for part in tokens.to(model.W_U.device).split(batch_size):
            model(part)


def ours(model: Any, batch: PromptBatch, **options: Any) -> Numbers:
    """`dla.attribute` with neurons, and the lens that its result has without a second pass."""
    result = attribute(model, batch, logit_diff(batch), neurons=True, **options)
    assert result.neurons is not None  # the shapes have MLPs
    return Numbers(result.lens().values, result.layers, result.heads, result.neurons)


def tutorial(model: Any, batch: PromptBatch) -> Numbers:
    """The tutorial's method: that of TransformerLens's Exploratory Analysis tutorial, through its public cache alone.

    One `run_with_cache` of all prompts, padded on the right. Then the cache's stacks at all positions,
    `apply_ln_to_stack`, and of that the positions that are read and the product with the logit difference's directions.
    The tutorial itself stops at heads. Neurons at all positions would need gigabytes for each layer: they are stacked
    by `neurons_by_stack`, for the prompts that end at the same position and there alone.
    """
    with torch.no_grad(), redirect_stdout(io.StringIO()):  # TransformerLens 2 tells that it computes head results
        run = _Run.of(model, batch)
        heads = run.projected(run.cache.stack_head_results(layer=-1))
        found = Numbers(
            run.projected(run.cache.accumulated_resid(layer=-1, incl_mid=True)),
            run.projected(run.cache.decompose_resid(layer=-1)),
            heads.unflatten(1, (model.cfg.n_layers, model.cfg.n_heads)),
            torch.cat([neurons_by_stack(model, *group) for group in run.groups()]),
        )
    return _in_order(run.order, found)


def tutorial_with_pos_slice(model: Any, batch: PromptBatch, neurons: Neurons | None = None) -> Numbers:
    """The same with stacks at one position each: `pos_slice`, for the prompts that end at the same position.

    Neurons are found by `neurons_by_stack` if not told otherwise.
    """
    with torch.no_grad(), redirect_stdout(io.StringIO()):
        run = _Run.of(model, batch)
        pieces = [_from_stacks(model, *group, neurons or neurons_by_stack) for group in run.groups()]
        joined = (torch.cat([getattr(piece, field.name) for piece in pieces]) for field in fields(Numbers))
        return _in_order(run.order, Numbers(*joined))


def tutorial_for_each_task(model: Any, batch: PromptBatch) -> list[Numbers]:
    """The tutorial's way with `pos_slice`, once for each of the tasks that share the batch's sequences."""
    task_of = torch.arange(len(batch)) % N_TASKS
    return [tutorial_with_pos_slice(model, batch.select(task_of == task)) for task in range(N_TASKS)]


@dataclass(frozen=True, eq=False)
class _Run:
    """The cache of one `run_with_cache` of all prompts, in the order of their ends."""

    order: Int[Tensor, " prompt"]
    ends: Int[Tensor, " prompt"]
    cache: Any
    directions: Float[Tensor, "prompt d_model"]

    @classmethod
    def of(cls, model: Any, batch: PromptBatch) -> _Run:
        """Run the model."""
        order = batch.lengths.argsort(stable=True)
        batch = batch.select(order)
        _, cache = model.run_with_cache(batch.tokens.to(model.W_U.device))
        return cls(order, batch.read_positions, cache, _directions(model, batch))

    def groups(self) -> Iterator[tuple[Any, Tensor, int]]:
        """Cache and directions of the prompts that end at the same position, and that position."""
        ends, sizes = self.ends.unique_consecutive(return_counts=True)
        start = 0
        for end, size in zip(ends.tolist(), sizes.tolist(), strict=True):
            of_group = (start, start + size)
            yield self.cache.apply_slice_to_batch_dim(of_group), self.directions[slice(*of_group)], end
            start += size

    def projected(self, stack: Float[Tensor, "component prompt position d_model"]) -> Float[Tensor, "prompt component"]:
        """A stack of all positions after the norm, where each prompt is read."""
        scaled = self.cache.apply_ln_to_stack(stack, layer=-1)
        prompts = torch.arange(len(self.ends), device=scaled.device)
        return torch.einsum("cpd,pd->pc", scaled[:, prompts, self.ends.to(scaled.device)], self.directions)


def _in_order(order: Int[Tensor, " prompt"], found: Numbers) -> Numbers:
    """The prompts as they were before they were put in order, on the CPU."""
    every = (getattr(found, field.name).cpu() for field in fields(Numbers))
    return Numbers(*(torch.empty_like(values).index_copy_(0, order, values) for values in every))


def _directions(model: Any, batch: PromptBatch) -> Float[Tensor, "prompt d_model"]:
    W_U = model.W_U
    assert batch.incorrect is not None
    correct, incorrect = batch.targets.to(W_U.device), batch.incorrect.to(W_U.device)
    return (W_U[:, correct] - W_U[:, incorrect]).T


def _from_stacks(model: Any, cache: Any, directions: Tensor, position: int, neurons: Neurons) -> Numbers:
    at = {"layer": -1, "pos_slice": position}
    heads = _projected(cache, cache.stack_head_results(**at), directions, position)
    return Numbers(
        _projected(cache, cache.accumulated_resid(incl_mid=True, **at), directions, position),
        _projected(cache, cache.decompose_resid(**at), directions, position),
        heads.unflatten(1, (model.cfg.n_layers, model.cfg.n_heads)),
        neurons(model, cache, directions, position),
    )


def _projected(cache: Any, stack: Tensor, directions: Tensor, position: int) -> Float[Tensor, "prompt component"]:
    scaled = cache.apply_ln_to_stack(stack, layer=-1, pos_slice=position)
    return torch.einsum("cpd,pd->pc", scaled, directions)


def neurons_by_stack(model: Any, cache: Any, directions: Tensor, position: int) -> Tensor:
    """Contributions of neurons, stacked and projected as the tutorial does with heads.

    Layer by layer through `get_neuron_results`: `stack_neuron_results` is the same for all layers at once, and would
    hold a [neuron, prompt, d_model] array of the whole model.
    """
    stacks = (cache.get_neuron_results(i, pos_slice=position).transpose(0, 1) for i in range(model.cfg.n_layers))
    return torch.stack([_projected(cache, stack, directions, position) for stack in stacks], 1)


def neurons_projected(model: Any, cache: Any, directions: Tensor, position: int) -> Tensor:
    """The same through `project_output_onto`, which stacks no vectors (from TransformerLens 3 on).

    Every neuron is projected onto the directions of all prompts, of which each needs its own.
    """
    onto = {"apply_ln": True, "project_output_onto": directions.T}
    every = cache.stack_neuron_results(layer=-1, pos_slice=position, **onto)
    return every.diagonal(dim1=1, dim2=2).T.unflatten(1, (model.cfg.n_layers, -1))


def can_project_neurons() -> bool:
    """Whether this version of TransformerLens has `project_output_onto`."""
    from transformer_lens import ActivationCache

    return "project_output_onto" in signature(ActivationCache.stack_neuron_results).parameters


def check_agreement(one: Numbers, other: Numbers) -> None:
    """Refuse to compare the speed of methods that do not find the same.

    Raises:
        MazeDlaError: numbers differ by more than 1e-3 of the largest part.
    """
    size = float(one.layers.abs().max())
    for name in ("layers", "heads", "neurons", "lens"):
        a, b = getattr(one, name).double(), getattr(other, name).double()
        if name == "lens":  # without the constants, which the tutorial leaves out
            a, b = a.diff(dim=1), b.diff(dim=1)
        apart = float((a - b).abs().max()) / size
        if not apart <= AGREEMENT:
            raise MazeDlaError(
                f"the tutorial's {name} and maze_dla's differ by {apart:.1e} of the largest part "
                f"(at most {AGREEMENT:.0e}): their times cannot be compared"
            )
