"""Whatever changes a model, its prompts or what is computed of them fails the check, in the right words."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from maze_dla.adapters.mazes.model import MazeModel
from maze_dla.adapters.mazes.vocabulary import MazeVocabulary
from maze_dla.baselines import check, questions
from maze_dla.engine.ids import NONE
from maze_dla.engine.metrics import correct_vs_other, logit
from tests.adapters.mazes.small_files import damaged, random_state, small_checkpoint

from .changing import changed, copied, edited, line, reload, with_spec, with_state

HEADS = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V")
BIASES = ("ln1.b", "attn.b_Q", "attn.b_K", "attn.b_V", "attn.b_O", "ln2.b", "mlp.b_in", "mlp.b_out")
MOVED = ("embed.W_E", "pos_embed.W_pos", "blocks.0.attn.W_Q", "blocks.1.attn.b_K", "blocks.1.attn.W_O",
         "blocks.0.ln1.w", "blocks.1.mlp.W_in", "ln_final.w", "unembed.W_U", "unembed.b_U")  # fmt: skip
NORMS = ("blocks.0.ln1", "blocks.1.ln2", "ln_final")


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.usefixtures("numbers_as_recorded")
def test_one_weight_moved_by_a_thousandth_of_itself(recorded: Path, tmp_path: Path, name: str) -> None:
    def move(state: dict[str, np.ndarray]) -> None:
        state[name].reshape(-1)[3] *= np.float32(1.001)

    text = changed(recorded, with_state(tmp_path / "small.zanj", move))
    assert "the weights' values are others: their hash was" in text
    assert line(text, "weights").endswith(f"; other values in {name}")
    assert "  prompts: same" in text
    assert re.search(r"numbers: all \d+ are", text)


@pytest.mark.parametrize("name", [*(f"blocks.{i % 2}.{b}" for i, b in enumerate(BIASES)), "ln_final.b", "unembed.b_U"])
def test_a_bias_dropped(recorded: Path, tmp_path: Path, name: str) -> None:
    source = with_state(tmp_path / "small.zanj", lambda state: state[name].fill(0))
    text = changed(recorded, source)
    assert line(text, "weights").endswith(f"; all zero now, or gone: {name}")
    moved = re.search(r"numbers: \d+ of \d+ are not within", text) is not None
    assert moved == (not name.endswith("b_K"))  # which changes no number


def test_a_head_zeroed(recorded: Path, tmp_path: Path) -> None:
    def zero(state: dict[str, np.ndarray]) -> None:
        for kind in HEADS:
            state[f"blocks.1.attn.{kind}"][1] = 0

    text = changed(recorded, with_state(tmp_path / "small.zanj", zero))
    assert "it means: of the heads, L1H1 write nothing now" in text
    assert "it means: of the heads, L1H1 moved most" in text


def _swap(state: dict[str, np.ndarray], one: tuple[int, int], other: tuple[int, int]) -> None:
    for kind in HEADS:
        here, there = (state[f"blocks.{layer}.attn.{kind}"] for layer, _ in (one, other))
        here[one[1]], there[other[1]] = there[other[1]].copy(), here[one[1]].copy()


def test_two_heads_swapped_within_a_layer(recorded: Path, tmp_path: Path) -> None:
    text = changed(recorded, with_state(tmp_path / "small.zanj", lambda state: _swap(state, (1, 0), (1, 1))))
    assert "the weights of heads changed places: L1H0 and L1H1" in line(text, "weights")
    assert "it means: heads changed places, each gives what the other gave: L1H0 and L1H1" in text
    assert "layers" not in text  # whose sums are the same


def test_two_heads_swapped_between_layers(recorded: Path, tmp_path: Path) -> None:
    text = changed(recorded, with_state(tmp_path / "small.zanj", lambda state: _swap(state, (0, 1), (1, 0))))
    assert "the weights of heads changed places: L0H1 and L1H0" in line(text, "weights")
    assert "of the layers," in text


@pytest.mark.usefixtures("numbers_as_recorded")
def test_two_neurons_swapped(recorded: Path, tmp_path: Path) -> None:
    def swap(state: dict[str, np.ndarray]) -> None:
        order = [1, 0, *range(2, 24)]
        for name, axis in (("W_in", 1), ("b_in", 0), ("W_out", 0)):
            state[f"blocks.0.mlp.{name}"] = state[f"blocks.0.mlp.{name}"].take(order, axis)

    text = changed(recorded, with_state(tmp_path / "small.zanj", swap))
    assert "blocks.0.mlp.W_in, blocks.0.mlp.W_out" in line(text, "weights")


def test_logits_scaled(recorded: Path, tmp_path: Path) -> None:
    def scale(state: dict[str, np.ndarray]) -> None:
        state["unembed.W_U"] *= np.float32(1.01)

    text = changed(recorded, with_state(tmp_path / "small.zanj", scale))
    assert "unembed.W_U" in line(text, "weights")
    assert "of the layers," in text


@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
def test_the_epsilon_of_all_norms(home: Path, recorded: Path, epsilon: float) -> None:
    text = changed(recorded, with_spec(home / "small.zanj", eps=epsilon))
    found = re.search(r"the norms' epsilon was 1e-05, now it is (\S+) \(in (.*?)\)", line(text, "weights"))
    assert found is not None
    assert float(found[1]) == pytest.approx(epsilon)
    assert found[2] == "0.ln1, 0.ln2, 1.ln1, 1.ln2, ln_final"


@pytest.mark.parametrize("which", NORMS)
@pytest.mark.parametrize("epsilon", [1e-3, 1e-6])
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.usefixtures("numbers_as_recorded")
def test_the_epsilon_of_one_norm(
    home: Path, tmp_path: Path, which: str, epsilon: float, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set in the module, or in its own copy of the config, whichever it computes with."""
    maze = reload(home)
    file = edited(copied(home, tmp_path), lambda saved: None)
    if precision == torch.float16:
        maze.model.to(torch.float16)
        monkeypatch.setattr(check, "_prompts_again", lambda *args: ([], None))
        monkeypatch.setattr(check, "_stored_question", lambda *args: (None, None))
    module = maze.model.ln_final if which == "ln_final" else _block_norm(maze, which)
    given = module(torch.full((1, 1, 16), 1e-3, dtype=precision).cumsum(-1))
    for part in (module, getattr(module, "_original_component", None)):
        for name in ("config", "cfg"):
            if hasattr(part, name) and hasattr(getattr(part, name), "eps"):
                own = copy.copy(getattr(part, name))
                own.eps = epsilon
                setattr(part, name, own)
        if part is not None and isinstance(vars(part).get("eps"), float):
            part.eps = epsilon
    assert not torch.equal(module(torch.full((1, 1, 16), 1e-3, dtype=precision).cumsum(-1)), given)
    text = changed(file, maze)
    name = which.removeprefix("blocks.")
    assert f"(in {name})" in line(text, "weights")


def _block_norm(maze: MazeModel, which: str) -> Any:
    _, layer, name = which.split(".")
    return getattr(maze.model.blocks[int(layer)], name)


def test_an_attention_scale(home: Path, recorded: Path) -> None:
    maze = reload(home)
    maze.model.blocks[0].attn.hook_q.add_hook(lambda x, hook: 1.01 * x)  # what a scale of scores does
    text = changed(recorded, maze)
    assert "  weights: same" in text
    assert re.search(r"numbers: \d+ of \d+ are not within", text)
    assert "it means: of the heads, " in text


def test_an_activation(recorded: Path, tmp_path: Path) -> None:
    text = changed(recorded, damaged(model_cfg__act_fn="gelu_new").write(tmp_path / "small.zanj"))
    assert "  weights: same" in text
    assert "1_mlp_out" in text


def test_a_soft_cap(home: Path, recorded: Path) -> None:
    maze = reload(home)
    maze.model.cfg.output_logits_soft_cap = 30.0
    assert "logit_cap was None, now it is 30.0" in line(changed(recorded, maze), "weights")


@pytest.mark.parametrize("hook", [lambda x, hook: 1.001 * x, lambda x, hook: functional.dropout(x, 0.1)])
def test_a_hook_left_on_the_model(home: Path, recorded: Path, hook: Callable[..., Any]) -> None:
    """Also one under which parts no longer add up: a run of the tool that ends in an error is a change."""
    for place in ("hook_mlp_out", "hook_resid_pre"):
        maze = reload(home)
        getattr(maze.model.blocks[1], place).add_hook(hook)
        text = changed(recorded, maze)
        assert "  weights: same" in text
        assert "they cannot be computed any more" in text or "of the layers, " in text


def test_half_precision(home: Path, recorded: Path, tmp_path: Path) -> None:
    assert "the weights' values are others" in line(changed(recorded, dtype=torch.float16), "weights")

    def rounded(state: dict[str, np.ndarray]) -> None:
        for name, values in state.items():
            state[name] = values.astype(np.float16).astype(np.float32)

    text = changed(recorded, with_state(tmp_path / "small.zanj", rounded))
    assert "the weights' values are others" in line(text, "weights")
    assert re.search(r"numbers: \d+ of \d+ are not within", text)


def test_bos_left_out(home: Path, recorded: Path) -> None:
    text = changed(recorded, replace(reload(home), prepend_bos=False))
    assert "prepend_bos (BOS before each prompt) was True, now it is False" in line(text, "weights")
    assert "prepend_bos was True, now it is False" in line(changed(recorded, prepend_bos=False), "question")


def test_another_question(recorded: Path) -> None:
    asked = {"seed": 1, "n_mazes": 5, "metric": "all", "reduce": "sum", "padding": "longest", "task": "path"}
    text = line(changed(recorded, **asked), "question")
    assert "seed was 0, now it is 1" in text
    assert "padding was None, now it is 'longest'" in text
    assert "task was 'first_path_choice', now it is 'path'" in text
    assert text.count("now it is") == len(asked)


def _mirrored(maze: MazeModel) -> list[int]:
    """The id of the cell with row and column exchanged, for every token."""
    ids = maze.vocabulary.ids
    swapped = [re.sub(r"^\((\d+),(\d+)\)$", r"(\2,\1)", token) for token in maze.vocabulary.tokens]
    return [ids[token] for token in swapped]


def _other_prompts(change: str) -> Callable[..., Any]:
    make = MazeModel.prompts

    def prompts(self: MazeModel, mazes: Any = None, **options: Any) -> Any:
        if change == "left out":
            options["prepend_bos"] = False
        if change == "padded":
            options["padding"] = 50
        if change == "seed":
            options["seed"] += 1
        batch = make(self, mazes, **options)
        if change == "read":
            return replace(batch, read_positions=batch.read_positions - 1)
        if change == "mirrored":
            mirror = torch.tensor([*_mirrored(self), NONE])
            return replace(batch, answers=mirror[batch.answers], targets=mirror[batch.targets])
        return batch

    return prompts


CHANGED_PROMPTS = {
    "left out": "tokens and token ids and length",
    "padded": "tokens and token ids",
    "read": "tokens and token ids and length",
    "mirrored": "right answers",
    "seed": "maze that it is about",
}


@pytest.mark.parametrize("change", CHANGED_PROMPTS)
@pytest.mark.parametrize("other_versions", [False, True])
@pytest.mark.usefixtures("numbers_as_recorded")
def test_other_prompts(
    home: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch, change: str, other_versions: bool
) -> None:
    """With other versions too, as far as they are about the same mazes."""
    maze = reload(home)
    monkeypatch.setattr(MazeModel, "prompts", _other_prompts(change))
    if other_versions:
        monkeypatch.setattr(check, "described_run", _of_another_version)
    if other_versions and change == "seed":  # cannot be told from another generator
        assert questions.ask(maze, questions.Question(n_mazes=6), home).batch is not None
        return
    text = line(changed(recorded, maze), "prompts")
    if change not in ("seed", "mirrored"):
        assert re.search(r"3 of 3 prompts differ, the first of them prompt 0 in its ", text)
    assert CHANGED_PROMPTS[change] in text or "3 prompts were recorded, now there are" in text
    assert text.endswith("; the recorded ones are used")


def _of_another_version(view: Any) -> dict[str, Any]:
    from maze_dla.baselines.record import described_run

    run = described_run(view)
    return {**run, "versions": {**run["versions"], "maze-dataset": "9.9"}}


def test_another_order_of_tokens(home: Path, recorded: Path) -> None:
    maze = reload(home)
    tokens = list(maze.vocabulary.tokens)
    tokens[-1], tokens[-2] = tokens[-2], tokens[-1]
    permuted = replace(maze, vocabulary=MazeVocabulary(tuple(tokens), maze.vocabulary.tokenizer))
    text = changed(recorded, permuted)
    assert "the vocabulary holds other tokens, or in another order" in line(text, "weights")
    assert "token ids" in line(text, "prompts")


def test_other_tokens_in_the_file(recorded: Path, tmp_path: Path) -> None:
    config = damaged().config["dataset_cfg"]["token_arr"]
    config[-1], config[-2] = config[-2], config[-1]
    text = changed(recorded, damaged(dataset_cfg__token_arr=config).write(tmp_path / "small.zanj"))
    assert "the vocabulary holds other tokens" in line(text, "weights")


@pytest.mark.parametrize("metric", ["mirrored", "alone"])
def test_another_metric_of_the_same_name(
    home: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    maze, make = reload(home), questions.metric_by_name
    mirror = torch.tensor([*_mirrored(maze), NONE])

    def other(batch: Any, name: str, reduce: str = "mean") -> Any:
        kept, _ = make(batch, name, reduce)
        if metric == "alone":
            return kept, logit(kept)
        seen = replace(kept, answers=mirror[kept.answers], targets=mirror[kept.targets])
        return seen, correct_vs_other(seen, name, reduce)

    monkeypatch.setattr(questions, "metric_by_name", other)
    text = changed(recorded, maze)
    assert "  weights: same" in text
    if metric == "mirrored":
        assert "of 3 prompts differ, the first of them prompt 1 in its right answers, with" in line(text, "prompts")
        return
    assert "  prompts: same" in text
    assert re.search(r"it means: of the layers, \S+ moved most", text)


def test_what_is_computed_no_more(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = check.measure

    def less(*args: Any) -> Any:
        found = measure(*args)
        return replace(found, numbers={k: v for k, v in found.numbers.items() if k != "sources"})

    monkeypatch.setattr(check, "measure", less)
    assert "sources (missing)" in changed(recorded)


def test_a_model_of_other_sizes(recorded: Path, tmp_path: Path) -> None:
    """With the reason, where its tokens do not fit: the last cell is not among them."""
    state = random_state()
    for name, axis in (("embed.W_E", 0), ("unembed.W_U", 1), ("unembed.b_U", 0)):
        state[name] = state[name].take(range(19), axis)
    smaller = small_checkpoint(state)
    smaller.config["dataset_cfg"]["token_arr"].pop()
    text = changed(recorded, smaller.write(tmp_path / "small.zanj"))
    assert "d_vocab was 20, now it is 19" in line(text, "weights")
    assert "they cannot be computed any more: " in line(text, "numbers")


def test_a_hook_around_the_whole_model(recorded: Path) -> None:
    """The engine never calls the model as a whole, where such a hook would be run."""
    maze = reload(recorded.parent)
    maze.model.register_forward_hook(lambda module, given, logits: -logits)
    assert "metric of each prompt" in changed(recorded, maze)
