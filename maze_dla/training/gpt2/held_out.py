"""The logit difference on names and templates that no IOI sentence of the training had."""

from __future__ import annotations

from pathlib import Path

from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.adapters.text.ioi import IOIPromptBatch, ioi_prompts
from maze_dla.adapters.text.words import HELD_OUT_NAMES, HELD_OUT_TEMPLATES
from maze_dla.analysis import logit_lens
from maze_dla.engine.metrics import logit_diff
from maze_dla.results.base import format_mean
from maze_dla.results.statistics import Proportion

N_PROMPTS = 1000


def held_out_prompts(model, seed: int = 1) -> IOIPromptBatch:
    """Sampled prompts of held-out names in held-out templates."""
    return ioi_prompts(model, N_PROMPTS, names=HELD_OUT_NAMES, templates=HELD_OUT_TEMPLATES, seed=seed)


def held_out_logit_diff(folder: Path) -> tuple[Proportion | None, str]:
    """On how many held-out prompts the logit difference is positive, and its mean with interval in logits."""
    model = load_gpt2(folder)
    batch = held_out_prompts(model)
    result = logit_lens(model, batch, logit_diff(batch), forward="hooked")
    return result.accuracy, format_mean(result.metric_summary())
