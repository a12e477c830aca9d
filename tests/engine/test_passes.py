"""Runs in pieces: what memory allows, and what a GPU must not be made to wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from maze_dla.analysis import as_residual_model
from maze_dla.engine.direct.attribution import attribute
from maze_dla.engine.direct.lens import logit_lens
from maze_dla.engine.direct.token_lens import token_lens
from maze_dla.engine.forward.running import batch_limits, run
from maze_dla.engine.model import MicroBatch, ResidualModel
from maze_dla.engine.sites import LOGITS, Activations
from maze_dla.results.moments import Moments

from .small_models import PlainRuns, make_batch, make_model, random_metric, shared_model

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")


def of_little_memory(model: ResidualModel, holds: int, ran: list[int]) -> ResidualModel:
    """The model on a device that holds so many sequences; `ran` says how many were run together."""

    def forward(micro: MicroBatch, sites: Any) -> Activations:
        if len(micro.tokens) > holds:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        ran.append(len(micro.tokens))
        return model.forward(micro, sites)

    return replace(model, forward=PlainRuns(forward))


@pytest.mark.parametrize("holds", [1, 2, 3])
def test_pieces_are_halved_until_memory_is_enough_and_nothing_is_lost(holds: int) -> None:
    batch, model = make_batch(), shared_model()
    metric = random_metric(batch)
    ran: list[int] = []
    little = of_little_memory(as_residual_model(model), holds, ran)
    result = attribute(little, batch, metric, neurons="mean", sources=True)
    expected = attribute(as_residual_model(model), batch, metric, neurons="mean", sources=True)
    assert sum(ran) == len(batch)
    assert max(ran) == (1 if holds < 3 else 3)  # 7, 3, 1
    for name in ("metric", "heads", "layers", "sources", "neuron_mean", "neuron_variance"):
        torch.testing.assert_close(getattr(result, name), getattr(expected, name), atol=1e-5, rtol=1e-5)


def test_a_single_sequence_that_is_too_large_is_an_error() -> None:
    batch = make_batch()
    little = of_little_memory(as_residual_model(shared_model()), 0, [])
    with pytest.raises(torch.cuda.OutOfMemoryError):
        attribute(little, batch, random_metric(batch))


def test_memory_that_runs_out_while_measuring_loses_nothing_either() -> None:
    batch, failed = make_batch(), []

    def measure(micro: MicroBatch, found: Activations) -> dict[str, Tensor]:
        if len(micro.tokens) > 2:
            failed.append(len(micro.tokens))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return {"prompts": micro.prompts.float()}

    parts = run(as_residual_model(shared_model()), batch, [LOGITS], measure, what="test")
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
    on_cpu, on_gpu = (as_residual_model(make_model().to(device), engine) for device in ("cpu", "cuda"))
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
def test_no_piece_waits_for_the_gpu() -> None:
    batch = make_batch()
    metric = random_metric(batch)
    model = as_residual_model(make_model().to("cuda"))
    attribute(model, batch, metric, neurons="mean", sources=True)  # the comparison with the model itself waits, once
    waits: list[int] = []

    def watched(micro: MicroBatch, sites: Any) -> Activations:
        torch.cuda.set_sync_debug_mode("error")  # from the first forward pass to the last
        waits.append(len(micro.tokens))
        return model.forward(micro, sites)

    watching = replace(model, forward=PlainRuns(watched))
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):  # what puts the pieces together does wait
            attribute(watching, batch, metric, neurons="mean", sources=True, sequences_at_once=2)
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
    weights = as_residual_model(shared_model()).weights
    assert batch_limits(replace(weights, shape=replace(weights.shape, d_mlp=d_mlp)), None).tokens == tokens
