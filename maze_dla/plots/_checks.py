"""Checks that plots share, each with what was seen and what was expected."""

from __future__ import annotations

from maze_dla.errors import InputError
from maze_dla.results.attribution import AttributionResult
from maze_dla.results.base import PromptResult

Head = tuple[int, int]


def check_prompt(result: PromptResult, prompt: int) -> None:
    """Raise InputError for a prompt that the result does not hold."""
    if not 0 <= prompt < len(result):
        raise InputError(f"prompt is an index from 0 to {len(result) - 1}, got {prompt}")


def check_head(result: AttributionResult, head: Head | None) -> None:
    """Raise InputError for a head that the model does not have."""
    if head is None:
        return
    n_layers, n_heads = result.heads.shape[1:]
    inside = isinstance(head, tuple | list) and len(head) == 2 and 0 <= head[0] < n_layers and 0 <= head[1] < n_heads
    if not inside:
        raise InputError(
            f"head is (layer, head), counted from 0, in a model of {n_layers} layers with {n_heads} heads each, "
            f"got {head}"
        )


def check_count(k: int, name: str, least: int = 1) -> None:
    """Raise InputError for a count below what can be drawn."""
    if k < least:
        raise InputError(f"{name} is at least {least}, got {k}")
