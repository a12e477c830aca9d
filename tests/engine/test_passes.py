"""Runs in pieces: what memory allows, and what a GPU must not be made to wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.adapters.transformer_lens import reader
from maze_dla.adapters.transformer_lens.engines import CheckedModel
from maze_dla.engine.attribution import attribute
from maze_dla.engine.lens import logit_lens
from maze_dla.engine.model import Reads, Wanted
from maze_dla.engine.passes import piece_size, run
from maze_dla.engine.queue import ReadPlan
from maze_dla.engine.token_lens import token_lens
from maze_dla.results.moments import Moments

from .small_models import make_batch, make_model, random_metric, shared_model

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


class LittleMemory:
    """A model on a device that holds so many sequences."""

    def __init__(self, model: Any, holds: int) -> None:
        self._model, self._holds = model, holds
        self.ran: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def read(self, tokens: Tensor, *more: Any) -> Reads:
        if len(tokens) > self._holds:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.ran.append(len(tokens))
        return self._model.read(tokens, *more)


@pytest.mark.parametrize("holds", [1, 2, 3])
def test_pieces_are_halved_until_memory_is_enough_and_nothing_is_lost(holds: int) -> None:
    batch, model = make_batch(), shared_model()
    metric = random_metric(batch)
    little = LittleMemory(reader(model), holds)
    result = attribute(little, batch, metric, neurons="mean", sources=True)  # pyright: ignore[reportArgumentType]
    expected = attribute(reader(model), batch, metric, neurons="mean", sources=True)
    assert sum(little.ran) == len(batch)
    assert max(little.ran) == (1 if holds < 3 else 3)  # 7, 3, 1
    for name in ("metric", "heads", "layers", "sources", "neuron_mean", "neuron_variance"):
        torch.testing.assert_close(getattr(result, name), getattr(expected, name), atol=1e-5, rtol=1e-5)


def test_a_single_sequence_that_is_too_large_is_an_error() -> None:
    batch = make_batch()
    little = LittleMemory(reader(shared_model()), 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        attribute(little, batch, random_metric(batch))  # pyright: ignore[reportArgumentType]


def test_memory_that_runs_out_while_measuring_loses_nothing_either() -> None:
    batch, failed = make_batch(), []

    def measure(plan: ReadPlan, reads: Reads) -> dict[str, Tensor]:
        if len(plan.tokens) > 2:
            failed.append(len(plan.tokens))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return {"prompts": plan.prompts.float()}

    parts = run(reader(shared_model()), batch, Wanted(), measure, what="test")
    assert failed == [7, 3]
    assert parts["prompts"].tolist() == list(range(7))


def test_moments_of_pieces_are_those_of_the_whole() -> None:
    values = torch.randn(11, 3, 4, generator=torch.Generator().manual_seed(0)) + 1000
    moments = Moments()
    for piece in values.split([1, 4, 6]):
        moments.add(piece)
    assert moments.mean is not None
    assert moments.variance is not None
    torch.testing.assert_close(moments.mean, values.double().mean(0))
    torch.testing.assert_close(moments.variance, values.double().var(0))


@NEEDS_GPU
@pytest.mark.parametrize("engine", ["auto", "hooked"])
def test_a_gpu_gives_the_numbers_of_the_cpu(engine: Any) -> None:
    batch = make_batch()
    metric = random_metric(batch)
    on_cpu, on_gpu = (reader(make_model().to(device), engine) for device in ("cpu", "cuda"))
    for ask in (
        lambda view: attribute(view, batch, metric, neurons=True, sources=True),
        lambda view: logit_lens(view, batch, metric, "own"),
        lambda view: token_lens(view, batch, positions="all"),
    ):
        expected, seen = vars(ask(on_cpu)), vars(ask(on_gpu))
        for name, value in expected.items():
            if isinstance(value, Tensor) and value.is_floating_point() and name != "gap":
                assert seen[name].device.type == "cpu"
                size = max(1.0, float(value.nan_to_num().abs().max()))
                torch.testing.assert_close(seen[name], value, atol=1e-4 * size, rtol=0, equal_nan=True)


@NEEDS_GPU
def test_no_piece_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = make_batch()
    metric = random_metric(batch)
    model = reader(make_model().to("cuda"))
    attribute(model, batch, metric, neurons="mean", sources=True)  # the comparison with the model itself waits, once
    read, waits = type(model).read, []

    def watched(*arguments: Any) -> Reads:
        torch.cuda.set_sync_debug_mode("error")  # from the first read to the last
        waits.append(len(arguments[1]))
        return read(*arguments)

    monkeypatch.setattr(type(model), "read", watched)
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):  # what puts the pieces together does wait
            attribute(model, batch, metric, neurons="mean", sources=True, sequences_at_once=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum(waits) == len(batch)


@pytest.mark.parametrize(
    ("d_mlp", "threads", "tokens"),
    [
        *((None, 1, 2048), (512, 1, 2048), (1024, 1, 1536), (3072, 1, 1024), (8192, 1, 1024)),
        *((512, 2, 4096), (512, 16, 8192), (3072, 2, 1024), (3072, 3, 1536)),
    ],
)
def test_on_a_cpu_pieces_are_what_its_caches_hold(
    d_mlp: int | None, threads: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few enough for the largest activations of a layer, but never so few that weights would be read too often."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model = reader(shared_model())
    assert isinstance(model, CheckedModel)
    assert piece_size(replace(model, shape=replace(model.shape, d_mlp=d_mlp)), None).tokens == tokens
