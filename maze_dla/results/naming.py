"""Names of results side by side, which tell them apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

Info = Mapping[str, Any]


def column_names(infos: Sequence[Info]) -> tuple[str, ...]:
    """The model of each result; where models repeat also what they differ in.

    That is the training step where the checkpoints' names hold one, else the checkpoint's file; then the task, the
    metric and the extra BOS; and a number where all of that repeats too.
    """
    names = [str(info.get("model", "?")) for info in infos]
    for told in (_checkpoint, lambda i: str(i.get("task", "?")), lambda i: str(i.get("metric", "?")), _bos):
        names = _told_apart(names, infos, told)
    if len(set(names)) < len(names):
        names = [f"{i + 1}: {name}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    return tuple(names)


def _told_apart(names: list[str], infos: Sequence[Info], told: Callable[[Info], str]) -> list[str]:
    """Names with something more where two are alike and differ in it."""
    facts = [told(info) for info in infos]
    alike = [{facts[j] for j, other in enumerate(names) if other == name} for name in names]
    return [f"{n}, {f}" if len(differs) > 1 and f else n for n, f, differs in zip(names, facts, alike, strict=True)]


def _checkpoint(info: Info) -> str:
    file = PurePath(str(info.get("checkpoint", ""))).name
    step = re.search(r"(?:iter|step|checkpoint)[_.-]?(\d+)", file)
    return f"step {int(step[1])}" if step else file


def _bos(info: Info) -> str:
    return "with BOS" if info.get("prepend_bos") else "without BOS"
