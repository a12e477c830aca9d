"""Small random models, random prompts, and views of a model that tell lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from maze_dla.analysis import as_residual_model
from maze_dla.engine.forward.running import SequenceQueue
from maze_dla.engine.metrics import LinearMetric, correct_vs_other
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.prompts import PromptBatch
from maze_dla.engine.sites import Activations

try:
    import transformer_lens.model_bridge.sources.native  # noqa: F401

    HOOKED = os.environ.get("MAZE_DLA_TEST_CLASS") == "HookedTransformer"
except ImportError:
    HOOKED = True

D_VOCAB = 23
SIZES = {"d_model": 24, "d_head": 8, "n_heads": 3, "n_layers": 2, "n_ctx": 48, "d_vocab": D_VOCAB, "d_mlp": 40}
MODERN = {
    "normalization_type": "RMS",
    "gated_mlp": True,
    "act_fn": "silu",
    "n_heads": 4,
    "n_key_value_heads": 2,
    "positional_embedding_type": "rotary",
}
LENGTHS = (5, 31, 17, 9, 40, 12, 26)


def make_model(dtype: torch.dtype = torch.float32, seed: int = 1, **settings: Any) -> Any:
    """A random model in which every parameter matters, biases and norm weights too."""
    chosen = {"normalization_type": "LN", "act_fn": "gelu", **SIZES, **settings}
    model = new_hooked_transformer(chosen, dtype) if HOOKED else new_bridge(chosen, dtype)
    generator = torch.Generator().manual_seed(seed)
    # the native bridge's b_U is a buffer of zeros
    extra = [] if HOOKED else [model.unembed.original_component.bias]
    with torch.no_grad():
        for tensor in (*model.parameters(), *extra):
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(dtype))
    return model


def new_bridge(settings: dict[str, Any], dtype: torch.dtype) -> Any:
    """The newest TransformerLens's own model class."""
    from transformer_lens.config.transformer_bridge_config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    cfg = TransformerBridgeConfig(architecture="TransformerLensNative", seed=0, **settings)
    return TransformerBridge.boot_native(cfg, dtype=dtype)


def new_hooked_transformer(settings: dict[str, Any], dtype: torch.dtype) -> Any:
    """The model class of TransformerLens 2 and 3."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    rotary = {"rotary_dim": settings["d_head"], "rotary_adjacent_pairs": True, "rotary_base": 10000.0}
    more = rotary if settings.get("positional_embedding_type") == "rotary" else {}
    with torch.random.fork_rng(devices=[]):
        return HookedTransformer(HookedTransformerConfig(**settings, **more, dtype=dtype, device="cpu", seed=0)).eval()


def inner(component: Any) -> Any:
    """The module that computes inside a component: a bridge wraps it."""
    return getattr(component, "original_component", component)


def b_in(mlp: Any) -> Tensor:
    """The bias of an MLP's first layer."""
    return mlp.b_in if HOOKED else mlp.original_component.fc_in.original_component.bias


@cache
def shared_model(dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """The same model for all tests that only look at it."""
    return make_model(dtype, **settings)


def random_tokens(lengths: tuple[int, ...] = LENGTHS, seed: int = 2) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(D_VOCAB, (n,), generator=generator).tolist() for n in lengths]


def make_batch(lengths: tuple[int, ...] = LENGTHS, seed: int = 2, **more: Any) -> PromptBatch:
    generator = torch.Generator().manual_seed(seed + 1)
    targets = torch.randint(D_VOCAB, (len(lengths),), generator=generator).tolist()
    return PromptBatch.from_tokens(random_tokens(lengths, seed), targets, d_vocab=D_VOCAB, **more)


def micro_batches(batch: PromptBatch, at_once: int, tokens_at_once: int = 10_000) -> list[MicroBatch]:
    """Everything that forward passes take from a batch."""
    queue, taken = SequenceQueue(batch, batch.sequences.shape[1]), []
    while (plan := queue.take(at_once, tokens_at_once)) is not None:
        taken.append(plan)
    return taken


def random_metric(batch: PromptBatch) -> LinearMetric:
    """A metric with coefficients of every kind: dense, and different for each prompt."""
    mask = torch.rand(len(batch), batch.d_vocab, generator=torch.Generator().manual_seed(7)) < 0.4
    return correct_vs_other(batch, others=mask, reduce="sum")


def hooked_view(model: Any) -> ResidualModel:
    """The engine's view of a model that is run itself."""
    return as_residual_model(model, "hooked")


@dataclass(frozen=True)
class PlainRuns:
    """A `ForwardPass` of plain runs alone: a function of a micro-batch and sites."""

    run: Callable[[MicroBatch, Any], Activations]

    def __call__(self, micro: MicroBatch, sites: Any) -> Activations:
        return self.run(micro, sites)

    def editable(self, *_: Any) -> Any:
        raise NotImplementedError

    def gradients(self, *_: Any) -> Any:
        raise NotImplementedError


Change = Callable[[Activations, Tensor, Callable[[Tensor], Activations]], Activations]


def meddled(model: Any, change: Change) -> ResidualModel:
    """A view whose activations are changed behind the model's back."""
    view = hooked_view(model)

    def forward(micro: MicroBatch, sites: Any) -> Activations:
        def run(at: Tensor) -> Activations:
            return view.forward(replace(micro, positions=at), sites)

        return change(run(micro.positions), micro.positions, run)

    return replace(view, forward=PlainRuns(forward))


def with_weights(model: Any, **changes: Any) -> ResidualModel:
    """The view with some weights replaced; the model itself keeps its own."""
    view = hooked_view(model)
    weights = replace(view.weights, **changes)
    return replace(view, weights=weights, forward=replace(view.forward, weights=weights))  # pyright: ignore


def with_block(model: Any, layer: int, **changes: Any) -> ResidualModel:
    """The view with some weights of one block replaced."""
    blocks = list(hooked_view(model).weights.blocks)
    blocks[layer] = replace(blocks[layer], **changes)
    return with_weights(model, blocks=tuple(blocks))
