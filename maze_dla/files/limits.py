"""The most that is read from one file; checked before anything is read.

What a file unfolds to is compared with its size on disk: a small file that unfolds to gigabytes is refused, and a large
one may hold what it likes. The floors are for small files. Measured on checkpoints, data sets and results: whole files
unfold to 1.4 to 22 times their size (zeros to 1000 times), JSON to 25, and a byte on disk holds 0.3 of its containers.
"""

from __future__ import annotations

import stat
from pathlib import Path

MIB = 2**20

UNFOLDED, UNFOLDED_FLOOR = 150, 64 * MIB  # all members of an archive, in bytes: times the file's size; and at least
JSON, JSON_FLOOR = 40, 8 * MIB  # its JSON, in bytes
JSON_CONTAINERS, JSON_CONTAINERS_FLOOR = 5, 400_000  # lists and objects of one JSON text: each costs 60 bytes and more
PLAIN_FILE = 64 * MIB  # a text or JSON file that is no archive, in bytes
JSON_DEPTH = 100  # lists and objects inside each other
ARCHIVE_DIRECTORY = 4 * MIB  # the list of an archive's members, in bytes; 40,000 members
NPY_HEADER = 4096  # the head of an array, in bytes; numpy writes about 120
AXES = 32
EMPTY_AXIS = 1_000_000  # the size of an axis of an array without any values


def size_on_disk(file: str | Path) -> int:
    """The size of an ordinary file in bytes, 0 for anything else."""
    found = Path(file).stat()
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def megabytes(size: int) -> str:
    """The size for a message: "8000 MB", "0.3 MB"."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
