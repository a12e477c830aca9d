"""The vocabulary of 2024, written out for a maze-dataset that does not know it, is the one that knows it has."""

from __future__ import annotations

import pytest

from maze_dla.adapters.mazes.library import has_modular_tokenizers, import_maze_dataset
from maze_dla.adapters.mazes.modular import modular_tokens, writes_as_before

KNOWS_IT = pytest.mark.skipif(not has_modular_tokenizers(), reason="this maze-dataset has no modular tokenizers")


def test_its_size_and_landmarks() -> None:
    tokens = modular_tokens()
    assert len(tokens) == len(set(tokens)) == 4096
    assert (tokens[0], tokens[8], tokens[10], tokens[1596]) == ("<ADJLIST_START>", "<-->", "<PADDING>", "(0,0)")


@KNOWS_IT
def test_it_is_the_librarys_own() -> None:
    tokenizer = import_maze_dataset().tokenization.MazeTokenizerModular()
    assert modular_tokens() == tuple(tokenizer.token_arr)
    assert writes_as_before({"name": tokenizer.name})


@KNOWS_IT
def test_another_tokenizer_is_not_taken_for_the_default() -> None:
    tokenization = import_maze_dataset().tokenization
    sequencer = tokenization.PromptSequencers.AOTP(path_tokenizer=tokenization.PathTokenizers.StepSequence(post=True))
    other = tokenization.MazeTokenizerModular(prompt_sequencer=sequencer)
    assert not writes_as_before({"name": other.name})
    assert not writes_as_before({})
