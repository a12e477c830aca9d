"""Fields of a batch of maze prompts: the extra BOS, labels, sets of tokens, the maze as a picture needs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from maze_dla import plots
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.analysis import attribute
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import InputError, PromptError

from .small_files import CELLS
from .texts import LONG, SHORT, TEXT

TEXTS = [TEXT, SHORT, LONG]


def named(batch: MazePromptBatch, mask: torch.Tensor) -> list[set[str]]:
    return [{batch.token_name(int(v)) for v in torch.nonzero(row).flatten()} for row in mask]


def step(n: int) -> Callable[..., int]:
    """The task that asks for the n-th token after <PATH_START>."""
    return lambda tokens, rng: tokens.index("<PATH_START>") + n


def test_the_extra_bos(small_file: Path, small_model: MazeModel) -> None:
    plain = small_model.prompts(TEXTS, prepend_bos=False)
    batch = small_model.prompts(TEXTS)
    assert (batch.info["prepend_bos"], plain.info["prepend_bos"]) == (True, False)
    assert (batch.n_extra(0), plain.n_extra(0)) == (1, 0)
    assert torch.equal(batch.lengths, plain.lengths + 1)
    assert torch.equal(batch.targets, plain.targets)
    for p, n in enumerate(plain.lengths.tolist()):
        assert batch.tokens[p, 0] == small_model.vocabulary.ids["<ADJLIST_START>"]
        assert torch.equal(batch.tokens[p, 1 : n + 1], plain.tokens[p, :n])
        assert batch.labels[p] == ("<ADJLIST_START>", *plain.labels[p])
    without = load_maze_model(small_file, prepend_bos=False)
    assert torch.equal(without.prompts(TEXTS).tokens, plain.tokens)
    assert torch.equal(without.prompts(TEXTS, prepend_bos=True).tokens, batch.tokens)
    metrics = [attribute(small_model.model, b, correct_vs_other(b)).metric for b in (batch, plain)]
    assert (metrics[0] - metrics[1]).abs().min() > 1e-3


def test_labels_are_the_names_of_the_ids(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task="path_end")
    vocabulary = small_model.vocabulary.tokens
    for p, n in enumerate(batch.lengths.tolist()):
        assert batch.labels[p] == tuple(vocabulary[v] for v in batch.tokens[p, :n])
        assert batch.labels[p] == ("<ADJLIST_START>", *TEXTS[p].split()[:-1])
        assert batch.text(p).tokens == tuple(TEXTS[p].split())


def test_cells_are_the_lattice(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS)
    assert named(batch, batch.token_set("cells")[None])[0] == set(CELLS)
    assert named(batch, batch.others("cells")) == [set(CELLS) - {t} for t in ("(0,1)", "(2,0)", "(2,1)")]


def test_cells_stop_at_the_models_grid(real_model: Callable[[str], MazeModel]) -> None:
    batch = real_model("2024-model.final").prompts(n_mazes=1)
    cells = {f"({r},{c})" for r in range(6) for c in range(6)}
    assert named(batch, batch.token_set("cells")[None])[0] == cells
    assert "(6,0)" in real_model("2024-model.final").vocabulary.ids


def test_cells_of_larger_mazes(test_data: Path, real_model: Callable[[str], MazeModel]) -> None:
    file = next((test_data / "datasets").glob("*g8*.zanj"))
    batch = real_model("2024-model.final").prompts(file, n_mazes=2)
    assert int(batch.token_set("cells").sum()) == 64


NEIGHBORS: dict[Any, list[set[str]]] = {
    "path_start": [set()] * 3,
    "origin_after_path_start": [set()] * 3,
    "first_path_choice": [{"(0,1)"}, {"(2,0)"}, {"(2,1)"}],
    step(3): [{"(0,0)", "(1,1)"}, {"(1,0)", "(2,1)"}, {"(2,2)", "(2,0)"}],
    step(4): [{"(0,1)", "(1,0)", "(1,2)"}, set(), {"(2,1)", "(1,0)"}],
    "path_end": [{"(1,2)"}, {"(1,0)", "(2,1)"}, {"(0,1)"}],
}
TARGETS = {"first_path_choice": ["(0,1)", "(2,0)", "(2,1)"], "path_end": ["<PATH_END>"] * 3}


@pytest.mark.parametrize("task", NEIGHBORS, ids=[str(t)[:20] for t in NEIGHBORS])
def test_neighbors_are_the_legal_moves(task: Any, small_model: MazeModel) -> None:
    texts = [TEXT, LONG] if not isinstance(task, str) else TEXTS
    batch = small_model.prompts(texts, task=task)
    expected = [NEIGHBORS[task][TEXTS.index(text)] for text in texts]
    assert named(batch, batch.token_set("neighbors")) == expected
    wrong = [legal - {batch.token_name(int(t))} for legal, t in zip(expected, batch.targets, strict=True)]
    assert named(batch, batch.others("neighbors")) == wrong
    assert not batch.others("neighbors")[torch.arange(len(texts)), batch.targets].any()


def test_having_neighbors(small_model: MazeModel) -> None:
    batch = small_model.prompts([TEXT, LONG, TEXT], task=step(4))
    assert len(batch.having("neighbors")) == 3
    choice = small_model.prompts([*TEXTS, TEXT.replace("(1,0) <--> (1,1)", "(1,0) <--> (0,0)")])
    kept = choice.having("neighbors")
    assert len(kept) == 1
    assert named(kept, kept.others("neighbors")) == [{"(1,0)"}]
    result = attribute(small_model.model, kept, correct_vs_other(kept, "neighbors"))
    with torch.no_grad():
        logits = small_model.model(kept.tokens)[0, -1]
    ids = small_model.vocabulary.ids
    assert torch.allclose(result.metric[0], logits[ids["(0,1)"]] - logits[ids["(1,0)"]], atol=1e-5)
    with pytest.raises(InputError, match=r"prompt 0 has no other token in 'neighbors' .*\(3 such prompts\)"):
        correct_vs_other(choice, "neighbors")
    with pytest.raises(InputError, match="none of the 3 prompts has a token in 'neighbors'"):
        small_model.prompts(TEXTS, task="path_start").having("neighbors")


def test_generated_neighbors_agree_with_the_text(small_model: MazeModel) -> None:
    batch = small_model.prompts(n_mazes=20, task="rand_path_token_non_endpoint", seed=2)
    for p, (labels, legal) in enumerate(zip(batch.labels, named(batch, batch.token_set("neighbors")), strict=True)):
        listed = re.findall(r"(\S+) <--> (\S+)", " ".join(batch.text(p).tokens))
        around = {b if a == labels[-1] else a for a, b in listed if labels[-1] in (a, b)}
        assert legal == around
        assert batch.token_name(int(batch.targets[p])) in {*around, "<PATH_END>"}


@pytest.mark.parametrize("bos", [True, False])
def test_geometry(bos: bool, small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task=step(3), prepend_bos=bos)
    maze = batch.geometry(0)
    assert (maze.rows, maze.columns) == (3, 3)
    edges = [((0, 0), (0, 1)), ((0, 1), (1, 1)), ((1, 1), (1, 2)), ((1, 0), (1, 1)), ((1, 2), (2, 2))]
    assert maze.connections == frozenset(edges)
    assert maze.path == ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2))
    assert (maze.origin, maze.target) == ((0, 0), (2, 2))
    assert maze.current == (0, 1)
    for p in range(3):
        cells = batch.geometry(p).token_cells
        assert len(cells) == int(batch.lengths[p])
        assert batch.geometry(p).tokens == batch.labels[p]
        names = tuple(None if c is None else f"({c[0]},{c[1]})" for c in cells)
        assert names == tuple(label if label.startswith("(") else None for label in batch.labels[p])


def test_geometry_where_there_is_no_current_cell(small_model: MazeModel) -> None:
    for task in ("path_start", "origin_after_path_start"):
        maze = small_model.prompts(TEXTS, task=task).geometry(2)
        assert maze.current is None
        assert len(maze.path) == 9  # the solution is known all the same


def test_geometry_follows_a_selection(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task="path_end")
    assert batch.select([2, 0]).geometry(0) == batch.geometry(2)
    assert batch.select([2, 0]).geometry(0) != batch.geometry(0)


def test_another_maze_s_picture_is_refused_even_where_lengths_agree(bundled: MazeModel) -> None:
    batch = bundled.prompts(n_mazes=40)
    result = attribute(bundled.model, batch, correct_vs_other(batch), sources=True)
    lengths = batch.lengths.tolist()
    first, second = next((i, j) for i in range(40) for j in range(i) if lengths[i] == lengths[j])
    pairs = enumerate(zip(batch.labels[second], batch.labels[first], strict=True))
    position, (seen, expected) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    message = f"at position {position} it has {seen!r}, where prompt {first} of the result has {expected!r}"
    with pytest.raises(InputError, match=re.escape(message)):
        plots.maze_sources(result, batch.geometry(second), prompt=first)
    drawn = [plots.maze_sources(result, given, prompt=first) for given in (batch, batch.geometry(first))]
    assert [ax.images[0].get_array().tolist() for ax in drawn[:1]] == [drawn[1].images[0].get_array().tolist()]
    with pytest.raises(InputError, match="the batch has 39 prompts, the result 40"):
        plots.maze_sources(result, batch.select(range(39)), prompt=first)
    with pytest.raises(InputError, match="the batch has other prompts: at position"):
        plots.maze_sources(result, bundled.prompts(n_mazes=40, seed=1), prompt=first)
    plt.close("all")


@pytest.mark.parametrize("padding", [None, "longest"])
def test_padding_and_bos_are_tokens_of_the_geometry(padding: Any, small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, padding=padding)
    assert tuple(batch.geometry(p).tokens for p in range(3)) == batch.labels


def test_sources_lie_on_the_tokens_that_geometry_names(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS)
    result = attribute(small_model.model, batch, correct_vs_other(batch), sources=True)
    assert result.sources is not None
    for p in range(3):
        n = len(batch.geometry(p).token_cells)
        assert result.sources[p, :, :, n - 1].abs().min() > 0
        assert (result.sources[p, :, :, n:] == 0).all()


def test_a_batch_says_what_it_is(small_model: MazeModel) -> None:
    assert repr(small_model.prompts(TEXTS)).startswith("MazePromptBatch(task 'first_path_choice', 3 prompts of ")


def test_an_extra_bos_that_is_there_already_is_not_doubled(bundled: MazeModel) -> None:
    batch = bundled.prompts(n_mazes=2)
    with_bos = [list(tokens) for tokens in batch.sequence_labels]
    with pytest.raises(PromptError, match="prompt 0 begins with the extra BOS already"):
        bundled.prompts(with_bos)
    assert bundled.prompts(with_bos, prepend_bos=False, task="origin_after_path_start").tokens.shape[0] == 2


@pytest.mark.parametrize("task", [lambda tokens, rng: tokens.index("nowhere"), lambda tokens: 3, lambda t, r: t[10**6]])
def test_a_task_that_fails_names_the_prompt(bundled: MazeModel, task: object) -> None:
    with pytest.raises(PromptError, match="prompt 0: the task failed"):
        bundled.prompts(n_mazes=2, task=task)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seed": -1}, "seed is at least 0, got -1"),
        ({"seed": 2**40}, "seed is at most"),
        ({"seed": 1.5}, "seed is a whole number, got 1.5"),
        ({"seed": None}, "seed is a whole number, got None"),
        ({"n_mazes": "3"}, "n_mazes is a whole number, got '3'"),
        ({"n_mazes": 0}, "n_mazes is at least 1, got 0"),
    ],
)
def test_numbers_that_cannot_be(bundled: MazeModel, option: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bundled.prompts(**option)


def test_numbers_of_numpy(bundled: MazeModel) -> None:
    assert len(bundled.prompts(n_mazes=np.int64(2), seed=np.int64(3))) == 2


def test_one_maze_as_a_flat_list(bundled: MazeModel) -> None:
    with pytest.raises(InputError, match="wrap it in a list"):
        bundled.prompts(list(bundled.prompts(n_mazes=1).text(0).tokens))


@pytest.fixture(scope="module")
def bundled() -> MazeModel:
    return load_maze_model()


def test_kinds_are_the_parts_of_the_text(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS, task="path_end")
    part = "adjacency list"
    for p, labels in enumerate(batch.labels):
        for position, token in enumerate(labels):
            for name in ("ORIGIN", "TARGET", "PATH"):
                part = name.lower() if token == f"<{name}_START>" else part
            part = "adjacency list" if token == "<ADJLIST_START>" else part
            assert batch.kinds[int(batch.sequence_kinds[p, position])] == part  # pyright: ignore


def test_a_batch_of_mazes_says_from_which_part_heads_move(small_model: MazeModel) -> None:
    batch = small_model.prompts(TEXTS)
    result = attribute(small_model.model, batch, correct_vs_other(batch), sources="kinds")
    assert result.kinds == ("adjacency list", "origin", "target", "path")
    assert torch.allclose(result.sources_by_kind.sum(-1), result.heads, atol=1e-5)  # pyright: ignore


def test_loading_leaves_the_random_generator_alone(small_file: Path) -> None:
    before = torch.get_rng_state()
    load_maze_model(small_file)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("padding", "width"), [("longest", None), (46, 46)])
def test_padding_is_seen_by_the_model_as_it_stands(small_model: MazeModel, padding: Any, width: int | None) -> None:
    plain = small_model.prompts(TEXTS)
    batch = small_model.prompts(TEXTS, padding=padding)
    longest = int(plain.lengths.max())
    assert batch.lengths.tolist() == [width or longest] * 3
    assert batch.info["padding"] == f"left, {padding}"
    pad = small_model.vocabulary.ids["<PADDING>"]
    metric = correct_vs_other(batch)
    result = attribute(small_model.model, batch, metric)
    for p, n in enumerate(plain.lengths.tolist()):
        ids = [pad] * ((width or longest) - n) + plain.tokens[p, :n].tolist()
        with torch.no_grad():
            logits = small_model.model(torch.tensor([ids]))[:, -1]
        torch.testing.assert_close(result.metric[p : p + 1], metric.select([p])(logits), rtol=0, atol=1e-5)
        assert batch.text(p).tokens == plain.text(p).tokens
        before, after = plain.geometry(p), batch.geometry(p)
        assert after.token_cells == (None,) * (len(ids) - n) + before.token_cells
        assert (after.path, after.current) == (before.path, before.current)
    moved = (result.metric - attribute(small_model.model, plain, correct_vs_other(plain)).metric).abs()
    assert moved.max() > 1e-3


@pytest.mark.parametrize(
    ("padding", "message"),
    [
        (5, r"^padding to 5 tokens, but the longest prompt has \d+$"),
        ("left", "^padding is None, 'longest' or a number of tokens, got 'left'$"),
        (True, "got True$"),
    ],
)
def test_padding_that_is_none(small_model: MazeModel, padding: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_model.prompts(TEXTS, padding=padding)
