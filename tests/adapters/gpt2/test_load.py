"""Folders and checkpoints of GPT-2, whole and broken."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.gpt2 import load
from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.transformer_lens.identity import identity, weights_hash
from maze_dla.errors import CheckpointError, InputError, ModelError
from tests.engine.small_models import hooked_view

from .conftest import random_gpt2, write_folder

TOKENS = torch.tensor([[0, 5, 3, 8, 1], [0, 2, 2, 7, 899]])


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        out = model(TOKENS)
    return (out if isinstance(out, Tensor) else out.logits).float()


def same(model: Any, hf: Any) -> None:
    torch.testing.assert_close(logits_of(model), logits_of(hf), rtol=0, atol=2e-5)


def message(function: Any, kind: type[Exception] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        function()
    return str(caught.value)


def test_a_folder(small_folder: Path) -> None:
    model = load_gpt2(small_folder)
    same(model, random_gpt2())
    assert model.cfg.model_name == small_folder.name
    assert model.tokenizer.tokenize(" Mary") == ["ĠMary"]


def test_it_carries_what_results_should_say(small_folder: Path) -> None:
    model = load_gpt2(str(small_folder))
    expected = {"model": small_folder.name, "checkpoint": f"{small_folder.name}/model.safetensors"}
    assert identity(model) == {**expected, "sha256": weights_hash(model)}


def test_the_random_generator_is_left_alone(small_folder: Path) -> None:
    before = torch.get_rng_state()
    load_gpt2(small_folder)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_precision(small_folder: Path, dtype: torch.dtype) -> None:
    model = load_gpt2(small_folder, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_shards_and_pickled_weights(tmp_path: Path) -> None:
    hf = random_gpt2()
    for name, options in {"shards": {"max_shard_size": "60KB"}, "one": {}}.items():
        hf.save_pretrained(tmp_path / name, **options)
        same(load_gpt2(tmp_path / name), hf)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    (tmp_path / "one" / "model.safetensors").unlink()
    torch.save(hf.state_dict(), tmp_path / "one" / "pytorch_model.bin")
    same(load_gpt2(tmp_path / "one"), hf)


PREFIXES = ["", "_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint(tmp_path: Path, small_folder: Path, prefix: str, tied: bool) -> None:
    hf = random_gpt2(tie_word_embeddings=tied)
    state = {f"{prefix}{key}": value for key, value in hf.state_dict().items()}
    torch.save({"step": 7, "model_state_dict": state, "optimizer": {"lr": 1e-3}}, tmp_path / "checkpoint_step.pth")
    model = load_gpt2(tmp_path / "checkpoint_step.pth", architecture=small_folder)
    same(model, hf)
    assert model.cfg.model_name == "checkpoint_step.pth"
    assert model.tokenizer is not None
    assert torch.equal(model.W_U.T, model.W_E) is tied


def test_a_tied_head_may_be_left_out(tmp_path: Path, small_folder: Path) -> None:
    hf = random_gpt2()
    state = {key: value for key, value in hf.state_dict().items() if key != "lm_head.weight"}
    torch.save(state, tmp_path / "bare.pt")
    same(load_gpt2(tmp_path / "bare.pt", architecture=small_folder), hf)


def test_the_config_beside_a_checkpoint(tmp_path: Path) -> None:
    hf = random_gpt2(n_head=4)  # the number of heads is in no tensor's shape
    write_folder(hf, tmp_path)
    torch.save({"model_state_dict": hf.state_dict()}, tmp_path / "step_3.pth")
    same(load_gpt2(tmp_path / "step_3.pth"), hf)


def test_a_checkpoint_of_gpt2s_width_needs_no_config(tmp_path: Path, nowhere: Path) -> None:
    hf = random_gpt2(n_embd=768, n_head=12, n_layer=1)
    torch.save(hf.state_dict(), tmp_path / "alone.pth")
    model = load_gpt2(tmp_path / "alone.pth")
    same(model, hf)
    assert (model.cfg.n_heads, model.tokenizer) == (12, None)


def test_buffers_of_older_versions_are_no_weights(tmp_path: Path, small_folder: Path) -> None:
    hf = random_gpt2()
    mask = torch.ones(1, 1, 40, 40).tril().bool()
    old = {f"transformer.h.{i}.attn.{name}": mask for i in range(2) for name in ("bias", "masked_bias")}
    torch.save(hf.state_dict() | old, tmp_path / "old.pth")
    same(load_gpt2(tmp_path / "old.pth", architecture=small_folder), hf)


def saved(state: Any, tmp_path: Path) -> Path:
    torch.save(state, tmp_path / "c.pth")
    return tmp_path / "c.pth"


def test_every_key_at_fault_is_named(tmp_path: Path, small_folder: Path) -> None:
    state = random_gpt2().state_dict()
    del state["transformer.h.1.mlp.c_fc.bias"], state["transformer.ln_f.weight"]
    state |= {"transformer.h.9.extra": torch.zeros(1), "head.bias": torch.zeros(2)}
    text = message(lambda: load_gpt2(saved({"model_state_dict": state}, tmp_path), architecture=small_folder))
    assert text.startswith(f"{tmp_path / 'c.pth'}: the weights do not fit the architecture: ")
    assert "2 missing: transformer.h.1.mlp.c_fc.bias, transformer.ln_f.weight" in text
    assert "2 unexpected: transformer.h.9.extra, head.bias" in text


def test_a_checkpoint_of_another_size(tmp_path: Path, small_folder: Path) -> None:
    file = saved(random_gpt2(n_embd=60, n_head=3).state_dict(), tmp_path)
    text = message(lambda: load_gpt2(file, architecture=small_folder))
    assert "transformer.wte.weight is 900x60, expected 900x48" in text
    assert "width 60 is none of GPT-2's (768, 1024, 1280, 1600)" in message(lambda: load_gpt2(file))


class Runs:
    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('was_run').write_text('x')",)


def test_code_in_a_checkpoint_is_named(tmp_path: Path) -> None:
    file = saved({"model_state_dict": {"x": Runs()}}, tmp_path)
    assert "c.pth: holds more than tensors and plain data (exec), and" in message(lambda: load_gpt2(file))


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_that_runs_code_is_not_run(
    tmp_path: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write({"model_state_dict": {"x": Runs()}}, tmp_path / "evil.pth")
    text = message(lambda: load_gpt2(tmp_path / "evil.pth", architecture=small_folder))
    assert text.startswith(f"{tmp_path / 'evil.pth'}: ")
    assert "nothing of it was run" in text
    assert not (tmp_path / "was_run").exists()


def spoil(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)


def cut(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()[:-100]


BROKEN = {
    "no weights": (lambda f: spoil(f, "model.safetensors", None), "a folder without model.safetensors or pytorch"),
    "empty weights": (lambda f: spoil(f, "model.safetensors", b""), "model.safetensors: the file is empty"),
    "cut off": (
        lambda f: spoil(f, "model.safetensors", cut(f, "model.safetensors")),
        "model.safetensors: not a safetensors file, or cut off",
    ),
    "text": (lambda f: spoil(f, "model.safetensors", b"hello" * 99), "not a safetensors file, or cut off"),
    "no config": (lambda f: spoil(f, "config.json", None), "a model's folder has config.json, this one holds merges"),
    "broken config": (lambda f: spoil(f, "config.json", b"{"), "config.json: cannot be read as JSON"),
    "list as config": (lambda f: spoil(f, "config.json", b"[]"), "config.json: holds a list, expected an object"),
    "another model": (
        lambda f: spoil(f, "config.json", b'{"model_type": "llama"}'),
        "config.json: model_type 'llama', expected 'gpt2'",
    ),
    "broken tokenizer": (lambda f: spoil(f, "vocab.json", b"{"), "vocab.json: cannot be read as JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders(tmp_path: Path, small_folder: Path, name: str) -> None:
    shutil.copytree(small_folder, tmp_path / "broken")
    damage, expected = BROKEN[name]
    damage(tmp_path / "broken")
    text = message(lambda: load_gpt2(tmp_path / "broken"))
    assert text.startswith(str(tmp_path / "broken"))
    assert expected in text


CONFIGS = {
    "heads that do not divide": ({"n_head": 5}, "2 layers of 5 heads in width 48, expected at most"),
    "no heads": ({"n_head": 0}, "n_head is 0; expected whole numbers of at least 1"),
    "heads left out": ({"n_head": ...}, "n_head is missing; expected whole numbers"),
    "sizes that are none": ({"n_layer": "two", "n_embd": 2.5}, "n_layer is 'two', n_embd is 2.5; expected whole"),
    "more layers than can be": ({"n_layer": 10**9}, "1000000000 layers of 3 heads in width 48, expected at most 1000"),
    "a vocabulary that fits nowhere": (
        {"vocab_size": 10**11},
        "transformer.wte.weight is 900x48, expected 100000000000",
    ),
    "an unknown activation": ({"activation_function": "nope"}, "no GPT-2 can be built from its config (KeyError"),
    "an odd epsilon": ({"layer_norm_epsilon": "x"}, "layer_norm_epsilon is 'x', expected a number above 0"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_are_none(tmp_path: Path, small_folder: Path, name: str) -> None:
    changes, expected = CONFIGS[name]
    shutil.copytree(small_folder, tmp_path / "f")
    config = json.loads((small_folder / "config.json").read_text()) | changes
    (tmp_path / "f" / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    text = message(lambda: load_gpt2(tmp_path / "f"))
    assert text.startswith(str(tmp_path / "f"))
    assert expected in text
    assert "\n" not in text


def test_what_a_config_says_beside_the_architecture_is_left_unread(tmp_path: Path, small_folder: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "f")
    config = json.loads((small_folder / "config.json").read_text()) | {"id2label": 5}
    (tmp_path / "f" / "config.json").write_text(json.dumps(config))
    same(load_gpt2(tmp_path / "f"), random_gpt2())


STRANGE = {
    "whole numbers": lambda t: t.int(),
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.to_sparse(),
    "nowhere": lambda t: t.to("meta"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_weights_that_are_no_plain_numbers(tmp_path: Path, small_folder: Path, name: str) -> None:
    state = random_gpt2().state_dict()
    state["transformer.wpe.weight"] = STRANGE[name](state["transformer.wpe.weight"])
    file = saved(state, tmp_path)
    text = message(lambda: load_gpt2(file, architecture=small_folder))
    assert text.startswith(f"{file}: transformer.wpe.weight holds ")
    assert text.endswith("expected plain floating numbers")


def test_shards_of_pickled_weights(tmp_path: Path, small_folder: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "f")
    (tmp_path / "f" / "model.safetensors").unlink()
    state = random_gpt2().state_dict()
    where = {key: f"part-{i % 2}.bin" for i, key in enumerate(state)}
    for part in set(where.values()):
        torch.save({k: v for k, v in state.items() if where[k] == part}, tmp_path / "f" / part)
    index = tmp_path / "f" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    same(load_gpt2(tmp_path / "f"), random_gpt2())
    (tmp_path / "f" / "part-1.bin").unlink()
    assert "the shard part-1.bin, which the index names, is missing" in message(lambda: load_gpt2(tmp_path / "f"))
    index.write_text(json.dumps({"weight_map": 5}))
    assert "weight_map names a file for each weight, got 5" in message(lambda: load_gpt2(tmp_path / "f"))


def test_the_hash_is_that_of_the_weights_in_one_file_or_in_shards(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 1):
        for size in ("60KB", "5GB"):
            folder = tmp_path / f"{seed}-{size}"
            random_gpt2(seed).save_pretrained(folder, max_shard_size=size)
            hashes.append(weights_hash(load_gpt2(folder)))
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3]
    assert hashes[0] != hashes[2]


def test_processed_weights_are_told_apart(small_folder: Path) -> None:

    model = load_gpt2(small_folder)
    if not hasattr(model, "enable_compatibility_mode"):
        pytest.skip("this version of TransformerLens processes weights when it loads them")
    assert "weights" not in hooked_view(model).info
    model.enable_compatibility_mode(disable_warnings=True)
    assert hooked_view(model).info["weights"] == "folded by enable_compatibility_mode"


def test_a_config_of_another_size_names_the_shapes(tmp_path: Path, small_folder: Path) -> None:
    shutil.copytree(small_folder, tmp_path / "f")
    config = json.loads((small_folder / "config.json").read_text())
    (tmp_path / "f" / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    assert "12 missing: transformer.h.2.ln_1.weight" in message(lambda: load_gpt2(tmp_path / "f"))


OTHER_FILES = {
    "empty": (b"", "the file is empty"),
    "text": (b"not a checkpoint", "not a torch checkpoint, or cut off"),
    "cut": (None, "not a torch checkpoint, or cut off"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_broken_checkpoints(tmp_path: Path, name: str) -> None:
    content, expected = OTHER_FILES[name]
    file = saved(random_gpt2().state_dict(), tmp_path)
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    assert message(lambda: load_gpt2(file)).startswith(f"{file}: {expected}")


def test_checkpoints_without_a_state(tmp_path: Path) -> None:
    assert "c.pth: holds a list, expected a dict with" in message(lambda: load_gpt2(saved([1], tmp_path)))
    assert "no model_state_dict; it holds step, loss" in message(
        lambda: load_gpt2(saved({"step": 1, "loss": 2.0}, tmp_path))
    )
    assert "transformer.wte.weight is missing or no matrix; it holds a" in message(
        lambda: load_gpt2(saved({"a": torch.zeros(2)}, tmp_path))
    )


def test_numbers_that_are_not_finite(tmp_path: Path, small_folder: Path) -> None:
    state = random_gpt2().state_dict()
    state["transformer.h.0.mlp.c_fc.weight"][0, 0] = float("nan")
    file = saved(state, tmp_path)
    assert "transformer.h.0.mlp.c_fc.weight: not all numbers are finite" in message(
        lambda: load_gpt2(file, architecture=small_folder)
    )


def test_logits_that_differ_from_the_cpus_are_refused(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by(amount: float) -> None:
        monkeypatch.setattr(load, "self_check_logits", lambda model: truth(model) + amount)
        load_gpt2(small_folder)

    truth = load.self_check_logits
    off_by(0.009)
    with pytest.raises(ModelError, match=r"^on cpu the model's logits differ by up to 0\.01\d? from"):
        off_by(0.0111)
    with pytest.raises(ModelError, match="differ by up to nan"):
        off_by(float("nan"))


def test_device_and_dtype_that_cannot_be_used(small_folder: Path) -> None:
    assert "device 'gpu7' cannot be used here" in message(lambda: load_gpt2(small_folder, device="gpu7"), InputError)
    assert "dtype is a floating" in message(lambda: load_gpt2(small_folder, dtype=torch.int8), InputError)


WIDE = {"n_embd": 768, "n_layer": 1, "n_head": 6}


def test_the_config_inside_a_checkpoint_is_believed(tmp_path: Path, nowhere: Path) -> None:
    """Six heads in a width that GPT-2 has with twelve: what the shapes alone suggest is another function."""
    hf = random_gpt2(**WIDE)
    for inside in ({"config": {"n_head": 6, "lr": 1e-3}}, {"args": {"n_heads": 6, "d_model": 768, "block_size": 40}}):
        model = load_gpt2(saved({"model": hf.state_dict(), **inside}, tmp_path))
        assert model.cfg.n_heads == 6
        same(model, hf)
    twelve = load_gpt2(saved({"model": hf.state_dict(), "config": {"lr": 1e-3}}, tmp_path))
    assert twelve.cfg.n_heads == 12
    assert not torch.allclose(logits_of(twelve), logits_of(hf), atol=1e-3)


def test_configs_that_contradict_each_other_are_refused(tmp_path: Path, small_folder: Path) -> None:
    hf = random_gpt2()
    file = saved({"model": hf.state_dict(), "config": {"n_head": 4, "n_layer": 2}}, tmp_path)
    expected = f"c.pth: the config inside contradicts {small_folder / 'config.json'}: n_head is 4 and 3"
    assert expected in message(lambda: load_gpt2(file, architecture=small_folder))
    shutil.copy(small_folder / "config.json", tmp_path)
    assert "config.json: n_head is 4 and 3" in message(lambda: load_gpt2(file))
    (tmp_path / "config.json").unlink()
    file = saved({"model": hf.state_dict(), "config": {"n_head": 3, "n_layer": 3, "block_size": 41}}, tmp_path)
    assert "contradicts the shapes of the weights: n_layer is 3 and 2, n_positions is 41 and 40" in message(
        lambda: load_gpt2(file)
    )
    for heads in (5, "three", True, 0):
        bad = saved({"model": hf.state_dict(), "config": {"n_head": heads}}, tmp_path)
        assert str(heads) in message(lambda bad=bad: load_gpt2(bad))
    same(load_gpt2(saved({"model": hf.state_dict(), "config": {"n_head": 3}}, tmp_path)), hf)
