"""Baselines in files: JSON to be read and compared by eye, and beside it the larger arrays."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maze_dla.baselines.baseline import Baseline
from maze_dla.baselines.numbers import Measured, Number
from maze_dla.baselines.prompts import check_stored, prompts_hash
from maze_dla.baselines.questions import Question
from maze_dla.errors import BaselineError, InputError, shortened, shown_number
from maze_dla.files import drafted_folder, made_folder, writing
from maze_dla.files.arrays import array_of, read_arrays
from maze_dla.files.boundary import reading
from maze_dla.files.json_file import read_object
from maze_dla.results.tolerances import PRECISIONS

FORMAT, FORMAT_VERSION = "maze_dla baselines", 1
FILE = ("baselines", "format", "format_version")
BASELINE = ("checkpoint", "model", "near_ties", "numbers", "predicted", "prompts", "question", "run")
NUMBER = ("dtype", "interval", "largest", "sha256", "shape", "tolerance", "values")
MOST_LEFT_OUT = 1000  # mazes made for one that has the metric
INLINE = 300  # numbers of an array that stand in the JSON itself
FACTS: dict[str, dict[str, Any]] = {
    "model": {
        **dict.fromkeys(("name", "checkpoint", "sha256", "norm"), str),
        **dict.fromkeys(("weights", "heads", "sizes", "norm_epsilons"), dict),
        "logit_cap": int | float | None,
        "vocabulary_sha256": str | None,
        "prepend_bos": bool | None,
    },
    "prompts": {
        **dict.fromkeys(("kinds", "rows", "sequences"), list),
        **dict.fromkeys(("unit", "sha256"), str),
        "seed": int,
        "others": list | None,
    },
    "question": {
        **dict.fromkeys(("task", "metric", "reduce"), str),
        "n_mazes": int | None,
        "seed": int,
        "prepend_bos": bool,
        "padding": int | str | None,
        "dataset": str | None,
    },
    "run": {"device": str, "dtype": str, "versions": dict},
}


def arrays_file(file: Path) -> Path:
    """Where the larger arrays of a baseline's file are."""
    return file.with_suffix(".npz")


def check_name(file: Path) -> None:
    """Refuse a file of another ending.

    Raises:
        BaselineError: a name that does not end in `.json`.
    """
    if file.suffix != ".json":
        raise BaselineError(f"{file}: a baseline's file name ends in .json")


def write_baselines(file: Path, baselines: Mapping[str, Baseline]) -> None:
    """Write baselines by their names, and the arrays beside them: both files or, on any failure, neither.

    Raises:
        BaselineError: a name that does not end in `.json`, or a folder that cannot be written.
    """
    check_name(file)
    arrays: dict[str, np.ndarray] = {}
    content = {
        "baselines": {name: _as_json(baseline, arrays) for name, baseline in baselines.items()},
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
    }
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with (
            writing(file, BaselineError),
            made_folder(file.parent),
            drafted_folder(file.parent, [arrays_file(file).name]) as draft,
        ):
            (draft / file.name).write_bytes(text.encode())
            if arrays:
                named: dict[str, Any] = {key: arrays[key] for key in sorted(arrays)}
                np.savez_compressed(draft / arrays_file(file).name, **named)
    except InputError as problem:
        raise BaselineError(str(problem)) from problem


def read_baselines(file: Path) -> dict[str, Baseline]:
    """The baselines of a file by their names.

    Raises:
        BaselineError: no such file, damaged, cut off, of another format, or whose arrays are missing or others.
    """
    content = read_object(file, BaselineError, finite=True)
    if content.get("format") != FORMAT or not isinstance(content.get("baselines"), dict):
        raise BaselineError(f"{file}: no file of baselines; it holds {', '.join(map(str, content))[:80] or 'nothing'}")
    if content.get("format_version") != FORMAT_VERSION:
        raise BaselineError(f"{file}: format version {content.get('format_version')!r:.20}, expected {FORMAT_VERSION}")
    if unknown := [name for name in content if name not in FILE]:
        raise BaselineError(f"{file}: it holds {unknown[0]!r:.40}, which is not known")
    if not content["baselines"]:
        raise BaselineError(f"{file}: it holds no baseline")
    arrays = _arrays_beside(file)
    found = {}
    for name, saved in content["baselines"].items():
        with reading(file, BaselineError, f"the baseline {shortened(name, 80)!r} is damaged"):
            found[name] = _from_json(saved, arrays)
        if found[name].name != name:
            says = shortened(found[name].name, 80)
            raise BaselineError(f"{file}: the baseline {shortened(name, 80)!r} says that it is {says!r}")
    return found


def stale_arrays(file: Path, baselines: Mapping[str, Baseline]) -> tuple[str, ...]:
    """The names of arrays beside a file that none of its baselines has any more."""
    measured = [number for baseline in baselines.values() for number in baseline.measured.numbers.values()]
    known = {array_hash(number.values) for number in measured if number.labels is None}
    return tuple(sorted({*_arrays_beside(file)} - known))


def _as_json(baseline: Baseline, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A baseline's content; larger arrays go into `arrays` under the hash of their values."""
    measured = baseline.measured
    return {
        "checkpoint": baseline.checkpoint,
        "model": baseline.model,
        "near_ties": list(measured.near_ties),
        "numbers": {name: _number_as_json(number, arrays) for name, number in measured.numbers.items()},
        "predicted": list(measured.predicted),
        "prompts": baseline.prompts,
        "question": baseline.question.as_dict(),
        "run": baseline.run,
    }


def _number_as_json(number: Number, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    kept: dict[str, Any] = {"largest": number.largest, "tolerance": number.tolerance}
    if number.interval is not None:
        kept["interval"] = list(number.interval)
    if number.labels is not None:
        return {**kept, "values": dict(zip(number.labels, number.values.tolist(), strict=True))}
    key = array_hash(number.values)
    kept |= {"dtype": str(number.values.dtype), "shape": list(number.values.shape), "sha256": key}
    if number.values.size <= INLINE:
        return {**kept, "values": number.values.tolist()}
    arrays[key] = number.values
    return kept


def array_hash(values: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and values, in hexadecimal."""
    digest = hashlib.sha256(f"{values.dtype.name} {values.shape}\n".encode())
    digest.update(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _from_json(saved: Any, arrays: Mapping[str, np.ndarray]) -> Baseline:
    """A baseline from its content.

    Raises:
        ValueError, KeyError, TypeError: whatever a damaged part leads to.
    """
    _check_known("the baseline", saved, BASELINE)
    model, prompts, run, question = (_facts(what, saved[what]) for what in ("model", "prompts", "run", "question"))
    if run["dtype"] not in PRECISIONS:
        raise ValueError(f"run.dtype is {run['dtype']!r:.40}, expected one of {', '.join(PRECISIONS)}")
    for name, epsilon in model["norm_epsilons"].items():
        _finite(f"model.norm_epsilons.{name}", epsilon)
    for part, texts in (("model.weights", model["weights"]), ("model.heads", model["heads"])):
        for name, value in texts.items():
            _text(f"{part}.{name}", value)
    if prompts_hash(prompts) != prompts["sha256"]:
        raise ValueError("the prompts are not those of their hash")
    check_stored(prompts)
    _check_question(question, prompts)
    numbers = {name: _number_from_json(name, number, arrays) for name, number in saved["numbers"].items()}
    n, ties, predicted = len(prompts["rows"]), saved["near_ties"], saved["predicted"]
    if len(predicted) != n or not all(isinstance(token, str) for token in predicted):
        raise ValueError(f"predicted holds no token for each of the {n} prompts")
    if not all(type(i) is int and 0 <= i < n for i in ties) or len(set(ties)) < len(ties):
        raise ValueError("near_ties are no numbers of prompts, each once")
    if wrong := [k for k, number in numbers.items() if number.labels is None and number.values.shape[:1] != (n,)]:
        raise ValueError(f"{wrong[0]} is not of {n} prompts")
    measured = Measured(numbers, tuple(predicted), tuple(ties))
    return Baseline(_text("checkpoint", saved["checkpoint"]), model, Question.of(question), prompts, run, measured)


def _facts(what: str, given: Any) -> dict[str, Any]:
    """A part of a baseline, each entry of its kind."""
    for name, kind in FACTS[what].items():
        if not isinstance(given[name], kind) or (isinstance(given[name], bool) and not (name == "prepend_bos")):
            raise ValueError(f"{what}.{name} is {given[name]!r:.40}, expected {getattr(kind, '__name__', kind)}")
    _check_known(what, given, FACTS[what])
    return given


def _check_known(what: str, given: Any, known: Collection[str]) -> None:
    """Refuse entries that nobody reads: they would look as if they were compared."""
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{what} holds {unknown[0]!r:.40}, which is not known")


def _check_question(question: Mapping[str, Any], prompts: Mapping[str, Any]) -> None:
    """Refuse numbers that cannot be those of the prompts, before mazes are made by them."""
    rows, padding, n = prompts["rows"], question["padding"], question["n_mazes"]
    if question["seed"] != prompts["seed"]:
        raise ValueError(f"question.seed is {question['seed']}, its prompts were made with {prompts['seed']}")
    if isinstance(padding, int) and any(row["length"] != padding for row in rows):
        raise ValueError(f"question.padding is {shown_number(padding)}, not the length of its prompts")
    n_about = len({row["about"] for row in rows})
    if n is not None and not 1 <= n <= MOST_LEFT_OUT * n_about:
        raise ValueError(f"question.n_mazes is {shown_number(n)}, its prompts are about {n_about}")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.40}, expected text")
    return value


def _number_from_json(name: str, saved: Any, arrays: Mapping[str, np.ndarray]) -> Number:
    _check_known(name, saved, NUMBER)
    tolerance, largest = (_finite(f"{name}.{key}", saved[key]) for key in ("tolerance", "largest"))
    if tolerance < 0 or largest < 0:
        raise ValueError(f"{name}: tolerance and largest are not negative")
    interval = saved.get("interval")
    if interval is not None and (not isinstance(interval, list) or len(interval) != 2):
        raise ValueError(f"{name}.interval is {interval!r:.40}, expected two numbers")
    low_high = None if interval is None else (_finite(name, interval[0]), _finite(name, interval[1]))
    if "sha256" not in saved:
        values = np.array([_finite(f"{name}.{label}", value) for label, value in saved["values"].items()])
        return Number(values, tuple(saved["values"]), tolerance, largest, low_high)
    key = saved["sha256"]
    if "values" in saved:
        values = array_of({"data": saved["values"], "dtype": saved["dtype"], "shape": saved["shape"]})
    elif key in arrays:
        values = arrays[key]
    else:
        raise ValueError(f"{name}: its array is not in the file beside it")
    if list(values.shape) != saved["shape"] or array_hash(values) != key or not np.isfinite(values).all():
        raise ValueError(f"{name}: its array is not that of its hash")
    return Number(values, None, tolerance, largest, low_high)


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r:.40}, expected a number")
    return float(value)


def _arrays_beside(file: Path) -> dict[str, np.ndarray]:
    beside = arrays_file(file)
    return read_arrays(beside, BaselineError) if beside.exists() else {}
