"""Models as TransformerLens builds them: quietly, where and as precisely as asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from maze_dla.adapters.mazes.load import load_maze_model
from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.analysis import attribute, logit_lens, token_lens
from maze_dla.engine.metrics import correct_vs_other
from maze_dla.errors import MazeDlaError, ModelError
from tests.engine.small_models import hooked_view


def test_nothing_is_printed(small_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    maze = load_maze_model(small_file, device="cpu", dtype=torch.float64)
    batch = maze.prompts(n_mazes=2)
    metric = correct_vs_other(batch)
    attribute(maze.model, batch, metric, neurons="mean", sources=True)
    logit_lens(maze.model, batch, metric, scale="own")
    token_lens(maze.model, batch)
    assert capfd.readouterr() == ("", "")
    print("heard")
    assert capfd.readouterr().out == "heard\n"


def test_weights_are_as_stored_and_evaluated(small_model: MazeModel) -> None:
    weights = hooked_view(small_model.model).weights
    assert weights.final_norm.weight is not None
    assert weights.b_U is not None
    assert weights.b_U.abs().min() > 0
    assert not small_model.model.training


@pytest.mark.parametrize("model", [object(), torch.nn.Linear(2, 2), None, "gpt2"])
def test_what_is_no_model_of_transformer_lens(model: object) -> None:
    with pytest.raises(ModelError, match=f"expected a TransformerLens model .*, got {type(model).__name__}") as error:
        hooked_view(model)
    assert isinstance(error.value, MazeDlaError)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"use_normalization_before_and_after": True}, "a norm behind attention or MLP"),
        ({"attention_dir": "bidirectional"}, "the model's attention is bidirectional"),
        ({"n_layers": 0}, "the model has 0 layers, expected at least one"),
    ],
)
def test_models_that_do_not_add_up(cfg: dict[str, object], message: str) -> None:
    names = dict.fromkeys(("hook_dict", "run_with_hooks", "W_U"))
    with pytest.raises(ModelError, match=message):
        hooked_view(SimpleNamespace(cfg=SimpleNamespace(**cfg), blocks=(), **names))


def test_a_device_that_is_none(small_file: Path) -> None:
    with pytest.raises(MazeDlaError, match="nonsense"):
        load_maze_model(small_file, device="nonsense")


def test_bfloat16(small_file: Path) -> None:
    maze = load_maze_model(small_file, dtype=torch.bfloat16)
    batch = maze.prompts(n_mazes=2)
    assert attribute(maze.model, batch, correct_vs_other(batch)).gap.abs().max() < 0.1
