"""The token grid of GPT-2: the same on folded and unfolded weights, and as a public exercise has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import maze_dla as dla

from .conftest import random_gpt2, write_folder

TEXTS = ["When Mary and John went to the shops, John gave a bottle to", "After lunch Tom"]
ANSWERS = [[" Mary", " Tom"], [" Mary"]]


def folded(folder: Path) -> Any:
    """The weights folded and centred, as the literature has them."""
    model = dla.load_gpt2(folder)
    if hasattr(model, "enable_compatibility_mode"):
        model.enable_compatibility_mode(disable_warnings=True)
    else:
        model.process_weights_()
        model.setup()  # the names of the hooks of norms that folding put there
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """One model of four layers as it is stored, and folded; all of its weights are far from those of a fresh one."""
    sizes = {"vocab_size": 907, "n_positions": 64, "n_embd": 96, "n_layer": 4, "n_head": 4}
    folder = write_folder(random_gpt2(seed=5, spread=0.2, **sizes), tmp_path_factory.mktemp("grid") / "gpt2")
    return dla.load_gpt2(folder), folded(folder)


def grid(model: Any, **options: Any) -> dla.TokenLensResult:
    batch = dla.text_prompts(model, TEXTS, ANSWERS, prepend_bos=True)
    return dla.token_lens(model, batch, positions="all", tokens=[" Mary", " John", " Tom"], **options)


@pytest.mark.parametrize("scale", ["own", "final"])
def test_folding_changes_nothing(models: tuple[Any, Any], scale: Any) -> None:
    plain, other = (grid(model, scale=scale) for model in models)
    inside = plain.top_ids[..., 0] >= 0
    assert torch.equal(plain.top_ids[..., 0], other.top_ids[..., 0])
    for name in ("kl", "entropy", "target_prob", "top_probs", "chosen_probs"):
        torch.testing.assert_close(getattr(plain, name), getattr(other, name), atol=2e-4, rtol=2e-4, equal_nan=True)
    assert plain.kl[..., 0][inside[..., 0]].min() > 0.05
    assert plain.target_prob[inside].std() > 1e-4
    assert len(plain.top_ids[..., 0][inside].unique()) > 20  # not one token everywhere


def by_the_exercise(model: Any, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Top tokens and divergence, [position, layer], of the residual stream after each attention.

    As a public exercise on the logit lens asks for them (ML4G 2.0, Residual_stream): the input of the second norm of a
    folded model, normed, unembedded, and KL(final || layer).
    """
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.tensor([ids]))
        normed = [cache[f"blocks.{i}.ln2.hook_normalized"][0] for i in range(model.cfg.n_layers)]
        read = torch.stack([model.unembed(x[None])[0] for x in normed], 1).log_softmax(-1)
    final = logits[0].log_softmax(-1)[:, None].expand_as(read)
    return read.argmax(-1), torch.nn.functional.kl_div(read, final, reduction="none", log_target=True).sum(-1)


def test_the_grid_of_a_folded_and_of_an_unfolded_model_is_the_exercises(models: tuple[Any, Any]) -> None:
    plain, other = models
    ids = dla.text_prompts(other, TEXTS[:1], ANSWERS[:1], prepend_bos=True).tokens[0].tolist()
    top, kl = by_the_exercise(other, ids)
    for model in (plain, other):
        found = grid(model)
        mid = [i for i, label in enumerate(found.labels) if label.endswith("_mid")]
        assert torch.equal(found.top_ids[0, : len(ids), mid, 0], top)
        torch.testing.assert_close(found.kl[0, : len(ids), mid], kl, atol=1e-3, rtol=1e-3)
        pre = [i - 1 for i in mid]
        assert (found.kl[0, : len(ids), pre] - kl).abs().max() > 0.05  # other depths are told apart


def test_what_is_no_token_cannot_be_chosen(models: tuple[Any, Any]) -> None:
    batch = dla.text_prompts(models[0], TEXTS, ANSWERS)
    with pytest.raises(dla.MazeDlaError, match="' Mary and' is not one token of the vocabulary"):
        dla.token_lens(models[0], batch, tokens=[" Mary and"])
