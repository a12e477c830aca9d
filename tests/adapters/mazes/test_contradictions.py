"""Mazes that contradict themselves are refused: token lists, data sets in memory, saved ones, vocabularies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maze_dla.adapters.mazes import datasets
from maze_dla.adapters.mazes.lattice import MazeText
from maze_dla.adapters.mazes.library import has_modular_tokenizers, import_maze_dataset, legacy_tokenizer, solved_maze
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.saved import read_dataset
from maze_dla.errors import CheckpointError, DatasetError, InputError, PromptError
from maze_dla.files.zanj_file import read_container

from .small_files import OLD, damaged
from .texts import LONG, SHORT, TEXT

STACKS = Path(__file__).parents[2] / "stacks" / "data"
PATH = "<PATH_START> (0,0) (0,1) (1,1) (1,2) (2,2) <PATH_END>"


def with_path(path: str) -> str:
    return TEXT.replace(PATH, path)


WRONG_TEXTS = {
    "jumps": (
        with_path("<PATH_START> (0,0) (0,1) (1,2) (2,2) <PATH_END>"),
        "step 2: the path goes from (0,1) to (1,2), which are no neighbours on the lattice",
    ),
    "jumps in a part of a path": (
        with_path("<PATH_START> (0,0) (1,1)"),
        "step 1: the path goes from (0,0) to (1,1), which are no neighbours on the lattice",
    ),
    "stands still": (
        with_path("<PATH_START> (0,0) (0,0) (0,1) (1,1) (1,2) (2,2) <PATH_END>"),
        "step 1: the path goes from (0,0) to (0,0), which are no neighbours on the lattice",
    ),
    "crosses a wall": (
        with_path("<PATH_START> (0,0) (0,1) (0,2) (1,2) (2,2) <PATH_END>"),
        "step 2: the path goes from (0,1) to (0,2), between which the maze has no passage",
    ),
    "in the only passage there": (
        TEXT.replace("(1,1) <--> (1,2) ; ", ""),
        "step 3: the path goes from (1,1) to (1,2), between which the maze has no passage",
    ),
    "no passages": (
        "<ADJLIST_START> <ADJLIST_END> <PATH_START> (0,0) (0,1) <PATH_END>",
        "step 1: the path goes from (0,0) to (0,1), between which the maze has no passage",
    ),
    "another origin": (
        TEXT.replace("<ORIGIN_START> (0,0)", "<ORIGIN_START> (1,0)"),
        "step 0: the path begins at (0,0), the origin is (1,0)",
    ),
    "another target": (
        TEXT.replace("<TARGET_START> (2,2)", "<TARGET_START> (1,0)"),
        "step 4: the path ends at (2,2), the target is (1,0)",
    ),
}
RIGHT_TEXTS = {
    "a part": with_path("<PATH_START> (0,0) (0,1)"),
    "back again": with_path("<PATH_START> (0,0) (0,1) (0,0) (0,1) (1,1) (1,2) (2,2) <PATH_END>"),
    "no adjacency list": "<ORIGIN_START> (0,0) <ORIGIN_END> <PATH_START> (0,0) (0,1) (0,2) <PATH_END>",
    "one cell": TEXT.replace("<TARGET_START> (2,2)", "<TARGET_START> (0,0)").replace(
        PATH, "<PATH_START> (0,0) <PATH_END>"
    ),
}


@pytest.mark.parametrize("name", WRONG_TEXTS)
def test_wrong_paths_in_token_lists(name: str, small_model: MazeModel) -> None:
    text, message = WRONG_TEXTS[name]
    for prompts in (small_model.prompts, small_model.prompt_batches):
        with pytest.raises(PromptError, match=f"^{re.escape(f'prompt 2, {message}')}$"):
            prompts([SHORT, LONG, text.split()], task="origin_after_path_start")


@pytest.mark.parametrize("name", RIGHT_TEXTS)
def test_right_paths_in_token_lists(name: str, small_model: MazeModel) -> None:
    assert len(small_model.prompts([RIGHT_TEXTS[name]], task="origin_after_path_start")) == 1


def test_generated_mazes_contradict_nothing(small_model: MazeModel) -> None:
    batch = load_maze_model().prompts(n_mazes=200, seed=4)
    texts = [list(batch.text(i).tokens) for i in range(200)]
    assert load_maze_model().prompts(texts).sequence_labels == batch.sequence_labels
    assert {MazeText(tuple(text)).fault() for text in texts} == {None}
    turned = [text.index("<PATH_START>") for text in texts]
    backwards = [[*t[: i + 1], *t[-2:i:-1], t[-1]] for t, i in zip(texts, turned, strict=True)]
    assert all((MazeText(tuple(text)).fault() or "").startswith("step 0: ") for text in backwards)


def test_paths_of_tokenizers_that_leave_cells_out() -> None:
    if not has_modular_tokenizers():
        pytest.skip("this maze-dataset has no tokenizers made of parts")
    from maze_dataset.tokenization import (
        MazeTokenizerModular,
        PathTokenizers,
        PromptSequencers,
        StepSizes,
        StepTokenizers,
    )

    def asked(**how: Any) -> bool:
        path = PathTokenizers.StepSequence(**how)
        return datasets.walks_cell_by_cell(
            MazeTokenizerModular(prompt_sequencer=PromptSequencers.AOTP(path_tokenizer=path))
        )

    assert asked()
    assert asked(step_tokenizers=(StepTokenizers.Coord(), StepTokenizers.Distance()))
    assert not asked(step_size=StepSizes.Forks())
    assert not asked(step_tokenizers=(StepTokenizers.Cardinal(),))


def maze(path: list[list[int]], without: tuple[int, int, int] | None = None) -> Any:
    """A 3x3 maze whose passages are all open but one."""
    connections = np.ones((2, 3, 3), dtype=bool)
    connections[0, -1] = connections[1, :, -1] = False
    if without is not None:
        connections[without] = False
    return solved_maze(connections, np.array(path))


def test_solved_mazes_are_a_source(small_model: MazeModel) -> None:
    mazes = [maze([[0, 0], [0, 1], [1, 1]]), maze([[2, 2], [1, 2]])]
    batch = small_model.prompts(mazes)
    assert [batch.text(i).path for i in range(2)] == [((0, 0), (0, 1), (1, 1)), ((2, 2), (1, 2))]
    assert batch.info["mazes"] == "solved mazes"
    assert small_model.prompts(mazes[1]).text(0).path == ((2, 2), (1, 2))
    assert len(small_model.prompts(tuple(mazes), n_mazes=1)) == 1
    many = load_maze_model().prompts(5 * mazes)  # more than maze-dataset writes itself
    assert [many.text(i).path for i in (8, 9)] == [batch.text(i).path for i in range(2)]


def test_mazes_that_are_no_source(small_model: MazeModel) -> None:
    good = maze([[0, 0], [0, 1]])
    lattice = import_maze_dataset().LatticeMaze(connection_list=good.connection_list)
    for source in (lattice, [lattice], [good, lattice]):
        i = len(source) - 1 if isinstance(source, list) else 0
        with pytest.raises(InputError, match=rf"^maze {i}: a LatticeMaze without a path, expected a SolvedMaze$"):
            small_model.prompts(source)
    with pytest.raises(InputError, match=r"^maze 1: got str, expected a SolvedMaze$"):
        small_model.prompts([good, TEXT])
    with pytest.raises(DatasetError, match=r"^solved mazes: maze 1, step 1: .* \(0,0\) to \(1,1\), which"):
        small_model.prompts([good, maze([[0, 0], [1, 1]])])
    with pytest.raises(DatasetError, match=r"^solved mazes: maze 0, step 2: .* \(0,1\) to \(0,2\), between which"):
        small_model.prompts(maze([[0, 0], [0, 1], [0, 2]], without=(1, 0, 1)))
    leaving = maze([[0, 0], [0, 1]])
    leaving.connection_list[0, 2, 1] = True
    with pytest.raises(DatasetError, match=r"maze 0, its connection_list has a passage that leads out of the lattice"):
        small_model.prompts(leaving)


def content(form: str) -> dict[str, Any]:
    return read_container(STACKS / f"dataset-newest-{form}.zanj", DatasetError)


def halved(content: dict[str, Any], *names: str) -> None:
    for name in names:
        content[name] = content[name][:2]


def moved(content: dict[str, Any], name: str) -> None:
    content[name] = content[name].copy()
    content[name].reshape(-1, 2)[1] = 0, 2


DAMAGE: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "half of the mazes": ("full", lambda c: halved(c, "mazes"), "it holds 2 mazes, cfg.n_mazes says 3"),
    "half of all arrays": (
        "minimal",
        lambda c: halved(c, "maze_connection_lists", "maze_solution_lengths", "maze_solutions"),
        "it holds 2 mazes, cfg.n_mazes says 3",
    ),
    "half of one array": (
        "minimal",
        lambda c: halved(c, "maze_solutions"),
        "the arrays hold different numbers of mazes: maze_connection_lists 3, maze_solution_lengths 3, "
        "maze_solutions 2",
    ),
    "another number in the config": (
        "minimal",
        lambda c: c["cfg"].update(n_mazes=100),
        "it holds 3 mazes, cfg.n_mazes",
    ),
    "another size in the config": (
        "minimal",
        lambda c: c["cfg"].update(grid_n=4),
        "maze 0, its connection_list has shape (2, 3, 3), expected (2, 4, 4)",
    ),
    "solutions cut off": (
        "minimal",
        lambda c: c.update(maze_solutions=c["maze_solutions"][:, :5]),
        "maze_solution_lengths go up to 6, maze_solutions has shape (3, 5, 2)",
    ),
    "joined solutions cut off": (
        "minimal_soln_cat",
        lambda c: halved(c, "maze_solutions_concat"),
        "maze_solution_lengths add up to 16, maze_solutions_concat has 2 cells",
    ),
    "other ends": (
        "minimal_soln_cat",
        lambda c: moved(c, "maze_endpoints"),
        "maze_endpoints are not the first and last cells of maze_solutions_concat",
    ),
    "negative lengths": (
        "minimal",
        lambda c: c.update(maze_solution_lengths=np.array([6, -4, 6])),
        "maze_solution_lengths holds something else than lengths of 1 and more",
    ),
    "a path that jumps": (
        "minimal",
        lambda c: moved(c, "maze_solutions"),
        "maze 0, step 2: the path goes from (0,2) to",
    ),
    "walls": (
        "minimal",
        lambda c: c.update(maze_connection_lists=np.zeros_like(c["maze_connection_lists"])),
        "maze 0, step 1: the path goes from (1,2) to (2,2), between which the maze has no passage",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_data_sets_that_contradict_themselves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    form, damage, message = DAMAGE[name]
    whole = content(form)
    damage(whole)
    monkeypatch.setattr("maze_dla.adapters.mazes.saved.read_container", lambda path, error: whole)
    with pytest.raises(DatasetError, match=f"^{re.escape(f'some.zanj: {message}')}"):
        read_dataset("some.zanj")


@pytest.mark.parametrize("form", ["_serialize_full", "_serialize_minimal", "_serialize_minimal_soln_cat"])
@pytest.mark.filterwarnings("ignore")
def test_filtered_data_sets_say_how_many_are_left(form: str, small_model: MazeModel, tmp_path: Path) -> None:
    from zanj import ZANJ

    library = import_maze_dataset()
    config = library.MazeDatasetConfig(name="new", grid_n=3, n_mazes=30, seed=3)
    how = {"load_local": False, "save_local": False, "do_download": False, "verbose": False}
    left = library.MazeDataset.from_config(config, **how).filter_by.path_length(min_length=4)
    assert 0 < len(left) < 30
    ZANJ().save(getattr(left, form)(), str(tmp_path / "left.zanj"))
    assert len(small_model.prompts(tmp_path / "left.zanj")) == len(left)


def test_the_real_data_set_agrees_with_itself(test_data: Path) -> None:
    assert len(read_dataset(test_data / "datasets" / "custom-hallway-g8-n100-a_dfs-h20593.zanj")) == 100
    for file in STACKS.glob("dataset-*.zanj"):
        assert len(read_dataset(file)) == 3


def test_tokens_in_a_checkpoint_that_are_not_its_own(tmp_path: Path) -> None:
    tokens = list(legacy_tokenizer("AOTP_UT_uniform", 3).token_arr)
    ids = {token: i for i, token in enumerate(tokens)}
    saved = {OLD: "MazeTokenizer(SerializableDataclass)", "tokenization_mode": "AOTP_UT_uniform", "max_grid_size": 3}

    def load(**both: Any) -> MazeModel:
        file = damaged(dataset_cfg__token_arr=None, maze_tokenizer={**saved, **both}).write(tmp_path / "both.zanj")
        return load_maze_model(file)

    swapped = [*tokens[:12], tokens[13], tokens[12], *tokens[14:]]
    for name, what, message in (
        ("token_arr", swapped, f"has '{tokens[13]}' as token 12, the vocabulary has '{tokens[12]}'"),
        ("token_arr", tokens[:-1], f"has no more as token 19, the vocabulary has '{tokens[19]}'"),
        ("tokenizer_map", {**ids, tokens[12]: 13, tokens[13]: 12}, f"has '{tokens[13]}' as token 12"),
        ("tokenizer_map", {**ids, tokens[12]: 13}, "has other ids than 0 to 19, each once"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(f"both.zanj: maze_tokenizer.{name} {message}")):
            load(**{name: what})
    assert load(token_arr=tokens, tokenizer_map=ids).vocabulary.tokens == tuple(tokens)
