"""What all readers share: the boundary, plain files, JSON, and messages of a screen."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

import pytest

from maze_dla.errors import SCREEN, CheckpointError, DatasetError, shortened
from maze_dla.files.boundary import read_bytes, reading, regular_file
from maze_dla.files.json_file import parse_json, read_object


def through(problem: BaseException) -> None:
    with reading("m.zanj", CheckpointError, "member x is damaged"):
        raise problem


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (tokenize.TokenError("EOF in multi-line statement", (2, 0)), "('EOF in multi-line statement', (2, 0))"),
        (OverflowError("too large"), "OverflowError: too large"),
        (IndexError(), "IndexError"),
        (MemoryError(), "it takes more memory than there is"),
        (RecursionError("maximum"), "nested too deep"),
        (OSError(36, "File name too long"), "File name too long"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_whatever_is_raised_is_one_typed_error(problem: Exception, reason: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"m.zanj: member x is damaged ({reason})")) as error:
        through(problem)
    assert error.value.__cause__ is problem


@pytest.mark.parametrize("problem", [DatasetError("ours"), KeyboardInterrupt(), SystemExit(3)])
def test_our_own_errors_and_interruptions_pass(problem: BaseException) -> None:
    with pytest.raises(type(problem)) as error:
        through(problem)
    assert error.value is problem


def test_messages_are_no_longer_than_a_screen() -> None:
    assert shortened("x" * 200) == "x" * 200
    cut = shortened("ab" + "x" * 9996 + "yz")
    assert (len(cut), cut[:2], cut[-2:]) == (200, "ab", "yz")
    assert " ... [10000 characters] ... " in cut
    for text in ("x" * 10**7, "\u202e" * 10**6, "\n" * 1001):
        said = str(CheckpointError(f"m.zanj: {text} end"))
        assert len(said) <= SCREEN
        assert said.isprintable()
        assert said.startswith("m.zanj: ")
        assert said.endswith(" end")
    assert str(CheckpointError("m.zanj: short")) == "m.zanj: short"


def test_plain_files(tmp_path: Path) -> None:
    file = tmp_path / "f.txt"
    file.write_bytes(b"12345")
    assert regular_file(file, CheckpointError) == file
    assert read_bytes(file, CheckpointError, largest=5) == b"12345"
    with pytest.raises(CheckpointError, match=r"f\.txt: has 0\.0 MB, at most 0\.0 MB are read as a text$"):
        read_bytes(file, CheckpointError, "a text", largest=4)


def test_json_says_what_it_said() -> None:
    text = r'{"a": [1, -2.5, "\"]\\", {"b": null}], "\u00e9[": true}'
    expected = {"a": [1, -2.5, '"]\\', {"b": None}], "\u00e9[": True}
    assert parse_json(text, "f", CheckpointError) == expected
    assert parse_json(b"\xef\xbb\xbf" + text.encode(), "f", CheckpointError) == expected
    assert parse_json("[NaN]", "f", CheckpointError)[0] != 0
    with pytest.raises(CheckpointError, match=r"f: member m is not valid JSON \(NaN is no number of JSON\)"):
        parse_json("[NaN]", "f", CheckpointError, "m", finite=True)
    many = '["[' + '", "['.join("x" * 500) + '"]'  # brackets in texts are not counted
    assert len(parse_json(many, "f", CheckpointError)) == 500


def test_an_object_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "f.json", CheckpointError) == {"a": 1}
    for text, message in (("[1]", "holds a list, expected an object"), ("{", r"cannot be read as JSON \(")):
        (tmp_path / "f.json").write_text(text)
        with pytest.raises(CheckpointError, match=rf"f\.json: {message}"):
            read_object(tmp_path / "f.json", CheckpointError)
    with pytest.raises(CheckpointError, match=r"none\.json: no such file"):
        read_object(tmp_path / "none.json", CheckpointError)
