"""Checks of the numbers of saved circuits and steering."""

from __future__ import annotations

from typing import Any

from maze_dla.results.checking.shapes import check_finite, check_names


def check_circuit(result: Any) -> None:
    """Refuse numbers that are none, and names of parts that are no text or there twice.

    Raises:
        ValueError: naming the field.
    """
    for name in ("metric", "kept", "ablated"):
        check_finite(name, getattr(result, name))
    check_names("parts", result.parts)


def check_steering(result: Any) -> None:
    """Refuse numbers that are none, and answers that do not fit the strengths.

    Raises:
        ValueError: naming the field.
    """
    for name in ("metric", "strengths", "values", "control"):
        check_finite(name, getattr(result, name))
    n_prompts, n_strengths = result.values.shape
    fits = isinstance(result.answers, tuple) and len(result.answers) == n_prompts
    if not fits or any(len(row) != n_strengths or not all(isinstance(t, str) for t in row) for row in result.answers):
        raise ValueError(f"answers: not {n_strengths} texts for each of {n_prompts} prompts")
