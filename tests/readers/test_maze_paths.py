"""Paths that no file can have, or that look like something else: a typed error of one line that can be printed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maze_dla.adapters.mazes.datasets import MazeSupply, maze_supply
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.errors import CheckpointError, DatasetError, PromptError
from tests.adapters.mazes.small_files import small_checkpoint
from tests.adapters.mazes.test_drawn import DRAWING, TOKENS
from tests.readers.maze_cases import RECORDED
from tests.readers.maze_files import VOCABULARY

FULL = RECORDED / "dataset-newest-full.zanj"
NAMES = {
    "a user that is none": "~nosuchuser/model.zanj",
    "a name of 300 characters": "x" * 300 + ".zanj",
    "a path of 10,000 characters": "x/" * 5000 + "model.zanj",
    "a null byte": "a\0b.zanj",
    "no UTF-8": os.fsdecode(b"mod\xffel.zanj"),
    "several lines": "a\nb.zanj",
    "nothing": "",
}


def supply(given: Any) -> MazeSupply:
    return maze_supply(given, VOCABULARY, {}, None)


READERS: dict[str, tuple[Callable[[Any], Any], type[Exception]]] = {
    "checkpoint": (load_maze_model, CheckpointError),
    "data set": (supply, DatasetError),
}


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", READERS)
def test_names_that_no_file_has(reader: str, name: str, kind: type) -> None:
    read, error = READERS[reader]
    with pytest.raises(error) as found:
        read(kind(NAMES[name]))
    said = str(found.value)
    assert said.isprintable()
    assert len(said) <= 1000
    assert type(found.value) is error


def test_a_file_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"mod\xffel.zanj")
    try:
        small_checkpoint().write(file)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert load_maze_model(file).info["checkpoint"] == r"mod\udcffel.zanj"
    shutil.copy(FULL, file)
    assert supply(file).name == r"mod\udcffel.zanj"
    with pytest.raises(CheckpointError, match=r"mod\\udcffel\.zanj: no saved model"):
        load_maze_model(file)


@pytest.mark.parametrize("name", ["data<1>.zanj", "<data", "a b <c>.zanj", "walls #\n# S.zanj"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_data_set_with_the_name_of_a_text(name: str, kind: type, tmp_path: Path) -> None:
    shutil.copy(FULL, tmp_path / name)
    assert supply(kind(tmp_path / name)).n_mazes == supply(FULL).n_mazes


def test_a_name_that_ends_as_a_data_sets_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"^data<1>\.zanj: no such file"):
        supply("data<1>.zanj")
    with pytest.raises(PromptError, match="token 'data<1>' is not in the vocabulary"):
        VOCABULARY.encode(supply("data<1>").tokens(0, 1, 0)[0], "prompt 0")
    shutil.copy(FULL, "data<1>")
    assert supply("data<1>").n_mazes == supply(FULL).n_mazes


def test_texts_are_no_paths() -> None:
    assert supply(TOKENS).name == "token lists"
    assert supply(DRAWING).name == "drawn mazes"
    assert supply("<PATH_START> (0,0)" * 1000).name == "token lists"


BROKEN = {
    "checkpoint": ("maze_dla.adapters.mazes.load.build_decoder", "TransformerLens cannot build it"),
    "data set": ("maze_dla.adapters.mazes.saved.load_mazes", "maze-dataset cannot load it"),
}


@pytest.mark.parametrize("reader", BROKEN)
def test_other_libraries_errors_are_typed_and_interruptions_pass(
    reader: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (read, error), (function, said) = READERS[reader], BROKEN[reader]
    file = FULL if reader == "data set" else small_checkpoint().write(tmp_path / "model.zanj")

    def breaking(problem: BaseException) -> None:
        def broken(*_: Any) -> Any:
            raise problem

        monkeypatch.setattr(function, broken)

    for problem in (RecursionError(), MemoryError(), SyntaxError("x"), IndexError("list index out of range")):
        breaking(problem)
        with pytest.raises(error, match=rf"{file.name}: {said} \("):
            read(file)
    for interruption in (KeyboardInterrupt, SystemExit):
        breaking(interruption())
        with pytest.raises(interruption):
            read(file)
