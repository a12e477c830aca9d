"""Folders that ask for their own Python to be run, and that mix up their shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.gpt2.tokenizer import read_tokenizer
from maze_dla.errors import CheckpointError

from .conftest import random_gpt2, write_folder

PLANTED = """
import os, pathlib
pathlib.Path(os.environ["PLANTED"]).write_text("was run")
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer, GPT2TokenizerFast
class Tokenizer(GPT2TokenizerFast): pass
class Slow(GPT2Tokenizer): pass
class Config(GPT2Config): pass
class Model(GPT2LMHeadModel): pass
"""
AUTO_MAP = {
    "AutoTokenizer": ["planted.Slow", "planted.Tokenizer"],
    "AutoConfig": "planted.Config",
    "AutoModel": "planted.Model",
    "AutoModelForCausalLM": "planted.Model",
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose every config asks for its Python file, which leaves a trace when it is run."""
    monkeypatch.setenv("PLANTED", str(tmp_path / "trace"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = write_folder(random_gpt2(), tmp_path / "hostile")
    (folder / "planted.py").write_text(PLANTED)
    asks = {"trust_remote_code": True, "auto_map": AUTO_MAP, "custom_pipelines": {"x": {"impl": "planted.Model"}}}
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        old = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps({**old, **asks, "tokenizer_class": "Tokenizer"}))
    return folder


def test_the_planted_file_would_leave_a_trace(hostile: Path) -> None:
    exec((hostile / "planted.py").read_text(), {})
    assert (hostile.parent / "trace").read_text() == "was run"


def test_nothing_of_a_folder_is_run(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)  # where a name could be taken for a folder
    model = load_gpt2(hostile)
    assert model.tokenizer.tokenize(" Mary") == ["ĠMary"]
    model.to_tokens("Then Mary")
    assert not (hostile.parent / "trace").exists()
    assert str(hostile) not in repr(vars(model.tokenizer))


def test_neither_is_it_beside_a_checkpoint(hostile: Path, tmp_path: Path) -> None:
    torch.save(random_gpt2().state_dict(), hostile / "step.pth")
    torch.save(random_gpt2().state_dict(), tmp_path / "elsewhere.pth")
    assert load_gpt2(hostile / "step.pth").tokenizer is not None
    assert load_gpt2(tmp_path / "elsewhere.pth", architecture=hostile).tokenizer is not None
    assert not (tmp_path / "trace").exists()


TEXTS = ["", " Mary", "Then, Mary and John 's went\n\n to  é the store.", "a<|endoftext|>b"]


@pytest.mark.parametrize("whole", [False, True])
def test_the_tokenizer_is_that_of_transformers(whole: bool, small_folder: Path, tmp_path: Path) -> None:
    """Ids and texts are those that transformers' own class gives, from either form of its files."""
    from transformers import GPT2TokenizerFast

    shutil.copytree(small_folder, tmp_path / "f")
    reference = GPT2TokenizerFast.from_pretrained(str(tmp_path / "f"))
    if whole:
        reference.backend_tokenizer.save(str(tmp_path / "f" / "tokenizer.json"))
        for name in ("vocab.json", "merges.txt"):
            (tmp_path / "f" / name).unlink()
    ours = read_tokenizer(tmp_path / "f")
    for text in TEXTS:
        expected = reference(text, add_special_tokens=False)["input_ids"]
        assert ours(text, add_special_tokens=False)["input_ids"] == expected
        assert ours(text)["input_ids"] == [reference.bos_token_id, *expected]
        assert ours.decode(expected) == reference.decode(expected)
    assert [ours.bos_token, ours.eos_token, ours.unk_token] == ["<|endoftext|>"] * 3
    assert len(ours) == len(reference)


def test_special_tokens_of_ones_own(small_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "f")
    config = {"bos_token": " Mary".replace(" ", "Ġ"), "eos_token": {"__type": "AddedToken", "content": "ĠJohn"}}
    (tmp_path / "f" / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = read_tokenizer(tmp_path / "f")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("ĠMary", "ĠJohn")
    (tmp_path / "f" / "tokenizer_config.json").write_text(json.dumps({"bos_token": 5}))
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: bos_token is 5, expected a token's text"):
        read_tokenizer(tmp_path / "f")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path) is None
