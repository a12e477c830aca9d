"""Files of torch.save: the archive of today, and the files of torch before 1.6."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from maze_dla.errors import MazeDlaError, shortened
from maze_dla.files.boundary import reading, regular_file
from maze_dla.files.limits import ARCHIVE_DIRECTORY, size_on_disk
from maze_dla.files.tensors.stored import Span, Storage, TensorFile, swapped
from maze_dla.files.tensors.unpickling import LONGEST_PICKLE, ForeignPickleError, unpickled

LOCAL_HEADER = 30  # bytes in front of a record's name
PICKLE = "/data.pkl"
MAGIC = 0x1950A86A20F9469CFC6C  # what a file of torch before 1.6 begins with


def read_torch_file(path: Path, error: type[MazeDlaError]) -> Any:
    """The content of a checkpoint: plain data, and `StoredTensor`s of which nothing is read yet.

    Raises:
        error: naming the file: damaged, no checkpoint, or one with something else in it than tensors and plain data;
            nothing of it is ever run.
    """
    size = size_on_disk(regular_file(path, error))
    with reading(path, error, "not a torch checkpoint, or cut off; nothing of it was run"):
        try:
            with _LimitedFile(FileIO(path)) as stream:
                start = stream.read(4)
                stream.seek(0)
                if start[:1] == b"\x80":
                    return _legacy_content(stream, TensorFile(path), size)
                if start != b"PK\x03\x04":
                    raise ValueError("neither a zip nor a pickle")
                return _archive_content(stream, TensorFile(path), size)
        except ForeignPickleError as problem:
            what = shortened(problem, 100)
            raise error(f"{path}: holds more than tensors and plain data ({what}), and nothing of it was run") from None


class _LimitedFile(BufferedReader):
    """A file from which nobody reads more at once than a table of contents or a pickle may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        if size is None or size < 0 or size > LONGEST_PICKLE:
            size = LONGEST_PICKLE + 1
        return super().read(size)


def _archive_content(stream: _LimitedFile, file: TensorFile, size: int) -> Any:
    with zipfile.ZipFile(stream) as archive:
        if archive.start_dir + ARCHIVE_DIRECTORY < size:
            raise ValueError(f"a table of contents of more than {ARCHIVE_DIRECTORY} bytes")
        records = archive.infolist()
        names = {info.filename for info in records}
    if len(names) < len(records) or sum(info.file_size for info in records) > size:
        raise ValueError("a zip with records that are there twice or larger than the file")
    main = [info for info in records if info.filename.endswith(PICKLE) and info.filename.count("/") == 1]
    if len(main) != 1:
        raise ValueError(f"a zip without {PICKLE[1:]}; it holds {shortened(', '.join(sorted(names)[:3])) or 'nothing'}")
    prefix = main[0].filename.removesuffix(PICKLE)
    if f"{prefix}/constants.pkl" in names:
        raise ValueError("an archive of TorchScript, which is a program")
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
        raise ValueError(
            f"its record {shortened(info.filename, 80)} is compressed or encrypted, torch stores records as they are"
        )
    stream.seek(info.header_offset)
    header = stream.read(LOCAL_HEADER)
    if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise ValueError(f"its record {shortened(info.filename, 80)} is not where its table of contents has it")
    name, extra = struct.unpack_from("<HH", header, 26)
    start = info.header_offset + LOCAL_HEADER + name + extra
    if start + info.file_size > size:
        raise ValueError(f"its record {shortened(info.filename, 80)} is larger than the file")
    return Span(start, info.file_size, info.CRC or None)  # without a checksum where torch was told to write none


def _content(stream: _LimitedFile, span: Span, name: str) -> bytes:
    if span.size > LONGEST_PICKLE:
        raise ValueError(f"{name} has {span.size} bytes, expected at most {LONGEST_PICKLE}")
    stream.seek(span.offset)
    content = stream.read(span.size)
    if span.checksum is not None and zlib.crc32(content) != span.checksum:
        raise ValueError(f"{name} is damaged, its checksum differs")
    return content


def _legacy_content(stream: _LimitedFile, file: TensorFile, size: int) -> Any:
    """Five pickles: a mark, a version, sizes of C's types, the content, the storages' keys; then the storages."""
    data = stream.read(LONGEST_PICKLE)
    mark, at = unpickled(data, file)
    if type(mark) is not int or mark != MAGIC:
        raise ValueError("a pickle without torch's mark")
    _, at = unpickled(data, file, at)
    machine, at = unpickled(data, file, at)
    file.is_swapped = isinstance(machine, dict) and machine.get("little_endian") is False
    seen: dict[str, Storage] = {}
    content, at = unpickled(data, file, at, seen)
    keys, at = unpickled(data, file, at)
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in seen for key in keys):
        raise ValueError("a list of storages that are not those of its content")
    for key in keys:
        stream.seek(at)
        (count,) = struct.unpack("<q", stream.read(8))
        span = Span(at + 8, seen[key].size // max(seen[key].count, 1) * count)
        at = span.offset + span.size
        if count < 0 or at > size:
            raise ValueError(f"its storage {shortened(key, 60)} is cut off")
        file.spans[key] = span
    return content
