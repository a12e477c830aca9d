"""Damaged containers and saved results: a typed error of one line, or what was there, cheaply."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maze_dla.files.limits import EMPTY_AXIS, JSON_DEPTH
from tests.adapters.mazes.small_files import OLD
from tests.readers.mutations import Damage, of_bytes, of_npy, of_zip, zip_of
from tests.readers.saved import SAVED
from tests.readers.worker import Worker

MAIN, META = "__zanj__.json", "__zanj_meta__.json"
SEEDED = 60
few = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def damage_of(content: bytes, random: Random) -> Damage:
    return (of_bytes if random.random() < 0.2 else of_zip)(content, random)


def check(worker: Worker, file: Path, content: bytes, damages: list[Damage]) -> int:
    """How many of the damaged files were refused; none does worse than that."""
    file.write_bytes(content)
    whole = worker.read(file)
    assert whole.kind == "content", whole
    refused = 0
    for damage in damages:
        file.write_bytes(damage.content)
        outcome = worker.read(file)
        allowed = {outcome.said} if damage.is_value and outcome.kind == "content" else {whole.said}
        assert outcome.is_good(allowed), (damage.what, outcome)
        refused += outcome.kind == "error"
    return refused


def test_seeded_damage_of_containers(containers: Worker, files: dict[str, bytes], tmp_path: Path) -> None:
    content = files["container"]
    damages = [damage_of(content, Random(seed)) for seed in range(SEEDED)]
    assert check(containers, tmp_path / "c.zanj", content, damages) > SEEDED // 3


@pytest.mark.parametrize("kind", SAVED)
def test_seeded_damage_of_results(kind: str, results: Worker, files: dict[str, bytes], tmp_path: Path) -> None:
    damages = [damage_of(files[kind], Random(seed)) for seed in range(SEEDED)]
    assert check(results, tmp_path / "r.zanj", files[kind], damages) > SEEDED // 3


@few
@given(random=st.randoms(use_true_random=False))
def test_any_damage_of_containers(random: Random, containers: Worker, files: dict[str, bytes], tmp_path: Path) -> None:
    check(containers, tmp_path / "c.zanj", files["container"], [damage_of(files["container"], random)])


@few
@given(random=st.randoms(use_true_random=False), kind=st.sampled_from(list(SAVED)))
def test_any_damage_of_results(
    random: Random, kind: str, results: Worker, files: dict[str, bytes], tmp_path: Path
) -> None:
    check(results, tmp_path / "r.zanj", files[kind], [damage_of(files[kind], random)])


def test_the_heads_of_arrays(containers: Worker, tmp_path: Path) -> None:
    """numpy's own reader raises TokenError, OverflowError and IndexError for some of these."""
    whole = npy(np.arange(12.0, dtype=np.float32).reshape(3, 4))
    rng = Random(5)
    heads = [of_npy(whole, rng) for _ in range(200)]
    damages = [Damage(with_array(head.content), head.what, head.is_value) for head in heads]
    assert check(containers, tmp_path / "c.zanj", with_array(whole), damages) > 120


# One file for each attack: what it holds, and what the message says.


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def external(name: str) -> dict[str, Any]:
    return {OLD: "numpy.ndarray:external", "$ref": name}


def with_array(content: bytes, name: str = "x.npy", references: int = 1) -> bytes:
    main = {f"x{i}": external(name) for i in range(references)}
    return zip_of({MAIN: json.dumps(main).encode(), name: content})


def with_head(head: str, numbers: bytes = b"", version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(head))
    return with_array(b"\x93NUMPY" + version + size + head.encode() + numbers)


def head(descr: str = "'<f4'", shape: str = "(3,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def inline(**item: Any) -> bytes:
    kept = {OLD: "numpy.ndarray:array_list_meta", "shape": [2], "dtype": "float32", "data": [1, 2], **item}
    return with_json(json.dumps({"x": kept}))


def with_json(text: str | bytes) -> bytes:
    return zip_of({MAIN: text if isinstance(text, bytes) else text.encode()})


def zeros(declared: int, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An array of so many bytes of zeros, in a thousandth of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=9) as archive:
        archive.writestr(MAIN, json.dumps({"x": external("x.npy")}))
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(npy(np.zeros(declared, np.uint8))[:-declared])
            for _ in range(declared // 2**20):
                member.write(bytes(2**20))
    return buffer.getvalue()


def patched(content: bytes, **values: tuple[int, str, int]) -> bytes:
    """The zip with numbers of its second member overwritten: in the directory (`of_list`) or before it (`at`)."""
    raw = bytearray(content)
    for place, (offset, form, value) in values.items():
        mark = b"PK\1\2" if place.startswith("of_list") else b"PK\3\4"
        struct.pack_into(form, raw, raw.rindex(mark) + offset, value)
    return bytes(raw)


GOOD = with_array(npy(np.arange(3, dtype=np.float32)))
DECLARED = 8 * 10**9
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zeros": (
        lambda: zeros(100 * 2**20),
        "declares 105 MB of members, 105 MB of it in member x.npy; at most 67 MB are",
    ),
    "8 GB declared": (
        lambda: patched(GOOD + bytes(0), of_list=(24, "<I", 4 * 10**9)),
        "declares 4000 MB of members, 4000 MB of it in member x.npy; at most 67 MB are read of a file of 0.0 MB",
    ),
    "60 references": (
        lambda: with_array(npy(np.zeros(10**6, np.float32)), references=60),
        "member x.npy is referred to twice, expected once",
    ),
    "a larger array than declared": (lambda: patched(zeros(2**20), of_list=(24, "<I", 5000)), "member x.npy"),
    "JSON of 50 MB": (lambda: with_json(" " * 50_000_000), "declares 50 MB of JSON, 50 MB of it in member __zanj__"),
    "a million lists": (
        lambda: with_json("[" + "[]," * 10**6 + "0]"),
        "it has 1000001 lists and objects, at most 400000",
    ),
    "lists in lists": (
        lambda: with_json("[" * 10**6),
        "member __zanj__.json is not valid JSON (it has 1000000 lists and objects",
    ),
    "deep lists": (
        lambda: with_json('{"a": ' + "[" * 9000 + "]" * 9000 + "}"),
        f"lists and objects 9001 deep inside each other, at most {JSON_DEPTH} are read",
    ),
    "deep lists behind brackets in text": (
        lambda: with_json('["' + "]" * 200 + '", "\\"' + "]" * 200 + '", ' + "[" * 200 + "]" * 200 + "]"),
        "lists and objects 201 deep",
    ),
    "a long integer": (
        lambda: with_json('{"a": ' + "9" * 5000 + "}"),
        "__zanj__.json is not valid JSON (Exceeds the limit",
    ),
    "a key twice": (lambda: with_json('{"a": 1, "a": 2}'), "__zanj__.json is not valid JSON (key 'a' is there twice)"),
    "a long key twice": (lambda: with_json(f'{{"{"k" * 10**6}": 1, "{"k" * 10**6}": 2}}'), "[1000002 characters]"),
    "JSON in UTF-16": (lambda: with_json('{"a": 1}'.encode("utf-16")), "__zanj__.json is not valid JSON ("),
    "a directory of 5 MB": (
        lambda: zip_of([(MAIN, b"{}"), *((f"{i:040000d}", b"") for i in range(130))]),
        "its list of members has 5.2 MB, at most 4.2 MB are read",
    ),
    "bzip2": (
        lambda: zip_of({MAIN: b"{}"}, zipfile.ZIP_BZIP2),
        "member __zanj__.json is damaged (compression method 12, expected deflated or stored)",
    ),
    "an unknown method": (lambda: patched(GOOD, of_list=(10, "<H", 77), at=(8, "<H", 77)), "compression method 77"),
    "encrypted": (
        lambda: patched(GOOD, of_list=(8, "<H", 1), at=(6, "<H", 1)),
        "member x.npy is damaged (it is encrypted)",
    ),
    "another name before the member": (lambda: GOOD.replace(b"x.npy", b"y.npy", 1), "is not valid JSON|missing|x.npy"),
    "an offset beyond the file": (lambda: patched(GOOD, of_list=(42, "<I", 2**31)), "member x.npy is damaged ("),
    "zip64 sizes that are not there": (lambda: patched(GOOD, of_list=(24, "<I", 2**32 - 1)), ""),
    "names twice": (
        lambda: zip_of([(MAIN, b"{}"), (MAIN, b"[]")]),
        "member __zanj__.json is there twice, expected once",
    ),
    "a member like a folder": (lambda: with_array(b"", "folder/"), "member folder/ is no plain array ("),
    "a name of 60,000 characters": (lambda: with_array(b"", "n" * 60_000), "[60000 characters]"),
    "a reference that is a list": (lambda: with_json(json.dumps({"x": external(["a"])})), "member ['a'] is missing"),
    "a reference out of the archive": (
        lambda: with_json(json.dumps({"x": external("/etc/passwd")})),
        "/etc/passwd is miss",
    ),
    "a pickle": (
        lambda: with_array(b"\x80\x04K\x01."),
        "member x.npy is no plain array (a pickle, of which nothing was run)",
    ),
    "objects": (
        lambda: with_head(head("'|O'"), b"\x80\x04K\x01."),
        "its dtype is '|O', a pickle, of which nothing was run",
    ),
    "a record": (lambda: with_head(head("[('a', '<f4')]"), bytes(12)), "its header is"),
    "texts": (lambda: with_head(head("'<U1000000000'")), "its dtype is '<U1000000000'; expected plain numbers"),
    "an array of a dtype": (lambda: with_head(head("'(1000000000,)<f4'")), "expected plain numbers"),
    "a header that is code": (lambda: with_head("__import__('os').abort()\n"), "its header is"),
    "a header of brackets": (lambda: with_head("(" * 4000), "its header is"),
    "a header of 3 MB": (
        lambda: with_head("1+" * 1_500_000, version=b"\2\0"),
        "its header has 3000000 bytes, at most 4096 are read",
    ),
    "a header that is cut": (lambda: with_head("{'descr': '<f4', 'fortran"), "its header is"),
    "numbers missing": (
        lambda: with_head(head(shape="(1000000000000,)"), bytes(12)),
        "takes 4000000000000 bytes, it holds 12",
    ),
    "numbers too many": (lambda: with_head(head(), bytes(13)), "(3,) of float32 takes 12 bytes, it holds 13"),
    "a negative size": (lambda: with_head(head(shape="(-1,)"), bytes(12)), "its header is"),
    "a size of 3,000 digits": (lambda: with_head(head(shape=f"({'9' * 3000},)"), bytes(12)), "bytes, it holds 12"),
    "40 axes": (lambda: with_head(head(shape=f"({'1, ' * 40})"), bytes(4)), "expected at most 32 sizes"),
    "rows of nothing": (lambda: with_head(head(shape="(1000000000, 0)")), f"at most {EMPTY_AXIS} rows are read"),
    "rows of nothing inline": (lambda: inline(shape=[10**9, 0], data=[]), f"at most {EMPTY_AXIS} rows are read"),
    "inline shape": (lambda: inline(shape=[10**9]), "x in __zanj__.json is no array (cannot reshape"),
    "inline shape in words": (lambda: inline(shape="many"), "its shape is many, expected at most 32 sizes"),
    "inline dtype": (lambda: inline(dtype="load"), "its dtype is 'load'; expected plain numbers"),
    "inline objects": (lambda: inline(dtype="O"), "its dtype is 'O', a pickle"),
    "inline texts": (lambda: inline(dtype="U1000000000"), "its dtype is 'U1000000000'; expected plain numbers"),
    "inline arrays of numbers": (lambda: inline(dtype="(1000000000,)f4"), "expected plain numbers"),
    "inline lists of many lengths": (lambda: inline(data=[[1, 2], [3]]), "x in __zanj__.json is no array ("),
    "inline without data": (
        lambda: with_json(json.dumps({"x": {OLD: "numpy.ndarray:zero_dim"}})),
        "no array (KeyError: 'dtype')",
    ),
    "inline data that is an object": (
        lambda: inline(dtype="bool", data={}, shape=[1]),
        "its data are no numbers of bool",
    ),
    "inline texts of one long one": (
        lambda: inline(data=["x" * 10**6, *["y"] * 1000], shape=[1001]),
        "its data are no numbers of float32, but str",
    ),
    "inline data of no values": (lambda: inline(data=[None, 1]), "its data are no numbers of float32"),
    "inline fractions as whole numbers": (
        lambda: inline(data=[0.5, 1], dtype="int64"),
        "its data are no numbers of int64",
    ),
    "an integer beyond 64 bits": (lambda: inline(dtype="int64", data=[2**80, 1]), "x in __zanj__.json is no array ("),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb(name: str, containers: Worker, tmp_path: Path) -> None:
    make, message = BOMBS[name]
    file = tmp_path / "bomb.zanj"
    file.write_bytes(make())
    outcome = containers.read(file)
    assert outcome.is_good(), outcome
    assert outcome.said.startswith(f"{file}: ")
    assert any(part in outcome.said for part in message.split("|")), outcome.said


def test_what_the_bombs_derive_from_is_good(containers: Worker, tmp_path: Path) -> None:
    for i, content in enumerate(
        (GOOD, inline(), with_head(head(), bytes(12)), with_json("[[]]".join(['{"a": ', "}"])))
    ):
        (tmp_path / f"{i}.zanj").write_bytes(content)
        outcome = containers.read(tmp_path / f"{i}.zanj")
        assert outcome.kind == "content", outcome


PLACES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda folder: folder / "none.zanj", "no such file"),
    "below a file": (lambda folder: made(folder / "f", b"x") / "x.zanj", "no such file"),
    "a folder": (lambda folder: folder, "a folder, expected a .zanj file"),
    "no bytes": (lambda folder: made(folder / "e.zanj", b""), "the file is empty"),
    "one byte": (lambda folder: made(folder / "e.zanj", b"P"), "not a zip file, or cut off ("),
    "a pipe": (lambda folder: pipe(folder / "p.zanj"), "no ordinary file but a pipe or device"),
    "a device": (lambda folder: Path("/dev/zero"), "no ordinary file but a pipe or device"),
    "a link to itself": (lambda folder: loop(folder / "l.zanj"), "cannot be read (Too many levels of symbolic links)"),
    "a long name": (lambda folder: folder / f"{'n' * 300}.zanj", "cannot be read (File name too long)"),
    "a very long name": (lambda folder: folder / f"{'n' * 9000}.zanj", " characters] ... "),
    "a null byte": (lambda folder: folder / "a\0b.zanj", r"a\x00b.zanj: cannot be read (embedded null byte)"),
    "a name that is no text": (lambda folder: made(folder / "\udcff.zanj", b"x"), r"\udcff.zanj: not a zip file"),
    "somebody's": (lambda folder: Path("~nosuchuser/x.zanj"), "~nosuchuser/x.zanj: no such file"),
}


def made(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def pipe(file: Path) -> Path:
    os.mkfifo(file)
    return file


def loop(file: Path) -> Path:
    file.symlink_to(file)
    return file


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_no_file(name: str, containers: Worker, results: Worker, tmp_path: Path) -> None:
    place, message = PLACES[name]
    path = place(tmp_path)
    for worker in (containers, results):
        outcome = worker.read(path)
        assert outcome.is_good(), outcome
        assert message in outcome.said
