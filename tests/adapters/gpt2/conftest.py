"""GPT-2 folders to load: small random ones, and one of full size with the real tokenizer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from maze_dla.adapters.gpt2.sources import BUNDLED
from maze_dla.training.gpt2.run import save_folder

TOKENIZER = ("vocab.json", "merges.txt")


def random_gpt2(seed: int = 0, spread: float = 0.05, **sizes: Any) -> Any:
    """Hugging Face's GPT-2 with all weights random, biases and norms as well."""
    sizes = {"vocab_size": 900, "n_positions": 40, "n_embd": 48, "n_layer": 2, "n_head": 3, **sizes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(GPT2Config(**sizes, attn_implementation="eager"))
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(spread * torch.randn_like(weight))
    return model.eval()


def write_folder(model: Any, folder: Path, tokenizer: Path = BUNDLED) -> Path:
    """A Hugging Face folder with the model's weights and a tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_folder(model, folder)
    for name in TOKENIZER:
        shutil.copy(tokenizer / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers."""
    return write_folder(random_gpt2(), tmp_path_factory.mktemp("small"))


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any model: no folder named, an empty cache, no network; the cache's folder."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.delenv("MAZE_DLA_GPT2", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture(scope="session")
def full_size(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """A folder with random weights in gpt2-small's size and GPT-2's real tokenizer."""
    model = random_gpt2(seed=3, spread=0.02, vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12)
    return write_folder(model, tmp_path_factory.mktemp("full") / "gpt2-random", test_data / "gpt2-tokenizer")


@pytest.fixture(scope="session")
def laid_out_in_cache() -> Callable[[Path, Path, str], None]:
    """Put a folder into a hub cache, as the hub's own client lays it out."""

    def lay_out(folder: Path, cache: Path, repository: str) -> None:
        inside = cache / f"models--{repository.replace('/', '--')}"
        snapshot = inside / "snapshots" / "0123abcd"
        snapshot.parent.mkdir(parents=True)
        snapshot.symlink_to(folder)
        (inside / "refs").mkdir()
        (inside / "refs" / "main").write_text("0123abcd")

    return lay_out
