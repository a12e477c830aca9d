"""Classes of prompts about mazes, against their texts."""

from __future__ import annotations

from typing import Any

import pytest

import maze_dla as dla
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.prompts import MazePromptBatch
from maze_dla.errors import InputError

PASSAGE = ((1, 1), (0, 1))


@pytest.fixture(scope="module")
def batch(small_model: MazeModel) -> MazePromptBatch:
    return small_model.prompts(task=["first_path_choice", "path_end"], n_mazes=40)


def by_maze(classes: dla.PromptClasses) -> dict[str, Any]:
    text = {classes.batch.columns["maze"][i]: classes.batch.text(i) for i in range(len(classes))}  # pyright: ignore
    return {
        maze: (text[maze], label) for maze, label in zip(classes.batch.columns["maze"], classes.labels, strict=True)
    }


def test_which_way_the_first_step_goes(small_model: MazeModel, batch: MazePromptBatch) -> None:
    classes = small_model.classes(batch, "first_direction", balance=False)
    assert len(classes) == len(batch)
    assert set(classes.names) == {"down", "left", "right", "up"}
    for text, label in by_maze(classes).values():
        (r, c), (to_r, to_c) = text.path[:2]
        assert label == {(1, 0): "down", (-1, 0): "up", (0, 1): "right", (0, -1): "left"}[to_r - r, to_c - c]


def test_distance_above_or_below_its_median(small_model: MazeModel, batch: MazePromptBatch) -> None:
    one = batch.of_task("first_path_choice")
    classes = small_model.classes(one, "distance", balance=False)
    median = float(one.columns["distance"].double().quantile(0.5))  # pyright: ignore
    for i, label in enumerate(classes.labels):
        steps = int(classes.batch.columns["distance"][i])
        assert steps != median
        assert (label == "above") == (steps > median)
    assert classes.question == f"distance to the target, above or below {median:g} steps"


def test_whether_a_passage_is_open(small_model: MazeModel, batch: MazePromptBatch) -> None:
    classes = small_model.classes(batch, "passage", passage=PASSAGE)
    assert classes.names == ("closed", "open")
    assert len(set(classes.counts.values())) == 1
    for text, label in by_maze(classes).values():
        assert (label == "open") == (((0, 1), (1, 1)) in text.passages)
    assert classes.question == "is the passage between (0,1) and (1,1) open"


def test_balanced_classes_do_not_depend_on_the_order_of_mazes(small_model: MazeModel, batch: MazePromptBatch) -> None:
    one = batch.of_task("first_path_choice")
    turned = one.select(list(range(len(one)))[::-1])
    for by in ("first_direction", "legal_moves"):
        both = [small_model.classes(b, by) for b in (one, turned)]
        kept = [sorted(c.batch.columns["maze"]) for c in both]  # pyright: ignore
        assert kept[0] == kept[1]
        assert len(set(both[0].counts.values())) == 1


def test_any_column(small_model: MazeModel, batch: MazePromptBatch) -> None:
    classes = small_model.classes(batch, "task", balance=False)
    assert classes.labels == batch.columns["task"]
    own = small_model.classes(batch.with_column("mine", [i % 2 for i in range(len(batch))]), "mine", balance=False)
    assert own.labels == tuple(str(i % 2) for i in range(len(batch)))


def test_cues_say_what_tells_the_class_without_a_model(small_model: MazeModel, batch: MazePromptBatch) -> None:
    cues = small_model.classes(batch.of_task("first_path_choice"), "distance").cues(n_folds=3)
    assert cues["accuracy"].is_monotonic_decreasing
    told = cues.set_index("cue")["accuracy"]
    assert told["distance"] == told["path_length"] == 1
    assert told["target_cell"] < 0.9
    assert "maze" not in told


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a question": ({"by": "colour"}, "classes are by first_direction, distance, passage, maze, .*, got 'colour'"),
    "no passage": ({"by": "passage"}, "goes with 'passage', and with nothing else"),
    "a passage too many": ({"by": "distance", "passage": PASSAGE}, "goes with 'passage', and with nothing else"),
    "cells apart": ({"by": "passage", "passage": ((0, 0), (1, 1))}, "passage is two neighbouring cells"),
    "cells outside": ({"by": "passage", "passage": ((0, 2), (0, 3))}, "with numbers from 0 to 2"),
    "no cells": ({"by": "passage", "passage": 3}, "passage is two neighbouring cells .* got 3"),
    "names of cells": ({"by": "passage", "passage": "(0,0)"}, "passage is two neighbouring cells"),
    "too many values": ({"by": "maze"}, r"there are 2 to 20 classes, got 40 .* split in two"),
    "one value": ({"by": "step", "only": "first_path_choice"}, r"there are 2 to 20 classes, got 1 \(1\)"),
    "balance": ({"by": "distance", "balance": 1}, "balance is True or False, got int"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str, small_model: MazeModel, batch: MazePromptBatch) -> None:
    options, message = dict(REFUSED[what][0]), REFUSED[what][1]
    given = batch.of_task(options.pop("only")) if "only" in options else batch
    with pytest.raises(InputError, match=message):
        small_model.classes(given, **options)
    with pytest.raises(InputError, match=r"batch is that of maze.prompts\(\), got int"):
        small_model.classes(3, "distance")  # pyright: ignore[reportArgumentType]
