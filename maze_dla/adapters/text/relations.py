"""Relations between the tokens of any text: previous, duplicate and induction."""

from __future__ import annotations

from maze_dla.engine.attention.relations import Relation, Relations, Tokens
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind
from maze_dla.results.torch_defaults import torch_defaults

Pairs = list[tuple[int, int]]


@torch_defaults()
def text_relations(batch: PromptBatch) -> Relations:
    """Which keys count for which queries of a text, for `head_scores`.

    | relation | keys of a query |
    | --- | --- |
    | "first token" | the first of all |
    | "previous token" | the one before |
    | "duplicate token" | all earlier ones that are the same token |
    | "induction" | the one after the last earlier occurrence of the same token |

    Olsson et al. 2022, "In-context Learning and Induction Heads"; Wang et al. 2022 (arXiv 2211.00593).

    Args:
        batch: any prompts, such as those of `text_prompts` or `ioi_prompts`.

    Raises:
        InputError: something else than prompts.
    """
    check_kind(batch, PromptBatch, "batch is a PromptBatch, such as that of text_prompts()")
    return Relations.of(batch, RELATIONS)


def _first(tokens: Tokens) -> Pairs:
    return [(i, 0) for i in range(1, len(tokens))]


def _previous(tokens: Tokens) -> Pairs:
    return [(i, i - 1) for i in range(1, len(tokens))]


def _duplicate(tokens: Tokens) -> Pairs:
    return [(i, j) for i, token in enumerate(tokens) for j in range(i) if tokens[j] == token]


def _induction(tokens: Tokens) -> Pairs:
    last: dict[str, int] = {}
    found = []
    for i, token in enumerate(tokens):
        if token in last and last[token] + 1 < i:  # the query itself is no key
            found.append((i, last[token] + 1))
        last[token] = i
    return found


RELATIONS: dict[str, Relation] = {
    "first token": _first,
    "previous token": _previous,
    "duplicate token": _duplicate,
    "induction": _induction,
}
