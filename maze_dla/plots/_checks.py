"""Checks that plots share, each with what was seen and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.errors import InputError, check_kind, check_whole
from maze_dla.geometry import MazeGeometry, Mazes
from maze_dla.plots._words import counted, one_line
from maze_dla.results.arrays import as_array
from maze_dla.results.attribution import ContributionResult
from maze_dla.results.base import PromptResult
from maze_dla.results.parts import Head, place_of_head
from maze_dla.results.streamed import StreamedResult
from maze_dla.results.summaries import ContributionSummaries

Labels = tuple[tuple[str, ...], ...]
Result = TypeVar("Result")


@runtime_checkable
class Walks(Protocol):
    """Prompts that know at which step of a path they end, such as the batch of `maze.prompts`."""

    @property
    def labels(self) -> Labels:
        """The tokens of each prompt as strings."""
        ...

    @property
    def steps(self) -> Int[Tensor, " prompt"] | None:
        """The step of each prompt; None where they are no steps of a path."""
        ...


Steps = Int[Tensor, " prompt"] | Sequence[int] | Walks


def check_attribution(result: object) -> None:
    """Raise InputError for anything but a result of `attribute`, which holds every prompt."""
    if isinstance(result, StreamedResult):
        raise InputError(
            "this picture shows prompts and takes a result of attribute, got a StreamedResult, which keeps means alone"
        )
    check_kind(result, ContributionResult, "this picture takes a result of attribute, or one half of a contrast")


def check_summaries(result: object) -> None:
    """Raise InputError for anything but a result of `attribute`, or a stream of such results."""
    takes = "this picture takes a result of attribute, one half of a contrast, or a stream of such results"
    check_kind(result, ContributionSummaries, takes)
    if isinstance(result, StreamedResult) and "layers" not in result.means:
        raise InputError(f"{takes}, got a stream of {result.of}")


def check_prompt(result: PromptResult, prompt: int) -> int:
    """The number of a prompt; InputError for one that the result does not hold."""
    n = len(result)
    try:
        return check_whole("prompt", prompt, 0, n - 1)
    except InputError:
        raise InputError(f"prompt is an index from 0 to {n - 1}, got {prompt!r:.80}") from None


def checked_positions(result: PromptResult, prompt: int, positions: Sequence[int] | None, most: int) -> list[int]:
    """Positions of a prompt, by default the last of them, at most so many; negative ones count from the end.

    Raises:
        InputError: no list of whole numbers, none, or one outside the prompt.
    """
    n = len(result.prompt_tokens[prompt])
    if positions is None:
        return list(range(n))[-most:]
    if isinstance(positions, str) or not isinstance(positions, Iterable):
        raise InputError(f"positions is a list of whole numbers, got {positions!r:.80}")
    chosen = [check_whole("each of positions", p, -sys.maxsize) for p in positions]
    outside = [p for p in chosen if not -n <= p < n]
    if outside or not chosen:
        taken = f"from 0 to {n - 1}, or from -{n} to -1 from the end"
        raise InputError(f"positions of prompt {prompt} are {taken}, got {outside or 'none'}")
    return [p % n for p in chosen]


def given_names(labels: Sequence[str], n: int) -> list[str]:
    """Names that a caller gives to some results, each on one line.

    Raises:
        InputError: no list of texts, or another number of them than of results.
    """
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not all(isinstance(name, str) for name in labels):
        raise InputError(f"labels is a list of names, one for each result, got {labels!r:.80}")
    if len(labels) != n:
        raise InputError(f"labels has {len(labels)} names, expected one for each of {counted(n, 'result')}")
    return [one_line(name) for name in labels]


def check_head(result: ContributionResult, head: Head | None) -> tuple[int, int] | None:
    """Layer and head; InputError for one that the model does not have. None stays None."""
    n_layers, n_heads = result.heads.shape[1:]
    return None if head is None else place_of_head(head, n_layers, n_heads)


def maze_of(result: PromptResult, maze: MazeGeometry | Mazes, prompt: int) -> MazeGeometry:
    """The maze of a prompt, from its geometry or from the batch that the result was made of.

    Raises:
        InputError: neither of them, no such prompt, or other prompts than the result's.
    """
    prompt = check_prompt(result, prompt)
    if isinstance(maze, MazeGeometry):
        if maze.tokens != result.prompt_tokens[prompt]:
            raise _differs("the maze belongs to another prompt", maze.tokens, result.prompt_tokens[prompt], prompt)
        return maze
    takes = "maze is a MazeGeometry, or the batch of mazes that the result was made of"
    check_kind(maze, Mazes, takes)
    check_same_prompts(result, maze.labels)
    if (geometry := maze.geometry(prompt)) is None:
        raise InputError(f"{takes}, got prompts that are about no maze")
    return geometry


def steps_of(result: PromptResult, steps: Steps) -> Int[Tensor, " prompt"]:
    """The step of each prompt, from themselves or from the batch that the result was made of.

    Raises:
        InputError: neither of them, a tensor on the meta device, more or fewer than prompts, or other prompts than the
            result's.
    """
    if isinstance(steps, Walks) and steps.steps is not None:
        check_same_prompts(result, steps.labels)
        return steps.steps.cpu()
    takes = "steps are a whole number for each prompt, or the batch of paths that the result was made of"
    given = as_array("steps", steps, takes)
    if given.numel() and given.dtype != torch.int64:
        raise InputError(f"steps are whole numbers, got {given.dtype}")
    if tuple(given.shape) != (len(result),):
        raise InputError(f"steps has shape {tuple(given.shape)}, expected one for each of {len(result)} prompts")
    return given


def check_same_prompts(result: PromptResult, labels: Labels) -> None:
    """Raise InputError unless a batch's prompts are those of the result, one by one."""
    own = result.prompt_tokens
    if labels is own:
        return
    if len(labels) != len(own):
        raise InputError(
            f"the batch has {len(labels)} prompts, the result {len(own)}: give the batch that the result was made of"
        )
    for i, (given, expected) in enumerate(zip(labels, own, strict=True)):
        if given != expected:
            raise _differs("the batch has other prompts", given, expected, i)


def check_count(k: int, name: str, least: int = 1) -> int:
    """The number; InputError for one below what can be drawn."""
    return check_whole(name, k, least)


def _differs(what: str, given: tuple[str, ...], own: tuple[str, ...], prompt: int) -> InputError:
    """The error for tokens that are not those of the result's prompt: the first difference."""
    pairs = enumerate(zip_longest(given, own))
    position, (seen, expected) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    seen, expected = ("no token" if token is None else repr(token) for token in (seen, expected))
    return InputError(
        f"{what}: at position {position} it has {seen}, where prompt {prompt} of the result has {expected} "
        f"({len(given)} and {len(own)} tokens)"
    )
