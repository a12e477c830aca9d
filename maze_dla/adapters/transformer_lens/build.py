"""Building TransformerLens models from TransformerLens's own weights, with the newest class that is installed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from maze_dla.errors import InputError

NATIVE = "TransformerLensNative"  # the architecture of bridges that wrap no model of Hugging Face
UNUSUAL = {"use_attn_scale": True, "scale_attn_by_inverse_layer_idx": False}  # named where they are not like this


@dataclass(frozen=True)
class DecoderSpec:
    """A pre-norm decoder of TransformerLens: sizes, activation, norm ("LN" or, folded, "LNPre"), positions."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    act_fn: str
    name: str
    normalization_type: str = "LN"
    positional_embedding_type: str = "standard"
    eps: float = 1e-5
    use_attn_scale: bool = True
    scale_attn_by_inverse_layer_idx: bool = False


def build_decoder(
    spec: DecoderSpec, state: dict[str, Tensor], device: Any = None, dtype: torch.dtype | None = None
) -> Any:
    """A TransformerLens model with these weights, exactly as given: nothing is folded, centred or refactored.

    Raises:
        InputError: a device that cannot be used here, or a dtype that is not floating.
    """
    check_placement(device, dtype)
    with torch.random.fork_rng(devices=[]):  # the first weights are random, and at once replaced
        model = _newest_class(spec, state)
    for place_or_precision in (device, dtype):
        if place_or_precision is not None:
            model = model.to(place_or_precision, print_details=False)
    return model.eval()


def check_placement(device: Any, dtype: Any) -> None:
    """Refuse a device on which nothing can be put, and a dtype that is not floating.

    Raises:
        InputError: naming the device and the reason, or the dtype.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype is a floating dtype of torch, got {dtype!r}")
    if device is None:
        return
    try:
        has_numbers = torch.empty(1, device=device).device.type != "meta"
    except (RuntimeError, AssertionError, TypeError) as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used here ({reason})") from problem
    if not has_numbers:
        raise InputError(f"device {device!r} holds shapes and no numbers, so nothing can be computed on it")


def _newest_class(spec: DecoderSpec, state: dict[str, Tensor]) -> Any:
    try:
        from transformer_lens.config import TransformerBridgeConfig
        from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint
    except ImportError:
        return hooked_transformer(spec, state)
    cfg = TransformerBridgeConfig(**_sizes(spec), architecture=NATIVE, init_weights=False)
    model = empty_bridge(cfg, spec.name)
    model.load_state_dict(convert_tl_checkpoint(state, cfg), strict=True)
    return model


def empty_bridge(cfg: Any, name: str | None = None) -> Any:
    """A native bridge of TransformerLens 4 of these sizes, before it gets its weights."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge: Any = TransformerBridge
    return bridge.boot_native(cfg, model_name=cfg.model_name if name is None else name)


def hooked_transformer(spec: DecoderSpec, state: dict[str, Tensor]) -> Any:
    """The model class of TransformerLens 2 and 3 with these weights."""
    import transformer_lens as older  # TransformerLens 2 and 3

    cfg: Any = getattr(older, "HookedTransformerConfig")  # noqa: B009 (gone in TransformerLens 4)
    model: Any = getattr(older, "HookedTransformer")(  # noqa: B009
        cfg(**_sizes(spec), model_name=spec.name, device="cpu")
    )
    buffers = {k: v for k, v in model.state_dict().items() if k.endswith((".mask", ".IGNORE"))}
    model.load_state_dict({**state, **buffers}, strict=True)
    return model


def _sizes(spec: DecoderSpec) -> dict[str, Any]:
    return {name: size for name, size in asdict(spec).items() if name != "name" and size != UNUSUAL.get(name)}
