"""Pairs of maze prompts, token by token: one thing is changed, the maze is valid, and another answer is right."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.mazes.library import solved_maze
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.engine.pairs import PromptPairs
from maze_dla.errors import InputError, PromptError

Cell = tuple[int, int]


@pytest.fixture(scope="module")
def maze() -> MazeModel:
    return dla.load_maze_model()


def grid(n: int, *, loops: int = 0, forks: bool = True, seed: int = 0) -> Any:
    """A spanning tree of a lattice, with so many passages more; without forks a walk that never meets itself."""
    rng = np.random.default_rng([n, loops, seed])
    cells = [(r, c) for r in range(n) for c in range(n)]
    beside = {a: [b for b in cells if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1] for a in cells}
    start = cells[rng.integers(len(cells))]
    seen, stack, passages = {start}, [start], set()
    while stack:
        free = [b for b in beside[stack[-1]] if b not in seen]
        if not free:
            stack = stack[:-1] if forks else []
            continue
        following = free[rng.integers(len(free))]
        passages.add(tuple(sorted((stack[-1], following))))
        seen.add(following)
        stack.append(following)
    walls = [(a, b) for a in cells for b in beside[a] if a < b and (a, b) not in passages and {a, b} <= seen]
    passages |= {walls[i] for i in rng.permutation(len(walls))[:loops]}
    ways = ways_of(passages)
    ends = [sorted(ways)[i] for i in rng.permutation(len(ways))[:2]]
    connected = np.zeros((2, n, n), dtype=bool)
    for (r, c), (r2, _) in passages:
        connected[0 if r2 > r else 1, r, c] = True
    path = [ends[0]]
    steps = distances(ways, ends[1])
    while path[-1] != ends[1]:
        path.append(min(b for b in ways[path[-1]] if steps[b] == steps[path[-1]] - 1))
    return solved_maze(connected, np.array(path))


def percolated(n: int, share: float, seed: int) -> Any:
    """Each passage of a lattice open by chance, in several parts; the ends lie in the largest part."""
    rng = np.random.default_rng([n, seed])
    connected = rng.random((2, n, n)) < share
    connected[0, -1], connected[1, :, -1] = False, False
    found = np.argwhere(connected).tolist()
    ways = ways_of({((r, c), (r, c + 1) if d else (r + 1, c)) for d, r, c in found})
    part = sorted(max(groups(ways), key=lambda cells: (len(cells), sorted(cells))))
    path, target = [part[rng.integers(len(part) // 2)]], part[-1]
    steps = distances(ways, target)
    while path[-1] != target:
        path.append(min(b for b in ways[path[-1]] if steps[b] == steps[path[-1]] - 1))
    return solved_maze(connected, np.array(path))


def ways_of(passages: Any) -> dict[Cell, set[Cell]]:
    ways: dict[Cell, set[Cell]] = {}
    for a, b in passages:
        ways.setdefault(a, set()).add(b)
        ways.setdefault(b, set()).add(a)
    return ways


def distances(ways: dict[Cell, set[Cell]], start: Cell) -> dict[Cell, int]:
    found, queue = {start: 0}, deque([start])
    while queue:
        cell = queue.popleft()
        for following in ways[cell] - found.keys():
            found[following] = found[cell] + 1
            queue.append(following)
    return found


def groups(ways: dict[Cell, set[Cell]]) -> set[frozenset[Cell]]:
    return {frozenset(distances(ways, cell)) for cell in ways}


def right(batch: Any, i: int, prompt_cells: list[Cell]) -> set[str]:
    """The next cells on shortest paths, from the text alone."""
    geometry = batch.geometry(i)
    ways = ways_of(geometry.connections)
    steps = distances(ways, geometry.target)
    return {f"({r},{c})" for r, c in ways[prompt_cells[-1]] if steps[r, c] == steps[prompt_cells[-1]] - 1}


def check(pairs: PromptPairs, change: str, matched: bool = False) -> None:
    """Everything that a pair promises, read from tokens and worked out anew."""
    places = {"target": "<TARGET_START>", "origin": "<ORIGIN_START>"}
    for i in range(len(pairs)):
        one, two = pairs.clean.labels[i], pairs.corrupted.labels[i]
        assert len(one) == len(two)
        differ = [p for p, (x, y) in enumerate(zip(one, two, strict=True)) if x != y]
        if change == "passage":
            assert 1 <= len(differ) <= 2
            assert differ[-1] - differ[0] in (0, 2)
            assert differ[-1] < one.index("<ADJLIST_END>")
        else:
            again = [one.index("<PATH_START>") + 1] if change == "origin" and one[-1] != "<PATH_START>" else []
            assert differ == [one.index(places[change]) + 1, *again]
        texts = [batch.text(i) for batch in (pairs.clean, pairs.corrupted)]
        given = [list(batch.geometry(i).path[: int(pairs.clean.steps[i])]) for batch in (pairs.clean, pairs.corrupted)]
        for batch, text, cells in zip((pairs.clean, pairs.corrupted), texts, given, strict=True):
            geometry = batch.geometry(i)
            ways, path = ways_of(geometry.connections), geometry.path
            assert text.fault() is None
            assert all(b in ways[a] for a, b in pairwise(path))
            assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in geometry.connections)
            assert len(path) - 1 == distances(ways, path[-1])[path[0]]
            if cells:
                answers = {batch.vocabulary[t] for t in batch.answers[i].tolist() if t >= 0}
                assert answers == right(batch, i, cells)
        both = [set(b.answers[i].tolist()) - {-1} for b in (pairs.clean, pairs.corrupted)]
        assert not both[0] & both[1]
        ways = [ways_of(text.passages) for text in texts]
        assert groups(ways[0]) == groups(ways[1])
        assert len(texts[0].passages) == len(texts[1].passages)
        assert max(map(len, ways[1].values())) <= max(2, max(map(len, ways[0].values())) + 1)
        if max(map(len, ways[0].values())) <= 2:
            assert max(map(len, ways[1].values())) <= 2
        assert not matched or len(texts[0].path) == len(texts[1].path)


MAZES: dict[str, Callable[[int], Any]] = {
    "hallways": lambda i: grid(5, forks=False, seed=i),
    "forks": lambda i: grid(5, seed=i),
    "loops": lambda i: grid(5, loops=4, seed=i),
    "many loops": lambda i: grid(4, loops=6, seed=i),
    "parts that are not connected": lambda i: percolated(5, 0.5, i),
    "small": lambda i: grid(3, seed=i),
}


@pytest.mark.parametrize("kind", MAZES)
@pytest.mark.parametrize("change", ["target", "origin", "passage"])
@pytest.mark.parametrize("matched", [False, True], ids=["", "matched"])
def test_pairs_differ_in_one_thing_and_in_the_answer(maze: MazeModel, kind: str, change: Any, matched: bool) -> None:
    mazes = [MAZES[kind](i) for i in range(24)]
    pairs = maze.pairs(mazes, change=change, seed=3, matched=matched)
    assert len(pairs) + pairs.info["left_out"] == 24
    assert sum(pairs.info["why"].values()) == pairs.info["left_out"]
    check(pairs, change, matched)


@pytest.mark.parametrize("change", ["target", "origin", "passage"])
def test_generated_hallways(maze: MazeModel, change: Any) -> None:
    pairs = maze.pairs(change=change, n_mazes=60, seed=1)
    check(pairs, change)
    assert len(pairs) > 25
    assert pairs.clean.info["task"] == "first_path_choice"
    assert "another" in pairs.corrupted.info["mazes"]
    assert pairs.corrupted.columns["maze"] == pairs.clean.columns["maze"]
    assert pairs.clean.columns["target_cell"] != pairs.corrupted.columns["target_cell"] or change != "target"


def test_a_maze_is_left_out_only_where_nothing_can_be_changed_so(maze: MazeModel) -> None:
    """In a hallway another goal needs another step just where the origin has two exits."""
    batch = maze.prompts(n_mazes=60, seed=1)
    two_exits = sum(len(ways_of(batch.geometry(i).connections)[batch.geometry(i).origin]) == 2 for i in range(60))
    pairs = maze.pairs(n_mazes=60, seed=1)
    assert len(pairs) == two_exits < 60
    assert f"{60 - two_exits} left out" in repr(pairs)


def test_passages_of_hallways_as_an_exhaustive_search_finds_them(maze: MazeModel) -> None:
    """Every replacement tried: a maze is left out where none keeps a hallway and turns the first step."""
    mazes = [grid(4, forks=False, seed=i) for i in range(40)]
    batch = maze.prompts(mazes)
    allowed = 0
    for i in range(40):
        geometry = batch.geometry(i)
        ways = ways_of(geometry.connections)
        cells = sorted(ways)
        walls = [(a, b) for a in cells for b in cells if a < b and abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
        walls = [wall for wall in walls if wall[1] not in ways[wall[0]]]

        def turns(removed: Any, added: Any, geometry: Any = geometry, ways: Any = ways) -> bool:
            other = ways_of({*geometry.connections} - {removed} | {added})
            if max(map(len, other.values())) > 2 or groups(other) != groups(ways):
                return False
            steps = distances(other, geometry.target)
            return all(steps[b] != steps[geometry.origin] - 1 for b in other[geometry.origin] & {geometry.path[1]})

        allowed += any(turns(removed, added) for removed in geometry.connections for added in walls)
    assert len(maze.pairs(mazes, change="passage")) == allowed
    assert 10 < allowed < 40


def test_with_forks_later_steps_have_pairs_too(maze: MazeModel) -> None:
    mazes = [grid(5, seed=i) for i in range(40)]
    for change in ("target", "passage"):
        pairs = maze.pairs(mazes, task="rand_path_token", change=change, seed=2)  # pyright: ignore[reportArgumentType]
        check(pairs, change)
        assert int(pairs.clean.steps.max()) > 1
    origins = maze.pairs(mazes, task="origin_after_path_start", change="origin")
    check(origins, "origin")
    assert origins.clean.steps.tolist() == [0] * 40


def test_later_steps_of_mazes_whose_path_a_passage_can_cut_off(maze: MazeModel) -> None:
    """Where a passage behind the read position goes, the origin may no longer reach the target at all."""
    mazes = [MAZES[kind](i) for kind in ("many loops", "parts that are not connected") for i in range(40)]
    pairs = maze.pairs(mazes, task="rand_path_token", change="passage", seed=3, matched=True)
    check(pairs, "passage", matched=True)
    assert int(pairs.clean.steps.max()) > 1


def test_the_same_in_any_order_and_not_from_global_generators(maze: MazeModel) -> None:
    before = np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002
    pairs, again = (maze.pairs(n_mazes=40, seed=7) for _ in range(2))
    assert pairs.corrupted.labels == again.corrupted.labels
    assert pairs.clean.labels == again.clean.labels
    assert (np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()) == before  # noqa: NPY002
    mazes = [grid(5, seed=i) for i in range(30)]
    some, all_of_them = maze.pairs(mazes[:20]), maze.pairs(mazes)
    assert [t[-4] for t in some.corrupted.labels] == [t[-4] for t in all_of_them.corrupted.labels][: len(some)]
    assert maze.pairs(n_mazes=40, seed=8).corrupted.labels != pairs.corrupted.labels


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("path_start", "target", "its answer is <PATH_START> in every maze"),
        ("path_end", "passage", "its answer is <PATH_END> in every maze"),
        ("every_path_step", "target", "several tokens of each maze"),
        ("origin_after_path_start", "target", "does not depend on the target"),
        ("origin_after_path_start", "passage", "does not depend on passages"),
        ("final_before_path_end", "origin", "prompts hold steps of the path"),
        ("rand_path_token", "origin", "prompts hold steps of the path"),
        (["first_path_choice", "rand_path_token"], "target", "pairs are of one task"),
        ("first_path_choice", "goal", "change is one of 'target', 'origin', 'passage', got 'goal'"),
        ("walk", "target", "unknown task 'walk'"),
        (lambda tokens, rng: [1, 2], "target", "asks for several tokens of a maze"),
        (lambda tokens, rng: tokens.index("<PATH_END>"), "target", r"none of the 5 mazes .* \(5: the task asks for no"),
    ],
)
def test_tasks_and_changes_that_do_not_go_together_are_refused(
    maze: MazeModel, task: Any, change: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        maze.pairs(task=task, change=change, n_mazes=5)


def test_texts_of_another_form_are_refused(maze: MazeModel) -> None:
    text = "<ADJLIST_START> (0,0) <--> (0,1) ; (0,1) <--> (0,2) ; <ADJLIST_END> <ORIGIN_START> (0,1) <ORIGIN_END> "
    text += "<TARGET_START> (0,2) <TARGET_END> <PATH_START> (0,1) (0,2) <PATH_END>"
    pairs = maze.pairs([text])
    assert pairs.corrupted.labels[0][-4] == "(0,0)"
    assert pairs.clean.labels[0][-4] == "(0,2)"
    for other in (text.replace("; <ADJ", "<ADJ"), text.removesuffix(" <PATH_END>"), text.replace(" (0,1) ;", " ;")):
        with pytest.raises(
            PromptError, match="maze 0: pairs need the text of a whole maze with one token for each cell"
        ):
            maze.pairs([other])
    with pytest.raises(InputError, match="matched is True or False"):
        maze.pairs(matched="yes")  # pyright: ignore[reportArgumentType]


def test_padding_and_bos_go_to_both_prompts(maze: MazeModel) -> None:
    pairs = maze.pairs(n_mazes=10, padding="longest", prepend_bos=False)
    assert len(set(pairs.clean.lengths.tolist())) == 1
    for one, two in zip(pairs.clean.labels, pairs.corrupted.labels, strict=True):
        assert one.count("<PADDING>") == two.count("<PADDING>")
    assert pairs.changed().sum(1).tolist() == [1] * len(pairs)


def test_cells_beside_the_origin_do_not_depend_on_the_target_and_one_head_does(maze: MazeModel) -> None:
    """The bundled model, goals in either arm, both at least 3 steps away (all figures in logits)."""
    pairs = maze.pairs(n_mazes=400, seed=0)
    lengths = [torch.as_tensor(b.columns["path_length"]) for b in (pairs.clean, pairs.corrupted)]
    pairs = pairs.select((lengths[0] >= 3) & (lengths[1] >= 3))
    found = dla.contrast(maze, pairs, sources=True)
    moved = [[], []]
    for i in range(len(pairs)):
        cells = {b.vocabulary[int(b.targets[i])] for b in (pairs.clean, pairs.corrupted)}
        for values, run in zip(moved, (found.clean, found.corrupted), strict=True):
            of_tokens = run.sources[i].sum((0, 1)).tolist()
            values += [
                sum(x for x, token in zip(of_tokens, pairs.clean.labels[i], strict=False) if token == cell)
                for cell in sorted(cells)
            ]
    assert np.corrcoef(*moved)[0, 1] > 0.98
    dependent, shared = (half.heads.abs().mean(0) for half in (found.dependent, found.shared))
    for layer, head in ((2, 2), (1, 1)):
        assert dependent[layer, head] < 0.05 < 0.8 < shared[layer, head]
    assert dependent[5, 3] > 0.25
    assert found.dependent.top_heads(1)[0].name == "L5H3"


@pytest.mark.parametrize("name", ["2023-model.final", "2024-model.final"])
def test_checkpoints_of_every_generation(real_model: Callable[[str], MazeModel], name: str) -> None:
    """Other vocabularies, larger mazes, and a tokenizer made of parts."""
    real = real_model(name)
    for change in ("target", "origin", "passage"):
        pairs = real.pairs([grid(6, seed=i) for i in range(12)], change=change)  # pyright: ignore[reportArgumentType]
        check(pairs, change)
        found = dla.contrast(real, pairs)
        assert float(found.dependent.gap.abs().max()) < 1e-4
