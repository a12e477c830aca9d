"""The six maps of activation patching against one PyTorch hook at a time on Hugging Face's own model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

import maze_dla as dla

MAPS = ("resid_pre", "attn_out", "mlp_out", "z", "v", "pattern")
ATOL = 1e-4


@contextmanager
def hook(module: Any, change: Callable[[Tensor], Tensor], before: bool = False) -> Iterator[None]:
    """Change what goes into a module, or what comes out of it, if that is a tuple its first entry."""

    def of_first(values: Any) -> Any:
        return (change(values[0]), *values[1:]) if isinstance(values, tuple) else change(values)

    if before:
        handle = module.register_forward_pre_hook(lambda _, inputs: of_first(inputs))
    else:
        handle = module.register_forward_hook(lambda _, inputs, output: of_first(output))
    try:
        yield
    finally:
        handle.remove()


class PlainPatching:
    """One forward pass with one hook for each site: the logit difference of every corrupted prompt."""

    def __init__(self, folder: Path, pairs: Any) -> None:
        hf = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager")
        self.hf, self.pairs = hf.double().eval(), pairs
        self.n_heads, self.d_model = hf.config.n_head, hf.config.n_embd
        self.corrupted = self.metric(pairs.corrupted.tokens)
        self.seen, self.attentions = cache(self._seen), cache(self._attentions)

    @torch.no_grad()
    def metric(self, tokens: Tensor) -> Tensor:
        logits = self.hf(tokens).logits[:, -1]
        right, wrong = self.pairs.clean.targets, self.pairs.corrupted.targets
        return (logits.gather(1, right[:, None]) - logits.gather(1, wrong[:, None]))[:, 0]

    def place(self, site: str, layer: int) -> tuple[Any, bool]:
        """The module, and whether what goes into it is meant."""
        block = self.hf.transformer.h[layer]
        attention = block.attn
        return {
            "resid_pre": (block, True),
            "attn_out": (attention, False),
            "mlp_out": (block.mlp, False),
            "z": (attention.c_proj, True),
            "v": (attention.c_attn, False),
        }[site]

    @torch.no_grad()
    def _attentions(self) -> Any:
        return self.hf(self.pairs.clean.tokens, output_attentions=True).attentions

    @torch.no_grad()
    def _seen(self, site: str, layer: int, which: str) -> Tensor:
        kept: list[Tensor] = []
        module, before = self.place(site, layer)
        with hook(module, lambda x: kept.append(x.clone()) or x, before):
            self.hf(getattr(self.pairs, which).tokens)
        return kept[0]

    def patched(self, site: str, layer: int, other: int) -> Tensor:
        """The metric with the clean activation at a position of the stream, or of a head at all positions."""
        width = self.d_model // self.n_heads
        if site == "pattern":  # what the head hands on: the clean pattern over the corrupted run's own values
            pattern = self.attentions()[layer][:, other]
            start = 2 * self.d_model + other * width
            put = pattern @ self.seen("v", layer, "corrupted")[..., start : start + width]
            at = (..., slice(other * width, (other + 1) * width))
            site = "z"
        else:
            start = {"z": 0, "v": 2 * self.d_model}.get(site)
            columns = slice(None) if start is None else slice(start + other * width, start + (other + 1) * width)
            at = (slice(None), other, slice(None)) if start is None else (..., columns)
            put = self.seen(site, layer, "clean")[at]

        def change(x: Tensor) -> Tensor:
            x = x.clone()
            x[at] = put
            return x

        module, before = self.place(site, layer)
        with hook(module, change, before):
            return self.metric(self.pairs.corrupted.tokens)


@pytest.fixture(scope="module", params=["small", pytest.param("full size", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("small_folder" if request.param == "small" else "full_size")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return dla.load_gpt2(folder)


@pytest.fixture(scope="module")
def pairs(model: Any) -> Any:
    pairs = dla.ioi_pairs(model, change="names")
    return pairs.select([5]) if model.cfg.n_layers > 2 else pairs


@pytest.fixture(scope="module")
def plain(folder: Path, pairs: Any) -> PlainPatching:
    return PlainPatching(folder, pairs)


def sample(shape: tuple[int, ...], site: str, first: int) -> list[tuple[int, int]]:
    """Some sites: of the first and the last layer; the first position that differs, so that something changes."""
    layers, others = (0, shape[0] - 1), (0, shape[1] - 1)
    if site not in ("z", "v", "pattern"):
        others = (first, shape[1] - 1)
    return [(layer, other) for layer in layers for other in others]


@pytest.mark.parametrize("site", MAPS)
def test_a_map_is_that_of_one_hook_at_a_time(model: Any, pairs: Any, plain: PlainPatching, site: str) -> None:
    patched = dla.patch(model, pairs, site=site)
    differs = (pairs.clean.tokens != pairs.corrupted.tokens).any(0)
    found = sample(tuple(patched.values.shape[1:]), site, int(differs.int().argmax()))
    expected = torch.stack([plain.patched(site, *at) for at in found], 1)
    values = torch.stack([patched.values[:, layer, other] for layer, other in found], 1)
    torch.testing.assert_close(values.double(), expected, rtol=0, atol=ATOL)
    assert float((expected - plain.corrupted[:, None]).abs().max()) > 10 * ATOL


def test_the_runs_are_hugging_faces(model: Any, pairs: Any, plain: PlainPatching) -> None:
    patched = dla.patch(model, pairs, site="resid_pre")
    for own, tokens in ((patched.clean, pairs.clean.tokens), (patched.corrupted, pairs.corrupted.tokens)):
        torch.testing.assert_close(own.double(), plain.metric(tokens), rtol=0, atol=ATOL)


def test_positions_in_front_of_the_name_change_nothing(model: Any, pairs: Any) -> None:
    patched = dla.patch(model, pairs, site="resid_pre")
    first = int((pairs.clean.tokens != pairs.corrupted.tokens).any(0).int().argmax())
    assert first > 0
    assert not patched.change[..., :first].any()
    assert bool(patched.change[:, 0, first].abs().min() > 0)
