"""Damaged baselines: a typed error of one line, or what was there, cheaply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maze_dla.baselines.files import arrays_file, read_baselines
from maze_dla.baselines.record import record_baseline
from tests.readers.containers import digest
from tests.readers.mutations import Damage, of_bytes, of_json, of_zip
from tests.readers.worker import Worker

SEEDED = 60
few = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def baselines(path: Path) -> str:
    """The reader: all that a file and the arrays beside it hold."""
    return digest(read_baselines(path))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("tests.readers.test_damaged_baselines:baselines") as running:
        yield running


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A file and the arrays beside it, as they were written."""
    file = record_baseline(tmp_path_factory.mktemp("baselines") / "b.json", n_mazes=20)
    return file.read_bytes(), arrays_file(file).read_bytes()


def of_text(content: bytes, random: Random) -> Damage:
    """Damage to the JSON, of its bytes or by its structure."""
    if random.random() < 0.3:
        return of_bytes(content, random)
    return of_json(content, random)


def read(worker: Worker, folder: Path, content: bytes, arrays: bytes) -> tuple[bool, str]:
    """Whether reading ended well, and what was read."""
    file = folder / "b.json"
    file.write_bytes(content)
    arrays_file(file).write_bytes(arrays)
    outcome = worker.read(file)
    return outcome.is_good({outcome.said}), outcome.said if outcome.kind == "content" else ""


@pytest.mark.parametrize("part", ["json", "npz"])
def test_seeded_damage(part: str, worker: Worker, recorded: tuple[bytes, bytes], tmp_path: Path) -> None:
    content, arrays = recorded
    good, whole = read(worker, tmp_path, content, arrays)
    assert good
    assert whole
    refused = 0
    for seed in range(SEEDED):
        refused += not check(part, Random(seed), whole, worker, recorded, tmp_path)
    assert refused > SEEDED // 3


@few
@given(random=st.randoms(use_true_random=False), part=st.sampled_from(["json", "npz"]))
def test_any_damage(random: Random, part: str, worker: Worker, recorded: tuple[bytes, bytes], tmp_path: Path) -> None:
    whole = read(worker, tmp_path, *recorded)[1]
    check(part, random, whole, worker, recorded, tmp_path)


def check(part: str, random: Random, whole: str, worker: Worker, recorded: tuple[bytes, bytes], folder: Path) -> str:
    """Damage one of the two files; what was read, nothing where it was refused."""
    content, arrays = recorded
    damage = of_text(content, random) if part == "json" else of_zip(arrays, random)
    parts = (damage.content, arrays) if part == "json" else (content, damage.content)
    good, said = read(worker, folder, *parts)
    assert good, damage.what
    # what JSON says of numbers cannot be checked but by their hash, which arrays and prompts have
    assert part == "json" or said in ("", whole), damage.what
    return said


@pytest.mark.parametrize("change", ["values", "ids", "hash"])
def test_arrays_and_prompts_are_those_of_their_hashes(
    change: str, worker: Worker, recorded: tuple[bytes, bytes], tmp_path: Path
) -> None:
    content = json.loads(recorded[0])
    (baseline,) = content["baselines"].values()
    if change == "values":
        baseline["numbers"]["metric of each prompt"]["values"][0] += 1e-3
    elif change == "ids":
        ids = baseline["prompts"]["sequences"][0]
        ids["ids"] = ids["ids"].replace(" 8 ", " 9 ", 1)
    else:
        baseline["numbers"]["heads of each prompt"]["sha256"] = "0" * 64
    good, said = read(worker, tmp_path, json.dumps(content).encode(), recorded[1])
    assert good
    assert not said
