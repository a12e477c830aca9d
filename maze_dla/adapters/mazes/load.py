"""Loading maze models: checkpoints of maze-transformer, and its models in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from maze_dla.adapters.mazes.checkpoint import MazeCheckpoint, read_checkpoint
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.adapters.transformer_lens.build import build_decoder, check_placement
from maze_dla.adapters.transformer_lens.identity import set_provenance
from maze_dla.errors import CheckpointError, InputError, visible
from maze_dla.files.boundary import reading
from maze_dla.results.torch_defaults import torch_defaults

BUNDLED = Path(__file__).parent / "bundled" / "hallway-5x5.zanj"


@torch_defaults()
def load_maze_model(
    source: Any = None,
    *,
    prepend_bos: bool = True,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> MazeModel:
    """Load a maze transformer.

    Args:
        source: a `.zanj` checkpoint of maze-transformer, of any generation; or a `ZanjHookedTransformer` in memory;
            None for the checkpoint that comes with maze_dla. Nothing is folded or centred.
        prepend_bos: whether prompts get the extra BOS that maze-transformer's own inference prepends.
        device, dtype: where to put a model that is read from a file, and in what precision; default the CPU and
            float32. A model in memory is taken as it is.

    Raises:
        CheckpointError: a file that is no such checkpoint; names the file, the member, what was seen and expected.
        InputError: neither a path nor such a model, or a device or dtype for a model in memory.
    """
    if source is None:
        source = BUNDLED
    if isinstance(source, str | Path):
        check_placement(device, dtype)
        return _from_checkpoint(read_checkpoint(source), Path(source), prepend_bos, device, dtype)
    if hasattr(source, "zanj_model_config"):
        if device is not None or dtype is not None:
            raise InputError("a model in memory is taken as it is: move it before, and leave device and dtype out")
        return _from_memory(source, prepend_bos)
    raise InputError(f"expected a checkpoint's path or a ZanjHookedTransformer, got {type(source).__name__}")


def _from_checkpoint(
    checkpoint: MazeCheckpoint, file: Path, prepend_bos: bool, device: Any, dtype: torch.dtype | None
) -> MazeModel:
    with reading(file, CheckpointError, "TransformerLens cannot build it"):
        model = build_decoder(checkpoint.spec, checkpoint.state, device, dtype)
    set_provenance(model, checkpoint.name, visible(file.name), checkpoint.vocabulary.tokens)
    return MazeModel(model, checkpoint.vocabulary, checkpoint.dataset_config, prepend_bos)


def _from_memory(model: Any, prepend_bos: bool) -> MazeModel:
    config = model.zanj_model_config
    tokenizer = getattr(config, "maze_tokenizer", None)
    if tokenizer is None:
        raise CheckpointError(f"{type(model).__name__} {config.name!r} has no maze_tokenizer, so no vocabulary")
    vocabulary = MazeVocabulary(tuple(tokenizer.token_arr), tokenizer)
    if model.W_E.shape[0] != len(vocabulary.tokens):
        raise CheckpointError(
            f"{config.name}: the vocabulary has {len(vocabulary.tokens)} tokens, W_E has {model.W_E.shape[0]} rows"
        )
    set_provenance(model, config.name, "in memory", vocabulary.tokens)
    return MazeModel(model, vocabulary, config.dataset_cfg.serialize(), prepend_bos)
