"""Metrics by the names that a command line has for them."""

from __future__ import annotations

from maze_dla.engine.metrics import LinearMetric, correct_vs_other, logit, logit_diff
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError


def metric_by_name(batch: PromptBatch, name: str, reduce: str = "mean") -> tuple[PromptBatch, LinearMetric]:
    """The prompts that have a metric, and that metric.

    Args:
        batch: the prompts.
        name: "all" or a token set of the batch, for the target against these tokens; "logit", for the target alone;
            "logit_diff", where the batch names wrong tokens.
        reduce: "mean" or "sum" over the tokens of a set.

    Raises:
        InputError: a metric that these prompts do not have, or that none of them has.
    """
    alone = {"logit": logit} | ({} if batch.foils is None else {"logit_diff": logit_diff})
    if name in alone:
        return batch, alone[name](batch)
    if name not in (known := ("all", *batch.token_sets)):
        raise InputError(f"unknown metric {name!r}, expected one of {', '.join((*known, *alone))}")
    kept = batch if name == "all" else batch.having(name)
    return kept, correct_vs_other(kept, name, reduce)
