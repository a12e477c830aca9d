"""Rollouts: walks of the model step by step, their scores, files, and prompts about their steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.walk_prompts import WalkPromptBatch
from maze_dla.adapters.mazes.walkers import WALKERS
from maze_dla.analysis import attribute, predict
from maze_dla.engine.metrics import correct_vs_other, logit, logit_diff
from maze_dla.errors import InputError, PromptError, ResultFileError
from maze_dla.results.checking import check_result
from maze_dla.results.loading import load_result
from maze_dla.results.rollout import SCORES, YES_OR_NO, RolloutResult
from maze_dla.results.skill import BASELINES

from .texts import LONG, SHORT, TEXT

SOURCES = ("bundled", "2023-model.final", "2024-model.final")


@pytest.fixture(scope="module")
def hallway() -> MazeModel:
    return load_maze_model()


@pytest.fixture(scope="module")
def rollout(hallway: MazeModel) -> RolloutResult:
    """Greedy walks, some of which go wrong."""
    found = hallway.rollout(n_mazes=24, seed=0)
    wrong = found.first_wrong >= 0
    assert 0 < int(wrong.sum()) < 12
    return found


@pytest.fixture(scope="module")
def sampled(small_model: MazeModel) -> RolloutResult:
    """Walks of random weights: everything goes wrong."""
    return small_model.rollout([TEXT, SHORT, LONG], temperature=1.0, n_samples=4, max_steps=9, seed=3)


@torch.no_grad()
def step_by_step(maze: MazeModel, prompt: tuple[str, ...], most: int) -> list[str]:
    """Greedy decoding by whole passes of the model itself."""
    ids = [maze.vocabulary.ids[token] for token in prompt]
    for _ in range(min(most, maze.model.cfg.n_ctx - len(prompt))):
        ids.append(int(maze.model(torch.tensor([ids]))[0, -1].argmax()))
        if maze.vocabulary.tokens[ids[-1]] == "<PATH_END>":
            break
    return [maze.vocabulary.tokens[i] for i in ids[len(prompt) :]]


@pytest.mark.parametrize("source", SOURCES)
def test_greedy_walks_are_those_of_the_model_step_by_step(
    source: str, hallway: MazeModel, real_model: Callable[[str], MazeModel]
) -> None:
    maze = hallway if source == "bundled" else real_model(source)
    found = maze.rollout(n_mazes=3, seed=2, max_steps=8)
    for i in range(3):
        expected = step_by_step(maze, found.prompt_tokens[i], 8)
        assert list(found.walks[i]) == [found.prompt_tokens[i][-1], *expected]
        assert found.columns["stopped"][i] == (
            "path end" if expected[-1] == "<PATH_END>" else "unfinished, max_steps"
        )  # fmt: skip
        alone = maze.rollout(maze.prompts(n_mazes=3, seed=2).select([i]), max_steps=8, seed=2)
        assert alone.walks == found.walks[i : i + 1]
        torch.testing.assert_close(alone.scores[0], found.scores[i], equal_nan=True, rtol=0, atol=0)
        torch.testing.assert_close(alone.walkers[0], found.walkers[i], equal_nan=True, rtol=0, atol=0)


def test_the_model_predicts_its_own_walk(hallway: MazeModel, rollout: RolloutResult) -> None:
    batch = hallway.prompts(rollout, task="every_step")
    assert isinstance(batch, WalkPromptBatch)
    table = predict(hallway, batch, 1)
    assert table.token.tolist() == list(batch.columns["said"])
    given = rollout.given.tolist()
    assert table.token.tolist() == [t for w, n in zip(rollout.walks, given, strict=True) for t in w[n:]]
    assert table.is_answer.tolist() == [fault == "" for fault in batch.columns["fault"]]
    steps = rollout.to_frame()
    assert steps.right.tolist() == table.is_answer.tolist()
    assert np.allclose(np.log(table.probability), steps.log_prob, atol=1e-4)
    sums = steps.groupby("prompt").log_prob.sum()
    assert np.allclose(sums, rollout.metric, atol=1e-9)


def test_first_wrong_steps_are_explained(hallway: MazeModel, rollout: RolloutResult) -> None:
    batch = hallway.prompts(rollout, task="first_wrong_step")
    wrong = torch.nonzero(rollout.first_wrong >= 0).flatten()
    assert batch.columns["walk"].tolist() == wrong.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    assert batch.steps.tolist() == rollout.first_wrong[wrong].tolist()
    assert list(batch.columns["fault"]) == [rollout.first_fault[i] for i in wrong]
    assert batch.info["walks without a wrong step"] == len(rollout) - len(wrong)
    against_said = attribute(hallway, batch, correct_vs_other(batch, "said"))
    assert (against_said.metric < 0).all()  # what it said has the larger logit
    assert not against_said.correct.any()  # pyright: ignore[reportOptionalMemberAccess]
    assert "chosen as steps that the model gets wrong" in str(against_said.warning)
    every = hallway.prompts(rollout, task="every_step")
    assert "chosen as" not in str(attribute(hallway, every, logit(every)).warning)
    assert torch.allclose(attribute(hallway, batch, logit_diff(batch)).metric, against_said.metric, atol=1e-5)
    legal = attribute(hallway, batch, correct_vs_other(batch, "neighbors"))
    for i in range(len(batch)):
        solution, walk, step = rollout.solutions[wrong[i]], rollout.walks[wrong[i]], int(batch.steps[i])
        assert walk[:step] == solution[:step]
        assert legal.targets[i] == solution[step]
        assert legal.predicted is not None
        assert legal.predicted[i] == walk[step] != solution[step]
        assert int(batch.columns["distance"][i]) == len(solution) - 1 - step  # pyright: ignore[reportArgumentType]
        drawn = batch.geometry(i)
        assert tuple(f"({r},{c})" for r, c in drawn.path) == solution[:-1]
        assert drawn.current == drawn.path[step - 1]


def test_what_is_right_off_the_solution(small_model: MazeModel, rollout: RolloutResult) -> None:
    """A walk by hand: into the dead end, out of it, over the target and through a wall."""
    walk = "(0,0) (0,1) (1,1) (1,0) (1,1) (1,2) (2,2) (1,2) (0,2) ; (0,0) <PATH_END>"
    hand = by_hand(small_model, walk)
    batch = small_model.prompts(hand, task="every_step")
    right = [[batch.token_name(t) for t in row if t >= 0] for row in batch.answers.tolist()]
    assert right == [
        ["(0,1)"],
        ["(1,1)"],
        ["(1,2)"],
        ["(1,1)"],
        ["(1,2)"],
        ["(2,2)"],
        ["<PATH_END>"],
        ["(2,2)"],
        ["(0,1)"],
    ]
    assert batch.steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 11]
    assert batch.info["left_out"] == 2  # after (0,2), which no way leaves, and after ;
    assert batch.columns["distance"].tolist() == [4, 3, 2, 3, 2, 1, 0, 1, 4]  # pyright: ignore
    legal = [{batch.token_name(t) for t in row if t >= 0} for row in batch.token_sets["neighbors"].tolist()]
    assert legal[3] == {"(1,1)"}
    assert legal[6] == {"(1,2)"}
    assert batch.columns["chance"].tolist()[6] == 0.5  # pyright: ignore
    third = small_model.prompts(hand, step=4)
    assert third.columns["said"] == ("(1,1)",)
    assert third.info["task"] == "step 4"
    drawn = batch.geometry(8)
    assert len(drawn.connections) == 5
    assert drawn.rows == 3


def by_hand(maze: MazeModel, walk: str) -> RolloutResult:
    """A rollout with another walk in it."""
    from maze_dla.adapters.mazes.lattice import MazeText
    from maze_dla.adapters.mazes.walks import WalkedMaze

    found, tokens = maze.rollout([TEXT], max_steps=1), walk.split()
    text = MazeText(tuple(TEXT.split()))
    judged = WalkedMaze.of(text, text.path, "maze")
    faults = tuple(judged.fault(tokens[:k], tokens[k]) for k in range(1, len(tokens)))
    return replace(
        found, predicted=(walk,), faults=(faults,), log_probs=torch.zeros(1, len(faults), dtype=torch.float64)
    )  # fmt: skip


def test_walks_from_prompts_of_any_task(hallway: MazeModel) -> None:
    mazes = hallway.prompts(n_mazes=2, seed=1)
    texts = [" ".join(mazes.text(i).tokens) for i in range(2)]
    from_start = hallway.rollout(hallway.prompts(texts, task="origin_after_path_start"))
    assert from_start.given.tolist() == [0, 0]
    along = hallway.rollout(hallway.prompts(texts, task="every_path_step"))
    assert len(along) == sum(len(mazes.text(i).path) + 1 for i in range(2))
    firsts = torch.nonzero(along.given == 0).flatten().tolist()
    assert [along.walks[i] for i in firsts] == list(from_start.walks)
    origins = along.select(along.given == 1)
    assert origins.walks == hallway.rollout(texts).walks
    with pytest.raises(InputError, match="prompt 0 ends in front of <PATH_START>"):
        hallway.rollout(hallway.prompts(texts, task="path_start"))
    with pytest.raises(InputError, match="n_mazes=3 does not go with a batch"):
        hallway.rollout(mazes, n_mazes=3)
    with pytest.raises(InputError, match="step is of the walks of a rollout"):
        hallway.prompts(n_mazes=2, step=1)


def test_samples_and_scores(sampled: RolloutResult) -> None:
    assert len(sampled) == 12
    assert sampled.columns["sample"].tolist() == [0, 1, 2, 3] * 3  # pyright: ignore[reportAttributeAccessIssue]
    assert sampled.metric_summary().n_clusters == 3
    assert len(set(sampled.walks)) > 8
    table = sampled.table
    for name in YES_OR_NO:
        assert table[name].tolist() == sampled.holds(name).tolist()
        assert sampled.share(name).value == pytest.approx(table[name].mean())
    known = table.adjacent.dropna()
    assert sampled.summary("adjacent").n == len(known)
    assert float(sampled.summary("adjacent").mean) == pytest.approx(known.mean())
    assert sampled.summary("n_steps").n == 12
    assert ((table.first_wrong >= 0) == (table.fault != "")).all()
    assert (table.solved <= (table.exact | table.shortest)).all()


def test_beside_random_walkers(rollout: RolloutResult) -> None:
    place = SCORES.index("solved")
    solved = rollout.holds("solved").double()
    for i, compared in enumerate(rollout.beside_walkers("solved")):
        assert compared.name == WALKERS[i]
        assert float(compared.plain.mean) == pytest.approx(float(rollout.walkers[:, i, place].mean()))
        assert float(compared.difference.mean) == pytest.approx(float((solved - rollout.walkers[:, i, place]).mean()))
    assert rollout.accuracy == rollout.share("solved")
    assert rollout.skill.strategies[0].name == WALKERS[1]
    overlap = rollout.beside_walkers("overlap")
    assert [c.n for c in overlap] == [len(rollout)] * 2
    means = rollout.means
    assert list(means.index) == list(SCORES)
    assert means.loc["solved", "mean"] == float(rollout.share("solved"))
    assert means.loc["overlap", f"above {WALKERS[1]}, low"] == float(overlap[1].difference.low)
    text = repr(rollout)
    assert f"{int(solved.sum())} of 24 walks solve their maze; a random walker solves " in text
    assert "  first wrong steps: " in text
    assert BASELINES not in rollout.info


def test_groups_selections_and_files(rollout: RolloutResult, sampled: RolloutResult, tmp_path: Path) -> None:
    grouped = rollout.group_by("path_length", bins=2)
    assert sum(grouped.n) == 24
    lengths = rollout.table.path_length
    assert grouped.accuracy[0] == rollout.select(lengths <= lengths.sort_values().iloc[grouped.n[0] - 1]).accuracy
    for result in (rollout, sampled):
        chosen = result.select([2, 0])
        assert chosen.walks == (result.walks[2], result.walks[0])
        assert chosen.faults == (result.faults[2], result.faults[0])
        for whole in (result, chosen):
            back = load_result(whole.save(tmp_path / "r.zanj"))
            assert isinstance(back, RolloutResult)
            for f in fields(whole):
                a, b = getattr(whole, f.name), getattr(back, f.name)
                if isinstance(a, torch.Tensor):
                    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
                elif f.name != "columns":
                    assert a == b, f.name
            assert back.table.equals(whole.table)


DAMAGED: dict[str, tuple[Callable[[RolloutResult], dict[str, Any]], str]] = {
    "half solved": (lambda r: {"scores": r.scores * 0.5}, "scores: solved, exact"),
    "other answers": (lambda r: {"correct": ~r.holds("solved")}, "correct: not the walks that are solved"),
    "walkers beyond all": (lambda r: {"walkers": r.walkers + 1}, "walkers: shares outside"),
    "another likelihood": (lambda r: {"metric": r.metric - 1}, "metric: not the sum of log_probs"),
    "one fault too few": (lambda r: {"faults": (r.faults[0][1:], *r.faults[1:])}, "faults: not one for each"),
    "an unknown fault": (lambda r: {"faults": (("?",) * len(r.faults[0]), *r.faults[1:])}, "faults: '.' is none"),
    "more given than there is": (lambda r: {"given": r.given + 50}, "given: more tokens than the walk has"),
    "missing numbers": (lambda r: {"log_probs": r.log_probs * torch.nan}, "log_probs: not one for each"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_rollouts_that_no_model_made_are_refused(kind: str, sampled: RolloutResult, tmp_path: Path) -> None:
    change, message = DAMAGED[kind]
    spoiled = replace(sampled)
    for name, value in change(sampled).items():
        object.__setattr__(spoiled, name, value)
    with pytest.raises(ResultFileError, match=message):
        load_result(spoiled.save(tmp_path / "d.zanj"))


def test_scores_of_another_number_are_refused(sampled: RolloutResult) -> None:
    """Straight to the checks, since with types checked at run time no such result is made."""
    spoiled = replace(sampled)
    object.__setattr__(spoiled, "scores", sampled.scores[:, :3])
    with pytest.raises(ValueError, match=r"(scores|walkers): shape"):
        check_result(spoiled)


def test_questions_that_a_rollout_has_no_answer_to(hallway: MazeModel, rollout: RolloutResult) -> None:
    for options in ({}, {"task": "path_end"}, {"task": "every_step", "step": 2}):
        with pytest.raises(InputError, match="a rollout is asked task='first_wrong_step', task='every_step' or step="):
            hallway.prompts(rollout, **options)
    with pytest.raises(InputError, match="n_mazes=2 does not go with a rollout"):
        hallway.prompts(rollout, task="every_step", n_mazes=2)
    with pytest.raises(InputError, match="none of 24 walks has a step to ask about"):
        hallway.prompts(rollout, step=200)
    right = rollout.select(rollout.first_wrong < 0)
    with pytest.raises(InputError, match="all are right from start to end"):
        hallway.prompts(right, task="first_wrong_step")
    bare = TEXT.replace("<-->", ";")
    with pytest.raises(PromptError):
        hallway.rollout([bare])
