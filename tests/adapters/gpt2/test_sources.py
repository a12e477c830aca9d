"""Where a model's files are looked for: names, the cache, a variable, and a hub that does not answer."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from maze_dla.adapters.gpt2 import sources
from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.gpt2.sources import BUNDLED, BUNDLED_NAME
from maze_dla.errors import InputError

from .conftest import random_gpt2
from .test_load import message, same


def test_names(nowhere: Path) -> None:
    started = time.monotonic()
    text = message(lambda: load_gpt2("gpt2-small"))
    assert text.startswith("gpt2-small is not on this machine and the hub may not be asked")
    assert "MAZE_DLA_GPT2" in text
    assert "HF_HOME" in text
    assert time.monotonic() - started < 5
    assert "did you mean 'gpt2-small'?" in message(lambda: load_gpt2("gpt2-smal"), InputError)
    assert "unknown model 'bert'" in message(lambda: load_gpt2("bert"), InputError)
    assert message(lambda: load_gpt2("no/such/place")) == "no/such/place: no such file or folder"
    assert message(lambda: load_gpt2(Path("gpt2"))).endswith("(HF_HOME)")
    assert "has 1 to 1000 characters, got 5000" in message(lambda: load_gpt2("x" * 5000), InputError)
    assert "got 0" in message(lambda: load_gpt2(""), InputError)
    assert "no name of a hub repository either" in message(lambda: load_gpt2("owner/na me?"), InputError)
    assert "expected a model's name, a folder or a checkpoint file, got int" in message(
        lambda: load_gpt2(3), InputError
    )


def test_one_question_to_a_hub_that_does_not_answer(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    class Client:
        def head(self, url: str, timeout: float) -> Any:
            asked.append(url)
            raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Client)
    assert "gpt2-large is not on this machine and the hub cannot be reached (ConnectionError)" in message(
        lambda: load_gpt2("gpt2-large")
    )
    assert len(asked) == 1
    assert asked[0].endswith("/openai-community/gpt2-large/resolve/main/config.json")


def test_a_hub_that_hangs_is_not_waited_for(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class Client:
        def head(self, url: str, timeout: float) -> Any:
            time.sleep(3)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", Client)
    monkeypatch.setattr(sources, "PATIENCE", -0.8)
    assert "the hub did not answer within" in message(lambda: load_gpt2("gpt2-xl"))


@pytest.mark.parametrize("repository", ["gpt2", "openai-community/gpt2"])
@pytest.mark.parametrize("name", ["gpt2", "gpt2-small", "openai-community/gpt2", None])
def test_the_cache(
    nowhere: Path, small_folder: Path, laid_out_in_cache: Any, repository: str, name: str | None
) -> None:
    laid_out_in_cache(small_folder, nowhere, repository)
    model = load_gpt2(name)
    same(model, random_gpt2())
    assert model.cfg.model_name == "0123abcd (2 layers of width 48, not gpt2-small)"


def test_a_cache_without_weights_has_no_model(nowhere: Path, laid_out_in_cache: Any, tmp_path: Path) -> None:
    (tmp_path / "config only").mkdir()
    shutil.copy(BUNDLED / "config.json", tmp_path / "config only")
    laid_out_in_cache(tmp_path / "config only", nowhere, "gpt2")
    assert message(lambda: load_gpt2("gpt2")).startswith("gpt2-small is not on this machine")


def test_the_folder_that_a_variable_names(nowhere: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAZE_DLA_GPT2", str(small_folder))
    same(load_gpt2("gpt2"), random_gpt2())
    assert load_gpt2().cfg.model_name == f"{small_folder.name} (2 layers of width 48, not gpt2-small)"
    assert load_gpt2("bundled").cfg.model_name == BUNDLED_NAME
    monkeypatch.setenv("MAZE_DLA_GPT2", str(small_folder / "gone"))
    assert "which is no folder" in message(lambda: load_gpt2("gpt2-small"))


def test_without_the_real_weights_the_bundled_model_says_its_name(nowhere: Path) -> None:
    assert load_gpt2().cfg.model_name == BUNDLED_NAME
    assert "not gpt2-small" in BUNDLED_NAME
