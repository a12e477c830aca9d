"""Baselines in files: the same bytes each time, every digit, and nothing can be lost, added or changed unnoticed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zanj import ZANJ

from maze_dla.adapters.mazes.library import import_maze_dataset
from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.analysis.running import as_residual_model
from maze_dla.baselines import check, files
from maze_dla.baselines.check import check_baseline
from maze_dla.baselines.files import array_hash, arrays_file, read_baselines, write_baselines
from maze_dla.baselines.prompts import prompts_hash
from maze_dla.baselines.questions import ask
from maze_dla.baselines.record import record_baseline
from maze_dla.errors import BaselineError, InputError

from .changing import NAME, changed, checked, copied, edited, line

Place = tuple[str, ...]


def content_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def refused(file: Path, message: str) -> None:
    with pytest.raises(BaselineError, match=message) as caught:
        check_baseline(file)
    assert str(caught.value).startswith(str(file.with_suffix("")))
    assert len(str(caught.value)) < 1000


def test_the_same_bytes_each_time(home: Path, recorded: Path) -> None:
    again = record_baseline(home / "again.json", home / "small.zanj", n_mazes=6)
    assert again.read_bytes() == recorded.read_bytes()
    text = recorded.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert str(home) not in text
    assert max(map(len, text.splitlines())) < 500
    again.unlink()


@pytest.mark.parametrize("inline", [files.INLINE, 2])
def test_every_digit_comes_back(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: int) -> None:
    monkeypatch.setattr(files, "INLINE", inline)
    held = read_baselines(recorded)
    write_baselines(tmp_path / "b.json", held)
    assert arrays_file(tmp_path / "b.json").exists() == (inline == 2)
    again = read_baselines(tmp_path / "b.json")
    numbers, before = again[NAME].measured.numbers, held[NAME].measured.numbers
    assert numbers.keys() == before.keys()
    for name, number in numbers.items():
        assert number.values.dtype == before[name].values.dtype
        assert number.values.tobytes() == before[name].values.tobytes()
        assert number == replace(before[name], values=number.values)


def _leaves(item: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """One place of each kind in a file: the first two entries of each list and mapping of numbers."""
    if isinstance(item, dict | list) and at:
        yield at, item
    entries = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    children = [(str(key), child) for key, child in entries]
    few = children[:2] if all(not isinstance(child, dict | list) for _, child in children) and len(at) > 1 else children
    for key, child in few[:3] if isinstance(item, list) else few:
        yield from _leaves(child, (*at, key))
    if not isinstance(item, dict | list):
        yield at, item


def _parent(baseline: Any, place: Place) -> tuple[Any, Any]:
    for key in place[:-1]:
        baseline = baseline[int(key) if isinstance(baseline, list) else key]
    return baseline, int(place[-1]) if isinstance(baseline, list) else place[-1]


# what says how it was made, and what a check is held to: told, and no failure
TOLD = (
    ("run", "versions"),
    ("run", "device"),
    ("tolerance",),
    ("model", "name"),
    ("model", "checkpoint"),
    ("near_ties",),
)
OPTIONAL = (*TOLD, ("checkpoint",), ("padding",))


def _is_told(place: Place) -> bool:
    if place[-1].endswith(" as stated"):  # which not every class does
        return True
    return any(place[: len(told)] == told or place[-1:] == told for told in OPTIONAL)


def _not_same(file: Path, baseline: dict[str, Any]) -> str | None:
    """Whether a changed baseline is refused, cannot be checked, or has changed."""
    if "prompts" in baseline and isinstance(baseline["prompts"], dict):  # also where its hash was made again
        baseline["prompts"]["sha256"] = prompts_hash(baseline["prompts"])
    file.write_text(json.dumps({**content_of(file), "baselines": {NAME: baseline}}), encoding="utf-8")
    try:
        outcome = checked(file)
    except BaselineError:
        return "refused"
    except Exception as problem:
        return f"raised {type(problem).__name__}: {problem}"[:200]
    return "cannot" if outcome.problem is not None else None if outcome.same else "changed"


@pytest.mark.usefixtures("numbers_as_recorded")
def test_whatever_is_lost_changed_or_of_another_kind_is_noticed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one place of each kind in the file, with the hash of the prompts made anew; and never another error."""
    file = copied(home, tmp_path)
    baseline = read_baselines(file)[NAME]
    maze = check.load_recorded(baseline, tmp_path)
    view, asked = as_residual_model(maze), ask(maze, baseline.question, tmp_path)
    described = check.described_model(view, maze)
    for name, found in (("load_recorded", maze), ("as_residual_model", view), ("described_model", described)):
        monkeypatch.setattr(check, name, lambda *args, found=found: found)
    monkeypatch.setattr(check, "ask", lambda m, q, folder: asked if q == baseline.question else ask(m, q, folder))
    original = content_of(file)["baselines"][NAME]
    unnoticed, n = [], 0
    for place, value in _leaves(original):
        if place == ("prompts", "sha256"):
            continue
        others: list[Any] = [None, "x", -1, [], {}, True, 10**30]
        if isinstance(value, int | float) and not isinstance(value, bool):
            others = [value + 1, value * 1.5 + 0.25, None, "x", {}]
        for other in ["lost", *others[: 4 if len(place) < 4 else 2]]:
            saved = json.loads(json.dumps(original))
            parent, key = _parent(saved, place)
            if other == "lost":
                del parent[key]
            elif parent[key] == other:
                continue
            else:
                parent[key] = other
            n += 1
            seen = _not_same(file, saved)
            if (seen is None and not _is_told(place)) or (seen or "").startswith("raised"):
                unnoticed.append((place, other, seen))
    assert not unnoticed, "\n".join(map(str, unnoticed))
    assert n > 300


@pytest.mark.usefixtures("numbers_as_recorded")
@pytest.mark.parametrize("name", ["lens", "heads", "sources", "layers", "attn_bias"])
def test_a_label_lost_added_or_renamed(home: Path, tmp_path: Path, name: str) -> None:
    file = copied(home, tmp_path)
    label = next(iter(content_of(file)["baselines"][NAME]["numbers"][name]["values"]))
    edited(file, lambda saved: saved["numbers"][name]["values"].pop(label))
    assert f"{name} {label} (not in the file)" in changed(file)
    edited(file, lambda saved: saved["numbers"][name]["values"].update({"stale": 1.0, label: 0.0}))
    text = changed(file)
    assert f"{name} stale (missing)" in text
    assert text.index("stale (missing)") < text.index(f"{name} {label} ")  # what is not there is the worst


@pytest.mark.usefixtures("numbers_as_recorded")
def test_a_tolerance_widened_by_hand_is_told(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    edited(file, lambda saved: saved["numbers"]["heads"].update(tolerance=0.5))
    edited(file, lambda saved: saved["numbers"]["accuracy"].update(tolerance=0.5))
    outcome = checked(file)
    text = line("\n".join(outcome.lines()), "tolerance")
    assert outcome.same
    assert "heads may be 0.5 of its largest part off by the file, 1e-05 is usual" in text
    assert "accuracy may be 0.5" in text


def test_damaged_numbers(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    text = file.read_text(encoding="utf-8")
    for wrong, message in (("NaN", "NaN is no number"), ("-Infinity", "no number"), ("1e999", "expected a number")):
        file.write_text(text.replace('"tolerance": 1e-05', f'"tolerance": {wrong}', 1), encoding="utf-8")
        refused(file, message)
    file.write_text(text.replace('"tolerance": 1e-05', '"tolerance": -1e-05', 1), encoding="utf-8")
    refused(file, "tolerance and largest are not negative")
    file.write_text(text.replace('"L0H0": ', '"L0H1": ', 1), encoding="utf-8")
    refused(file, "key 'L0H1' is there twice")
    file.write_text(text, encoding="utf-8")
    edited(file, lambda saved: saved["numbers"]["metric of each prompt"]["values"].__setitem__(0, 0.5))
    refused(file, "its array is not that of its hash")


def test_prompts_edited(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    edited(file, lambda saved: saved["prompts"]["rows"][0].update(length=40))
    refused(file, "the prompts are not those of their hash")
    edited(file, lambda saved: saved["prompts"].update(sha256=prompts_hash(saved["prompts"])))
    assert "1 of 3 prompts differ, the first of them prompt 0 in its tokens" in line(changed(file), "prompts")
    edited(file, lambda saved: saved["question"].update(seed=1))
    refused(file, "question.seed is 1, its prompts were made with 0")
    edited(file, lambda saved: saved["prompts"].update(seed=1))
    edited(file, lambda saved: saved["prompts"].update(sha256=prompts_hash(saved["prompts"])))
    assert "prompts" in line(changed(file), "prompts")


def test_cut_off_anywhere(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    whole = file.read_bytes()
    for end in [*range(0, len(whole) - 2, max(1, len(whole) // 60)), len(whole) - 2]:
        file.write_bytes(whole[:end])
        refused(file, "cannot be read as JSON" if end else "the file is empty")
    file.write_bytes(whole[:-1])  # the last line's end
    assert read_baselines(file).keys() == {NAME}


def test_other_files(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    content = content_of(file)
    for change, message in (
        ({"format_version": 2}, "format version 2, expected 1"),
        ({"format": "x"}, "no file of baselines; it holds baselines, format, format_version"),
        ({"baselines": {}}, "it holds no baseline"),
        ({"baselines": {"x": content["baselines"][NAME]}}, "the baseline 'x' says that it is 'small.zanj: "),
        ({"baselines": {NAME: 3}}, "is damaged"),
    ):
        file.write_text(json.dumps({**content, **change}), encoding="utf-8")
        refused(file, message)
    file.write_text("[1]", encoding="utf-8")
    refused(file, "holds a list, expected an object")
    file.write_bytes(b"\xff\xfe")
    refused(file, "cannot be read as JSON")
    file.write_text("[" * 100_000, encoding="utf-8")
    refused(file, "cannot be read as JSON .*100000 deep")
    file.unlink()
    refused(file, "no such file")
    file.mkdir()
    refused(file, "a folder")


@pytest.fixture
def beside(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline whose arrays are in a file beside it."""
    monkeypatch.setattr(files, "INLINE", 2)
    held = read_baselines(home / "recorded.json")
    shutil.copy(home / "small.zanj", tmp_path)
    write_baselines(tmp_path / "b.json", held)
    return tmp_path / "b.json"


def test_arrays_beside_a_baseline(beside: Path) -> None:
    arrays = arrays_file(beside)
    whole = arrays.read_bytes()
    assert checked(beside).same
    for end in range(0, len(whole), 97):
        arrays.write_bytes(whole[:end])
        refused(beside, r"b\.(npz|json): ")
    arrays.unlink()
    refused(beside, "its array is not in the file beside it")
    with np.load(_restored(arrays, whole)) as held:
        kept = {name: held[name] for name in held.files}
    np.savez(arrays, **kept, extra=np.zeros(2))  # pyright: ignore[reportArgumentType]
    check = check_baseline(beside)
    assert check.checks[0].same
    assert not check.same
    assert "STALE: the array extra beside the file belongs to none of its baselines" in repr(check)
    np.savez(arrays, **{name: values + 1 for name, values in kept.items()})  # pyright: ignore[reportArgumentType]
    refused(beside, "its array is not that of its hash")
    np.savez(arrays, **{name: np.array([{}], dtype=object) for name in kept})  # pyright: ignore[reportArgumentType]
    refused(beside, r"b\.npz: member")


def _restored(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_hashes_of_arrays_hang_on_type_and_shape() -> None:
    values = np.arange(6.0)
    assert len({array_hash(v) for v in (values, values.reshape(2, 3), values.astype(np.float32), values + 1)}) == 4
    assert array_hash(values) == array_hash(values.astype(">f8").astype("<f8"))


def test_nothing_is_written_over(home: Path, tmp_path: Path) -> None:
    file = copied(home, tmp_path)
    before = file.read_bytes()
    with pytest.raises(BaselineError, match="is there already; check it with update=True"):
        record_baseline(file, home / "small.zanj", n_mazes=3)
    assert file.read_bytes() == before
    (tmp_path / "mine.npz").write_bytes(b"mine")
    with pytest.raises(BaselineError, match=r"mine\.npz: is there already"):
        record_baseline(tmp_path / "mine.json", home / "small.zanj", n_mazes=3)
    assert (tmp_path / "mine.npz").read_bytes() == b"mine"
    with pytest.raises(BaselineError, match=r"name ends in \.json"):
        record_baseline(tmp_path / "b.txt", home / "small.zanj", n_mazes=3)
    with pytest.raises(InputError, match="a baseline has no option 'n_maze'"):
        record_baseline(tmp_path / "c.json", home / "small.zanj", n_maze=3)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["mine.npz", "recorded.json", "small.zanj"]


def test_a_data_set_of_its_own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is relative to the file, after an update as well, wherever the process stands."""
    (tmp_path / "tests").mkdir()
    data = Path(__file__).parents[1] / "stacks" / "data" / "dataset-newest-full.zanj"
    for source in (data, home / "small.zanj"):
        shutil.copy(source, tmp_path)
    monkeypatch.chdir(tmp_path)
    file = record_baseline("tests/b.json", "small.zanj", dataset=data.name)
    before = file.read_bytes()
    assert f'"dataset": "../{data.name}"' in before.decode()
    monkeypatch.chdir("/")
    assert checked(tmp_path / file).same
    monkeypatch.chdir(tmp_path)
    assert check_baseline(file, update=True).updated
    assert file.read_bytes() == before
    (tmp_path / data.name).unlink()
    assert "they cannot be made again" in line(changed(file), "prompts")
    assert not math.isnan(checked(file).rows[0].expected)


def test_a_model_in_memory_has_its_own_precision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype and device are of a model's file"):
        record_baseline(tmp_path / "b.json", load_maze_model(), dtype=torch.float64)
    assert not (tmp_path / "b.json").exists()


def write_data_set(path: Path, seed: int) -> None:
    library = import_maze_dataset()
    config = library.MazeDatasetConfig(name="small", grid_n=3, n_mazes=3, seed=seed)
    how = {"load_local": False, "save_local": False, "do_download": False, "verbose": False}
    ZANJ().save(library.MazeDataset.from_config(config, **how)._serialize_full(), str(path))


def test_another_data_set_is_no_other_version(home: Path, tmp_path: Path) -> None:
    """Nothing makes mazes where a data set holds them, so that no version can explain other ones."""
    write_data_set(tmp_path / "d.zanj", seed=3)
    shutil.copy(home / "small.zanj", tmp_path)
    file = record_baseline(tmp_path / "b.json", tmp_path / "small.zanj", dataset=tmp_path / "d.zanj")
    content = json.loads(file.read_text())
    (baseline,) = content["baselines"].values()
    baseline["run"]["versions"]["numpy"] = "1.0"
    file.write_text(json.dumps(content))
    assert checked(file).same
    write_data_set(tmp_path / "d.zanj", seed=4)
    assert "the data set d.zanj holds others now" in line(changed(file), "prompts")


def test_an_update_from_another_place_names_it(home: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(home / "small.zanj", tmp_path / name)
    file = record_baseline(tmp_path / "b.json", tmp_path / "one" / "small.zanj", n_mazes=4)
    check_baseline(file, tmp_path / "two" / "small.zanj", update=True)
    (baseline,) = read_baselines(file).values()
    assert baseline.checkpoint == "two/small.zanj"
    shutil.rmtree(tmp_path / "one")
    assert checked(file).same


def test_what_is_not_asked_stays_as_it_was(recorded: Path) -> None:
    assert checked(recorded, n_mazes=6).same
    assert "n_mazes was 6, now it is 7" in changed(recorded, n_mazes=7)
