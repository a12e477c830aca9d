"""A byte-level tokenizer in GPT-2's format in which every word of the corpus is one token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maze_dla.adapters.text.words import NAMES, OBJECTS, PLACES, STANDARD_PROMPTS, TEMPLATES
from maze_dla.training.gpt2.corpus import OPENINGS, PLAIN

END_OF_TEXT = "<|endoftext|>"


def write_tokenizer(folder: Path) -> Any:
    """Write `vocab.json`, `merges.txt` and `tokenizer_config.json` into a folder; returns the tokenizer.

    Raises:
        OSError: they cannot be written.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2TokenizerFast  # pyright: ignore[reportAttributeAccessIssue] (a lazy module)

    words = [*NAMES, *PLACES, *OBJECTS, "an"]
    texts = [*TEMPLATES, *PLAIN, *OPENINGS, *(text for text, _, _ in STANDARD_PROMPTS)]
    words = [f" {w}" for w in (*words, *(w for text in texts for w in text.split() if "{" not in w))]
    words += [text.split()[0] for text in texts if text and "{" not in text.split()[0]]  # what a prompt begins with
    learned = ByteLevelBPETokenizer()
    # more merges than the words have: training stops when each word is whole
    learned.train_from_iterator(
        words, vocab_size=100_000, min_frequency=1, special_tokens=[END_OF_TEXT], show_progress=False
    )
    try:
        learned.save_model(str(folder))
    except Exception as problem:  # of the tokenizers library, for a full disk for one
        raise OSError(str(problem)) from problem
    config = {"tokenizer_class": "GPT2Tokenizer"} | dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return GPT2TokenizerFast.from_pretrained(str(folder))
