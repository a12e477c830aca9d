"""Weights in several files: each where the index says, once, and inside the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from maze_dla.adapters.gpt2.load import load_gpt2

from .conftest import random_gpt2
from .test_load import message


def in_two_shards(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The index of two shards; the random model's weights, and the shard of each."""
    state = random_gpt2().state_dict()
    where = {key: f"part-{i % 2}.bin" for i, key in enumerate(state)}
    folder.mkdir(exist_ok=True)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    return state, where


@pytest.mark.parametrize("extra", ["transformer.h.0.ln_1.weight", "h.0.ln_1.weight"])
def test_a_weight_in_two_shards(extra: str, tmp_path: Path, small_folder: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "f")
    (tmp_path / "f" / "model.safetensors").unlink()
    state, where = in_two_shards(tmp_path / "f")
    key = "transformer.h.0.ln_1.weight"
    for part in ("part-0.bin", "part-1.bin"):
        inside = {k: v for k, v in state.items() if where[k] == part}
        if where[key] != part:
            inside[extra] = state[key] + 1
            wrong = part
        torch.save(inside, tmp_path / "f" / part)
    assert message(lambda: load_gpt2(tmp_path / "f")).endswith(
        f"{wrong}: {key} is in it, the index has it in {where[key]}"
    )


@pytest.mark.parametrize("name", ["../part-1.bin", "{outside}/part-1.bin", "..", "f/../part-1.bin", ""])
def test_a_shard_out_of_the_folder(name: str, tmp_path: Path, small_folder: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "f")
    (tmp_path / "f" / "model.safetensors").unlink()
    state, where = in_two_shards(tmp_path / "f")
    torch.save(state, tmp_path / "part-1.bin")
    index = {"weight_map": dict.fromkeys(where, name.format(outside=tmp_path))}
    (tmp_path / "f" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "which the index names, is missing" in message(lambda: load_gpt2(tmp_path / "f"))
