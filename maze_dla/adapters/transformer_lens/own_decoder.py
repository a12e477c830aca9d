"""The engine's own forward pass for TransformerLens models that are plain pre-norm decoders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maze_dla.adapters.transformer_lens.architecture import is_pre_norm_decoder
from maze_dla.adapters.transformer_lens.exclusive import parts_of
from maze_dla.adapters.transformer_lens.weights import norm_of, parameter
from maze_dla.engine.forward.decoder import DecoderBlock, PreNormDecoder
from maze_dla.engine.model import BlockWeights, ModelWeights

LIBRARIES = ("transformer_lens.", "transformers.")  # whose own hooks change nothing
_gelu_tanh = partial(torch.ops.aten.gelu_, approximate="tanh")


def _solu(x: Tensor) -> Tensor:
    """Elhage et al. 2022, "Softmax linear units": x * softmax(x) over neurons."""
    return x.softmax(-1).mul_(x)


# in place: a new array for the largest activations would cost as much again as computing them on some CPUs
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": partial(functional.relu, inplace=True),
    "gelu": torch.ops.aten.gelu_,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "silu": partial(functional.silu, inplace=True),
    "solu": _solu,
    "solu_ln": _solu,  # the norm that follows is the block's
}


def own_decoder(model: Any, weights: ModelWeights) -> PreNormDecoder | None:
    """The model as the engine's own decoder, with the very weights; None where it is something else or more.

    Also None while hooks are attached or dropout is on: then the model does not do what its weights say.
    """
    if not _is_untouched_decoder(model, weights):
        return None
    with torch.no_grad():
        layers = [_block(model, block, writes) for block, writes in zip(model.blocks, weights.blocks, strict=True)]
        W_E, W_pos = parameter(model, "W_E"), _positions(model)
    whole = tuple(layer for layer in layers if layer is not None)
    if W_E is None or W_pos is None or len(whole) < len(layers):
        return None
    act = ACTIVATIONS.get(str(model.cfg.act_fn), functional.relu)
    return PreNormDecoder(weights, W_E, W_pos, whole, act, _attn_scale(model.cfg, weights.shape.d_head))


def _is_untouched_decoder(model: Any, weights: ModelWeights) -> bool:
    cfg = model.cfg
    return (
        not any(getattr(point, "fwd_hooks", None) for point in model.hook_dict.values())
        and not any(_meddled_with(part) for part in parts_of(model))
        and weights.W_U.dtype in (torch.float32, torch.float64)
        and is_pre_norm_decoder(cfg)
        and (bool(getattr(cfg, "attn_only", False)) if weights.shape.d_mlp is None else cfg.act_fn in ACTIVATIONS)
        and float(getattr(cfg, "attn_scores_soft_cap", None) or 0) <= 0
    )


def _meddled_with(part: nn.Module) -> bool:
    """Whether a module has dropout, hooks of others than the libraries, or a forward that is not its class's.

    TransformerLens hooks every module, and transformers those whose outputs it was asked for once.
    """
    hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
    return (
        (isinstance(part, nn.Dropout) and part.training and part.p > 0)
        or any(not str(getattr(hook, "__module__", "")).startswith(LIBRARIES) for hook in hooks)
        or "forward" in vars(part)
    )


def _attn_scale(cfg: Any, d_head: int) -> float:
    if not getattr(cfg, "use_attn_scale", True):
        return 1.0
    stated = float(getattr(cfg, "attn_scale", None) or 0)
    return stated if stated > 0 else d_head**0.5


def _positions(model: Any) -> Tensor | None:
    """W_pos, under the names that it goes by."""
    pos_embed = getattr(model, "pos_embed", None)  # missing where positions are computed
    for holder, name in ((model, "W_pos"), (pos_embed, "W_pos"), (pos_embed, "weight")):
        if (found := parameter(holder, name)) is not None:
            return found
    return None


def _block(model: Any, block: Any, writes: BlockWeights) -> DecoderBlock | None:
    """One block's weights; None where some of them are not where a plain decoder has them."""
    W_Q, W_K, W_V = (parameter(block.attn, name) for name in ("W_Q", "W_K", "W_V"))
    b_Q, b_K, b_V = (_flat(parameter(block.attn, name)) for name in ("b_Q", "b_K", "b_V"))
    mlp = None if writes.W_out is None else block.mlp
    W_in = None if mlp is None else parameter(mlp, "W_in")
    if W_Q is None or W_K is None or W_V is None or (mlp is not None and W_in is None):
        return None
    return DecoderBlock(
        ln1=norm_of(model, block.ln1),
        W_Q=W_Q,
        W_K=W_K,
        W_V=W_V,
        b_Q=b_Q,
        b_K=b_K,
        b_V=b_V,
        ln2=None if mlp is None else norm_of(model, block.ln2),
        W_in=W_in,
        b_in=None if mlp is None else parameter(mlp, "b_in"),
        writes=writes,
    )


def _flat(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.flatten()
