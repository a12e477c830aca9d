"""Small checkpoints, written member by member without zanj, so that a test can change any part of them."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

OLD, NEW = "__format__", "__muutils_format__"
GRID, N_CTX, D_MODEL, D_HEAD, D_MLP, N_LAYERS = 3, 72, 16, 8, 24, 2
SPECIAL = [f"<{name}_{end}>" for name in ("ADJLIST", "TARGET", "ORIGIN", "PATH") for end in ("START", "END")]
SPECIAL += ["<-->", ";", "<PADDING>"]
CELLS = [f"({row},{column})" for row in range(GRID) for column in range(GRID)]
CELLS = [CELLS[i] for i in (4, 0, 8, 2, 6, 1, 7, 3, 5)]  # an order of its own, as in the files of 2023
VOCABULARY = (*SPECIAL, *CELLS)
State = dict[str, np.ndarray]


@dataclass
class ZanjFile:
    """The main JSON and the other members of a `.zanj` file."""

    main: dict[str, Any]
    members: dict[str, bytes] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__zanj_meta__.json", "{}")
            archive.writestr("__zanj__.json", json.dumps(self.main))
            for name, content in self.members.items():
                archive.writestr(name, content)
        return path

    @property
    def config(self) -> dict[str, Any]:
        return self.main["zanj_model_config"]

    @property
    def state(self) -> dict[str, Any]:
        return self.main["state_dict"]

    def external(self, name: str, content: bytes) -> None:
        """Make the tensor of this name an external member with this content."""
        reference = f"state_dict/{name}.npy"
        self.state[name] = {OLD: "torch.Tensor:external", "$ref": reference}
        self.members[reference] = content

    def inline(self, name: str, values: np.ndarray) -> None:
        """Make the tensor of this name an inline one with these values."""
        self.state[name] = inline_tensor(values, OLD)


def inline_tensor(values: np.ndarray, key: str) -> dict[str, Any]:
    kind = "array_list_meta" if values.ndim else "zero_dim"
    dtype = values.dtype.name if values.ndim else f"torch.{values.dtype.name}"
    return {key: f"torch.Tensor:{kind}", "data": values.tolist(), "shape": list(values.shape), "dtype": dtype}


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def random_state(d_vocab: int = len(VOCABULARY), seed: int = 0) -> State:
    """Weights in which everything matters: norms, biases, the bias of the unembedding."""
    rng = np.random.default_rng(seed)
    h, d, e, m = D_MODEL // D_HEAD, D_MODEL, D_HEAD, D_MLP
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (d_vocab, d), "pos_embed.W_pos": (N_CTX, d)}
    for i in range(N_LAYERS):
        shapes |= {f"blocks.{i}.{ln}.{x}": (d,) for ln in ("ln1", "ln2") for x in "wb"}
        shapes |= {f"blocks.{i}.attn.W_{x}": (h, d, e) for x in "QKV"} | {f"blocks.{i}.attn.W_O": (h, e, d)}
        shapes |= {f"blocks.{i}.attn.b_{x}": (h, e) for x in "QKV"} | {f"blocks.{i}.attn.b_O": (d,)}
        shapes |= {f"blocks.{i}.mlp.W_in": (d, m), f"blocks.{i}.mlp.b_in": (m,)}
        shapes |= {f"blocks.{i}.mlp.W_out": (m, d), f"blocks.{i}.mlp.b_out": (d,)}
    shapes |= {"ln_final.w": (d,), "ln_final.b": (d,), "unembed.W_U": (d, d_vocab), "unembed.b_U": (d_vocab,)}
    state = {name: 0.4 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: values + 1 if name.endswith(".w") else values for name, values in state.items()}


def folded_state(state: State) -> State:
    """The same model with each norm's weight and bias folded into what follows it, by hand, in float64."""
    s = {name: values.astype(np.float64) for name, values in state.items()}
    for i in range(N_LAYERS):
        block = f"blocks.{i}"
        w, b = s.pop(f"{block}.ln1.w"), s.pop(f"{block}.ln1.b")
        for x in "QKV":
            weight = s[f"{block}.attn.W_{x}"]
            s[f"{block}.attn.b_{x}"] = s[f"{block}.attn.b_{x}"] + np.einsum("d,hde->he", b, weight)
            s[f"{block}.attn.W_{x}"] = w[None, :, None] * weight
        w, b = s.pop(f"{block}.ln2.w"), s.pop(f"{block}.ln2.b")
        s[f"{block}.mlp.b_in"] = s[f"{block}.mlp.b_in"] + b @ s[f"{block}.mlp.W_in"]
        s[f"{block}.mlp.W_in"] = w[:, None] * s[f"{block}.mlp.W_in"]
    w, b = s.pop("ln_final.w"), s.pop("ln_final.b")
    s["unembed.b_U"] = s["unembed.b_U"] + b @ s["unembed.W_U"]
    s["unembed.W_U"] = w[:, None] * s["unembed.W_U"]
    return {name: values.astype(np.float32) for name, values in s.items()}


def dataset_config(**changes: Any) -> dict[str, Any]:
    return {
        OLD: "MazeDatasetConfig(SerializableDataclass)",
        "name": "small",
        "seq_len_min": 1,
        "seq_len_max": N_CTX,
        "seed": 42,
        "applied_filters": [],
        "grid_n": GRID,
        "n_mazes": 10,
        "maze_ctor": {"__name__": "gen_dfs", "__module__": "maze_transformer.generation.generators"},
        "maze_ctor_kwargs": {},
        "token_arr": list(VOCABULARY),
        **changes,
    }


def small_checkpoint(
    state: State | None = None,
    *,
    key: str = OLD,
    tensors: Literal["mixed", "inline", "external"] = "mixed",
    tokenizer: dict[str, Any] | None = None,
) -> ZanjFile:
    """A `ZanjHookedTransformer` file with the layout of maze-transformer's own, buffers included."""
    state = random_state() if state is None else state
    config: dict[str, Any] = {
        OLD: "ConfigHolder(SerializableDataclass)",
        "name": "small-model",
        "dataset_cfg": dataset_config(),
        "model_cfg": {OLD: "BaseGPTConfig(SerializableDataclass)", "name": "tiny", "act_fn": "gelu"},
        "train_cfg": {},
    }
    config["model_cfg"] |= {"d_model": D_MODEL, "d_head": D_HEAD, "n_layers": N_LAYERS}
    if tokenizer is not None:
        del config["dataset_cfg"]["token_arr"]
        config["maze_tokenizer"] = tokenizer
    file = ZanjFile({OLD: "ZanjHookedTransformer", "zanj_model_config": config, "state_dict": {}, "meta": {}})
    buffers = {}
    for i in range(N_LAYERS):
        buffers[f"blocks.{i}.attn.mask"] = np.tril(np.ones((N_CTX, N_CTX), dtype=bool))
        buffers[f"blocks.{i}.attn.IGNORE"] = np.array(-np.inf, dtype=np.float32)
    for name, values in {**state, **buffers}.items():
        if values.ndim and (tensors == "external" or (tensors == "mixed" and values.size > 256)):
            file.external(name, npy(values))
        else:
            file.inline(name, values)
    file.main = renamed(file.main, key)
    return file


def renamed(item: Any, key: str) -> Any:
    """The same JSON with format keys under this name."""
    if isinstance(item, dict):
        return {key if name in (OLD, NEW) else name: renamed(value, key) for name, value in item.items()}
    return [renamed(value, key) for value in item] if isinstance(item, list) else item


def small_tokenizer() -> dict[str, Any]:
    """maze-dataset's tokenizer of the time between the two, in a checkpoint's words."""
    return {
        OLD: "MazeTokenizer(SerializableDataclass)",
        "tokenization_mode": "AOTP_UT_uniform",
        "max_grid_size": GRID,
    }


def damaged(**changes: Any) -> ZanjFile:
    """The small checkpoint with entries of its config changed: dotted names with `__`, None takes an entry away."""
    file = copy.deepcopy(small_checkpoint())
    for name, value in changes.items():
        *folders, last = name.split("__")
        place = file.config
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return file
