"""A saved state of training, checked against the run that is to go on from it before anything of the run is changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maze_dla.errors import CheckpointError, shortened
from maze_dla.files.tensors.stored import StoredTensor, read_tensors
from maze_dla.files.tensors.torch_file import read_torch_file

PARTS = {"model", "optimizer", "rng", "step"}
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
MOST_STEPS = 10**9


@dataclass(frozen=True)
class SavedState:
    """The content of a saved state, each part in the form in which torch and numpy take it."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    rng: dict[str, Any]
    step: int


def read_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> SavedState:
    """A saved state that fits this model, optimizer and generator, of which nothing is changed.

    Raises:
        CheckpointError: no state of such a run; nothing of it was run.
    """
    try:
        return _checked(read_torch_file(path, CheckpointError), model, optimizer, rng)
    except Exception as problem:  # a damaged file can lead to any
        reason = shortened(str(problem).removeprefix(f"{path}: ") or type(problem).__name__, 300)
        raise CheckpointError(f"{path}: no state of such a run ({reason}); begin anew in another folder") from problem


def _checked(content: Any, model: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> SavedState:
    if not isinstance(content, dict) or set(content) != PARTS:
        raise ValueError(f"it does not hold {', '.join(sorted(PARTS))}")
    step = content["step"]
    if type(step) is not int or not 0 <= step <= MOST_STEPS:
        raise ValueError(f"its step is {step!r:.60}, expected a whole number up to {MOST_STEPS}")
    weights = _fitting("model", content["model"], model.state_dict())
    moments = _moments(content["optimizer"], optimizer)
    settings, numbers = _groups(content["optimizer"], optimizer), _generator_state(content["rng"], rng)
    read = read_tensors({**weights, **moments}, CheckpointError)  # only now, when all else is as it should be
    return SavedState(
        model={name.partition(".")[2]: read[name] for name in weights},
        optimizer={"state": _by_weight(moments, read), "param_groups": settings},
        rng=numbers,
        step=step,
    )


def _fitting(what: str, saved: Any, own: Mapping[Any, Tensor]) -> dict[str, StoredTensor]:
    """The saved tensors under the names of the run's own, which have their shapes and kinds.

    Raises:
        ValueError: naming the tensor, what was seen and what was expected.
    """
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        raise ValueError(f"its {what} has other parts than this run's")
    for name, tensor in own.items():
        stored = saved[name]
        seen = (stored.dtype, stored.shape) if isinstance(stored, StoredTensor) else type(stored).__name__
        if seen != (tensor.dtype, tuple(tensor.shape)):
            expected = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ValueError(f"its {what}'s {name} is {shortened(seen)}, expected {expected}")
    return {f"{what}.{name}": saved[name] for name in own}


def _moments(saved: Any, optimizer: torch.optim.Optimizer) -> dict[str, StoredTensor]:
    """The optimizer's memory of each weight, by the weight's number; nothing before the first step."""
    if not isinstance(saved, dict) or not isinstance(states := saved.get("state"), dict):
        raise ValueError("it holds no state of an optimizer")
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if states and list(states) != list(range(len(weights))):
        raise ValueError(f"its optimizer knows {len(states)} weights, this run has {len(weights)}")
    found = {}
    for i in states:
        own = dict(zip(MOMENTS, (torch.zeros(()), weights[i], weights[i]), strict=True))
        found |= _fitting(f"optimizer {i}", states[i], own)
    return found


def _by_weight(moments: Mapping[str, StoredTensor], read: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    states: dict[int, dict[str, Tensor]] = {}
    for name in moments:
        weight, _, part = name.removeprefix("optimizer ").partition(".")
        states.setdefault(int(weight), {})[part] = read[name]
    return states


def _groups(saved: Any, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The optimizer's settings as they were saved; what another version of torch did not save is the run's own."""
    own, groups = optimizer.state_dict()["param_groups"], saved.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(own):
        raise ValueError(f"its optimizer has no {len(own)} groups of weights")
    found = []
    for now, before in zip(own, groups, strict=True):
        if not isinstance(before, dict) or before.get("params") != now["params"]:
            raise ValueError("its optimizer has other groups of weights than this run's")
        taken = {name: before[name] for name in now if name in before}
        if wrong := [name for name, value in taken.items() if not _is_setting(value, now[name])]:
            raise ValueError(f"its optimizer's {wrong[0]} is {taken[wrong[0]]!r:.60}")
        found.append({**now, **taken})
    return found


def _is_setting(value: Any, own: Any) -> bool:
    """Whether a saved setting is of the same kind as the run's own, its numbers finite."""
    if isinstance(own, tuple | list):
        return isinstance(value, tuple | list) and len(value) == len(own) and all(map(_is_setting, value, own))
    if type(own) is float:
        return type(value) is float and math.isfinite(value)
    return type(value) is type(own)


def _generator_state(saved: Any, rng: np.random.Generator) -> dict[str, Any]:
    """The state of the random generator, once a generator of the same kind has taken it."""
    trial = copy.deepcopy(rng.bit_generator)
    try:
        trial.state = saved
        taken = trial.state == saved
    except Exception:  # numpy raises whatever the damage leads to
        taken = False
    if not taken:
        raise ValueError(f"its random generator's state is none of {type(trial).__name__}")
    return saved
