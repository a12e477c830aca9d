"""Files of torch.save: read as torch reads them, without its pickle machine; bombs and lies are refused."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import time
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maze_dla.errors import CheckpointError
from maze_dla.files.tensors import stored, unpickling
from maze_dla.files.tensors.stored import StoredTensor, read_tensors
from maze_dla.files.tensors.torch_file import read_torch_file

from .mutations import zip_of
from .torch_archives import STORAGE, V2, archive, number, numbers, saved, state_pickle, tensor

FLOAT8 = [d for name in ("float8_e4m3fn", "float8_e5m2") if (d := getattr(torch, name, None)) is not None]


def leaves(item: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """All that is no dictionary, list or tuple, by its place."""
    parts = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list | tuple) else None
    if parts is None:
        yield at, item
    for key, value in parts or ():
        yield from leaves(value, f"{at}/{key}")


def read(content: bytes, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    (tmp_path / "c.pth").write_bytes(content)
    found = dict(leaves(read_torch_file(tmp_path / "c.pth", CheckpointError)))
    tensors = {name: value for name, value in found.items() if isinstance(value, StoredTensor)}
    return found, read_tensors(tensors, CheckpointError)


def said(content: bytes, tmp_path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(content, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) <= 1000
    return text


def checkpoint() -> dict[str, Any]:
    """What training code saves."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    model(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    w = torch.randn(5, 3)
    dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, *FLOAT8]
    return {
        "model_state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": {"n_head": 3, "lr": 1e-3, "name": "é", "on": True, "off": None, "dtype": torch.float32},
        "numbers": [2**31, -70000, 10**30, float("inf"), -1, 255, 65535],
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "counts": Counter("aab"),
        "ordered": OrderedDict(a=1),
        "keys": {(1, 2): 3, 4: 5, None: 6},
        "kinds": [w.to(dtype) for dtype in dtypes],
        "views": [w, w, w.t(), w[1:, 1:], w[::2], torch.zeros(0, 4), torch.tensor(3.5), torch.nn.Parameter(w)],
    }


@pytest.mark.parametrize("options", [{}, *({"pickle_protocol": n} for n in (3, 4, 5))], ids=str)
def test_all_is_as_torch_reads_it(options: dict[str, Any], tmp_path: Path) -> None:
    content = checkpoint()
    found, tensors = read(saved(content, **options), tmp_path)
    reference = content if options else torch.load(tmp_path / "c.pth", weights_only=True)
    expected = dict(leaves(reference))
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, Tensor):
            ours = tensors[name]
            assert (ours.dtype, ours.shape, ours.stride()) == (value.dtype, value.shape, value.stride()), name
            assert (
                ours.contiguous().numpy(force=True).tobytes() == value.contiguous().numpy(force=True).tobytes()
                if (value.dtype not in (torch.bfloat16, *FLOAT8))
                else torch.equal(ours.float(), value.float())
            ), name
        elif name != "/device":
            assert found[name] == value, name
    views = [tensors[f"/views/{i}"] for i in range(5)]
    assert len({view.untyped_storage().data_ptr() for view in views}) == 1  # tied as they were


def test_a_file_of_torch_before_1_6(tmp_path: Path) -> None:
    w = torch.randn(4, 3)
    content = {"model": {"w": w, "v": w[2:], "i": torch.arange(3)}, "step": 3}
    found, tensors = read(saved(content, _use_new_zipfile_serialization=False), tmp_path)
    assert found["/step"] == 3
    for name in ("w", "v", "i"):
        assert torch.equal(tensors[f"/model/{name}"], content["model"][name])
    assert "is cut off" in said(saved(content, _use_new_zipfile_serialization=False)[:-4], tmp_path)


def test_numbers_of_the_other_byte_order(tmp_path: Path) -> None:
    members = {"a/data.pkl": state_pickle(tensor(3, (3,), (1,))), "a/byteorder": b"big"}
    content = zip_of({**members, "a/data/0": np.array([1, 2, 3], ">f4").tobytes()}, zipfile.ZIP_STORED)
    assert read(content, tmp_path)[1]["/w0"].tolist() == [1, 2, 3]


def test_a_tensor_with_attributes(tmp_path: Path) -> None:
    w = torch.randn(2)
    w.note = "x"  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(read(saved({"w": w}), tmp_path)[1]["/w"], w)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("echo was run",)


FOREIGN = {
    "os.system": Runs(),
    "argparse.Namespace": argparse.Namespace(a=1),
    "torch.nn.modules.linear.Linear": torch.nn.Linear(1, 1),
    "numpy.dtype": np.dtype("f4"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("options", [{}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}], ids=str)
def test_what_is_no_plain_data_is_named(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    text = said(saved({"model": {"w": torch.ones(1)}, "x": FOREIGN[name]}, **options), tmp_path)
    assert text.endswith(f"c.pth: holds more than tensors and plain data ({name}), and nothing of it was run")


def test_other_kinds_of_tensors_are_called_what_they_are(tmp_path: Path) -> None:
    w = torch.randn(3, 4)
    for what, value in {"sparse": w.to_sparse(), "device meta": w.to("meta")}.items():
        assert what in said(saved({"w": value}), tmp_path)
    scripted = io.BytesIO()
    with zipfile.ZipFile(scripted, "w") as made:
        for name in ("a/data.pkl", "a/constants.pkl", "a/code/x.py"):
            made.writestr(name, b"\x80\x02}.")
    assert "an archive of TorchScript, which is a program" in said(scripted.getvalue(), tmp_path)
    assert "a pickle without torch's mark" in said(pickle.dumps({"a": 1}), tmp_path)
    assert "a zip without data.pkl; it holds x" in said(zip_of({"x": b""}, zipfile.ZIP_STORED), tmp_path)


# a tuple of two of a tuple of two ..., so often that nobody can go through it
DOUBLED = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))


WEIGHT = b"X\x01\x00\x00\x00w" + tensor(2, (2,), (1,))
LONG_KEY = b"X" + (10**6).to_bytes(4, "little") + b"k" * 10**6
NEVER = {
    "as a key": (b"\x80\x02}" + DOUBLED + b"Ns.", "has a tuple as a key"),
    "in a set": (b"\x80\x04\x8f(" + DOUBLED + b"\x90.", None),
    "as the content": (b"\x80\x02" + DOUBLED + b".", None),
    "as a size": (b"\x80\x02" + V2 + b"(" + STORAGE + b"K\x02tQK\x00" + DOUBLED + b"q\x60h\x60\x89NtR.", "sizes"),
    "as a config": (b"\x80\x02}(" + WEIGHT + b"X\x06\x00\x00\x00config" + DOUBLED + b"u.", None),
    "a long number": (b"\x80\x02\x8b" + (10**6).to_bytes(4, "little") + b"\x7f" * 10**6 + b".", "operation 0x8b"),
    "long keys": (b"\x80\x02}" + LONG_KEY + b"q\x00N" + b"s" + b"h\x00Ns" * 1000 + b".", "a key of 1000000 characters"),
    "colliding keys": (b"\x80\x02}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(1, 9)) + b"u.", "bits"),
    "many operations": (b"\x80\x02" + b"N0" * 10**6 + b".", "more than 2000000 steps"),
    "lists again and again": (b"\x80\x02](" + b"N" * 10**5 + b"e" + b"2" * 10**5 + b".", None),
}


@pytest.mark.parametrize("name", NEVER)
def test_a_pickle_that_never_returns(name: str, tmp_path: Path) -> None:
    """In the machine of Python's pickle most of these run for years; read here, they are a typed error or content."""
    content, expected = NEVER[name]
    started = time.process_time()
    (tmp_path / "c.pth").write_bytes(archive(content, _0=bytes(8)))
    with nullcontext() if expected is None else pytest.raises(CheckpointError, match=expected):
        read_torch_file(tmp_path / "c.pth", CheckpointError)
    assert time.process_time() - started < 5


LIES = {
    "stride 0": (
        tensor(4, (50257, 10**6), (0, 0)),
        "w0 is 50257x1000000, 50257000000 numbers, and says the same numbers",
    ),
    "outside": (
        tensor(4, (2, 2), (2, 1), offset=1),
        "w0 is 2x2, 4 numbers, and reaches to number 5 of a record that has 4",
    ),
    "a larger storage": (tensor(10**10, (4,), (1,)), "w0: its record 0 of 40000000000 bytes has 16"),
    "a smaller storage": (tensor(2, (2,), (1,)), "w0: its record 0 of 8 bytes has 16"),
    "below 0": (tensor(4, (4,), (-1,), offset=3), "below 0"),
    "sizes below 0": (tensor(4, (-1, -4), (1, 1)), "below 0"),
    "beyond all": (tensor(4, (2**200, 0), (1, 1)), "above"),
    "too many axes": (tensor(4, (1,) * 100, (1,) * 100), "sizes are no numbers"),
    "sizes of axes differ": (tensor(4, (4,), (1, 1)), "a tensor that is none"),
    "no storage": (V2 + b"(NK\x00" + numbers(1) + numbers(1) + b"\x89NtR", "the pickle is damaged"),
}


@pytest.mark.parametrize("name", LIES)
def test_tensors_that_are_not_there(name: str, tmp_path: Path) -> None:
    pickled, expected = LIES[name]
    assert expected in said(archive(state_pickle(pickled), _0=bytes(16)), tmp_path)
    assert read(archive(state_pickle(tensor(4, (2, 2), (2, 1))), _0=bytes(16)), tmp_path)[1]["/w0"].shape == (2, 2)


def test_many_tensors_that_are_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "SMALL", 1000)
    each = tensor(100, (100,), (1,))
    assert "its 60 tensors have 24000 bytes and lie in 400" in said(
        archive(state_pickle(*[each] * 60), _0=bytes(400)), tmp_path
    )
    assert len(read(archive(state_pickle(each, each), _0=bytes(400)), tmp_path)[1]) == 2  # a tied head


def test_archives_that_unfold(tmp_path: Path) -> None:
    pickled = state_pickle(tensor(4, (4,), (1,)))
    compressed = zip_of({"a/data.pkl": pickled, "a/data/0": bytes(10**7)})
    assert "a zip with records that are there twice or larger than the file" in said(compressed, tmp_path)
    small = zip_of({"a/data.pkl": pickled, "a/data/0": bytes(range(16))})
    assert "is compressed or encrypted" in said(small, tmp_path)
    content = bytearray(archive(pickled, _0=bytes(10**6)))
    for _ in range(60):  # the same record under other names
        content = _with_entry_again(bytes(content))
    assert "there twice or larger" in said(bytes(content), tmp_path)


def _with_entry_again(content: bytes) -> bytearray:
    """The table of contents with its last entry twice."""
    end = content.rindex(b"PK\x05\x06")
    last = content.rindex(b"PK\x01\x02", 0, end)
    entry = content[last:end]
    counts = struct.unpack_from("<HHII", content, end + 8)
    tail = bytearray(content[end:])
    struct.pack_into("<HHII", tail, 8, counts[0] + 1, counts[1] + 1, counts[2] + len(entry), counts[3])
    return bytearray(content[:end] + entry + tail)


def test_a_damaged_record_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    content = bytearray(archive(state_pickle(tensor(4, (4,), (1,))), _0=b"numbers of 16 B."))
    content[content.index(b"numbers")] ^= 1
    assert "the record 0 is damaged (its checksum differs)" in said(bytes(content), tmp_path)
    content = bytearray(archive(state_pickle(tensor(4, (4,), (1,))), _0=b"numbers of 16 B."))
    content[content.index(b"w0")] ^= 2
    assert "data.pkl is damaged, its checksum differs" in said(bytes(content), tmp_path)


def test_the_time_of_each_operation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the operations are: as many of each as a pickle may have are done within seconds."""
    assert set(unpickling.WORK) < set(unpickling.OPERATIONS)
    monkeypatch.setattr(unpickling, "MOST_WORK", most := 100_000)
    for made in (b"(t", b"]", b"}", b")\x85", b"ctorch\nSize\n", b"N2\x86"):
        started = time.process_time()
        with pytest.raises(unpickling.DamagedPickleError, match="steps of work"):
            unpickling.unpickled(made * most, stored.TensorFile(Path("x")))
        assert time.process_time() - started < 1
