"""A model of the same architecture that has learnt nothing, for a control: its weights drawn anew, in a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from maze_dla.adapters.transformer_lens.exclusive import exclusive, parts_of
from maze_dla.errors import InputError, ModelError, check_kind, check_whole

RandomWeights = Literal["permuted", "normal"]
PROMPT = 4  # tokens of the prompt that tells whether the copy computes something else


def with_random_weights(model: Any, seed: int = 0, how: RandomWeights = "permuted") -> Any:
    """A copy of a model of TransformerLens with random weights; the model itself is left as it is.

    "permuted": the entries of each weight and bias change places within it, so that it keeps every one of its numbers,
    and with them its mean and scale, but no structure. "normal": they are drawn from a normal distribution with the
    mean and the standard deviation of that weight. Weights that are shared stay shared; buffers stay as they are.

    Raises:
        InputError: an unknown way, or a seed below 0.
        ModelError: no model of torch, or a copy that computes what the model does.
    """
    if how not in get_args(RandomWeights):
        raise InputError(f"random weights are 'permuted' or 'normal', got {how!r:.60}")
    seed = check_whole("seed", seed, 0)
    check_kind(model, nn.Module, "a model of TransformerLens")
    with exclusive(model), torch.no_grad():
        left_over = {id(value): value.detach() for value in _left_over(model)}
        copy = deepcopy(model, left_over)  # which deepcopy refuses where they have a gradient
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in _parameters(copy):
            weight.copy_(_drawn(weight, how, generator).to(weight))
    _check_other(model, copy)
    return copy


def _left_over(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that earlier runs with gradients left in the parts of a model: a bridge keeps some activations."""
    for part in parts_of(model):
        known = ("_parameters", "_buffers", "_modules")
        yield from (t for t in _tensors([v for name, v in vars(part).items() if name not in known]) if not t.is_leaf)


def _tensors(held: Any) -> Iterator[Tensor]:
    """The tensors in a value, also inside lists and mappings."""
    if isinstance(held, Tensor):
        yield held
    elif isinstance(held, Mapping | list | tuple):
        for value in held.values() if isinstance(held, Mapping) else held:
            yield from _tensors(value)


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    """Every floating parameter once, also of a model that a bridge wraps without listing it."""
    wrapped = vars(model).get("original_model")
    both = [*model.parameters(), *(wrapped.parameters() if isinstance(wrapped, nn.Module) else ())]
    return [weight for weight in dict.fromkeys(both) if weight.is_floating_point()]


def _drawn(weight: Tensor, how: RandomWeights, generator: torch.Generator) -> Tensor:
    flat = weight.detach().cpu().flatten()
    if how == "permuted":
        return flat[torch.randperm(len(flat), generator=generator)].view(weight.shape)
    values = flat.double()
    spread = float(values.std()) if len(values) > 1 else 0.0
    drawn = torch.randn(len(flat), generator=generator, dtype=torch.float64)
    return (values.mean() + spread * drawn).view(weight.shape)


def _check_other(model: Any, copy: Any) -> None:
    """Refuse a copy that gives the model's logits: its weights are then not those that it computes with."""
    tokens = torch.arange(PROMPT, device=next(copy.parameters()).device)[None] % int(model.cfg.d_vocab)
    with exclusive(model), torch.no_grad():
        own, other = model(tokens), copy(tokens)
    if torch.equal(own, other):
        raise ModelError("a copy of this model with other weights gives the same logits: it has no random control")
