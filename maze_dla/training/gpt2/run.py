"""The training run that makes the bundled IOI model."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from maze_dla.adapters.text.words import HELD_OUT_NAMES, HELD_OUT_TEMPLATES
from maze_dla.adapters.transformer_lens.build import check_placement
from maze_dla.files import drafted_folder, write_file
from maze_dla.training.gpt2.corpus import ioi_sentence, training_sentence
from maze_dla.training.gpt2.vocabulary import write_tokenizer
from maze_dla.training.plan import StepPlan

LAYERS, HEADS, D_MODEL, D_MLP, N_CTX = 3, 4, 128, 64, 64


@dataclass(frozen=True)
class TrainingPlan(StepPlan):
    """How long and how hard the bundled model is trained."""

    steps: int = 6_000
    sentences: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warm_up: int = 200


def train_bundled(out: Path, plan: TrainingPlan, device: str | None = None) -> Generator[dict[str, float], None, None]:
    """Train, yield each measurement as it is made, and write a Hugging Face folder when all steps are done.

    Raises:
        InputError: the folder cannot be written, what was in it is as it was; or the device cannot be used.
    """
    check_placement(device, None)
    with drafted_folder(out) as draft:
        tokenizer = write_tokenizer(draft)
        yield from _train(tokenizer, plan, draft, device)


def _train(
    tokenizer: Any, plan: TrainingPlan, out: Path, device: str | None
) -> Generator[dict[str, float], None, None]:
    rng = np.random.default_rng(plan.seed)
    model = _start(plan, len(tokenizer), tokenizer.bos_token_id)
    model = model if device is None else model.to(device)
    optimizer = plan.optimizer(model)
    losses: list[float] = []
    for step in tqdm(range(1, plan.steps + 1), desc="training", disable=None):
        texts = [training_sentence(rng) for _ in range(plan.sentences)]
        tokens, lengths = (t.to(model.device) for t in encoded(tokenizer, texts))
        loss = language_loss(model(tokens).logits, tokens, lengths)
        losses.append(plan.descend(model, optimizer, loss, step - 1))
        if step % plan.measure_every == 0 or step == plan.steps:
            share, mean = measured_logit_diff(model, tokenizer, 512, seed=1)
            yield {"step": step, "loss": math.fsum(losses) / len(losses), "positive": share, "logit_diff": mean}
            losses.clear()
    save_folder(model, out)


def save_folder(model: Any, out: Path) -> None:
    """Write `config.json` and `model.safetensors`, the tied head once."""
    from safetensors.torch import save

    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    model.config.architectures = [type(model).__name__]
    write_file(out / "model.safetensors", save(weights, metadata={"format": "pt"}))
    write_file(out / "config.json", model.config.to_json_string())


def encoded(tokenizer: Any, texts: list[str]) -> tuple[Int[Tensor, "sentence token"], Int[Tensor, " sentence"]]:
    """The texts' tokens behind a BOS, padded on the right with it, and their lengths."""
    rows = [[tokenizer.bos_token_id, *ids] for ids in tokenizer(texts)["input_ids"]]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), int(lengths.max())), tokenizer.bos_token_id)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return tokens, lengths


def language_loss(
    logits: Float[Tensor, "sentence token vocab"], tokens: Int[Tensor, "sentence token"], lengths: Tensor
) -> Tensor:
    """The mean loss over all next tokens that are there."""
    following = torch.arange(1, tokens.shape[1], device=tokens.device) < lengths[:, None]
    targets = torch.where(following, tokens[:, 1:], -100)
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, ignore_index=-100)


@torch.no_grad()
def measured_logit_diff(model: Any, tokenizer: Any, n: int, seed: int) -> tuple[float, float]:
    """Share of positive logit differences and their mean, over names and templates that training never pairs."""
    rng = np.random.default_rng(seed)
    pairs = [ioi_sentence(rng, HELD_OUT_NAMES, HELD_OUT_TEMPLATES) for _ in range(n)]
    tokens, lengths = encoded(tokenizer, [text for text, _ in pairs])
    logits = model(tokens.to(model.device)).logits.cpu()[torch.arange(n), lengths - 1]
    correct = torch.tensor([ids[0] for ids in tokenizer([f" {name}" for _, name in pairs])["input_ids"]])
    names = torch.tensor([ids[0] for ids in tokenizer([f" {name}" for name in HELD_OUT_NAMES])["input_ids"]])
    mentioned = (tokens[:, :, None] == names).any(1)
    incorrect = names[(mentioned & (names != correct[:, None])).int().argmax(1)]
    diff = logits.gather(1, correct[:, None]) - logits.gather(1, incorrect[:, None])
    return float((diff > 0).float().mean()), float(diff.mean())


def _start(plan: TrainingPlan, vocabulary: int, bos: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=N_CTX, n_embd=D_MODEL, n_layer=LAYERS, n_head=HEADS, n_inner=D_MLP,
        bos_token_id=bos, eos_token_id=bos, **dropout,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return GPT2LMHeadModel(config)
