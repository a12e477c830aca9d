"""`ZanjHookedTransformer` checkpoints of every generation: config, vocabulary and weights, each checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maze_dla.adapters.mazes.vocabulary import MazeVocabulary, vocabulary_of
from maze_dla.adapters.transformer_lens.build import DecoderSpec
from maze_dla.errors import CheckpointError, shortened, shown_number, visible
from maze_dla.files.boundary import reading
from maze_dla.files.zanj_file import read_container

BUFFERS = (".attn.mask", ".attn.IGNORE")
LARGEST = 1_000_000  # any size beyond is a damaged number
WEIGHTS_OF_A_LAYER = 12  # without norms
LONGEST_NAME = 1000  # characters
MOST_MASKED = 2**26  # numbers in the attention masks of all layers, which the weights of a file do not pay for
NORM = re.compile(r"\b(ln1|ln2|ln_final)\.")
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "solu_ln")


@dataclass(frozen=True)
class MazeCheckpoint:
    """A checkpoint file's content: the model's sizes and weights as stored, its vocabulary, its data set's config."""

    spec: DecoderSpec
    state: dict[str, Tensor]
    vocabulary: MazeVocabulary
    dataset_config: dict[str, Any]
    name: str


def read_checkpoint(path: str | Path) -> MazeCheckpoint:
    """Read and check a checkpoint file.

    Raises:
        CheckpointError: naming the file and what in it is missing, damaged or does not fit.
    """
    with reading(path, CheckpointError):  # whatever else a damaged file leads to
        return _checkpoint(read_container(path, CheckpointError), Path(path))


def _checkpoint(content: Mapping[str, Any], file: Path) -> MazeCheckpoint:
    if missing := [k for k in ("zanj_model_config", "state_dict") if not isinstance(content.get(k), dict)]:
        raise CheckpointError(
            f"{file}: no saved model: {' and '.join(missing)} missing, it holds {shortened(', '.join(content))}"
        )
    config = content["zanj_model_config"]
    model_config, dataset_config = (_section(config, name, file) for name in ("model_cfg", "dataset_cfg"))
    stored = _stored(content["state_dict"], file)
    spec = _spec(model_config, dataset_config, stored, _name(config, file), file)
    _check_shapes(spec, stored, file)
    vocabulary = vocabulary_of(config, file, spec.d_vocab)
    if len(vocabulary.tokens) != spec.d_vocab:
        raise CheckpointError(
            f"{file}: the vocabulary has {len(vocabulary.tokens)} tokens, embed.W_E has {spec.d_vocab} rows"
        )
    return MazeCheckpoint(spec, _weights(stored, file), vocabulary, dataset_config, spec.name)


def _section(config: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    section = config.get(name)
    if not isinstance(section, dict):
        raise CheckpointError(f"{file}: zanj_model_config.{name} is missing")
    return section


def _name(config: Mapping[str, Any], file: Path) -> str:
    name = config.get("name", file.stem)
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        seen = f"has {len(name)} characters" if isinstance(name, str) else f"is {name!r:.60}"
        raise CheckpointError(f"{file}: zanj_model_config.name {seen}, expected a text of at most {LONGEST_NAME}")
    return visible(name)


def _stored(state: Mapping[str, Any], file: Path) -> dict[str, np.ndarray]:
    """The arrays of floats as they are in the file, without the buffers."""
    stored = {}
    for name, values in state.items():
        if name.endswith(BUFFERS):
            continue
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.dtype.itemsize > 8:
            kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise CheckpointError(f"{file}: state_dict {shortened(name)} is {kind}, expected an array of floats")
        stored[name] = values
    return stored


def _weights(stored: Mapping[str, np.ndarray], file: Path) -> dict[str, Tensor]:
    """The weights as tensors, all finite."""
    weights = {}
    for name, values in stored.items():
        weights[name] = torch.from_numpy(values.astype(values.dtype.newbyteorder("=")))
        if not (finite := torch.isfinite(weights[name])).all():
            raise CheckpointError(
                f"{file}: state_dict {name} has {int((~finite).sum())} values that are NaN or infinite"
            )
    return weights


def _size(section: Mapping[str, Any], name: str, where: str, file: Path) -> int:
    """A size from a part of the config."""
    if (size := section.get(name)) is None:
        raise CheckpointError(f"{file}: zanj_model_config.{where} lacks {name}")
    if type(size) is not int or not 1 <= size <= LARGEST:
        seen = shown_number(size) if type(size) is int else f"{size!r:.60}"
        raise CheckpointError(
            f"{file}: zanj_model_config.{where}.{name} is {seen}, expected a whole number from 1 to {LARGEST}"
        )
    return size


def _spec(
    model_config: Mapping[str, Any],
    dataset_config: Mapping[str, Any],
    stored: Mapping[str, np.ndarray],
    name: str,
    file: Path,
) -> DecoderSpec:
    n_layers, d_model, d_head = (_size(model_config, k, "model_cfg", file) for k in ("n_layers", "d_model", "d_head"))
    n_ctx, _ = (_size(dataset_config, k, "dataset_cfg", file) for k in ("seq_len_max", "grid_n"))
    if d_model % d_head:
        raise CheckpointError(f"{file}: d_model {d_model} is no multiple of d_head {d_head}")
    if (act_fn := model_config.get("act_fn")) not in ACTIVATIONS:
        raise CheckpointError(f"{file}: unknown activation {act_fn!r:.60}, expected one of {', '.join(ACTIVATIONS)}")
    if (positions := model_config.get("positional_embedding_type", "standard")) != "standard":
        raise CheckpointError(f"{file}: positional_embedding_type {positions!r:.60}, expected 'standard'")
    for tensor, axes in (("embed.W_E", 2), ("blocks.0.mlp.W_in", 2)):
        if tensor not in stored or stored[tensor].ndim != axes:
            raise CheckpointError(f"{file}: state_dict {tensor} is missing or has no {axes} axes")
        if 0 in (shape := stored[tensor].shape):
            raise CheckpointError(f"{file}: state_dict {tensor} has shape {shape}, expected sizes of 1 and more")
    if n_layers * WEIGHTS_OF_A_LAYER > len(stored):
        raise CheckpointError(f"{file}: n_layers is {n_layers}, state_dict holds {len(stored)} weights in all")
    if n_layers * n_ctx**2 > MOST_MASKED:
        raise CheckpointError(
            f"{file}: n_layers {n_layers} and seq_len_max {n_ctx} make attention masks of {n_layers * n_ctx**2} "
            f"numbers, at most {MOST_MASKED} are made"
        )
    return DecoderSpec(
        n_layers=n_layers,
        n_heads=d_model // d_head,
        d_model=d_model,
        d_head=d_head,
        d_mlp=stored["blocks.0.mlp.W_in"].shape[1],
        d_vocab=stored["embed.W_E"].shape[0],
        n_ctx=n_ctx,
        act_fn=act_fn,
        normalization_type="LNPre" if _is_folded(model_config, stored) else "LN",
        name=name,
    )


def _is_folded(model_config: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether norms have no weights of their own: by the config's word, without it by whether there are any."""
    processing = model_config.get("weight_processing")
    said = processing.get("are_layernorms_folded") if isinstance(processing, Mapping) else None
    return said if isinstance(said, bool) else not any(NORM.search(name) for name in state)


def expected_shapes(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    """Every weight of the architecture with its shape, in TransformerLens's names."""
    v, d, h, e, m = spec.d_vocab, spec.d_model, spec.n_heads, spec.d_head, spec.d_mlp
    norm = {"w": (d,), "b": (d,)} if spec.normalization_type == "LN" else {}
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (v, d), "pos_embed.W_pos": (spec.n_ctx, d)}
    for i in range(spec.n_layers):
        block = {f"{ln}.{part}": shape for ln in ("ln1", "ln2") for part, shape in norm.items()}
        block |= {f"attn.W_{x}": (h, d, e) for x in "QKV"} | {f"attn.b_{x}": (h, e) for x in "QKV"}
        block |= {"attn.W_O": (h, e, d), "attn.b_O": (d,)}
        block |= {"mlp.W_in": (d, m), "mlp.b_in": (m,), "mlp.W_out": (m, d), "mlp.b_out": (d,)}
        if spec.act_fn.endswith("_ln"):
            block |= {f"mlp.ln.{part}": (m,) for part in norm}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    shapes |= {f"ln_final.{part}": shape for part, shape in norm.items()}
    return shapes | {"unembed.W_U": (d, v), "unembed.b_U": (v,)}


def _check_shapes(spec: DecoderSpec, stored: Mapping[str, np.ndarray], file: Path) -> None:
    shapes = expected_shapes(spec)
    if missing := [name for name in shapes if name not in stored]:
        raise CheckpointError(
            f"{file}: state_dict lacks {', '.join(missing[:4])}{' and more' if len(missing) > 4 else ''}"
        )
    if unknown := [shortened(name) for name in stored if name not in shapes]:
        raise CheckpointError(
            f"{file}: state_dict holds {', '.join(unknown[:4])}, which this architecture does not have"
        )
    for name, shape in shapes.items():
        if stored[name].shape != shape:
            raise CheckpointError(f"{file}: state_dict {name} has shape {stored[name].shape}, expected {shape}")
