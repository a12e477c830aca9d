"""Random pairs of prompts for the small random models."""

from __future__ import annotations

import torch

from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from tests.engine.small_models import D_VOCAB, LENGTHS

KINDS = ("even", "odd")


def random_pairs(lengths: tuple[int, ...] = LENGTHS, changed: int = 4, seed: int = 0) -> PromptPairs:
    """Pairs that differ in one token, `changed` from the end or in the first, with answers of their own."""
    generator = torch.Generator().manual_seed(seed)
    clean = [torch.randint(D_VOCAB, (n,), generator=generator) for n in lengths]
    corrupted = [tokens.clone() for tokens in clean]
    for i, tokens in enumerate(corrupted):
        place = max(len(tokens) - changed, 0)
        tokens[place] = (tokens[place] + 1 + i) % D_VOCAB
    answers = torch.randint(D_VOCAB, (len(lengths),), generator=generator)
    others = (answers + 1 + torch.randint(D_VOCAB - 1, answers.shape, generator=generator)) % D_VOCAB
    return PromptPairs(batch_of(clean, answers), batch_of(corrupted, others), {"change": "one token"})


def batch_of(tokens: list[torch.Tensor], targets: torch.Tensor) -> PromptBatch:
    width = max(map(len, tokens))
    kinds = torch.arange(width).expand(len(tokens), -1) % 2
    return PromptBatch.from_tokens(
        tokens, targets, d_vocab=D_VOCAB, info={"task": "random"}, kinds=KINDS, sequence_kinds=kinds.clone()
    )
