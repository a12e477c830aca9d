"""The prompts that a report looks at closely are those that its rules name, and it says where they stand."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla import plots
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.report.close_up import CloseUp, look_closely
from maze_dla.report.pictures import draw_close_up


@pytest.fixture(scope="module")
def bundled() -> MazeModel:
    return dla.load_maze_model()


def looks_at(maze: MazeModel, task: str, n_mazes: int) -> tuple[list[CloseUp], list[dict]]:
    """The close-ups, and of every prompt what the rules speak of."""
    batch = maze.prompts(task=task, n_mazes=n_mazes).having("neighbors")
    metric = dla.correct_vs_other(batch, "neighbors")
    result = dla.attribute(maze, batch, metric)
    assert result.correct is not None
    prompts = [
        {
            "right": bool(result.correct[i]),
            "metric": float(result.metric[i]),
            "steps": len(batch.text(i).path) - 1,
            "off_middle": abs(int(batch.steps[i]) - len(batch.text(i).path) / 2),
        }
        for i in range(len(batch))
    ]
    return look_closely(maze, batch, metric, result), prompts


def check_typical(number: int, among: list[dict], prompts: list[dict]) -> None:
    median = sorted(p["steps"] for p in prompts)[(len(prompts) - 1) // 2]
    nearest = min(abs(p["steps"] - median) for p in among)
    alike = [p for p in among if abs(p["steps"] - median) == nearest]
    middle = sorted(p["metric"] for p in alike)[(len(alike) - 1) // 2]
    assert prompts[number]["metric"] == pytest.approx(middle)
    assert prompts[number] in alike


def test_three_prompts_by_their_rules(bundled: MazeModel) -> None:
    looks, prompts = looks_at(bundled, "first_path_choice", 60)
    assert [look.rule for look in looks] == ["typical", "longest", "wrong"]
    typical, longest, wrong = (look.number for look in looks)
    right = [p for p in prompts if p["right"]]
    check_typical(typical, right, prompts)
    check_typical(wrong, [p for p in prompts if not p["right"]], prompts)
    assert prompts[longest]["right"]
    assert prompts[longest]["steps"] == max(p["steps"] for p in right)
    assert prompts[longest]["steps"] > statistics.median(p["steps"] for p in prompts)


def test_the_longest_path_of_several_steps_is_read_half_way(bundled: MazeModel) -> None:
    looks, prompts = looks_at(bundled, "every_path_step", 8)
    longest = next(look.number for look in looks if look.rule == "longest")
    alike = [p for p in prompts if p["right"] and p["steps"] == prompts[longest]["steps"]]
    assert prompts[longest]["off_middle"] == min(p["off_middle"] for p in alike)


def test_it_says_where_they_stand(bundled: MazeModel) -> None:
    looks, prompts = looks_at(bundled, "first_path_choice", 60)
    for look in looks:
        below = sum(p["metric"] < prompts[look.number]["metric"] for p in prompts) / len(prompts)
        assert f"more than that of {below:.0%} of the prompts" in look.why
        assert f"its path has {prompts[look.number]['steps']} steps" in look.why
        assert f"the longest {max(p['steps'] for p in prompts)}." in look.why


def test_where_all_are_right_none_is_wrong(bundled: MazeModel) -> None:
    looks, prompts = looks_at(bundled, "path_end", 12)
    assert all(p["right"] for p in prompts)
    assert [look.rule for look in looks] == ["typical", "longest"]


def test_the_longest_is_one_of_those_that_are_right(bundled: MazeModel) -> None:
    batch = bundled.prompts(n_mazes=40).having("neighbors")
    metric = dla.correct_vs_other(batch, "neighbors")
    result = dla.attribute(bundled, batch, metric)
    lengths = torch.as_tensor(result.columns["path_length"])
    wrong = replace(result, correct=lengths < lengths.max())  # as if the longest paths were those that it gets wrong
    looks = {look.rule: look.number for look in look_closely(bundled, batch, metric, wrong)}
    assert lengths[looks["longest"]] == lengths[lengths < lengths.max()].max()
    assert lengths[looks["wrong"]] == lengths.max()


def test_each_close_up_shows_its_own_strongest_head(
    bundled: MazeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int] | None] = []
    draw = plots.maze_sources_and_attention

    def noted(*args: Any, head: tuple[int, int] | None = None) -> Any:
        drawn.append(head)
        return draw(*args, head=head)

    monkeypatch.setattr(plots, "maze_sources_and_attention", noted)
    batch = bundled.prompts(n_mazes=40).having("neighbors")
    metric = dla.correct_vs_other(batch, "neighbors")
    result = dla.attribute(bundled, batch, metric)
    on_average = result.top_heads(1)[0]
    for look in look_closely(bundled, batch, metric, result):
        drawn.clear()
        pictures = draw_close_up(result, look, tmp_path)
        strongest = divmod(int(result.heads[look.number].abs().argmax()), result.heads.shape[2])
        assert drawn[:2] == [None, strongest]
        assert drawn[2:] == (
            [] if strongest == (on_average.layer, on_average.number) else [(on_average.layer, on_average.number)]
        )
        assert f"L{strongest[0]}H{strongest[1]}, the strongest head on this prompt" in pictures[2].title
