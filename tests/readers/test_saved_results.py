"""Saved results of which one field is damaged: a typed error that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maze_dla.errors import ResultFileError
from maze_dla.files import archive
from maze_dla.results.loading import load_result
from tests.readers.containers import digest
from tests.readers.mutations import members_of, zip_of
from tests.readers.saved import SAVED
from tests.readers.worker import Outcome, Worker

MAIN = "__zanj__.json"
Fields = dict[str, Any]
FIELDS: dict[str, tuple[str, Callable[[Fields], Any], str]] = {
    "arrays that are a list": ("stream", lambda f: f.update(means={"arrays": []}), "AttributeError"),
    "arrays of numbers": ("stream", lambda f: f["means"]["arrays"].update(metric=3), ""),
    "text that is a number": ("lens", lambda f: f.update(labels={"json": 3}), "labels: JSON is a text, got int"),
    "text that is an object": ("lens", lambda f: f.update(labels={"json": "{}"}), "labels: a dict, expected a list"),
    "deep text": ("lens", lambda f: f.update(info={"json": "[" * 10**5}), "info in __zanj__.json is not valid JSON ("),
    "a long integer": ("lens", lambda f: f.update(info={"json": f'[["a", {"9" * 5000}]]'}), "(Exceeds the limit"),
    "info without names": ("lens", lambda f: f.update(info={"json": "[[1, 2]]"}), "info: {1: 2}, expected names"),
    "targets that are numbers": (
        "lens",
        lambda f: f.update(targets={"json": "[1, 2, 3, 4]"}),
        "expected a list of texts",
    ),
    "tokens that are lists": (
        "lens",
        lambda f: f.update(prompt_tokens={"json": "[[[]], [], [], []]"}),
        "lists of texts",
    ),
    "labels that are one": ("lens", lambda f: f.update(labels="abc"), "labels: 'abc', expected a list of texts"),
    "a function as dtype": (
        "patch",
        lambda f: column(f, "load", [1] * 24),
        "columns: the kind 'load', expected text or",
    ),
    "a class as dtype": ("patch", lambda f: column(f, "Tensor", [1] * 24), "columns: the kind 'Tensor'"),
    "a list as dtype": ("patch", lambda f: column(f, ["float32"], [1] * 24), "is damaged (TypeError"),
    "ids over 2^63": ("patch", lambda f: column(f, "int64", [2**70] * 24), "a field of the PatchResult is damaged ("),
    "columns of texts as numbers": (
        "patch",
        lambda f: column(f, "text", [1] * 24),
        "columns: one of text holds something else",
    ),
    "a kind within that nobody knows": (
        "lens",
        lambda f: f.update(values={"kind": "X", "fields": {}}),
        "KeyError: 'X'",
    ),
    "a kind within that is a list": ("lens", lambda f: f.update(values={"kind": [], "fields": {}}), "TypeError"),
    "groups in a list": ("lens", lambda f: f.update(results={"results": []}), ""),
    "complex numbers": (
        "lens",
        lambda f: f["metric"].update(dtype="complex64"),
        "its dtype is 'complex64'; expected plain",
    ),
    "rows of nothing": ("lens", lambda f: f["metric"].update(shape=[10**9, 0], data=[]), "rows are read"),
    "a stream of 2^70 prompts": ("stream", lambda f: f.update(n=2**70), "n: 1180591620717411303424, expected a whole"),
    "a whole number that is text": ("stream", lambda f: f.update(n="8"), "n: '8', expected a whole number"),
}


def column(saved: Fields, kind: Any, values: list[Any]) -> None:
    saved["columns"] = {"json": json.dumps([["x", kind, values]])}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_is_damaged(name: str, results: Worker, files: dict[str, bytes], tmp_path: Path) -> None:
    kind, change, message = FIELDS[name]
    members = members_of(files[kind])
    main = json.loads(members[MAIN])
    change(main["fields"])
    file = tmp_path / "r.zanj"
    file.write_bytes(zip_of({**members, MAIN: json.dumps(main).encode()}))
    outcome: Outcome = results.read(file)
    if name == "groups in a list":  # a field that a lens does not have is left out
        assert outcome.kind == "content"
        return
    assert outcome.is_good(), outcome
    assert message in outcome.said, outcome.said


def test_whatever_is_saved_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numbers are alike, as zeros are, a compressed file would unfold to more than is ever read."""
    whole = SAVED["attribution"].save(tmp_path / "whole.zanj")
    monkeypatch.setattr(archive, "UNFOLDED", 1)
    monkeypatch.setattr(archive, "UNFOLDED_FLOOR", 0)
    with pytest.raises(ResultFileError, match=r"whole\.zanj: declares .* MB of members"):
        load_result(whole)
    again = SAVED["attribution"].save(tmp_path / "again.zanj")
    assert digest(load_result(again)) == digest(SAVED["attribution"])
