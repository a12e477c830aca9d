"""Classes of texts: lists of them, tokenized by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maze_dla.adapters.text.texts import TextEncoder
from maze_dla.engine.classes import PromptClasses
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import check_kind, check_list
from maze_dla.results.torch_defaults import torch_defaults


@torch_defaults()
def text_classes(
    model: Any, texts: Mapping[str, Sequence[str]], prepend_bos: bool | None = None, question: str = "list of texts"
) -> PromptClasses:
    """Lists of texts as the classes of `maze_dla.separability`; each text is read at its last token.

    Nothing is predicted here: the prompts' target is their own last token, which has no meaning.

    Args:
        model: a model of TransformerLens with a tokenizer, from `load_gpt2` for one.
        texts: the texts of each class, under its name.
        prepend_bos: whether BOS comes first; None for the model's own convention.
        question: what is to be told, in a few words.

    Raises:
        InputError: a model without tokenizer, no mapping from names to lists, or fewer than two of them.
        PromptError: naming the text: an empty one, a lone surrogate, a special token.
    """
    encoder = TextEncoder.of(model, prepend_bos)
    check_kind(texts, Mapping, "texts are a mapping from the names of classes to lists of texts")
    batches = {}
    for name, listed in texts.items():
        check_list(listed, f"texts of {name!r:.40}", "text")
        tokens = [encoder.tokens(f"{name}, text {i}", text) for i, text in enumerate(listed)]
        info = {"task": "texts", "prompts": "own texts", "prepend_bos": encoder.bos is not None}
        last = [row[-1] for row in tokens]
        batches[name] = PromptBatch.from_tokens(tokens, last, info=info, **encoder.described(tokens))
    return PromptClasses.of_batches(batches, question)
