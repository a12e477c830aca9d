"""Random models of two shapes and random prompts for them: speed does not depend on what a model has learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maze_dla.adapters.mazes.checkpoint import expected_shapes
from maze_dla.adapters.mazes.tasks import ONE_PER_MAZE
from maze_dla.adapters.transformer_lens.build import DecoderSpec, build_decoder
from maze_dla.engine.prompts import PromptBatch

N_TASKS = len(ONE_PER_MAZE)


@dataclass(frozen=True)
class BenchModel:
    """Sizes of a model, and the lengths that its prompts have (shortest and longest, both included)."""

    spec: DecoderSpec
    shortest: int
    longest: int

    def __str__(self) -> str:
        s = self.spec
        return f"{s.n_layers} layers, d_model {s.d_model}, {s.n_heads} heads, d_mlp {s.d_mlp}, vocabulary {s.d_vocab:,}"


MAZE = BenchModel(
    DecoderSpec(
        n_layers=6,
        n_heads=4,
        d_model=128,
        d_head=32,
        d_mlp=512,
        d_vocab=75,  # the 64 cells of an 8x8 grid and 11 special tokens
        n_ctx=256,
        act_fn="gelu",
        name="maze shape",
    ),
    shortest=120,
    longest=238,
)
GPT2 = BenchModel(
    DecoderSpec(
        n_layers=12,
        n_heads=12,
        d_model=768,
        d_head=64,
        d_mlp=3072,
        d_vocab=50257,
        n_ctx=1024,
        act_fn="gelu_new",
        name="gpt2-small shape",
    ),
    shortest=16,
    longest=16,
)


def random_model(shape: BenchModel, seed: int = 0, device: Any = None) -> Any:
    """A model with random weights and biases, of the newest class that TransformerLens has.

    The final norm has weight 1 and bias 0, as if folded: the tutorial way leaves them out, and is exact with these.

    Raises:
        InputError: a device that cannot be used here.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {name: _random_weight(name, size, generator) for name, size in expected_shapes(shape.spec).items()}
    return build_decoder(shape.spec, state, device)


def _random_weight(name: str, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """About the size of trained weights: products with them neither vanish nor grow from layer to layer."""
    layer, _, kind = name.rpartition(".")
    if kind == "w":
        return torch.ones(size)
    if layer == "ln_final":
        return torch.zeros(size)
    drawn = torch.empty(size).normal_(generator=generator)
    return drawn * (size[-2] ** -0.5 if kind in ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out", "W_U") else 0.1)


def random_prompts(shape: BenchModel, n: int, seed: int = 0) -> PromptBatch:
    """Random tokens of random lengths, each prompt a sequence of its own, with a correct and an incorrect token.

    The first token is the same in all.
    """
    return _batch(shape, n, _lengths(shape, n, seed)[:, None], seed)


def task_prompts(shape: BenchModel, n: int, seed: int = 0) -> PromptBatch:
    """Seven prompts in each of n sequences, as all tasks on the same mazes: the longest prompt is the sequence.

    Prompts of one sequence stand next to each other, the shortest first: prompt `i` is task `i % 7`.
    """
    lengths = _lengths(shape, n, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    first = min(shape.shortest, shape.longest - N_TASKS)
    earlier = [torch.rand(n, N_TASKS - 1, generator=generator).mul(lengths[:, None] - first).long() + first]
    return _batch(shape, n, torch.cat([*earlier, lengths[:, None]], 1).sort(1).values, seed)


def _lengths(shape: BenchModel, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shape.shortest, shape.longest + 1, (n,), generator=generator)
    lengths[0] = shape.longest
    return lengths


def _batch(shape: BenchModel, n: int, ends: Tensor, seed: int) -> PromptBatch:
    """Random sequences, read in front of each of the ends [sequence, prompt]."""
    generator = torch.Generator().manual_seed(seed + 2)
    d_vocab, per_sequence = shape.spec.d_vocab, ends.shape[1]
    sequences = torch.randint(0, d_vocab, (n, shape.longest), generator=generator)
    sequences[:, 0] = 0  # real prompts begin with one and the same token, as BOS
    targets = torch.randint(0, d_vocab, (ends.numel(),), generator=generator)
    further = torch.randint(1, d_vocab, (ends.numel(),), generator=generator)
    lengths = ends.amax(1)
    return PromptBatch(
        sequences=sequences,
        sequence_lengths=lengths,
        sequence_of=torch.arange(n).repeat_interleave(per_sequence),
        read_positions=ends.flatten() - 1,
        targets=targets,
        d_vocab=d_vocab,
        sequence_labels=tuple(
            tuple(str(t) for t in row[:k]) for row, k in zip(sequences.tolist(), lengths.tolist(), strict=True)
        ),
        incorrect=(targets + further) % d_vocab,
    )
