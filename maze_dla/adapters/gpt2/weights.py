"""The weights of a GPT-2 model from its files: tensors alone, never code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maze_dla.errors import CheckpointError, shortened
from maze_dla.files.boundary import read_bytes
from maze_dla.files.json_file import parse_json
from maze_dla.files.tensors.safetensors_file import read_safetensors_file
from maze_dla.files.tensors.stored import StoredTensor, read_tensors
from maze_dla.files.tensors.torch_file import read_torch_file

State = dict[str, StoredTensor]  # under the names of Hugging Face's GPT2LMHeadModel
Shapes = Mapping[str, tuple[int, ...]]

CONFIG_KEYS = ("config", "model_config", "model_args", "args", "cfg", "hparams", "hyper_parameters")
STATE_KEYS = ("model_state_dict", "state_dict", "model")
WRAPPERS = ("_orig_mod.", "module.")  # of torch.compile, and of parallel training
BUFFERS = (".attn.bias", ".attn.masked_bias")  # the causal mask, which older versions saved
PLAIN = {torch.float64, torch.float32, torch.float16, torch.bfloat16}  # others are read as float32
HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"
MOST_NAMED, LONGEST_NAME = 10, 80  # keys at fault in a message, and the characters of each
LONGEST_FILE_NAME = 255  # bytes
MOST_SHARDS = 1000
LARGEST_JSON = 4 * 2**20  # bytes


def read_weights(file: Path) -> State:
    """The tensors of a `.safetensors` file or torch checkpoint, found and not yet read, as the language model's.

    Raises:
        CheckpointError: damaged, not a checkpoint, or one that holds more than plain data (nothing of it is run).
    """
    if file.suffix == ".safetensors":
        return _renamed(read_safetensors_file(file, CheckpointError), file)
    return _renamed(_state_of(_read_torch(file), file), file)


def read_checkpoint(file: Path) -> tuple[State, dict[str, Any]]:
    """The tensors of a single file, as `read_weights`, and what the training saved of its config beside them.

    Raises:
        CheckpointError: as `read_weights`.
    """
    if file.suffix == ".safetensors":
        return read_weights(file), {}
    content = _read_torch(file)
    inside = [config for key in CONFIG_KEYS if isinstance(config := content.get(key), Mapping)]
    said = {str(name): value for config in inside for name, value in config.items() if isinstance(name, str)}
    plain = (int, float, str, type(None))
    described = {k: v if isinstance(v, plain) else f"a {type(v).__name__}" for k, v in said.items()}
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
                raise CheckpointError(f"{index}: weight_map names a file for each weight, got {_short(shards)}")
            names = sorted(set(shards.values()))
            if len(names) > MOST_SHARDS:
                raise CheckpointError(f"{index}: weight_map names {len(names)} files, expected at most {MOST_SHARDS}")
            return [_existing(folder, shard) for shard in names], shards
    return [], {}


def read_folder(folder: Path) -> State:
    """The tensors of a Hugging Face folder, in one file or in shards, as `read_weights`.

    Raises:
        CheckpointError: no weights in it, a weight in two shards or in another one than its index says, or as
            `read_weights`.
    """
    files, shards = _weight_files(folder)
    if not files:
        inside = some(sorted(p.name for p in folder.iterdir()), 6) or "nothing"
        raise CheckpointError(f"{folder}: a folder without model.safetensors or pytorch_model.bin; it holds {inside}")
    state: State = {}
    expected = {_unwrapped_name(key): shard for key, shard in shards.items()}
    for file in files:
        for key, tensor in read_weights(file).items():
            if shards and expected.get(key) != file.name:
                has = expected.get(key, "no file")
                raise CheckpointError(f"{file}: {shortened(key)} is in it, the index has it in {shortened(has)}")
            state[key] = tensor
    return state


def check_weights(state: State, expected: Shapes, file: Path) -> None:
    """Refuse weights that are not exactly those that the architecture has.

    Raises:
        CheckpointError: naming the keys that are missing or unexpected, and the shapes that differ; the first of them
            where they are many, and how many there are.
    """
    problems = []
    if missing := [key for key in expected if key not in state]:
        problems.append(f"{len(missing)} missing: {some(missing)}")
    if unexpected := [key for key in state if key not in expected]:
        problems.append(f"{len(unexpected)} unexpected: {some(unexpected)}")
    if wrong := [
        f"{key} is {_shape(state[key].shape)}, expected {_shape(expected[key])}"
        for key in expected
        if key in state and state[key].shape != expected[key]
    ]:
        problems.append(some(wrong, separator="; "))
    if problems:
        raise CheckpointError(f"{file}: the weights do not fit the architecture: {'; '.join(problems)}")


def read_state(state: State, file: Path) -> dict[str, Tensor]:
    """The tensors themselves; those in a precision that torch does not compute in as float32.

    Raises:
        CheckpointError: damaged, or numbers that are not finite, naming the keys.
    """
    tensors = read_tensors(state, CheckpointError)
    tensors = {key: tensor if tensor.dtype in PLAIN else tensor.float() for key, tensor in tensors.items()}
    if broken := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{file}: {some(broken)}: not all numbers are finite")
    return tensors


def _read_torch(file: Path) -> Mapping[Any, Any]:
    content = read_torch_file(file, CheckpointError)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, expected a dict with model_state_dict")
    return content


def _state_of(content: Mapping[Any, Any], file: Path) -> State:
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if not state or not all(isinstance(k, str) and isinstance(v, StoredTensor) for k, v in state.items()):
        raise CheckpointError(f"{file}: no model_state_dict; it holds {some(map(str, content), 8)}")
    return dict(state)


def _renamed(state: State, file: Path) -> State:
    """Keys without the wrappers' prefixes, with that of the language model, and without what is no weight."""
    renamed: State = {}
    for key, tensor in state.items():
        name = _unwrapped_name(key)
        if name.endswith(BUFFERS):
            continue
        if tensor.dtype is None or not tensor.dtype.is_floating_point:
            what = tensor.other or str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{file}: {shortened(key)} holds {what}, expected plain floating numbers")
        if name in renamed:
            raise CheckpointError(f"{file}: {shortened(name)} is there twice, the second time as {shortened(key)}")
        renamed[name] = tensor
    return renamed


def _unwrapped_name(key: str) -> str:
    while wrapper := next((w for w in WRAPPERS if key.startswith(w)), None):
        key = key.removeprefix(wrapper)
    return f"transformer.{key}" if key.startswith(("wte.", "wpe.", "h.", "ln_f.")) else key


def some(names: Iterable[str], most: int = MOST_NAMED, separator: str = ", ") -> str:
    """The first of some names, each cut where it is long, and how many more there are."""
    names = list(names)
    shown = separator.join(shortened(name, LONGEST_NAME) for name in names[:most])
    return shown if len(names) <= most else f"{shown}{separator}... and {len(names) - most} more"


def read_json(file: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """A JSON object from a file of at most so many bytes.

    Raises:
        CheckpointError: missing, too large, or not a JSON object.
    """
    content = parse_json(read_bytes(file, CheckpointError, "a JSON file", largest), file, CheckpointError)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}, expected an object")
    return content


def _existing(folder: Path, shard: str) -> Path:
    file = folder / shard
    if shard != file.name or len(shard.encode(errors="surrogatepass")) > LONGEST_FILE_NAME or not file.is_file():
        raise CheckpointError(f"{folder}: the shard {shortened(shard)}, which the index names, is missing")
    return file


def _short(value: Any) -> str:
    """A value of JSON for a message; a list or an object by its kind, since its text may be long."""
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else f"{value!r:.60}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))[:60] or "a single number"
