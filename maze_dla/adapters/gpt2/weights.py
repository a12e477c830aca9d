"""The weights of a GPT-2 model from its files: tensors alone, never code."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maze_dla.errors import CheckpointError

State = dict[str, Tensor]

CONFIG_KEYS = ("config", "model_config", "model_args", "args", "cfg", "hparams", "hyper_parameters")
STATE_KEYS = ("model_state_dict", "state_dict", "model")
WRAPPERS = ("_orig_mod.", "module.")  # of torch.compile, and of parallel training
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, which older versions saved
FLOAT8 = {d for name in ("float8_e4m3fn", "float8_e5m2") if (d := getattr(torch, name, None)) is not None}
HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"


def read_weights(file: Path) -> State:
    """The tensors of a `.safetensors` file or torch checkpoint under the names of Hugging Face's `GPT2LMHeadModel`.

    Raises:
        CheckpointError: damaged, not a checkpoint, or one that holds more than plain data (nothing of it is run).
    """
    _readable(file)
    return _renamed(
        _read_safetensors(file) if file.suffix == ".safetensors" else _state_of(_read_torch(file), file), file
    )


def read_checkpoint(file: Path) -> tuple[State, dict[str, Any]]:
    """The tensors of a single file, as `read_weights`, and what the training saved of its config beside them.

    Raises:
        CheckpointError: as `read_weights`.
    """
    if file.suffix == ".safetensors" or not file.is_file():
        return read_weights(file), {}
    content = _read_torch(_readable(file))
    inside = [config for key in CONFIG_KEYS if isinstance(config := content.get(key), Mapping)]
    said = {str(name): value for config in inside for name, value in config.items()}
    described = {k: v if v is None or isinstance(v, int | float | str) else repr(v)[:40] for k, v in said.items()}
    return _renamed(_state_of(content, file), file), described


def weight_files(folder: Path) -> list[Path]:
    """The files of a Hugging Face folder that hold its weights: one, or shards; none where there are none.

    Raises:
        CheckpointError: an index that names no shards, or one that is missing.
    """
    return _weight_files(folder)[0]


def _weight_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The same, and the name of the shard of each weight where there is an index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name], {}
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
                raise CheckpointError(f"{index}: weight_map names a file for each weight, got {str(shards)[:60]}")
            return [_existing(folder, shard) for shard in sorted(set(shards.values()))], shards
    return [], {}


def read_folder(folder: Path) -> State:
    """The tensors of a Hugging Face folder, in one file or in shards.

    Raises:
        CheckpointError: no weights in it, a weight in two shards or in another one than its index says, or as
            `read_weights`.
    """
    files, shards = _weight_files(folder)
    if not files:
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        raise CheckpointError(f"{folder}: a folder without model.safetensors or pytorch_model.bin; it holds {inside}")
    state: State = {}
    expected = {_unwrapped_name(key): shard for key, shard in shards.items()}
    for file in files:
        for key, tensor in read_weights(file).items():
            if shards and expected.get(key) != file.name:
                raise CheckpointError(f"{file}: {key} is in it, the index has it in {expected.get(key, 'no file')}")
            state[key] = tensor
    return state


def check_weights(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    """Refuse weights that are not exactly those that the architecture has.

    Raises:
        CheckpointError: naming every key that is missing or unexpected, or every shape that differs.
    """
    problems = []
    if missing := [key for key in expected if key not in state]:
        problems.append(f"{len(missing)} missing: {', '.join(missing)}")
    if unexpected := [key for key in state if key not in expected]:
        problems.append(f"{len(unexpected)} unexpected: {', '.join(unexpected)}")
    shared = [key for key in expected if key in state]
    if wrong := [
        f"{key} is {_shape(state[key])}, expected {_shape(expected[key])}"
        for key in shared
        if state[key].shape != expected[key].shape
    ]:
        problems.append("; ".join(wrong))
    if problems:
        raise CheckpointError(f"{file}: the weights do not fit the architecture: {'; '.join(problems)}")
    if broken := [key for key in shared if not state[key].isfinite().all()]:
        raise CheckpointError(f"{file}: {', '.join(broken)}: not all numbers are finite")


def _readable(file: Path) -> Path:
    if not os.access(file, os.R_OK):
        raise CheckpointError(f"{file}: there is no permission to read it")
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file}: the file is empty")
    return file


def _read_safetensors(file: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as problem:
        raise CheckpointError(f"{file}: not a safetensors file, or cut off ({problem})") from problem


def _read_torch(file: Path) -> Mapping[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the file
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises half a dozen kinds for files that it cannot read
        if named := re.search(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)", str(problem)):
            raise CheckpointError(
                f"{file}: holds more than tensors and plain data ({named[1]}), and nothing of it was run"
            ) from problem
        found = re.search(r"Unsupported operand \d+|PytorchStreamReader [^.]*", str(problem))
        reason = found[0] if found else type(problem).__name__
        raise CheckpointError(
            f"{file}: not a torch checkpoint, or cut off ({reason}); nothing of it was run"
        ) from problem
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, expected a dict with model_state_dict")
    return content


def _state_of(content: Mapping[Any, Any], file: Path) -> State:
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(f"{file}: no model_state_dict; it holds {', '.join(map(str, list(content)[:8]))}")
    return dict(state)


def _renamed(state: State, file: Path) -> State:
    """Keys without the wrappers' prefixes, with that of the language model, and without what is no weight."""
    renamed: State = {}
    for key, tensor in state.items():
        name = _unwrapped_name(key)
        if name.endswith(BUFFERS):
            continue
        if not _is_dense(tensor):
            what = f"{str(tensor.dtype).removeprefix('torch.')}, {str(tensor.layout).removeprefix('torch.')}"
            raise CheckpointError(f"{file}: {key} holds {what} on {tensor.device}, expected plain floating numbers")
        if name in renamed:
            raise CheckpointError(f"{file}: {name} is there twice, the second time as {key}")
        renamed[name] = tensor.float() if tensor.dtype in FLOAT8 else tensor
    return renamed


def _unwrapped_name(key: str) -> str:
    while wrapper := next((w for w in WRAPPERS if key.startswith(w)), None):
        key = key.removeprefix(wrapper)
    return f"transformer.{key}" if key.startswith(("wte.", "wpe.", "h.", "ln_f.")) else key


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: missing, or not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{file}: cannot be read as JSON ({problem})") from problem
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, expected an object")
    return content


def _is_dense(tensor: Tensor) -> bool:
    """Whether it is an ordinary array of real numbers that is here."""
    return tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _existing(folder: Path, shard: str) -> Path:
    file = folder / shard
    if not file.is_file() or file.parent != folder:
        raise CheckpointError(f"{folder}: the shard {shard}, which the index names, is missing")
    return file


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
