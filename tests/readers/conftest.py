"""Workers that read containers and saved results, and whole files to be damaged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.mazes.small_files import small_checkpoint

from .saved import SAVED
from .worker import Worker


@pytest.fixture(scope="package")
def containers() -> Iterator[Worker]:
    with Worker("tests.readers.containers:container") as worker:
        yield worker


@pytest.fixture(scope="package")
def results() -> Iterator[Worker]:
    with Worker("tests.readers.containers:results") as worker:
        yield worker


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the files hold before they are damaged: a container with arrays outside and within, and saved results."""
    folder = tmp_path_factory.mktemp("saved")
    saved = {name: result.save(folder / "r.zanj").read_bytes() for name, result in SAVED.items()}
    return {"container": small_checkpoint().write(folder / "c.zanj").read_bytes(), **saved}
