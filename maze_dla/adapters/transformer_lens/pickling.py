"""Models of TransformerLens as they are sent to another process, and copied.

A `HookedTransformer` can be pickled as it is. A bridge cannot, since its parts hold functions that were made inside
others: what is sent is its config and its weights as they are now, of which the same bridge is built again.
"""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maze_dla.adapters.transformer_lens.build import NATIVE, empty_bridge
from maze_dla.adapters.transformer_lens.identity import ATTRIBUTE, weights_hash
from maze_dla.errors import ModelError


@dataclass(frozen=True)
class PackedModel:
    """A model as it is sent: the bytes of its pickle, or of what a bridge is built of again.

    Bytes, since between processes torch would send handles of tensors that are gone by then.
    """

    sha256: str
    content: bytes


@dataclass(frozen=True)
class PackedBridge:
    """A native bridge: its config, all its numbers by name, and the settings that are kept in neither."""

    cfg: Any
    numbers: dict[str, Tensor]
    trained: dict[str, bool]
    training: dict[str, bool]
    provenance: Any
    is_compatible: bool
    is_processed: bool


def packed(model: Any) -> PackedModel:
    """A model as it can be pickled; `unpacked` gives one with the same class, weights, settings and provenance.

    Raises:
        ModelError: hooks are attached to it, or something in it cannot be pickled.
    """
    _check_hooks(model)
    if _is_native_bridge(model):
        return PackedModel(weights_hash(model), pickle.dumps(_packed_bridge(model)))
    try:
        return PackedModel(weights_hash(model), pickle.dumps(model))
    except Exception as problem:  # whatever a part of a foreign class raises
        raise ModelError(f"{type(model).__name__} cannot be pickled ({type(problem).__name__}: {problem})") from problem


def unpacked(sent: PackedModel) -> Any:
    """The model that was packed.

    Raises:
        ModelError: it has other weights than were sent.
    """
    content = pickle.loads(sent.content)
    model = _unpacked_bridge(content) if isinstance(content, PackedBridge) else content
    if weights_hash(model) != sent.sha256:
        raise ModelError(f"{type(model).__name__} came out of its pickle with other weights than it went in with")
    return model


def copied(model: Any, memo: dict[int, Any]) -> Any:
    """A copy that shares nothing with the model.

    Raises:
        ModelError: hooks are attached to a bridge.
    """
    if not _is_native_bridge(model):
        return copy.deepcopy(model, memo)
    _check_hooks(model)  # a bridge's own copies keep hooks that write into the model they were copied from
    return _unpacked_bridge(copy.deepcopy(_packed_bridge(model), memo))


def _is_native_bridge(model: Any) -> bool:
    return type(model).__name__ == "TransformerBridge" and getattr(model.cfg, "architecture", None) == NATIVE


def _check_hooks(model: Any) -> None:
    points = getattr(model, "hook_dict", {})
    if hooked := [name for name, point in points.items() if getattr(point, "fwd_hooks", ()) or point.bwd_hooks]:
        raise ModelError(
            f"{type(model).__name__} has hooks attached, at {hooked[0]} for one, which cannot be pickled: "
            "take them off with model.reset_hooks()"
        )


def _packed_bridge(model: Any) -> PackedBridge:
    numbers = _numbers(model)
    known = getattr(model, ATTRIBUTE, None)
    return PackedBridge(
        cfg=model.cfg,
        numbers={name: number.detach().clone() for name, number in numbers.items()},
        trained={name: number.requires_grad for name, number in numbers.items()},
        training={name: part.training for name, part in _parts(model).items()},
        provenance=known,
        is_compatible=bool(getattr(model, "compatibility_mode", False)),
        is_processed=bool(getattr(model, "_weights_processed", False)),
    )


def _unpacked_bridge(sent: PackedBridge) -> Any:
    with torch.random.fork_rng(devices=[]):  # the first weights are random, and at once replaced
        model = empty_bridge(sent.cfg)
    if sent.is_compatible:
        model.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    model._weights_processed = sent.is_processed
    numbers = _numbers(model)
    if numbers.keys() != sent.numbers.keys():
        raise ModelError(f"this TransformerBridge cannot be pickled: it has other parts than {sent.cfg.model_name!r}")
    for name, number in numbers.items():
        number.data = sent.numbers[name]
        number.requires_grad_(sent.trained[name])
    for name, part in _parts(model).items():
        part.training = sent.training.get(name, False)
    if sent.provenance is not None:
        setattr(model, ATTRIBUTE, sent.provenance)
    return model


def _numbers(model: Any) -> dict[str, Tensor]:
    """Every parameter and buffer of a bridge, each once, by its name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for prefix, module in (("", model), ("original_model.", vars(model).get("original_model"))):
        if isinstance(module, nn.Module):
            for name, number in (*module.named_parameters(), *module.named_buffers()):
                found.setdefault(id(number), (prefix + name, number))
    return dict(found.values())


def _parts(model: Any) -> dict[str, nn.Module]:
    """Every module of a bridge by its name."""
    found = dict(model.named_modules())
    wrapped = vars(model).get("original_model")
    if isinstance(wrapped, nn.Module):
        found |= {f"original_model.{name}": part for name, part in wrapped.named_modules()}
    return found
