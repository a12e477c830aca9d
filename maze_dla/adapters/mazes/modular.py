"""The vocabulary of the 2024 checkpoints, for a maze-dataset that does not know it.

Every `MazeTokenizerModular` has the same 4096 tokens, and its default writes a maze as `AOTP_UT_uniform` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maze_dla.adapters.mazes.library import legacy_tokenizer

LARGEST_GRID, FIRST_CELL = 50, 1596
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WINDS = ("NORTH", "SOUTH", "EAST", "WEST", "NORTHEAST", "NORTHWEST", "SOUTHEAST", "SOUTHWEST", "CENTER")
STEPS = ("NORTH", "SOUTH", "EAST", "WEST", "FORWARD", "BACKWARD", "LEFT", "RIGHT", "STAY")
DEFAULT = (
    "MazeTokenizerModular-AOTP(UT(), AdjListCoord(pre=F, post=T, shuffle_d0=T, Ungrouped(connection_token_ordinal=1), "
    "ConnectionEdges(walls=F), RandomCoords()), Unlabeled(post=F), StepSequence(Singles(), step_tokenizers=(Coord(), "
    "), pre=F, intra=F, post=F))"
)


def modular_tokens() -> tuple[str, ...]:
    """The 4096 tokens in the order of their ids."""
    with_cells = list(legacy_tokenizer("AOTP_UT_uniform", LARGEST_GRID).token_arr)
    special = [token for token in with_cells if not token.startswith("(")]
    words = ["(", ",", ")", "=", "||", ":", "THEN", "-", "<UNK>"]
    words += [f"TARGET_{name}" for name in (*LETTERS, *WINDS)]
    words += [*STEPS, *(f"+{i}" for i in range(256)), *(str(i) for i in range(128)), *(str(i) for i in range(-256, 0))]
    words += ["STEP", "ADJ_GROUP", "&", "<XX>"]
    first_reserved = len(special) + len(words)
    reserved = [f"<RESERVE_{i}>" for i in range(first_reserved, FIRST_CELL)]
    return (*special, *words, *reserved, *with_cells[len(special) :])


def writes_as_before(saved: Mapping[str, Any]) -> bool:
    """Whether a saved `MazeTokenizerModular` is the default one, by its name."""
    return str(saved.get("name", "")).replace(" ", "") == DEFAULT.replace(" ", "")
