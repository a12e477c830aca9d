"""The seven tasks beside what maze-transformer says of them, stated once more on the text itself."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.tasks import TASKS
from maze_dla.analysis import attribute, token_lens
from maze_dla.engine.metrics import logit
from maze_dla.errors import InputError, MazeDlaError, PromptError

from .small_files import N_CTX
from .texts import LONG, SHORT, TEXT

NAMES = (
    "path_start",
    "origin_after_path_start",
    "first_path_choice",
    "path_end",
    "final_before_path_end",
    "rand_path_token",
    "rand_path_token_non_endpoint",
)
# the token to predict in TEXT, SHORT and LONG, and what stands in front of it
FIXED = {
    "path_start": (("<TARGET_END>", "<PATH_START>"),) * 3,
    "origin_after_path_start": (("<PATH_START>", "(0,0)"), ("<PATH_START>", "(1,0)"), ("<PATH_START>", "(2,2)")),
    "first_path_choice": (("(0,0)", "(0,1)"), ("(1,0)", "(2,0)"), ("(2,2)", "(2,1)")),
    "path_end": (("(2,2)", "<PATH_END>"), ("(2,0)", "<PATH_END>"), ("(0,0)", "<PATH_END>")),
    "final_before_path_end": (("(1,2)", "(2,2)"), ("(1,0)", "(2,0)"), ("(0,1)", "(0,0)")),
}
# random: from this many tokens after <PATH_START> up to, not including, this many in front of <PATH_END>
RANDOM = {"rand_path_token": (1, -1), "rand_path_token_non_endpoint": (3, -2)}


def test_the_names_are_those_of_maze_transformer() -> None:
    assert tuple(TASKS) == (*NAMES, "every_path_step")


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("task", FIXED)
def test_fixed_tasks(task: str, bos: bool, small_model: MazeModel) -> None:
    batch = small_model.prompts([TEXT, SHORT, LONG], task=task, prepend_bos=bos)
    for p, (text, (last, target)) in enumerate(zip((TEXT, SHORT, LONG), FIXED[task], strict=True)):
        tokens = text.split()
        position = next(i for i in range(tokens.index("<TARGET_END>"), len(tokens)) if tokens[i] == target)
        if task == "final_before_path_end":
            position = len(tokens) - 2
        assert batch.labels[p] == (*["<ADJLIST_START>"] * bos, *tokens[:position])
        assert batch.labels[p][-1] == last
        assert batch.token_name(int(batch.targets[p])) == target


def allowed(tokens: list[str], task: str) -> list[int]:
    """The positions that maze-transformer's definition can choose."""
    first, last = RANDOM[task]
    start, end = tokens.index("<PATH_START>") + first, tokens.index("<PATH_END>") + last
    return list(range(start, end)) if start < end else [start]


@pytest.mark.parametrize("task", RANDOM)
def test_random_tasks_choose_evenly_what_is_allowed(task: str, small_model: MazeModel) -> None:
    texts = [TEXT, LONG] if task == "rand_path_token_non_endpoint" else [TEXT, SHORT, LONG]
    seen: list[Counter[int]] = [Counter() for _ in texts]
    for seed in range(150):
        batch = small_model.prompts(texts, task=task, seed=seed, prepend_bos=False)
        for p, text in enumerate(texts):
            position = int(batch.lengths[p])
            seen[p][position] += 1
            assert batch.token_name(int(batch.targets[p])) == text.split()[position]
    for text, counts in zip(texts, seen, strict=True):
        expected = allowed(text.split(), task)
        assert sorted(counts) == expected
        share = 150 / len(expected)
        assert all(abs(n - share) < 5 * share**0.5 for n in counts.values())


def test_a_path_too_short_for_a_random_inner_token_ends(small_model: MazeModel) -> None:
    batch = small_model.prompts([SHORT], task="rand_path_token_non_endpoint")
    assert batch.token_name(int(batch.targets[0])) == "<PATH_END>"


@pytest.mark.parametrize("task", RANDOM)
def test_random_tasks_are_seeded(task: str, small_model: MazeModel) -> None:
    texts = [LONG] * 8
    one, again, other = (small_model.prompts(texts, task=task, seed=s) for s in (3, 3, 4))
    assert one.labels == again.labels
    assert one.labels != other.labels
    assert len(set(one.labels)) > 1  # each maze draws anew


def third_step(tokens: list[str], rng: np.random.Generator) -> int:
    return tokens.index("<PATH_START>") + 4


def test_a_task_of_the_users_own(small_model: MazeModel) -> None:
    batch = small_model.prompts([TEXT, LONG], task=third_step)
    assert [batch.token_name(int(t)) for t in batch.targets] == ["(1,2)", "(1,0)"]
    assert batch.info["task"] == "third_step"
    numpy_int = small_model.prompts([TEXT], task=lambda tokens, rng: np.int64(third_step(tokens, rng)))
    assert torch.equal(numpy_int.tokens, batch.select([0]).tokens)


def test_an_own_task_cannot_change_the_maze(small_model: MazeModel) -> None:
    def vandal(tokens: list[str], rng: np.random.Generator) -> int:
        tokens[0] = "nonsense"
        return 3

    assert small_model.prompts([TEXT], task=vandal).labels[0][1] == "<ADJLIST_START>"


ERRORS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown": (
        {"task": "first_step"},
        InputError,
        f"unknown task 'first_step', expected one of {', '.join(TASKS)}, or a function",
    ),
    "no path start": (
        {"mazes": [TEXT, SHORT.replace("<PATH_START>", ";")]},
        PromptError,
        "prompt 1: no <PATH_START> among the ",
    ),
    "no path end": (
        {"mazes": [TEXT.replace(" <PATH_END>", "")], "task": "path_end"},
        PromptError,
        "prompt 0: no <PATH_END> among the 34 tokens (<ADJLIST_START> (0,0) <--> (0,1) ... (0,1) (1,1) (1,2) (2,2))",
    ),
    "nothing at all": ({"mazes": [TEXT, []]}, PromptError, "prompt 1: no <PATH_START> among the 0 tokens ()"),
    "token outside": (
        {"mazes": [TEXT, LONG.replace("(2,1)", "(7,1)")]},
        PromptError,
        "8x8 mazes, the model knows 3x3: prompt 1, position 28: token '(7,1)' is not in the vocabulary of 20 tokens",
    ),
    "behind the end": (
        {"mazes": ["<PATH_START> (0,0)"]},
        PromptError,
        "prompt 0: the task asks for token 2, the maze's text has 2",
    ),
    "at the beginning": (
        {"task": lambda tokens, rng: 0},
        PromptError,
        "prompt 0: the task asks for token 0, the maze's text has 35",
    ),
    "in front": ({"task": lambda tokens, rng: -1}, PromptError, "prompt 0: the task asks for token -1, the maze's"),
    "no position": (
        {"task": lambda tokens, rng: "(0,0)"},
        InputError,
        "a task returns the position of the token to predict, got '(0,0)'",
    ),
    "no position among several": (
        {"task": lambda tokens, rng: [3, "x"]},
        InputError,
        "a task returns the position of the token to predict, got 'x'; several come as a list",
    ),
    "one of several outside": (
        {"mazes": [TEXT, SHORT], "task": lambda tokens, rng: [3, 30]},
        PromptError,
        "maze 1: the task asks for token 30, the maze's text has 20",
    ),
    "nothing": ({"task": lambda tokens, rng: []}, InputError, "<lambda> asks for no token in any of the 1 mazes"),
    "no tasks": ({"task": []}, InputError, "no task, expected at least one of path_start, "),
    "a number": ({"task": 3}, InputError, "unknown task 3, expected one of path_start, "),
    "an unknown one among several": ({"task": ["path_end", "end"]}, InputError, "unknown task 'end', expected one of"),
    "one of several fails": (
        {"mazes": [TEXT, TEXT.replace(" <PATH_END>", "")], "task": ["path_start", "path_end"]},
        PromptError,
        "maze 1: no <PATH_END> among the 34 tokens",
    ),
    "twice": (
        {"task": ["path_end", third_step, "path_end"]},
        InputError,
        "two tasks go by the name 'path_end', expected each once",
    ),
    "true is no position": ({"task": lambda tokens, rng: True}, InputError, "a task returns the position of the token"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_prompt_and_token(name: str, small_model: MazeModel) -> None:
    asked, kind, message = ERRORS[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}") as error:
        small_model.prompts(**{"mazes": [TEXT], **asked})
    assert isinstance(error.value, MazeDlaError)


def test_without_the_bos_positions_are_the_texts_own(small_model: MazeModel) -> None:
    with pytest.raises(PromptError, match=r"^prompt 0, position 3: token 'x'"):
        small_model.prompts([TEXT.replace("(0,1)", "x")], prepend_bos=False)


def repeated(n: int) -> list[str]:
    """A text that is asked for what follows its first `n` tokens."""
    return [*["<ADJLIST_START>"] * (n - 2), "<PATH_START>", "(0,0)", "(0,1)", "<PATH_END>"]


def test_a_prompt_longer_than_the_context(small_model: MazeModel) -> None:
    fits = small_model.prompts([TEXT, repeated(N_CTX - 1)])
    assert len(attribute(small_model.model, fits, logit(fits))) == 2
    long = small_model.prompts([TEXT, repeated(N_CTX)])
    message = f"^prompt 1 has {N_CTX + 1} tokens, the model's context holds {N_CTX}$"
    for ask in (lambda: attribute(small_model.model, long, logit(long)), lambda: token_lens(small_model.model, long)):
        with pytest.raises(PromptError, match=message):
            ask()
    short = small_model.prompts([TEXT, repeated(N_CTX)], prepend_bos=False)
    assert len(attribute(small_model.model, short, logit(short))) == 2
