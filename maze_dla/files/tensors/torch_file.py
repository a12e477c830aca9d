"""What torch.save has written: the archive of today, and the files of torch before 1.6."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from maze_dla.errors import MazeDlaError
from maze_dla.files.tensors.stored import Span, Storage, TensorFile, file_size, swapped
from maze_dla.files.tensors.unpickling import LONGEST_PICKLE, DamagedPickle, ForeignPickle, unpickled

LONGEST_DIRECTORY = 4 * 2**20  # bytes of a zip's table of contents, of some 40,000 records
LOCAL_HEADER = 30  # bytes in front of a record's name
PICKLE = "/data.pkl"
MAGIC = 0x1950A86A20F9469CFC6C  # what a file of torch before 1.6 begins with


class NotTorch(ValueError):
    """A file that no torch.save has written; the message says why."""


def read_torch_file(path: Path, error: type[MazeDlaError]) -> Any:
    """The content of a checkpoint: plain data, and `StoredTensor`s of which nothing is read yet.

    Raises:
        error: naming the file: damaged, no checkpoint, or one with something else in it than tensors and plain data;
            nothing of it is ever run.
    """
    size = file_size(path, error)
    with _boundary(path, error), _LimitedFile(FileIO(path)) as stream:
        start = stream.read(4)
        stream.seek(0)
        if start[:1] == b"\x80":
            return _legacy_content(stream, TensorFile(path), size)
        if start != b"PK\x03\x04":
            raise NotTorch("tar files of torch before 0.1.10 and texts are none" if start else "empty")
        return _archive_content(stream, TensorFile(path), size)


@contextmanager
def _boundary(path: Path, error: type[MazeDlaError]) -> Iterator[None]:
    """Whatever a damaged file leads to, as an error that names the file."""
    try:
        yield
    except ForeignPickle as problem:
        raise error(
            f"{path}: holds more than tensors and plain data ({str(problem):.80}), and nothing of it was run"
        ) from problem
    except MazeDlaError:
        raise
    except Exception as problem:  # zipfile raises half a dozen kinds
        kind = "" if isinstance(problem, NotTorch | DamagedPickle | zipfile.BadZipFile) else type(problem).__name__
        reason = " ".join(f"{kind} {problem}".split())[:200]
        raise error(f"{path}: not a torch checkpoint, or cut off ({reason}); nothing of it was run") from problem


class _LimitedFile(BufferedReader):
    """A file from which nobody reads more at once than a table of contents or a pickle may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        if size is None or size < 0 or size > LONGEST_PICKLE:
            size = LONGEST_PICKLE + 1
        return super().read(size)


def _archive_content(stream: _LimitedFile, file: TensorFile, size: int) -> Any:
    with zipfile.ZipFile(stream) as archive:
        if archive.start_dir + LONGEST_DIRECTORY < size:
            raise NotTorch(f"a table of contents of more than {LONGEST_DIRECTORY} bytes")
        records = archive.infolist()
        names = {info.filename for info in records}
    if len(names) < len(records) or sum(info.file_size for info in records) > size:
        raise NotTorch("a zip with records that are there twice or larger than the file")
    main = [info for info in records if info.filename.endswith(PICKLE) and info.filename.count("/") == 1]
    if len(main) != 1:
        raise NotTorch(f"a zip without {PICKLE[1:]}; it holds {', '.join(sorted(names)[:3])[:120] or 'nothing'}")
    prefix = main[0].filename.removesuffix(PICKLE)
    if f"{prefix}/constants.pkl" in names:
        raise NotTorch("an archive of TorchScript, which is a program")
    small = {info.filename: info for info in records}
    if (info := small.get(f"{prefix}/byteorder")) is not None:
        file.is_swapped = swapped(_content(stream, _span(stream, info, size), "byteorder").decode("ascii"))
    inside = f"{prefix}/data/"
    for info in records:
        if info.filename.startswith(inside):
            file.spans[info.filename.removeprefix(inside)] = _span(stream, info, size)
    return unpickled(_content(stream, _span(stream, main[0], size), PICKLE[1:]), file)[0]


def _span(stream: _LimitedFile, info: zipfile.ZipInfo, size: int) -> Span:
    """Where the bytes of a record lie; torch stores them as they are."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise NotTorch(f"its record {info.filename:.80} is compressed or encrypted, torch stores records as they are")
    stream.seek(info.header_offset)
    header = stream.read(LOCAL_HEADER)
    if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise NotTorch(f"its record {info.filename:.80} is not where its table of contents has it")
    name, extra = struct.unpack_from("<HH", header, 26)
    start = info.header_offset + LOCAL_HEADER + name + extra
    if start + info.file_size > size:
        raise NotTorch(f"its record {info.filename:.80} is larger than the file")
    return Span(start, info.file_size, info.CRC or None)  # without a checksum where torch was told to write none


def _content(stream: _LimitedFile, span: Span, name: str) -> bytes:
    if span.size > LONGEST_PICKLE:
        raise NotTorch(f"{name} has {span.size} bytes, expected at most {LONGEST_PICKLE}")
    stream.seek(span.offset)
    content = stream.read(span.size)
    if span.checksum is not None and zlib.crc32(content) != span.checksum:
        raise NotTorch(f"{name} is damaged, its checksum differs")
    return content


def _legacy_content(stream: _LimitedFile, file: TensorFile, size: int) -> Any:
    """A mark, a version, the sizes of C's types, the content, the storages' keys; and then the storages in this order."""
    data = stream.read(LONGEST_PICKLE)
    mark, at = unpickled(data, file)
    if type(mark) is not int or mark != MAGIC:
        raise NotTorch("a pickle without torch's mark")
    _, at = unpickled(data, file, at)
    machine, at = unpickled(data, file, at)
    file.is_swapped = isinstance(machine, dict) and machine.get("little_endian") is False
    seen: dict[str, Storage] = {}
    content, at = unpickled(data, file, at, seen)
    keys, at = unpickled(data, file, at)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in seen for key in keys):
        raise NotTorch("a list of storages that are not those of its content")
    for key in keys:
        stream.seek(at)
        (count,) = struct.unpack("<q", stream.read(8))
        span = Span(at + 8, seen[key].size // max(seen[key].count, 1) * count)
        at = span.offset + span.size
        if count < 0 or at > size:
            raise NotTorch(f"its storage {key:.40} is cut off")
        file.spans[key] = span
    return content
