"""Activations of any model: as arrays, and written to Parquet files without holding them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from maze_dla.adapters.transformer_lens.view import Forward
from maze_dla.analysis.running import BATCH, running
from maze_dla.engine import activations as recorded
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, check_kind, check_path, check_whole
from maze_dla.results.activations import ActivationResult
from maze_dla.results.shards import ShardWriter


def activations(
    model: Any,
    batch: PromptBatch,
    *,
    site: str = "resid_pre",
    positions: Any = "read",
    layers: int | Sequence[int] | None = None,
    limit_gib: float = 2.0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> ActivationResult:
    """Activations of every prompt at chosen layers and positions, as one array with the prompts' columns.

    | site | what is there | layers |
    | --- | --- | --- |
    | "resid" | the residual stream at every depth: 0_pre, 0_mid, 1_pre, ... | two each, and final_post |
    | "resid_pre", "resid_mid", "resid_post" | the stream before attention, before the MLP, after the layer | one each |
    | "attn_out", "mlp_out" | what attention and MLP write, biases included | one each |
    | "z" | what each head brings, before W_O, [head, d_head] | one each |
    | "neurons" | the MLP's neurons after their activation function, [d_mlp] | one each |

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        batch: the prompts.
        site: one of the table. The stream after the last layer is the last of "resid_post" and of "resid".
        positions: "read" for the read position; a whole number for one position of every prompt, or an array (torch,
            numpy, pandas) [prompt] for one of each: both without a position axis. "all" for all positions up to the
            read position, or a list of positions, the same in every prompt: both with a position axis before the
            features. Negative positions count from the end: -1 is the read position.
        layers: the layers, in the order that is wanted; all by default.
        limit_gib: the largest array that is made, in GiB; while it is put in order memory holds it twice.
        sequences_at_once: how many sequences go through the model together; changes speed, not numbers.
        forward: "auto" or "hooked", as in `attribute`.

    Returns:
        `values` [prompt, layer, (head), (position), feature] with `table`, `to_numpy()`, `to_frame()`, `to_parquet()`.

    Raises:
        InputError: the batch does not fit the model, an unknown site, a layer or position that is not there, or an
            array above `limit_gib`, with what to choose instead.
        ModelError: a site that the model does not have.
    """
    check_kind(batch, PromptBatch, BATCH)
    options: dict[str, Any] = {"site": site, "positions": positions, "layers": layers, "limit_gib": limit_gib}
    with running(model, forward) as residual:
        return recorded.activations(residual, batch, **options, sequences_at_once=sequences_at_once)


def write_activations(
    model: Any,
    batches: PromptBatch | Iterable[PromptBatch],
    folder: str | Path,
    *,
    site: str = "resid_pre",
    positions: Any = "read",
    layers: int | Sequence[int] | None = None,
    rows_per_shard: int = 1000,
    limit_gib: float = 2.0,
    sequences_at_once: int | None = None,
    forward: Forward = "auto",
) -> list[Path]:
    """Activations of any number of prompts in Parquet files: one shard is held at a time.

    The files are those of `ActivationResult.to_parquet`. Each appears whole or not at all; after an error those before
    it are left.

    Args:
        model: a `MazeModel`, a model of TransformerLens, or the engine's view of one.
        batches: one batch, or several one after the other, such as `maze.prompt_batches(n_mazes=100_000)`.
        folder: where to write; it holds no shards yet, and none is ever replaced.
        site: as in `activations`.
        positions: as in `activations`; an array [prompt] goes with one batch alone.
        layers: as in `activations`.
        rows_per_shard: the most prompts in a file; no file has prompts of two batches.
        limit_gib: the largest array of one shard, in GiB.
        sequences_at_once: as in `activations`.
        forward: "auto" or "hooked", as in `attribute`.

    Returns:
        The files, in the order of the prompts.

    Raises:
        InputError: as `activations`; no batch; a folder that holds shards already or cannot be written.
        MissingPackageError: pyarrow is not installed.
    """
    check_path(folder, "folder")
    n = check_whole("rows_per_shard", rows_per_shard, 1)
    if not isinstance(batches, Iterable | PromptBatch):
        raise InputError(f"{BATCH}, or several of them, got {type(batches).__name__}")
    options: dict[str, Any] = {"site": site, "layers": layers, "limit_gib": limit_gib, "forward": forward}
    options["sequences_at_once"] = sequences_at_once
    each = hasattr(positions, "shape")  # a position for each prompt
    if each and not isinstance(batches, PromptBatch):
        raise InputError("an array with a position for each prompt goes with one batch, got several batches")
    total = len(batches) if isinstance(batches, Sized) and not isinstance(batches, PromptBatch) else None
    files: list[Path] = []
    with ShardWriter.open(folder) as writer, tqdm(total=total, desc="writing", disable=None, delay=2) as bar:
        for batch in [batches] if isinstance(batches, PromptBatch) else batches:
            check_kind(batch, PromptBatch, BATCH)
            for rows in _pieces(len(batch), n):
                own = positions[rows] if each else positions
                files.append(writer.write(activations(model, batch.select(rows), positions=own, **options)))
            bar.update()
    if not files:
        raise InputError("activations of at least one batch are written, got none")
    return files


def _pieces(n_prompts: int, n: int) -> Iterator[slice | torch.Tensor]:
    yield from torch.arange(n_prompts).split(n)
