"""Files that are no checkpoints, or damaged ones: each error names the file and what in it is at fault."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maze_dla.adapters.mazes.checkpoint import read_checkpoint
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.errors import CheckpointError, MazeDlaError

from .small_files import OLD, VOCABULARY, ZanjFile, damaged, npy, random_state, small_checkpoint

Change = Callable[[ZanjFile], Any]


def refused(file: Path, message: str) -> None:
    """`message` is a pattern for all that follows the file's name."""
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: {message}") as error:
        load_maze_model(file)
    assert isinstance(error.value, MazeDlaError)
    assert isinstance(error.value, ValueError)
    assert type(error.value) is CheckpointError


def test_the_file_they_all_derive_from_is_good(tmp_path: Path) -> None:
    load_maze_model(small_checkpoint().write(tmp_path / "good.zanj"))
    load_maze_model(damaged().write(tmp_path / "undamaged.zanj"))


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    refused(tmp_path / "none.zanj", "no such file")
    refused(tmp_path, "a folder, expected a .zanj file")
    (tmp_path / "empty.zanj").touch()
    refused(tmp_path / "empty.zanj", "the file is empty")
    with pytest.raises(CheckpointError, match=r"none\.zanj: no such file"):
        load_maze_model(str(tmp_path / "none.zanj"))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_truncated(share: float, tmp_path: Path) -> None:
    file = small_checkpoint().write(tmp_path / "cut.zanj")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refused(file, r"not a zip file, or cut off \(")


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04" + bytes(500), b"\x80\x04K\x01.", bytes(10_000)])
def test_not_a_zip(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.zanj").write_bytes(content)
    refused(tmp_path / "other.zanj", r"not a zip file, or cut off \(")


def zip_of(path: Path, **members: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_that_is_no_zanj_file(tmp_path: Path) -> None:
    file = zip_of(tmp_path / "other.zanj", a="1", b="2", c="3", d="4")
    refused(file, r"a zip without __zanj__\.json, so not a \.zanj file; it holds a, b, c, \.\.\.$")
    refused(zip_of(tmp_path / "nothing.zanj"), r"a zip without __zanj__\.json, .* it holds nothing")


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": }', "\udcff".encode("utf-8", "surrogateescape"), "[" * 100_000], ids=range(5)
)
def test_damaged_json(text: bytes | str, tmp_path: Path) -> None:
    file = zip_of(tmp_path / "json.zanj", **{"__zanj__.json": text})
    refused(file, r"member __zanj__\.json is not valid JSON \(")


def test_json_that_is_no_model(tmp_path: Path) -> None:
    refused(zip_of(tmp_path / "l.zanj", **{"__zanj__.json": "[1]"}), r"__zanj__\.json holds a list, expected an object")
    file = zip_of(tmp_path / "cfg.zanj", **{"__zanj__.json": '{"cfg": {}, "mazes": []}'})
    refused(file, r"no saved model: zanj_model_config and state_dict missing, it holds cfg, mazes")
    file = zip_of(tmp_path / "half.zanj", **{"__zanj__.json": '{"zanj_model_config": {}, "state_dict": 3}'})
    refused(file, r"no saved model: state_dict missing, it holds zanj_model_config, state_dict")


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model_cfg": None}, r"zanj_model_config\.model_cfg is missing"),
    "no data": ({"dataset_cfg": None}, r"zanj_model_config\.dataset_cfg is missing"),
    "no size": ({"model_cfg__d_model": None}, r"zanj_model_config\.model_cfg lacks d_model$"),
    "no context": ({"dataset_cfg__seq_len_max": None}, r"zanj_model_config\.dataset_cfg lacks seq_len_max$"),
    "size in words": ({"model_cfg__n_layers": "two"}, r".*model_cfg\.n_layers is 'two', expected a whole number"),
    "heads of size zero": ({"model_cfg__d_head": 0}, r".*d_head is 0, expected a whole number from 1 to 1000000"),
    "endless": ({"model_cfg__d_model": float("inf")}, r".*d_model is inf, expected a whole number"),
    "activation": (
        {"model_cfg__act_fn": "tanhh"},
        r"unknown activation 'tanhh', expected one of gelu, gelu_new, relu, silu, solu_ln",
    ),
    "positions": ({"model_cfg__positional_embedding_type": "rotary"}, r"positional_embedding_type 'rotary', expected"),
    "fewer layers": (
        {"model_cfg__n_layers": 1},
        r"state_dict holds blocks\.1\..*, which this architecture does not have",
    ),
    "more layers": ({"model_cfg__n_layers": 3}, r"state_dict lacks blocks\.2\..* and more"),
    "longer context": (
        {"dataset_cfg__seq_len_max": 73},
        r"state_dict pos_embed\.W_pos has shape \(72, 16\), expected \(73, 16\)",
    ),
    "other heads": (
        {"model_cfg__d_head": 4},
        r"state_dict blocks\.0\.attn\.W_Q has shape \(2, 16, 8\), expected \(4, 16, 4\)",
    ),
    "no vocabulary": (
        {"dataset_cfg__token_arr": None},
        r"no vocabulary: neither maze_tokenizer nor dataset_cfg\.token_arr is there",
    ),
    "vocabulary too short": (
        {"dataset_cfg__token_arr": list(VOCABULARY[:-1])},
        r"the vocabulary has 19 tokens, embed\.W_E has 20 rows",
    ),
    "vocabulary too long": (
        {"dataset_cfg__token_arr": [*VOCABULARY, "(9,9)"]},
        r"the vocabulary has 21 tokens, embed\.W_E has 20 rows",
    ),
    "token twice": (
        {"dataset_cfg__token_arr": [*VOCABULARY[:-1], "<PADDING>"]},
        r"dataset_cfg\.token_arr holds '<PADDING>' twice",
    ),
    "tokens that are none": (
        {"dataset_cfg__token_arr": [1, *VOCABULARY[1:]]},
        r"dataset_cfg.token_arr has 1 as token 0: expected a text",
    ),
    "unknown tokenizer": (
        {"maze_tokenizer": {OLD: "BytePairs(SerializableDataclass)"}},
        r"unknown tokenizer 'BytePairs', expected MazeTokenizer or MazeTokenizerModular",
    ),
    "unknown mode": (
        {"maze_tokenizer": {OLD: "MazeTokenizer(x)", "tokenization_mode": "AOTP_XY", "max_grid_size": 3}},
        r"maze_tokenizer cannot be built \(KeyError: 'AOTP_XY'\)",
    ),
    "another tokenizer": (
        {"maze_tokenizer": {OLD: "MazeTokenizerModular(SerializableDataclass)"}},
        r"dataset_cfg\.token_arr has '\(1,1\)' as token 11, the vocabulary has '\('",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_does_not_fit(name: str, tmp_path: Path) -> None:
    changes, message = CONFIGS[name]
    refused(damaged(**changes).write(tmp_path / "config.zanj"), message)


def with_value(name: str, value: float) -> Change:
    values = random_state()[name]
    values.reshape(-1)[[1, 3]] = value
    return lambda f: f.external(name, npy(values)) if values.size > 256 else f.inline(name, values)


def without(name: str) -> Change:
    return lambda f: f.state.pop(name)


def reshaped(name: str, *shape: int) -> Change:
    return lambda f: f.external(name, npy(random_state()[name].reshape(shape)))


def tensor(name: str, **item: Any) -> Change:
    return lambda f: f.state.update({name: {OLD: "torch.Tensor:array_list_meta", **item}})


def huge() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 16), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def zeros(dtype: Any) -> bytes:
    return npy(np.zeros((20, 16), dtype=dtype))


W_IN = "blocks.0.mlp.W_in"
NOT_FINITE = r" has 2 values that are NaN or infinite"
TENSORS: dict[str, tuple[Change, str]] = {
    "missing": (without("blocks.1.attn.b_Q"), r"state_dict lacks blocks\.1\.attn\.b_Q$"),
    "embedding missing": (without("embed.W_E"), r"state_dict embed\.W_E is missing or has no 2 axes"),
    "W_in missing": (without(W_IN), r"state_dict blocks\.0\.mlp\.W_in is missing or has no 2 axes"),
    "one norm missing": (without("blocks.0.ln1.w"), r"state_dict lacks blocks\.0\.ln1\.w$"),
    "bias of final norm missing": (without("ln_final.b"), r"state_dict lacks ln_final\.b$"),
    "unknown": (lambda f: f.inline("blocks.0.mlp.W_gate", np.zeros(3, "f4")), r"state_dict holds blocks\.0\.mlp\.W_g"),
    "transposed": (
        reshaped("unembed.W_U", 20, 16),
        r"state_dict unembed\.W_U has shape \(20, 16\), expected \(16, 20\)",
    ),
    "flat": (reshaped("embed.W_E", 320), r"state_dict embed\.W_E is missing or has no 2 axes"),
    "inline shape": (
        tensor("ln_final.w", data=[1.0], shape=[16], dtype="float32"),
        r"state_dict\.ln_final\.w in __zanj__",
    ),
    "inline dtype": (
        tensor("ln_final.w", data=[1.0], shape=[1], dtype="float33"),
        r"state_dict\.ln_final\.w in __zanj__",
    ),
    "inline words": (
        tensor("ln_final.w", data=["x"], shape=[1], dtype="float32"),
        r"state_dict\.ln_final\.w in __zanj__",
    ),
    "inline overflow": (
        tensor("ln_final.w", data=[2**80], shape=[1], dtype="int64"),
        r"state_dict\.ln_final\.w in __zan",
    ),
    "NaN outside": (with_value("unembed.W_U", np.nan), rf"state_dict unembed\.W_U{NOT_FINITE}"),
    "NaN inside": (with_value("unembed.b_U", np.nan), rf"state_dict unembed\.b_U{NOT_FINITE}"),
    "infinity": (with_value("blocks.1.mlp.W_out", np.inf), rf"state_dict blocks\.1\.mlp\.W_out{NOT_FINITE}"),
    "minus infinity": (with_value("ln_final.w", -np.inf), rf"state_dict ln_final\.w{NOT_FINITE}"),
    "integers": (
        lambda f: f.external("embed.W_E", zeros(int)),
        r"state_dict embed\.W_E is int64, expected an array of",
    ),
    "no tensor": (lambda f: f.state.update({"embed.W_E": "none"}), r"state_dict embed\.W_E is str, expected an array"),
    "member missing": (lambda f: f.members.pop(f"state_dict/{W_IN}.npy"), rf"member state_dict/{W_IN}\.npy is missing"),
    "member empty": (lambda f: f.external(W_IN, b""), rf"member state_dict/{W_IN}\.npy is no plain array \("),
    "member no array": (lambda f: f.external(W_IN, b"hello"), rf"member state_dict/{W_IN}\.npy is no plain array \("),
    "member cut off": (
        lambda f: f.external(W_IN, npy(random_state()[W_IN])[:-100]),
        rf"member state_dict/{W_IN}\.npy is no plain array \(",
    ),
    "member far too large": (
        lambda f: f.external(W_IN, huge()),
        rf"member state_dict/{W_IN}\.npy is no plain array \(",
    ),
    "list damaged": (
        lambda f: (f.state.update(x={OLD: "list:external", "$ref": "x.jsonl"}), f.members.update({"x.jsonl": b"{"})),
        r"member x\.jsonl is not valid JSON \(",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_does_not_fit(name: str, tmp_path: Path) -> None:
    change, message = TENSORS[name]
    file = small_checkpoint()
    change(file)
    refused(file.write(tmp_path / "tensor.zanj"), message)


def test_any_byte_order_and_precision_can_be_read(tmp_path: Path) -> None:
    for dtype in (">f4", "<f8", "f2"):
        file = small_checkpoint()
        file.external("embed.W_E", npy(random_state()["embed.W_E"].astype(dtype)))
        maze = load_maze_model(file.write(tmp_path / "order.zanj"))
        assert np.allclose(maze.model.W_E.detach().numpy(), random_state()["embed.W_E"], atol=1e-3)


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.file), "w"))


def test_nothing_is_executed_from_a_file(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Harmful(mark)], dtype=object), allow_pickle=True)
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)
    assert mark.exists()  # the pickle does what it should: only reading it must not
    mark.unlink()
    for content in (buffer.getvalue(), pickle.dumps(Harmful(mark))):
        file = small_checkpoint()
        file.external(W_IN, content)
        path = file.write(tmp_path / "pickle.zanj")
        refused(path, rf"member state_dict/{W_IN}\.npy is no plain array \(.*pickle")
        assert not mark.exists()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "flipped.zanj"
    file = small_checkpoint()
    content = file.members[f"state_dict/{W_IN}.npy"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("__zanj__.json", json.dumps(file.main))
        for name, member in file.members.items():
            archive.writestr(name, member)
    load_maze_model(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(content) + len(content) - 6] ^= 1
    path.write_bytes(raw)
    refused(path, rf"member state_dict/{W_IN}\.npy is damaged \(Bad CRC-32")


def test_whatever_bit_is_flipped_there_is_no_other_error(tmp_path: Path) -> None:
    path = small_checkpoint().write(tmp_path / "noise.zanj")
    content, rng = path.read_bytes(), np.random.default_rng(0)
    tail = len(content) - content.index(b"PK\x01\x02")  # the table of contents: the tender part of a zip
    refusals = 0
    for _ in range(120):
        raw = bytearray(content)
        raw[-int(rng.integers(1, tail))] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            refusals += str(path) in str(error)
    assert refusals > 20


def test_a_zip_of_a_later_version(tmp_path: Path) -> None:
    path = small_checkpoint().write(tmp_path / "later.zanj")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 148
    path.write_bytes(raw)
    refused(path, r"not a zip file, or cut off \(zip file version 14\.8\)")
