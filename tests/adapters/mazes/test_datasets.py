"""Where mazes come from: generated, saved by any version of maze-dataset, in memory, or given as tokens."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zanj import ZANJ

from maze_dla.adapters.mazes import datasets
from maze_dla.adapters.mazes.library import import_maze_dataset
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.errors import DatasetError, InputError, MazeDlaError, PromptError

from .small_files import GRID, OLD, damaged
from .texts import LONG, SHORT, TEXT

OLD_DATASET = "datasets/custom-hallway-g8-n100-a_dfs-h20593.zanj"


def paths(batch: MazePromptBatch) -> list[list[tuple[int, ...]]]:
    return [list(batch.text(i).path) for i in range(len(batch))]


def solutions(dataset: Any) -> list[list[tuple[int, ...]]]:
    return [[tuple(int(x) for x in cell) for cell in maze.solution] for maze in dataset.mazes]


def new_dataset(n_mazes: int = 4) -> Any:
    library = import_maze_dataset()
    config = library.MazeDatasetConfig(name="new", grid_n=GRID, n_mazes=n_mazes, seed=3)
    how = {"load_local": False, "save_local": False, "do_download": False, "verbose": False}
    return library.MazeDataset.from_config(config, **how)


def test_an_old_saved_data_set(test_data: Path, real_model: Callable[[str], MazeModel]) -> None:
    file = test_data / OLD_DATASET
    batch = real_model("2024-model.final").prompts(file)
    with zipfile.ZipFile(file) as archive:
        raw = json.loads(archive.read("__zanj__.json"))["mazes"]
    assert len(batch) == len(raw) == 100
    assert paths(batch) == [[tuple(cell) for cell in maze["solution"]["data"]] for maze in raw]
    assert [t for t in batch.text(0).passages if t[0] == t[1]] == []
    down, right = np.array(raw[0]["connection_list"]["data"])
    expected = {((r, c), (r + 1, c)) for r, c in np.argwhere(down).tolist()}
    expected |= {((r, c), (r, c + 1)) for r, c in np.argwhere(right).tolist()}
    assert batch.text(0).passages == expected
    assert batch.info["mazes"] == file.name
    assert len(real_model("2024-model.final").prompts(str(file), n_mazes=7)) == 7


@pytest.mark.parametrize("form", ["_serialize_full", "_serialize_minimal", "_serialize_minimal_soln_cat"])
def test_a_data_set_saved_by_the_installed_version(form: str, small_model: MazeModel, tmp_path: Path) -> None:
    dataset = new_dataset()
    if not hasattr(dataset, form):
        pytest.skip(f"this maze-dataset has no {form}")
    expected = solutions(dataset)
    ZANJ().save(getattr(dataset, form)(), str(tmp_path / "new.zanj"))
    batch = small_model.prompts(tmp_path / "new.zanj")
    assert paths(batch) == expected
    assert batch.info["mazes"] == "new.zanj"


def test_a_data_set_in_memory(small_model: MazeModel) -> None:
    dataset = new_dataset()
    batch = small_model.prompts(dataset)
    assert paths(batch) == solutions(dataset)
    assert batch.info["mazes"] == "new"
    assert paths(small_model.prompts(dataset, n_mazes=2)) == solutions(dataset)[:2]
    written = dataset.mazes[0].as_tokens(small_model.vocabulary.tokenizer)
    assert sorted(batch.text(0).tokens) == sorted(written)  # the adjacency list comes in another order


def test_tokens_as_strings_and_as_lists(small_model: MazeModel) -> None:
    texts = [TEXT, SHORT, LONG]
    as_strings, as_lists = (small_model.prompts(t) for t in (texts, [t.split() for t in texts]))
    assert torch.equal(as_strings.tokens, as_lists.tokens)
    assert as_strings.sequence_labels == as_lists.sequence_labels
    assert as_strings.sequence_labels[1][1:] == tuple(SHORT.split())
    assert as_strings.info["mazes"] == "token lists"
    assert len(small_model.prompts(TEXT)) == 1
    assert len(small_model.prompts(tuple(texts), n_mazes=2)) == 2


def test_generated_from_the_checkpoints_own_config(small_model: MazeModel) -> None:
    one, again, other = (small_model.prompts(n_mazes=6, seed=seed) for seed in (1, 1, 2))
    assert one.sequence_labels == again.sequence_labels
    assert torch.equal(one.targets, again.targets)
    assert paths(one) != paths(other)
    assert len(small_model.prompts()) == 100
    assert one.info["mazes"] == "generated, seed 1"
    assert one.info["seed"] == 1


def test_the_config_decides_what_is_generated(tmp_path: Path) -> None:
    for forks in (True, False):
        file = damaged(dataset_cfg__maze_ctor_kwargs={"do_forks": forks}).write(tmp_path / f"{forks}.zanj")
        batch = load_maze_model(file).prompts(n_mazes=12)
        degrees = [sum(c in passage for passage in t.passages) for t in map(batch.text, range(12)) for c in t.path]
        assert (max(degrees) > 2) is forks


def test_filters_leave_as_many_as_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filters = [{"name": "path_length", "args": [], "kwargs": {"min_length": 4}}]
    filters.append({"name": "collect_generation_meta", "args": [], "kwargs": {}})
    file = damaged(dataset_cfg__applied_filters=filters).write(tmp_path / "filtered.zanj")
    batch = load_maze_model(file).prompts(n_mazes=9)
    assert len(batch) == 9
    assert min(len(path) for path in paths(batch)) >= 4
    filters[0]["kwargs"] = {"min_length": 10}
    monkeypatch.setattr(datasets, "GENERATION_ROUNDS", 2)  # each asks for twelve times as many
    file = damaged(dataset_cfg__applied_filters=filters).write(tmp_path / "none.zanj")
    with pytest.raises(DatasetError, match=r"only 0 of \d+ mazes pass the config's filters, 3 were asked for"):
        load_maze_model(file).prompts(n_mazes=3)


def test_real_checkpoints_generate_their_kind(real_model: Callable[[str], MazeModel]) -> None:
    for name in ("2023-model.final", "2024-model.final"):
        one, again, other = (real_model(name).prompts(n_mazes=3, seed=s) for s in (0, 0, 1))
        assert one.sequence_labels == again.sequence_labels != other.sequence_labels
        texts = [one.text(i) for i in range(3)]
        assert [t.tokens[t.position("<ORIGIN_START>") + 1] for t in texts] == [
            t.tokens[t.position("<PATH_START>") + 1] for t in texts
        ]
        assert {len(text.passages) for text in map(one.text, range(3))} == {35}  # a spanning tree of 6x6


STATE = """
import os, random, sys
import numpy as np, torch
from zanj import ZANJ
from maze_dla import load_maze_model
from tests.adapters.mazes.test_datasets import new_dataset
from tests.adapters.mazes.texts import TEXT

def states():
    generators = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    return *generators, torch.are_deterministic_algorithms_enabled(), dict(os.environ)

model, saved = load_maze_model(sys.argv[1]), sys.argv[2]
ZANJ().save(new_dataset().serialize(), saved)
for source in (None, new_dataset(), saved, TEXT):
    for task in ("first_path_choice", "rand_path_token"):
        before = states()
        model.prompts(source, task=task, seed=7)
        print(type(source).__name__, task, states() == before)
before = states()
random.random()
print("planted", states() == before)
"""


def test_global_state_is_left_as_found(small_file: Path, tmp_path: Path) -> None:
    """In a process of its own: the checks of annotations, which only tests have, draw from Python's generator."""
    command = [sys.executable, "-c", STATE, str(small_file), str(tmp_path / "saved.zanj")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    *lines, planted = done.stdout.splitlines()
    assert [line for line in lines if not line.endswith(" True")] == []
    assert len(lines) == 8
    assert planted == "planted False"


def test_maze_datasets_own_generator_decides_nothing_and_is_left_as_found(
    real_model: Callable[[str], MazeModel],
) -> None:
    generators = pytest.importorskip("maze_dataset.generation.generators")
    own = getattr(generators, "_NUMPY_RNG", None)
    if own is None:
        pytest.skip("this maze-dataset has no generator of its own")
    maze = real_model("2024-model.final")
    one = maze.prompts(n_mazes=2, seed=3)
    own.random()
    state = str(own.bit_generator.state)
    assert maze.prompts(n_mazes=2, seed=3).sequence_labels == one.sequence_labels
    assert str(own.bit_generator.state) == state


def test_generators_are_left_as_found_after_an_error(small_model: MazeModel, tmp_path: Path) -> None:
    before = random.getstate()
    broken = damaged(dataset_cfg__maze_ctor={"__name__": "none"}).write(tmp_path / "broken.zanj")
    with pytest.raises(DatasetError, match=r"the checkpoint's data set config cannot be generated from .*'none'"):
        load_maze_model(broken).prompts(n_mazes=2)
    assert random.getstate() == before


@pytest.mark.parametrize("n_mazes", [0, -1])
@pytest.mark.parametrize("source", [None, TEXT], ids=["generated", "text"])
def test_fewer_than_one_maze(source: Any, n_mazes: int, small_model: MazeModel) -> None:
    with pytest.raises(InputError, match=f"^n_mazes is at least 1, got {n_mazes}$"):
        small_model.prompts(source, n_mazes=n_mazes)


def test_more_mazes_than_there_are(small_model: MazeModel) -> None:
    with pytest.raises(InputError, match=r"^3 mazes asked for, the data set holds 2$"):
        small_model.prompts([TEXT, SHORT], n_mazes=3)
    with pytest.raises(InputError, match=r"^5 mazes asked for, the data set holds 4$"):
        small_model.prompts(new_dataset(), n_mazes=5)
    with pytest.raises(DatasetError, match=r"holds no mazes"):
        small_model.prompts([])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "mazes come from a data set, its file, solved mazes or token lists, got int"),
        ([1, 2], "prompt 0: expected a string or a list of tokens, got int"),
        ([TEXT, None], "prompt 1: expected a string or a list of tokens, got NoneType"),
        ([TEXT, ["<PATH_START>", 4]], "prompt 1: expected tokens as strings, got int"),
        ([[0, 0, 5]], "prompt 0: expected tokens as strings, got int"),
    ],
)
def test_what_is_no_source_of_mazes(source: Any, message: str, small_model: MazeModel) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        small_model.prompts(source)


@pytest.mark.parametrize("seed", [-1])
def test_a_seed_that_is_none(seed: int, small_model: MazeModel) -> None:
    with pytest.raises(MazeDlaError, match="seed"):
        small_model.prompts(TEXT, seed=seed)


def written(path: Path, content: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__zanj__.json", json.dumps(content))
    return path


def plain(dataset: Any, path: Path) -> dict[str, Any]:
    """A saved data set's JSON."""
    ZANJ().save(dataset._serialize_full(), str(path))
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("__zanj__.json"))


def test_damaged_data_sets(small_model: MazeModel, small_file: Path, tmp_path: Path) -> None:
    def refused(file: Path, message: str) -> None:
        with pytest.raises(DatasetError, match=f"^{re.escape(str(file))}: {message}") as error:
            small_model.prompts(file)
        assert isinstance(error.value, MazeDlaError)

    refused(tmp_path / "none.zanj", "no such file")
    refused(tmp_path, r"a folder, expected a \.zanj file")
    refused(small_file, "no saved data set of mazes, it holds .*zanj_model_config, state_dict")
    good = plain(new_dataset(), tmp_path / "good.zanj")
    assert len(small_model.prompts(written(tmp_path / "again.zanj", good))) == 4
    cut = tmp_path / "cut.zanj"
    cut.write_bytes((tmp_path / "good.zanj").read_bytes()[:-200])
    refused(cut, "not a zip file, or cut off")
    refused(written(tmp_path / "a.zanj", {k: v for k, v in good.items() if k != "mazes"}), "no saved data set of mazes")
    refused(written(tmp_path / "b.zanj", {**good, "cfg": {OLD: "x"}}), "cfg.n_mazes is None, expected a whole number")
    solved = [{k: v for k, v in maze.items() if k != "connection_list"} for maze in good["mazes"]]
    refused(written(tmp_path / "c.zanj", {**good, "mazes": solved}), "maze-dataset cannot load it")


def test_a_data_set_without_mazes(small_model: MazeModel, tmp_path: Path) -> None:
    good = plain(new_dataset(), tmp_path / "good.zanj")
    empty = written(tmp_path / "empty.zanj", {**good, "mazes": []})
    with pytest.raises(DatasetError):
        small_model.prompts(empty)


def test_a_data_set_of_larger_mazes_than_the_vocabulary(test_data: Path, small_model: MazeModel) -> None:
    message = (
        r"^8x8 mazes, the model knows 3x3: prompt \d+, position \d+: token '\(\d,\d\)' is not in the vocabulary of"
    )
    with pytest.raises(PromptError, match=message):
        small_model.prompts(test_data / OLD_DATASET)
