"""Prompts chosen by number or by a mask, and a result of just these."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from maze_dla.errors import InputError
from maze_dla.results.arrays import as_array
from maze_dla.results.columns import chosen_rows
from maze_dla.results.moments import PromptMoments, neuron_fields

AXES = re.compile(r"""\[Tensor, ['"] ?(prompt\b[^'"]*)['"]\]""")  # of fields with a row for each prompt
POSITIONS = ("position", "*position", "query", "key")  # axes with an entry for each token of a prompt
TEXTS = ("prompt_tokens", "targets", "predicted", "answers", "faults")
CHOICE = "prompts are chosen by a list of their numbers or by a mask"


def chosen_prompts(prompts: Any, n: int) -> Int[Tensor, " chosen"]:
    """Prompt numbers, or the numbers where a mask [prompt] holds.

    A mask of pandas belongs to the rows of a table: its index is 0 to n - 1, as that of `result.table`.

    Raises:
        InputError: no list of numbers or mask, a mask of another length than the batch or with the index of another
            table, or a number outside it.
    """
    chosen = as_array("the choice of prompts", _of_pandas(prompts, n) if hasattr(prompts, "iloc") else prompts, CHOICE)
    if chosen.numel() == 0:
        return torch.empty(0, dtype=torch.long)
    if chosen.ndim != 1 or chosen.dtype not in (torch.int64, torch.bool):
        raise InputError(f"{CHOICE}, got {str(prompts)[:60]}")
    if chosen.dtype == torch.bool:
        if tuple(chosen.shape) != (n,):
            raise InputError(f"a mask of prompts has shape ({n},), got {tuple(chosen.shape)}")
        return torch.nonzero(chosen).flatten()
    if (outside := (chosen < -n) | (chosen >= n)).any():
        raise InputError(f"prompt {int(chosen[outside][0])} outside the {n} prompts")
    return chosen % n


def _of_pandas(prompts: Any, n: int) -> Any:
    """The values of a Series of numbers, or of a mask whose rows are those of a table of `n` prompts."""
    if str(prompts.dtypes) not in ("bool", "boolean"):
        return prompts
    check_rows(prompts, n, "a mask of prompts")
    if prompts.isna().any():
        raise InputError(f"a mask of prompts holds true and false, got {int(prompts.isna().sum())} missing values")
    return prompts.to_numpy(dtype=bool)


def check_rows(series: Any, n: int, what: str) -> None:
    """Refuse a Series whose rows are not those of a table of `n` prompts, in its order.

    Raises:
        InputError: saying which index was seen.
    """
    index = list(series.index)
    if index != list(range(n)):
        shown = ", ".join(map(str, index[:4])) + (", ..." if len(index) > 4 else "")
        raise InputError(
            f"{what} has the index of the result's table, 0 to {n - 1}, got {len(index)} rows ({shown}): "
            "it is of another table, or of a part of one"
        )


def selected(result: Any, prompts: Any) -> Any:
    """The result of some prompts, everything with a prompt axis chosen alike and padding cut to the longest of them.

    Raises:
        InputError: as `chosen_prompts`, or no prompt is chosen.
    """
    chosen = chosen_prompts(prompts, len(result))
    if len(chosen) == 0:
        raise InputError(f"none of {len(result)} prompts is chosen, expected at least one")
    longest = max(len(result.prompt_tokens[i]) for i in chosen.tolist())
    changes: dict[str, Any] = {"columns": chosen_rows(result.columns, chosen)}
    for f in fields(result):
        value, axes = getattr(result, f.name), AXES.search(str(f.type))
        if isinstance(value, Tensor) and axes is not None:
            named = axes[1].replace("*site", " ".join(getattr(result, "axes", ())))
            changes[f.name] = _rows(value, named.split(), chosen, longest)
        elif f.name in TEXTS and value is not None:
            changes[f.name] = tuple(value[i] for i in chosen.tolist())
    return _with_neurons(replace(result, **changes))


def _rows(value: Tensor, axes: list[str], chosen: Int[Tensor, " chosen"], longest: int) -> Tensor:
    """The rows of some prompts; positions after the end of the longest are left out."""
    rows = value[chosen.to(value.device)]
    if rows.ndim < len(axes):  # "*position" stands for no axis or for one
        return rows
    for axis in [i for i, name in enumerate(axes) if name in POSITIONS]:
        rows = rows.narrow(axis, 0, min(longest, rows.shape[axis]))
    return rows.contiguous()


def _with_neurons(result: Any) -> Any:
    """The result with the means of its own neurons; with none where only those of more prompts were kept."""
    if getattr(result, "neuron_mean", None) is None:
        return result
    moments = PromptMoments(result.clusters, result.buckets)
    if result.neurons is not None:
        moments.add(result.neurons, torch.arange(len(result)))
    return replace(result, **neuron_fields(moments))
