"""Batches of mazes joined: other seeds, other tasks, and IOI."""

from __future__ import annotations

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.errors import InputError


@pytest.fixture(scope="module")
def maze() -> MazeModel:
    return dla.load_maze_model()


def test_other_seeds_and_tasks(maze: MazeModel) -> None:
    one = maze.prompts(n_mazes=4)
    two = maze.prompts(n_mazes=3, seed=1, task=["path_end", "first_path_choice"])
    both = one + two
    assert both.tasks == ("first_path_choice", "path_end")
    assert [both.tasks[i] for i in both.task_of.tolist()] == list(both.columns["task"])
    assert both.info["task"] == "first_path_choice, path_end"
    assert both.info["seed"] == "0 + 1"
    assert len(both.of_task("path_end")) == 3
    assert len(both.of_task("first_path_choice")) == 7
    assert both.geometry(5) == two.geometry(1)
    result, *parts = (
        dla.attribute(maze, b, dla.correct_vs_other(b, others="neighbors"))
        for b in (part.having("neighbors") for part in (both, one, two))
    )
    heads = torch.cat([part.heads for part in parts])
    assert torch.allclose(result.heads, heads, atol=2e-5, rtol=1e-5)
    assert result.metric_summary().n_clusters == len(set(result.columns["maze"])) == 6
    twice = one + one
    assert dla.attribute(maze, twice, dla.logit(twice)).metric_summary().n_clusters == 4


def test_lattices_of_other_sizes(maze: MazeModel) -> None:
    large = maze.prompts(n_mazes=2)
    text = "<ADJLIST_START> (0,0) <--> (0,1) ; (0,1) <--> (1,1) ; <ADJLIST_END> <ORIGIN_START> (0,0) <ORIGIN_END> "
    text += "<TARGET_START> (1,1) <TARGET_END> <PATH_START> (0,0) (0,1) (1,1) <PATH_END>"
    small = MazeModel(maze.model, maze.vocabulary, {**maze.dataset_config, "grid_n": 3}).prompts([text])
    both = small + large
    assert (small.grid_n, large.grid_n, both.grid_n) == (3, 5, 5)
    assert torch.equal(both.others("cells"), torch.cat([small.others("cells"), large.others("cells")]))


def test_bos_is_in_front_of_all_or_of_none(maze: MazeModel) -> None:
    with pytest.raises(InputError, match=r"batches that are joined are alike in prepend_bos, got True and False"):
        maze.prompts(n_mazes=2) + maze.prompts(n_mazes=2, prepend_bos=False)


def test_sentences_of_ioi() -> None:
    gpt2 = dla.load_gpt2("bundled")
    one, two = dla.ioi_prompts(gpt2), dla.ioi_prompts(gpt2, 6, seed=3)
    both = one + two
    assert both.sentences == (*one.sentences, *two.sentences)
    assert len(both.corrupted) == len(both) == 14
    expected = [dla.attribute(gpt2, b, dla.logit_diff(b)) for b in (one, two)]
    result = dla.attribute(gpt2, both, dla.logit_diff(both))
    assert torch.allclose(result.metric, torch.cat([r.metric for r in expected]), atol=2e-5, rtol=1e-5)
    assert result.preferred is not None
    assert result.preferred.tolist() == [x for r in expected for x in r.preferred.tolist()]  # pyright: ignore
