"""Files that readers once took for what they are not, or took too long over."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.gpt2.tokenizer import read_tokenizer
from maze_dla.adapters.mazes.saved import _arrays_of
from maze_dla.baselines.files import read_baselines
from maze_dla.errors import BaselineError, CheckpointError, PromptError, ResultFileError
from maze_dla.files.tensors.torch_file import read_torch_file
from maze_dla.files.zanj_file import NEW_KEY


def test_a_tensor_of_negatives_is_not_read_with_the_wrong_sign(tmp_path: Path) -> None:
    negatives = torch.randn(4, dtype=torch.complex64).conj().imag
    assert negatives.is_neg()
    torch.save({"w": negatives}, tmp_path / "n.pth")
    with pytest.raises(CheckpointError, match="whose values stand for their negatives"):
        read_torch_file(tmp_path / "n.pth", CheckpointError)
    torch.save({"w": negatives.clone()}, tmp_path / "c.pth")
    read_torch_file(tmp_path / "c.pth", CheckpointError)


def test_tuples_as_keys_are_few(tmp_path: Path) -> None:
    for n, refused in ((1000, False), (1002, True)):
        torch.save({(i, i): i for i in range(n)}, tmp_path / "t.pth")
        if refused:
            with pytest.raises(CheckpointError, match="has a tuple as a key"):
                read_torch_file(tmp_path / "t.pth", CheckpointError)
        else:
            assert len(read_torch_file(tmp_path / "t.pth", CheckpointError)) == n


def test_mazes_of_texts_are_not_made_arrays() -> None:
    """As an array each text would take as much as the longest."""
    maze = {NEW_KEY: "SolvedMaze", "solution": ["a" * 10**6, *["b"] * 1500]}
    with pytest.raises(ValueError, match="the solution of a maze is no array of numbers"):
        _arrays_of(maze)


@pytest.mark.parametrize("main", [{NEW_KEY: ":array_list_meta", "data": [0.5], "shape": [1], "dtype": "float64"}])
def test_a_result_that_is_an_array_as_a_whole(main: dict[str, Any], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "r.zanj", "w") as archive:
        archive.writestr("__zanj__.json", json.dumps(main))
    with pytest.raises(ResultFileError, match="is a ndarray as a whole, expected an object"):
        dla.load_result(tmp_path / "r.zanj")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = dla.record_baseline(tmp_path_factory.mktemp("b") / "b.json", n_mazes=4)
    return json.loads(file.read_text(encoding="utf-8"))


ODD: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "a text as dtype": (("numbers", "metric of each prompt", "dtype"), "<U300000000", "its dtype is"),
    "mazes beyond all count": (("question", "n_mazes"), 10**30, "question.n_mazes is"),
    "more mazes than prompts": (("question", "n_mazes"), 10**9, "question.n_mazes is 1000000000, its prompts are"),
    "padding of gigabytes": (("question", "padding"), 10**9, "question.padding is 1000000000, not the length"),
    "an entry of its own": (("numbers", "heads", "comment"), "fine", "heads holds 'comment', which is not known"),
    "an interval of three": (("numbers", "accuracy", "interval"), [0, 1, 2], "expected two numbers"),
    "a prompt twice": (("near_ties",), [0, 0], "near_ties are no numbers of prompts, each once"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_entries_of_baselines(name: str, recorded: dict[str, Any], tmp_path: Path) -> None:
    *path, last = ODD[name][0]
    content = json.loads(json.dumps(recorded))
    (part,) = content["baselines"].values()
    for step in path:
        part = part[step]
    part[last] = ODD[name][1]
    (tmp_path / "b.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BaselineError) as error:
        read_baselines(tmp_path / "b.json")
    assert ODD[name][2] in str(error.value)


def grid_n(maze: Any) -> None:
    """Run in a spawned process."""
    assert maze.grid_n == 5


def test_a_model_is_an_argument_of_a_spawned_process() -> None:
    process = multiprocessing.get_context("spawn").Process(target=grid_n, args=(dla.load_maze_model(),))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def tokenizer_json(folder: Path, **parts: Any) -> Path:
    model = {"type": "WordLevel", "vocab": {"<|endoftext|>": 0, "a": 1, "b": 2}, "unk_token": "<|endoftext|>"}
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    content = {"version": "1.0", "added_tokens": [], **empty, "model": model, **parts}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_a_tokenizer_that_panics_when_it_is_used(tmp_path: Path) -> None:
    assert read_tokenizer(tokenizer_json(tmp_path)) is not None
    strip = {"type": "Strip", "content": "a", "start": 1000, "stop": 1000}
    with pytest.raises(CheckpointError, match="the tokenizer cannot be read"):
        read_tokenizer(tokenizer_json(tmp_path, decoder=strip))
    longer = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 10}
    with pytest.raises(CheckpointError, match="makes texts up to 1000000000 times as long"):
        read_tokenizer(tokenizer_json(tmp_path, normalizer={"type": "Sequence", "normalizers": [longer] * 9}))


def test_a_tokenizer_that_fails_at_a_text() -> None:
    gpt2 = dla.load_gpt2("bundled")

    class Panicking:
        def __getattr__(self, name: str) -> Any:
            return getattr(gpt2.tokenizer, name)

        def __call__(self, *text: Any, **options: Any) -> Any:
            raise type("PanicException", (BaseException,), {})("retry-limit-in-match over")

    class Model:
        tokenizer = Panicking()

        def __getattr__(self, name: str) -> Any:
            return getattr(gpt2, name)

    with pytest.raises(PromptError, match=r"the tokenizer fails at .* \(PanicException: retry-limit-in-match over"):
        dla.text_prompts(Model(), ["John and"], [[" Mary"]])


def test_a_pickled_model_holds_bytes() -> None:
    maze = dla.load_maze_model()
    assert pickle.loads(pickle.dumps(maze)).info == maze.info
