"""Whatever is set around a call, and however many call at once: the same numbers, and all is left as found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import InputError
from maze_dla.results.comparison import compare

from .small_models import inner, make_batch, make_model, random_metric

N_MAZES = 6


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "meta": lambda: torch.device("meta"),
    "default device meta": lambda: default_device("meta"),
    "deterministic": deterministic,
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
}


def ambient() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    )


def whole_analysis(engine: str) -> dict[str, torch.Tensor]:
    """From loading a model to the tables of its results."""
    maze = load_maze_model()
    batch = maze.prompts(n_mazes=N_MAZES).having("neighbors")
    metric = correct_vs_other(batch, "neighbors")
    result = attribute(maze, batch, metric, neurons=True, sources=True, forward=engine)
    lens = logit_lens(maze, batch, metric, "own", forward=engine)
    tokens = token_lens(maze, batch, forward=engine)
    found = {f"{name} of {type(r).__name__}": v for r in (result, lens, tokens) for name, v in r.per_prompt().items()}
    heads = result.top_heads(3)
    frames = [r.to_frame() for r in (result, lens, tokens)]
    found["ranked"] = torch.tensor([part.mean for part in heads], dtype=torch.float64, device="cpu")
    found["frames"] = torch.tensor([float(f.iloc[:, -1].sum()) for f in frames], dtype=torch.float64, device="cpu")
    found["compared"] = compare(result).values
    found["selected"] = attribute(maze, batch.select([1, 2]), metric.select([1, 2]), forward=engine).heads
    return found


@pytest.fixture(scope="module", params=["auto", "hooked"])
def plain(request: pytest.FixtureRequest) -> tuple[str, dict[str, torch.Tensor]]:
    return request.param, whole_analysis(request.param)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_is_set_around_a_call_changes_no_number(name: str, plain: tuple[str, dict[str, torch.Tensor]]) -> None:
    engine, expected = plain
    with SURROUNDINGS[name]():
        before = ambient()
        found = whole_analysis(engine)
        assert ambient() == before
    assert found.keys() == expected.keys()
    for what, values in expected.items():
        assert found[what].dtype == values.dtype, what
        close = torch.allclose(found[what], values, rtol=1e-6, atol=1e-6, equal_nan=True)
        assert close, f"{what}: {found[what]} is not {values}"


def test_a_device_without_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="device 'meta' holds shapes and no numbers"):
        load_maze_model(device="meta")


@pytest.fixture(scope="module")
def maze() -> MazeModel:
    return load_maze_model()


@pytest.mark.parametrize("engine", ["auto", "hooked"])
def test_threads_on_one_model_get_the_numbers_of_one(engine: str, maze: MazeModel) -> None:
    """Each thread asks of mazes of its own; a hook of one run that another saw would give it other rows."""
    batches = [maze.prompts(n_mazes=3, seed=seed).having("neighbors") for seed in range(8)]

    def heads(batch: Any) -> torch.Tensor:
        return attribute(maze, batch, correct_vs_other(batch, "neighbors"), sources=True, forward=engine).heads

    expected = [heads(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(heads, batches * 8))
    for i, values in enumerate(found):
        torch.testing.assert_close(values, expected[i % 8], rtol=0, atol=1e-6)


def test_threads_under_another_default_dtype(maze: MazeModel) -> None:
    """It is the same for all threads: no run may put it back while another goes on."""
    batch = maze.prompts(n_mazes=4)
    metric = correct_vs_other(batch, "all")
    expected = attribute(maze, batch, metric, forward="hooked").heads
    models = [load_maze_model() for _ in range(4)]
    with default_dtype(torch.float64), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda m: attribute(m, batch, metric, forward="hooked").heads, models * 4))
        assert torch.get_default_dtype() == torch.float64
    for values in found:
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-6)


def with_dropout(p: float = 0.5) -> Any:
    """A model in training mode whose attention and MLP outputs pass a dropout."""
    model = make_model()
    for block in model.blocks:
        for part in (block.attn, block.mlp):
            dropout = nn.Dropout(p)
            part.add_module("dropped", dropout)
            inner(part).register_forward_hook(
                lambda module, args, out, d=dropout: d(out) if torch.is_tensor(out) else (d(out[0]), *out[1:])
            )
    return model.train()


@pytest.mark.parametrize("engine", ["auto", "hooked"])
def test_dropout_is_off_and_the_mode_is_left_as_found(engine: str) -> None:
    model, batch = with_dropout(), make_batch()
    frozen = model.blocks[0].mlp
    frozen.eval()
    modes = [part.training for part in model.modules()]
    assert True in modes
    assert False in modes
    metric = random_metric(batch)
    lenses = [logit_lens(model, batch, metric, forward=engine).values for _ in range(2)]
    assert torch.equal(*lenses)
    assert torch.equal(*(token_lens(model, batch, forward=engine).kl for _ in range(2)))
    expected = attribute(make_model(), batch, metric, neurons=True)  # the same weights, without any dropout
    torch.testing.assert_close(attribute(model, batch, metric, neurons=True, forward=engine).heads, expected.heads)
    assert [part.training for part in model.modules()] == modes
    tokens = batch.tokens[:1, :4]
    assert not torch.equal(model(tokens), model(tokens))  # the dropout is real
    with pytest.raises(InputError):
        attribute(model, batch, metric.select([0]), forward=engine)
    assert [part.training for part in model.modules()] == modes


def test_a_lock_is_not_inherited_by_a_forked_process(maze: MazeModel) -> None:
    import multiprocessing
    import sys

    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        pytest.skip("this platform does not fork")
    from maze_dla.adapters.transformer_lens.exclusive import exclusive

    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(maze.model):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = multiprocessing.get_context("fork").Process(target=_enter, args=(maze.model,))
    child.start()
    child.join(30)
    stuck = child.is_alive()
    child.kill()
    done.set()
    holder.join()
    assert not stuck
    assert child.exitcode == 0


def _enter(model: Any) -> None:
    from maze_dla.adapters.transformer_lens.exclusive import exclusive

    with exclusive(model):
        pass
