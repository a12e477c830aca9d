"""Activations as tables and files: nothing is lost, and nothing is overwritten."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, MissingPackageError, ResultFileError
from maze_dla.results.activations import ActivationResult
from tests.engine.small_models import make_batch, shared_model
from tests.results.test_causal_files import damaged, meddled, same

LENGTHS = (6, 4, 7, 5, 4)
PLACES: dict[str, Any] = {"read": "read", "all": "all", "some": [0, -1]}


@pytest.fixture(scope="module")
def batch() -> PromptBatch:
    return make_batch(LENGTHS, columns={"side": ("a", "b", "a", "b", "a")})


def record(batch: PromptBatch, places: str = "all", site: str = "z") -> ActivationResult:
    return dla.activations(shared_model(), batch, site=site, positions=PLACES[places])


@pytest.mark.parametrize("site", ["z", "neurons"])
@pytest.mark.parametrize("places", PLACES)
def test_a_frame_has_every_number_once(places: str, site: str, batch: PromptBatch) -> None:
    result = record(batch, places, site)
    frame = result.to_frame()
    features = frame[[f"d{i}" for i in range(result.values.shape[-1])]].to_numpy()
    n_numbers = int((~result.values.isnan()).sum())
    assert features.size == n_numbers
    np.testing.assert_allclose(features.sum(dtype=np.float64), float(result.values.double().nansum()), rtol=1e-5)
    row = frame[(frame["prompt"] == 2) & (frame["layer"] == f"1_{site}")].iloc[-1]
    expected = result.values[2, 1] if places == "read" else result.values[2, 1, ..., result.positions.shape[1] - 1, :]
    expected = expected[-1] if site == "z" else expected
    assert row[[f"d{i}" for i in range(features.shape[1])]].tolist() == expected.tolist()
    assert row["position"] == LENGTHS[2] - 1
    assert row["token"] == batch.labels[2][-1]
    assert row["side"] == "a"


def test_a_column_of_the_same_name_is_refused(batch: PromptBatch) -> None:
    with pytest.raises(InputError, match="the frame has a column 'd0' of its own"):
        record(batch.with_column("d0", [1] * 5)).to_frame()


@pytest.mark.parametrize("places", PLACES)
def test_files_and_selections(places: str, batch: PromptBatch, tmp_path: Path) -> None:
    result = record(batch, places)
    same(dla.load_result(result.save(tmp_path / "a.zanj")), result)
    chosen = result.select([3, 1])
    same(dla.load_result(chosen.save(tmp_path / "b.zanj")), chosen)
    alone = record(batch.select([3, 1]), places)
    torch.testing.assert_close(chosen.values, alone.values, equal_nan=True)
    assert torch.equal(chosen.positions, alone.positions)
    assert result.group_by("side").labels == ("a", "b")


DAMAGES: dict[str, tuple[Callable[[ActivationResult], dict[str, Any]], str]] = {
    "a number that is none": (lambda r: {"values": meddled(r.values, (0, 0, 0, 0, 0), torch.nan)}, "values: 1 values"),
    "a number after the end": (lambda r: {"values": meddled(r.values, (1, 0, 0, -1, 0), 1.0)}, "where there is no pos"),
    "a position outside": (lambda r: {"positions": meddled(r.positions, (1, 3), 4)}, "positions: not 7 of each prompt"),
    "axes": (lambda r: {"axes": ("layer", "position", "feature")}, "axes: "),
    "labels": (lambda r: {"layer_labels": ("0_z",)}, "layer_labels: 1 names for 2 layers"),
    "labels twice": (lambda r: {"layer_labels": ("0_z", "0_z")}, "layer_labels: expected different names"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_files_are_refused(what: str, batch: PromptBatch, tmp_path: Path) -> None:
    change, message = DAMAGES[what]
    result = record(batch)
    with pytest.raises(ResultFileError, match=message):
        dla.load_result(damaged(result, change(result)).save(tmp_path / "a.zanj"))


def read_back(folder: Path) -> list[Tensor]:
    """The values of each prompt in the shards, [layer, head, position, feature]."""
    import pyarrow.parquet as parquet

    found = []
    for file in sorted(folder.glob("*.parquet")):
        table = parquet.read_table(file)
        assert json.loads(table.schema.metadata[b"maze_dla"])["info"]["site"] == "z"
        for values, positions in zip(table["values"].to_pylist(), table["positions"].to_pylist(), strict=True):
            found.append(torch.tensor(values).view(2, 3, len(positions), 8))
    return found


@pytest.mark.parametrize("places", PLACES)
def test_shards_hold_every_number(places: str, batch: PromptBatch, tmp_path: Path) -> None:
    """Of a result, of one batch in pieces, and of several batches."""
    result = record(batch, places)
    options: dict[str, Any] = {"site": "z", "positions": PLACES[places]}
    files = result.to_parquet(tmp_path / "one", rows_per_shard=2)
    assert [file.name for file in files] == [f"shard-0000{i}.parquet" for i in range(3)]
    dla.write_activations(shared_model(), batch, tmp_path / "two", rows_per_shard=2, **options)
    parts = [batch.select([0, 1]), batch.select([2, 3, 4])]
    assert len(dla.write_activations(shared_model(), iter(parts), tmp_path / "three", **options)) == 2
    for name in ("one", "two", "three"):
        back = read_back(tmp_path / name)
        for i, own in enumerate(back):
            there = result.positions[i] >= 0
            expected = result.values[i] if places != "read" else result.values[i][:, :, None]
            torch.testing.assert_close(own, expected[:, :, there], rtol=1e-5, atol=1e-6)
        frame = pd.read_parquet(tmp_path / name)
        assert frame["prompt"].tolist() == list(range(5))
        assert frame["side"].tolist() == ["a", "b", "a", "b", "a"]


def test_one_position_of_each_goes_through_the_pieces(batch: PromptBatch, tmp_path: Path) -> None:
    at = torch.tensor([1, 2, 3, 0, -1])
    dla.write_activations(shared_model(), batch, tmp_path, site="z", positions=at, rows_per_shard=2)
    expected = dla.activations(shared_model(), batch, site="z", positions=at).values
    for own, whole in zip(read_back(tmp_path), expected, strict=True):
        torch.testing.assert_close(own[:, :, 0], whole, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="goes with one batch, got several"):
        dla.write_activations(shared_model(), [batch], tmp_path / "b", positions=at)


def test_no_shard_is_ever_replaced(batch: PromptBatch, tmp_path: Path) -> None:
    result = record(batch)
    result.to_parquet(tmp_path)
    before = [(file.name, file.read_bytes()) for file in sorted(tmp_path.iterdir())]
    for write in (
        lambda: result.to_parquet(tmp_path),
        lambda: dla.write_activations(shared_model(), batch, tmp_path),
    ):
        with pytest.raises(InputError, match="holds 1 shards already"):
            write()
    assert [(file.name, file.read_bytes()) for file in sorted(tmp_path.iterdir())] == before


def test_shards_before_a_failure_stay_whole(batch: PromptBatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch is a PromptBatch"):
        dla.write_activations(shared_model(), iter([batch, 3]), tmp_path)  # pyright: ignore[reportArgumentType]
    assert [file.name for file in tmp_path.iterdir()] == ["shard-00000.parquet"]
    assert len(pd.read_parquet(tmp_path)) == 5
    with pytest.raises(InputError, match="of at least one batch are written, got none"):
        dla.write_activations(shared_model(), [], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_pyarrow_it_says_so(batch: PromptBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = record(batch)
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"Parquet files need pyarrow, which cannot be .* pip install 'pya"):
        result.to_parquet(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_it_says_of_itself(batch: PromptBatch) -> None:
    assert "site: z, 0_z to 1_z\n  positions: all\n  values: [5 prompt, 2 layer, 3 head, 7 pos" in repr(record(batch))
    copy = record(batch).to_numpy()
    copy[:] = 0
    assert not (record(batch).to_numpy() == 0).any()
    with pytest.raises(InputError, match="layers are 0_z, 1_z, got '2_z'"):
        record(batch).layer("2_z")
