"""Folders of GPT-2 with sizes, tables and names that cannot be: each a short typed error, before anything is built."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from maze_dla.adapters.gpt2.architecture import expected_shapes
from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.gpt2.tokenizer import read_tokenizer
from maze_dla.adapters.text.ioi import ioi_prompts
from maze_dla.adapters.text.texts import text_prompts
from maze_dla.errors import CheckpointError, InputError, MazeDlaError, PromptError
from tests.adapters.gpt2.conftest import random_gpt2, write_folder

SIZES = {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 12}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(random_gpt2(**SIZES), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "f")
    return tmp_path / "f"


def said(function: Callable[[], Any], kind: type[MazeDlaError] = CheckpointError) -> str:
    """The message of the error, which is short and comes at once."""
    started = time.process_time()
    with pytest.raises(kind) as caught:
        function()
    assert time.process_time() - started < 2
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) <= 1000
    return text


@pytest.mark.parametrize("sizes", [SIZES, {**SIZES, "n_layer": 3, "n_inner": 5}, {**SIZES, "n_positions": 7}], ids=str)
def test_the_shapes_expected_are_those_of_transformers(sizes: dict[str, int]) -> None:
    config = GPT2Config(vocab_size=11, **sizes)
    with torch.device("meta"):
        theirs = {name: tuple(weight.shape) for name, weight in GPT2LMHeadModel(config).state_dict().items()}
    assert expected_shapes(config) == theirs


CONFIGS = {
    "a thousand layers": ({"n_layer": 1000}, "11988 missing: transformer.h.1.ln_1.weight, "),
    "a million layers": ({"n_layer": 10**6}, "at most 1000 layers"),
    "a wide one": ({"n_embd": 10**6}, "is 900x8, expected 900x1000000"),
    "too large for anything": (
        {"vocab_size": 2**80},
        "vocab_size is 1208925819614629174706176; expected whole numbers",
    ),
    "below 0": ({"n_positions": -5}, "n_positions is -5; expected whole numbers of at least 1"),
    "true": ({"n_head": True}, "n_head is True"),
    "a list": ({"n_layer": [[1]] * 5000}, "n_layer is [[1], [1]"),
    "a long text": ({"model_type": "x" * 10**6}, "model_type 'xxx"),
    "an object for hidden units": ({"n_inner": {}}, "n_inner is {}, expected a whole number"),
    "no hidden units": ({"n_inner": 0}, "n_inner is 0, expected a whole number"),
    "a list as a function": ({"activation_function": []}, "activation_function is [], expected a function's name"),
    "a word as a switch": ({"scale_attn_weights": "no"}, "scale_attn_weights is 'no', expected true or false"),
    "an endless epsilon": (
        {"layer_norm_epsilon": float("inf")},
        "layer_norm_epsilon is inf, expected a number above 0",
    ),
    "a token beyond all": (
        {"bos_token_id": 2**70},
        "bos_token_id is 1180591620717411303424, expected a token's number",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_that_cannot_be(name: str, folder: Path) -> None:
    changes, expected = CONFIGS[name]
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    assert expected in said(lambda: load_gpt2(folder))


JSON = {
    "deep": (b"[" * 10**5 + b"]" * 10**5, "deep inside each other"),
    "long numbers": (b'{"n_layer": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
    "twice": (b'{"n_layer": 1, "n_layer": 1}', "key 'n_layer' is there twice"),
    "large": (b"[" + b"1," * 3 * 10**6 + b"1]", "are read as a JSON file"),
    "no text": (b"\xff\xfe{}", "cannot be read as JSON"),
}


@pytest.mark.parametrize("file", ["config.json", "vocab.json", "tokenizer_config.json"])
@pytest.mark.parametrize("name", JSON)
def test_json_that_is_none(name: str, file: str, folder: Path) -> None:
    content, expected = JSON[name]
    (folder / file).write_bytes(content if file != "vocab.json" or name != "large" else content * 2)
    text = said(lambda: load_gpt2(folder))
    assert file in text
    assert expected in text


def test_many_keys_at_fault_are_counted(folder: Path, tmp_path: Path) -> None:
    state = {f"extra.{'x' * 300}.{i}": torch.zeros(1) for i in range(1000)}
    torch.save(state | random_gpt2(**SIZES).state_dict(), tmp_path / "c.pth")
    text = said(lambda: load_gpt2(tmp_path / "c.pth", architecture=folder))
    assert "1000 unexpected: extra.xxx" in text
    assert text.endswith("... and 990 more")


TOKENIZERS = {
    "10 MB of merges": ("merges.txt", b"Q w\n" * 2_500_000, "are read as a table of merges"),
    "too many merges": ("merges.txt", b"a b\n" * 5000, "5001 lines, expected at most"),
    "a merge of three": ("merges.txt", b"#version: 0.2\na b c\n", "line 2 is 'a b c', expected two tokens"),
    "a long merge": ("merges.txt", b"x" * 10**6, "merges.txt: line 1 is 'xxx"),
    "merges that are no text": ("merges.txt", b"\xff\xfe\x00", "merges.txt: no text"),
    "ids over 2^63": ("vocab.json", b'{"a": 9223372036854775809}', "'a' has the number 9223372036854775809, expected"),
    "ids below 0": ("vocab.json", b'{"a": -1}', "'a' has the number -1"),
    "ids that are none": ("vocab.json", b'{"a": 1.5}', "'a' has the number 1.5"),
    "the same id": ("vocab.json", b'{"a": 1, "b": 1}', "the tokens 'a' and 'b' are both 1"),
    "no vocabulary": ("tokenizer.json", b'{"model": 3}', "model is no object"),
    "a table of nothing": ("tokenizer.json", b'{"model": {"vocab": {}, "merges": [["a"]]}}', "1 merges for 0 tokens"),
    "an odd vocabulary": ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": 3}}', "the tokenizer cannot be read"),
    "a pattern that repeats": (
        "tokenizer.json",
        b'{"model": {"vocab": {}}, "normalizer": {"pattern": {"Regex": "((a{999}){999}){999}"}}}',
        "repeats more than 10000 times",
    ),
    "a special token of a list": (
        "tokenizer_config.json",
        b'{"bos_token": [1]}',
        "bos_token is [1], expected a token's",
    ),
    "a long special token": (
        "tokenizer_config.json",
        json.dumps({"bos_token": "x" * 9999}).encode(),
        "expected a token's",
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_that_are_none(name: str, folder: Path) -> None:
    file, content, expected = TOKENIZERS[name]
    read_tokenizer(folder)
    (folder / file).write_bytes(content)
    assert expected in said(lambda: load_gpt2(folder))


def test_a_panic_of_the_tokenizers_library_is_an_error_of_the_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers.models

    class PanicException(BaseException):
        """As pyo3 has it."""

    def panics(*given: Any) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value" * 100)

    monkeypatch.setattr(tokenizers.models, "BPE", panics)
    assert "(PanicException: called `Option::unwrap()`" in said(lambda: load_gpt2(folder))

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tokenizers.models, "BPE", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_gpt2(folder)


SHARDS = ["../x", "/etc/passwd", "x" * 300, "a\0b", "\ud800", "..", "", "pipe", "f/x", "~"]


@pytest.mark.parametrize("shard", SHARDS)
def test_shards_that_cannot_be(shard: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "pipe")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"wte.weight": shard}}))
    assert "which the index names, is missing" in said(lambda: load_gpt2(folder))
    for bad in ([1], {"a": 3}, {f"{i}": f"{i}.bin" for i in range(3000)}, None):
        index.write_text(json.dumps({"weight_map": bad}))
        assert "weight_map names " in said(lambda: load_gpt2(folder))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("~nosuchuser/x", "cannot be a path here"),
        ("a\0b", "a\\x00b: cannot be a path here"),
        ("x" * 300, "cannot be a path here (File name too long)"),
        ("\ud800.pth", "cannot be a path here"),
        ("{folder}/pipe", "pipe: no ordinary file but a pipe or device, expected a file"),
        ("/dev/zero", "/dev/zero: no ordinary file"),
        ("{folder}/\udcff.pth", "\\udcff.pth: no such file"),
        ("{folder}/\udcfe.pth", "\\udcfe.pth: not a torch checkpoint"),
    ],
)
def test_sources_that_cannot_be(name: str, expected: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "\udcfe.pth").write_bytes(b"x")
    assert expected in said(lambda: load_gpt2(name.format(folder=folder)))


def test_a_pipe_in_the_place_of_any_file(folder: Path) -> None:
    for name in ("model.safetensors", "config.json", "merges.txt"):
        (folder / name).rename(folder / "aside")
        os.mkfifo(folder / name)
        assert name in said(lambda: load_gpt2(folder))
        (folder / "aside").rename(folder / name)
    load_gpt2(folder)


@pytest.mark.parametrize("bad", [2**63, 2**64 + 1, -1, 10**6, 10**5000], ids=["63", "64", "below", "beyond", "digits"])
def test_ids_outside_the_vocabulary(bad: int) -> None:
    model, texts = load_gpt2("bundled"), ["Then Mary and John went"]
    for given in (bad, [3, bad]):
        for more in ({"answers": [given]}, {"answers": [3], "incorrect": [given]}):
            assert "outside the vocabulary of" in said(
                lambda more=more: text_prompts(model, texts, **more), PromptError
            )
    assert "n_prompts is a whole number" in said(lambda: ioi_prompts(model, bad if bad != 10**6 else 0), InputError)
