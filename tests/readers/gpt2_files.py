"""The readers of GPT-2's files as the worker runs them: a path in, a digest of what was read out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.gpt2.tokenizer import read_tokenizer
from maze_dla.adapters.gpt2.weights import read_checkpoint, read_state
from maze_dla.adapters.transformer_lens.identity import weights_hash

TEXT = "Then, Mary and John 's went\n\n to  é the store."

load_gpt2("bundled")  # what is imported at the first call is not counted


def read(path: Path) -> str:
    """A file's tensors, a folder's tokenizer where it has no config, and else its model."""
    if path.is_file():
        state, _ = read_checkpoint(path)
        return digest(read_state(state, path))
    if not (path / "config.json").exists():
        return tokens(read_tokenizer(path))
    model = load_gpt2(path)
    sizes = [model.cfg.n_layers, model.cfg.n_heads, model.cfg.n_ctx]
    return f"{weights_hash(model)} {sizes} {model.cfg.eps} {model.cfg.act_fn} {tokens(model.tokenizer)}"


def digest(state: Mapping[str, Tensor]) -> str:
    """Names, kinds, shapes and numbers of tensors, to the bit."""
    said = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        flat = tensor.detach().contiguous().reshape(-1)
        said.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(errors="surrogatepass"))
        said.update(bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b"")
    return said.hexdigest()


def tokens(tokenizer: object) -> str:
    """What a tokenizer makes of a text."""
    if tokenizer is None:
        return "none"
    return str(tokenizer(TEXT)["input_ids"])  # pyright: ignore[reportCallIssue, reportIndexIssue] (transformers')
