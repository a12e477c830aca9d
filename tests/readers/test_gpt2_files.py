"""Damaged GPT-2 files of every kind end in a typed error of one line or in what can be read, in time and memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from maze_dla.adapters.gpt2.weights import _unwrapped_name
from tests.adapters.gpt2.conftest import random_gpt2, write_folder

from . import gpt2_files
from .mutations import Damage, of_bytes, of_json
from .torch_archives import INSERTED, archive, of_archive, saved
from .worker import Outcome, Worker

CASES = range(60)
DRAWN = settings(
    max_examples=30, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
SIZES = {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 12, "vocab_size": 900}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("tests.readers.gpt2_files:read") as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a tokenizer, in one file."""
    made = write_folder(random_gpt2(**SIZES), tmp_path_factory.mktemp("whole"))
    (made / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|endoftext|>", "unk_token": "ĠMary"}))
    return made


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return {"wte.weight": torch.randn(9, 4), "h.0.ln_1.bias": torch.randn(4).half(), "ln_f.weight": torch.ones(3)}


def untyped(outcome: Outcome) -> bool:
    """Whether it is neither a typed error nor any content, within the limits."""
    return not outcome.is_good({outcome.said})


def check_all(damaged: list[Damage], read: Callable[[Damage], Outcome], allowed: set[str]) -> None:
    """Each ends as it should, and of the damage some was noticed."""
    ended = [(damage, read(damage)) for damage in damaged]
    for damage, outcome in ended:
        assert outcome.is_good({outcome.said} if damage.is_value else allowed), (damage.what, outcome)
    assert sum(outcome.kind == "error" for _, outcome in ended) > len(ended) // 10


def test_bytes_of_an_archive_of_torch(state: dict[str, torch.Tensor], worker: Worker, tmp_path: Path) -> None:
    """Every record has a checksum, so the numbers are the same or it is an error."""
    content = saved({"model_state_dict": state, "step": 3})
    (tmp_path / "c.pth").write_bytes(content)
    before = worker.read(tmp_path / "c.pth")
    assert before.kind == "content", before

    def read(damage: Damage) -> Outcome:
        (tmp_path / "c.pth").write_bytes(damage.content)
        return worker.read(tmp_path / "c.pth")

    check_all([of_bytes(content, Random(seed)) for seed in CASES], read, {before.said})


def test_pickles_of_torch(state: dict[str, torch.Tensor], worker: Worker, tmp_path: Path) -> None:
    """What is read is what torch reads, where both of them read it."""
    content, same = saved(state), 0
    for seed in range(100):
        (tmp_path / "c.pth").write_bytes(of_archive(content, Random(seed)))
        outcome = worker.read(tmp_path / "c.pth")
        assert not untyped(outcome), (seed, outcome)
        if outcome.kind == "content" and (theirs := read_by_torch(tmp_path / "c.pth")) is not None:
            assert outcome.said == theirs, seed
            same += 1
    assert same > 3


def read_by_torch(file: Path) -> str | None:
    try:
        content = torch.load(file, weights_only=True)
    except Exception:  # torch raises half a dozen kinds
        return None
    return gpt2_files.digest({_unwrapped_name(key): tensor for key, tensor in content.items()})


@DRAWN
@given(st.lists(st.sampled_from(INSERTED), max_size=60))
def test_any_operations_of_pickle(
    worker: Worker, tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.pth"
    file.write_bytes(archive(b"\x80\x02}" + b"".join(pieces) + b".", _0=bytes(8)))
    assert not untyped(worker.read(file))


def test_legacy_files_of_torch(state: dict[str, torch.Tensor], worker: Worker, tmp_path: Path) -> None:
    content = saved(state, _use_new_zipfile_serialization=False)
    for seed in CASES:
        (tmp_path / "c.pth").write_bytes(of_bytes(content, Random(seed)).content)
        assert not untyped(outcome := worker.read(tmp_path / "c.pth")), (seed, outcome)


def in_safetensors(table: bytes, numbers: bytes) -> bytes:
    return len(table).to_bytes(8, "little") + table + numbers


def test_tables_of_safetensors(state: dict[str, torch.Tensor], worker: Worker, tmp_path: Path) -> None:
    content = save(state)
    size = 8 + int.from_bytes(content[:8], "little")
    for seed in CASES:
        damage = of_json if seed % 2 else of_bytes
        table = damage(content[8:size], Random(seed)).content
        changed = in_safetensors(table, content[size:])
        if seed % 4 == 0:
            changed = of_bytes(content[:size], Random(seed)).content + content[size:]
        (tmp_path / "c.safetensors").write_bytes(changed)
        assert not untyped(outcome := worker.read(tmp_path / "c.safetensors")), (seed, outcome)


NUMBER = st.integers(-2, 40) | st.integers(-(2**70), 2**70) | st.floats() | st.none() | st.booleans()
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BOOL", "F4", "F8_E8M0", "", "x" * 300]) | NUMBER,
        "shape": st.lists(st.integers(0, 4) | NUMBER, max_size=4) | NUMBER,
        "data_offsets": st.lists(st.integers(0, 16).map(lambda n: n * 4) | NUMBER, min_size=1, max_size=3) | NUMBER,
    }
)


@DRAWN
@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "", "\ud800", "x" * 300]), ENTRY, max_size=3))
def test_any_table_of_safetensors(worker: Worker, tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any.safetensors"
    file.write_bytes(in_safetensors(json.dumps(table).encode(), bytes(64)))
    assert not untyped(worker.read(file))


def with_file(folder: Path, name: str, content: bytes) -> Path:
    """The same folder with another file in it."""
    copy = folder.parent / f"{folder.name} damaged"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(content)
    return copy


def test_configs(folder: Path, worker: Worker) -> None:
    before = worker.read(folder)
    assert before.kind == "content", before
    full = json.loads((folder / "config.json").read_text())
    read = {"n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "model_type", "n_inner", "activation_function"}
    read |= {"layer_norm_epsilon", "tie_word_embeddings", "scale_attn_weights", "bos_token_id", "eos_token_id"}
    config = json.dumps({key: value for key, value in full.items() if key in read}).encode()
    damaged = [(of_json if seed % 5 else of_bytes)(config, Random(seed)) for seed in CASES]
    for damage in damaged:
        outcome = worker.read(with_file(folder, "config.json", damage.content))
        assert not untyped(outcome), (damage.what, outcome)


@DRAWN
@given(
    st.sampled_from(["n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "n_inner", "layer_norm_epsilon"]),
    NUMBER | st.lists(NUMBER) | st.text(max_size=2) | st.sampled_from([10**6, 1000, 999, -1, 10**400, "9" * 5000]),
)
def test_any_size_in_a_config(worker: Worker, folder: Path, name: str, value: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    if value != config.get(name) and not (name == "layer_norm_epsilon" or (name == "n_head" and value in (1, 2, 4, 8))):
        copy = with_file(folder, "config.json", json.dumps(config | {name: value}).encode())
        outcome = worker.read(copy)
        assert outcome.is_good() or value is None or (name == "n_inner" and value == 32), outcome


def test_indexes_of_shards(folder: Path, worker: Worker, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    random_gpt2(**SIZES).save_pretrained(sharded, max_shard_size="20KB")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder / name, sharded / name)
    whole = worker.read(sharded)
    assert whole.kind == "content", whole
    index = (sharded / "model.safetensors.index.json").read_bytes()
    for seed in CASES:
        damage = (of_json if seed % 3 else of_bytes)(index, Random(seed))
        outcome = worker.read(with_file(sharded, "model.safetensors.index.json", damage.content))
        assert outcome.is_good({whole.said}), (damage.what, outcome)  # all numbers of an index are names


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"])
def test_tokenizers(name: str, folder: Path, worker: Worker, tmp_path: Path) -> None:
    from transformers import GPT2TokenizerFast

    alone = tmp_path / "tokenizer"
    alone.mkdir()
    for part in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(folder / part, alone / part)
    if name == "tokenizer.json":
        GPT2TokenizerFast.from_pretrained(str(folder)).backend_tokenizer.save(str(alone / name))
    content = (alone / name).read_bytes()
    for seed in CASES:
        damage = (of_bytes if name == "merges.txt" or seed % 3 == 0 else of_json)(content, Random(seed))
        outcome = worker.read(with_file(alone, name, damage.content))
        assert not untyped(outcome), (damage.what, outcome)
