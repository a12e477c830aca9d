"""Pairs of IOI prompts: the names swapped, or a third name in the place of the subject's second mention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from maze_dla.adapters.text.ioi import IOIPromptBatch, IOISentence, checked_words, ioi_prompts
from maze_dla.adapters.text.texts import brief
from maze_dla.adapters.text.words import NAMES, OBJECTS, PLACES, TEMPLATES
from maze_dla.engine.pairs import PromptPairs
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError
from maze_dla.results.torch_defaults import torch_defaults

Change = Literal["names", "third_name"]
UNANSWERED = "with a third name in the place of the subject's second mention neither of the two names is right"


@torch_defaults()
def ioi_pairs(
    model: Any,
    change: Change = "names",
    n_prompts: int | None = None,
    *,
    prompts: Sequence[str] | None = None,
    answers: Sequence[tuple[str, str]] | None = None,
    templates: Sequence[str] = TEMPLATES,
    names: Sequence[str] = NAMES,
    places: Sequence[str] = PLACES,
    objects: Sequence[str] = OBJECTS,
    seed: int = 0,
    prepend_bos: bool | None = None,
) -> PromptPairs:
    """IOI prompts, each with its counterfactual, which differs from it in one name and is as long token by token.

    Args:
        model: as in `ioi_prompts`.
        change: "names": the other name comes twice, so that right and wrong change places. "third_name": the name that
            came again is replaced by one that is not in the sentence (Wang et al. 2022, their ABC prompts), so that
            neither name is right: such pairs can be patched, but have no contrast; their corrupted prompts carry the
            clean prompts' answers.
        n_prompts: as in `ioi_prompts`.
        prompts: as in `ioi_prompts`.
        answers: as in `ioi_prompts`.
        templates: as in `ioi_prompts`.
        names: as in `ioi_prompts`; third names are drawn from these.
        places: as in `ioi_prompts`.
        objects: as in `ioi_prompts`.
        seed: of the sampling, and of third names.
        prepend_bos: as in `ioi_prompts`.

    Raises:
        InputError: an unknown change, no third name to draw, or as `ioi_prompts`.
        PromptError: as `ioi_prompts`.
    """
    if change not in get_args(Change):
        raise InputError(f"change is one of {', '.join(map(repr, get_args(Change)))}, got {brief(change)}")
    clean = ioi_prompts(
        model,
        n_prompts,
        prompts=prompts,
        answers=answers,
        templates=templates,
        names=names,
        places=places,
        objects=objects,
        seed=seed,
        prepend_bos=prepend_bos,
    )
    info = {"change": change, "left_out": 0}
    if change == "names":
        return PromptPairs(clean, clean.names_swapped(), info)
    return PromptPairs(clean, _third_names(clean, checked_words("names", names, 3), seed), info, UNANSWERED)


def _third_names(clean: IOIPromptBatch, names: Sequence[str], seed: int) -> PromptBatch:
    """The prompts with a third name in the place of the subject's second mention, with the clean prompts' answers."""
    texts = [_with_third_name(i, sentence, names, seed) for i, sentence in enumerate(clean.sentences)]
    tokens = [clean.encoder.tokens(f"prompt {i}", text) for i, text in enumerate(texts)]
    return PromptBatch.from_tokens(
        tokens,
        clean.targets,
        token_sets=clean.token_sets,
        info={**clean.info, "task": "IOI, a third name"},
        incorrect=clean.incorrect,
        kinds=clean.kinds,
        sequence_kinds=clean.sequence_kinds,
        **clean.encoder.described(tokens),
    )


def _with_third_name(prompt: int, sentence: IOISentence, names: Sequence[str], seed: int) -> str:
    """A text with one of the names that it does not have; each prompt draws by itself."""
    others = [name for name in names if name not in (sentence.correct, sentence.incorrect)]
    rng = np.random.default_rng([seed, prompt])
    return sentence.with_last_subject(others[int(rng.integers(len(others)))])
