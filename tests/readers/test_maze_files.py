"""Damaged checkpoints, data sets, texts and states of training: a typed error, soon and small, or the same content."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers import maze_files
from tests.readers.maze_cases import CASES, GOOD, data_set, saved_maze
from tests.readers.mutations import Damage, of_bytes, of_zip, zip_of
from tests.readers.worker import Outcome, Worker

SEEDS = 60
SKIP = ("__zanj_meta__.json",)
HUGE_TOKENIZER = {
    "__muutils_format__": "MazeTokenizer(SerializableDataclass)",
    "tokenization_mode": "AOTP_UT_uniform",
    "max_grid_size": 10**6,
}
Read = Callable[[str, bytes], Outcome]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    """What becomes of a content, by the name of its reader; readers share a worker, as they share what they import."""
    folder = tmp_path_factory.mktemp("damaged")
    for reader in maze_files.READERS:
        (folder / reader).mkdir()
    with Worker("tests.readers.maze_files:read") as worker:

        def read(reader: str, content: bytes) -> Outcome:
            file = folder / reader / "file.zanj"
            file.write_bytes(content)
            return worker.read(file)

        yield read


@pytest.fixture(scope="module")
def digests(read: Read) -> dict[str, str]:
    """The digest of each good file."""
    outcomes = {name: read(*good) for name, good in GOOD.items()}
    assert {name: o for name, o in outcomes.items() if o.kind != "content"} == {}
    return {name: o.said for name, o in outcomes.items()}


def test_good_files_are_told_apart(digests: dict[str, str]) -> None:
    assert len(set(digests.values())) >= len({reader for reader, _ in GOOD.values()})
    recorded = {digests[name] for name in GOOD if name.startswith("dataset")}
    assert len(recorded) < sum(name.startswith("dataset") for name in GOOD)  # saved in several forms


def damage_to(name: str, random: Random) -> Damage:
    """A good file damaged once, in its bytes or, with checksums that fit, inside."""
    reader, content = GOOD[name]
    if reader == "text":
        return Damage(of_bytes(content, random).content, "text", is_value=True)
    if reader == "state":
        return damage_to_archive(content, random)
    return of_bytes(content, random) if random.random() < 0.2 else of_zip(content, random, skip=SKIP)


def damage_to_archive(content: bytes, random: Random) -> Damage:
    """A file of torch with a member damaged, the members stored as torch does."""
    if random.random() < 0.3:
        return of_bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickle = next(name for name in members if name.endswith("data.pkl"))
    name = pickle if random.random() < 0.8 else random.choice(list(members))
    damage = of_bytes(members[name], random)
    changed = zip_of({**members, name: damage.content}, zipfile.ZIP_STORED)
    return Damage(changed, f"{name}: {damage.what}", is_value=True)


def check(outcome: Outcome, damage: Damage, digest: str) -> None:
    """A typed error within the limits, or a content that may have come of the damage."""
    said = {outcome.said} if damage.is_value and outcome.kind == "content" else set()
    assert outcome.is_good({digest, *said}), (damage.what, outcome)


@pytest.mark.parametrize("name", GOOD)
def test_seeded_damage(name: str, read: Read, digests: dict[str, str]) -> None:
    refused = 0
    for seed in range(SEEDS):
        damage = damage_to(name, Random(f"{name} {seed}"))
        outcome = read(GOOD[name][0], damage.content)
        check(outcome, damage, digests[name])
        refused += outcome.kind == "error"
    assert refused > SEEDS / 6


@given(name=st.sampled_from(list(GOOD)), seed=st.integers(0, 2**64), times=st.integers(1, 3))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_damage(read: Read, digests: dict[str, str], name: str, seed: int, times: int) -> None:
    reader, _ = GOOD[name]
    random = Random(seed)
    damage = damage_to(name, random)
    for _ in range(times - 1):
        damage = Damage(of_bytes(damage.content, random).content, f"{damage.what}, and again", is_value=damage.is_value)
    check(read(reader, damage.content), damage, digests[name])


@pytest.mark.parametrize("name", CASES)
def test_named_limits(name: str, read: Read) -> None:
    reader, content, message = CASES[name]
    outcome = read(reader, content())
    assert outcome.is_good(), outcome
    assert message in outcome.said


def test_what_is_noted_of_a_generation_is_not_read(read: Read) -> None:
    """A tokenizer for a lattice of a million rows stands there; nobody makes it."""
    plain, noted = (
        read("dataset", data_set(mazes=[saved_maze(generation_meta=meta)]))
        for meta in (None, {"tokenizer": HUGE_TOKENIZER})
    )
    assert plain.kind == noted.kind == "content"
    assert plain.said == noted.said
    assert noted.is_good({plain.said})
