"""Prompts from any text: tasks of the literature in a few lines, other tokenizers, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import maze_dla as dla
from maze_dla.adapters.gpt2.load import load_gpt2
from maze_dla.errors import InputError, PromptError
from tests.engine.small_models import D_VOCAB, make_model

from ..gpt2.conftest import random_gpt2, write_folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Any:
    """A small random model with GPT-2's real vocabulary."""
    model = random_gpt2(seed=5, vocab_size=50257, n_positions=64)
    return load_gpt2(write_folder(model, tmp_path_factory.mktemp("words") / "gpt2", test_data / "gpt2-tokenizer"))


def own_logits(model: Any, text: str, bos: bool = True) -> Tensor:
    """The model's logits after a text, tokenized here."""
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return model(torch.tensor([[50256] * bos + ids]))[0, -1]


def ids_of(model: Any, words: list[str]) -> list[int]:
    ids = model.tokenizer(words, add_special_tokens=False)["input_ids"]
    assert {len(row) for row in ids} == {1}
    return [row[0] for row in ids]


@pytest.mark.parametrize("engine", ["auto", "hooked"])
def test_greater_than(gpt2: Any, engine: Any) -> None:
    """Hanna et al. 2023 (arXiv 2305.00586): the end of a war comes after its beginning."""
    years = [f"{y:02d}" for y in range(100)]
    starts = [32, 76, 5]
    texts = [f"The war lasted from the year 17{y:02d} to the year 17" for y in starts]
    batch = dla.text_prompts(gpt2, texts, [years[y + 1 :] for y in starts], [years[: y + 1] for y in starts])
    result = dla.attribute(gpt2, batch, dla.logit_diff(batch), forward=engine)
    for i, y in enumerate(starts):
        logits = own_logits(gpt2, texts[i])[ids_of(gpt2, years)]
        torch.testing.assert_close(result.metric[i], logits[y + 1 :].mean() - logits[: y + 1].mean(), atol=1e-4, rtol=0)
        assert result.preferred is not None
        assert bool(result.preferred[i]) == bool(logits[y + 1 :].max() > logits[: y + 1].max())


def test_gendered_pronoun(gpt2: Any) -> None:
    names = {"Mary": " she", "John": " he", "Anna": " she", "Frank": " he"}
    other = {" she": " he", " he": " she"}
    texts = [f"So {name} is a really great friend, isn't" for name in names]
    batch = dla.text_prompts(gpt2, texts, list(names.values()), [other[w] for w in names.values()], prepend_bos=False)
    result = dla.attribute(gpt2, batch, dla.logit_diff(batch))
    for i, (text, word) in enumerate(zip(texts, names.values(), strict=True)):
        right, wrong = own_logits(gpt2, text, bos=False)[ids_of(gpt2, [word, other[word]])]
        torch.testing.assert_close(result.metric[i], right - wrong, atol=1e-4, rtol=0)
    assert result.prompt_tokens[0][:3] == ("So", " Mary", " is")
    assert result.info["prepend_bos"] is False


def test_docstring(gpt2: Any) -> None:
    """Heimersheim and Janiak 2023: the argument that the docstring has to name next."""
    text = (
        'def port(self, load, size, files):\n    """oil column piece\n\n    :param load: crime population\n    :param'
    )
    batch = dla.text_prompts(gpt2, [text], [" size"], [[" load", " files"]])
    metric = dla.logit_diff(batch)
    logits = own_logits(gpt2, text)[ids_of(gpt2, [" size", " load", " files"])]
    torch.testing.assert_close(
        dla.attribute(gpt2, batch, metric).metric[0], logits[0] - logits[1:].mean(), atol=1e-4, rtol=0
    )


def test_token_lens_shows_words(gpt2: Any) -> None:
    text = "The capital of France is"
    lens = dla.token_lens(gpt2, dla.text_prompts(gpt2, [text], [" Paris"]), k=3)
    expected = [gpt2.tokenizer.decode([t]) for t in own_logits(gpt2, text).topk(3).indices.tolist()]
    assert lens.top_tokens(0)[-1] == expected
    assert lens.targets == (" Paris",)
    assert lens.prompt_tokens == (("<|endoftext|>", "The", " capital", " of", " France", " is"),)


def test_answers_as_ids_strings_and_sets(gpt2: Any) -> None:
    he, she, they = ids_of(gpt2, [" he", " she", " they"])
    asked = [[" he", she], {" she"}, torch.tensor(they), (he, " they")]
    batch = dla.text_prompts(gpt2, ["a", "b", "c", "d"], asked)
    assert batch.answers.tolist() == [[he, she], [she, -1], [they, -1], [he, they]]
    assert batch.incorrect is None
    assert dla.text_prompts(gpt2, ["a", "b"], torch.tensor([he, she])).targets.tolist() == [he, she]


@pytest.mark.parametrize("kind", [np.array, pd.Series, torch.tensor, tuple])
def test_lists_of_any_kind(gpt2: Any, kind: Any) -> None:
    he, she = ids_of(gpt2, [" he", " she"])
    batch = dla.text_prompts(gpt2, ["a", "b"], kind([he, she]), kind([she, he]))
    assert (batch.targets.tolist(), batch.foils.tolist()) == ([he, she], [[she], [he]])


def test_the_convention_of_the_model(gpt2: Any) -> None:
    texts, answers = ["So Mary is"], [" she"]
    for asked, expected in ((None, True), (True, True), (False, False)):
        batch = dla.text_prompts(gpt2, texts, answers, prepend_bos=asked)
        assert (batch.tokens[0, 0] == 50256) == batch.info["prepend_bos"] == expected
    without = SimpleNamespace(tokenizer=gpt2.tokenizer, cfg=SimpleNamespace(d_vocab=50257, default_prepend_bos=False))
    assert dla.text_prompts(without, texts, answers).tokens.tolist() == [ids_of(gpt2, ["So", " Mary", " is"])]
    assert dla.text_prompts(without, texts, answers, prepend_bos=True).tokens[0, 0] == 50256


def test_ioi_prompts_without_bos(gpt2: Any) -> None:
    """Wang et al. 2022 use none."""
    with_bos, without = dla.ioi_prompts(gpt2), dla.ioi_prompts(gpt2, prepend_bos=False)
    assert torch.equal(without.tokens, with_bos.tokens[:, 1:])
    assert torch.equal(without.corrupted.tokens, with_bos.corrupted.tokens[:, 1:])
    assert (with_bos.info["prepend_bos"], without.info["prepend_bos"]) == (True, False)
    result = dla.attribute(gpt2, without, dla.logit_diff(without))
    sentence = without.sentences[0]
    right, wrong = own_logits(gpt2, sentence.text, bos=False)[
        ids_of(gpt2, [f" {sentence.correct}", f" {sentence.incorrect}"])
    ]
    torch.testing.assert_close(result.metric[0], right - wrong, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def by_letter() -> Any:
    """A model with a tokenizer of single letters, which has no BOS."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.WordLevel({c: i for i, c in enumerate("?abcdefghijklmnopqrstuv")}, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    model = make_model()
    model.tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="?")
    return model


def test_a_tokenizer_without_bos(by_letter: Any) -> None:
    batch = dla.text_prompts(by_letter, ["cab", "ed"], [["d", "e"], "f"], ["g", ["h", "a", "b"]])
    assert batch.tokens.tolist() == [[3, 1, 2], [5, 4, 0]]
    assert batch.labels == (("c", "a", "b"), ("e", "d"))
    assert batch.d_vocab == D_VOCAB
    result = dla.attribute(by_letter, batch, dla.logit_diff(batch))
    with torch.no_grad():
        logits = by_letter(torch.tensor([[3, 1, 2]]))[0, -1]
    torch.testing.assert_close(result.metric[0], (logits[4] + logits[5]) / 2 - logits[7], atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match=r"^prepend_bos=True, but the tokenizer has no BOS token: leave it out, or"):
        dla.text_prompts(by_letter, ["cab"], ["d"], prepend_bos=True)
    with pytest.raises(PromptError, match=r"^prompt 0 holds the special token '\?': 'caz'"):
        dla.text_prompts(by_letter, ["caz"], ["d"])
    with pytest.raises(PromptError, match=r"^prompt 0: answer 'z' is the special token '\?'"):
        dla.text_prompts(by_letter, ["ca"], ["z"])


def test_outputs_that_are_no_tokens(by_letter: Any) -> None:
    model = make_model(d_vocab_out=4)
    model.tokenizer = by_letter.tokenizer
    batch = dla.text_prompts(model, ["cab"], [3], [[0, 1]])
    with torch.no_grad():
        logits = model(torch.tensor([[3, 1, 2]]))[0, -1]
    result = dla.attribute(model, batch, dla.logit_diff(batch))
    torch.testing.assert_close(result.metric[0], logits[3] - (logits[0] + logits[1]) / 2, atol=1e-4, rtol=1e-4)
    with pytest.raises(
        PromptError, match=r"^prompt 0: answer 'd' is a word, but the model reads 23 tokens and has 4 out"
    ):
        dla.text_prompts(model, ["cab"], ["d"])


WORDS = {"texts": "a", "answers": " he", "incorrect": " she"}
REFUSED: dict[str, tuple[type[Exception], Any, str]] = {
    "several tokens": (
        PromptError,
        (["a"], [" Bartholomew"]),
        "prompt 0: answer ' Bartholomew' is 3 tokens (' Barth' + 'ol' + 'omew'), expected one",
    ),
    "a space is missing": (
        PromptError,
        (["a", "b"], [" she", " he"], [" he", "Cherry"]),
        "prompt 1: incorrect answer 'Cherry' is 2 tokens ('C' + 'herry'), expected one; ' Cherry' would be one",
    ),
    "no token": (PromptError, (["a"], [""]), "prompt 0: answer '' is 0 tokens (nothing), expected one"),
    "no answers": (PromptError, (["a"], [[]]), "prompt 0: answers are an empty list, expected at least one"),
    "twice": (PromptError, (["a"], [[" he", " he"]]), "prompt 0: answer ' he' is given twice, expected once"),
    "right and wrong": (
        PromptError,
        (["a", "b"], [" he", [" he", " she"]], [" she", [" they", " she"]]),
        "prompt 1: the token ' she' is both right and wrong",
    ),
    "an id outside": (
        PromptError,
        (["a"], [50257]),
        "prompt 0: answer 50257 is outside the vocabulary of 50257 tokens",
    ),
    "a negative id": (PromptError, (["a"], [-1]), "prompt 0: answer -1 is outside the vocabulary of 50257 tokens"),
    "half an id": (
        PromptError,
        (["a"], [1.5]),
        "prompt 0: answer is a token's string or its id, a whole number, got 1.5",
    ),
    "true": (PromptError, (["a"], [True]), "prompt 0: answer is a token's string or its id, a whole number, got True"),
    "a special answer": (
        PromptError,
        (["a"], ["<|endoftext|>"]),
        "prompt 0: answer '<|endoftext|>' is the special token '<|endoftext|>'; where it is meant, give its id",
    ),
    "a special token": (
        PromptError,
        (["a", "b<|endoftext|>"], [" he", " he"]),
        "prompt 1 holds the special token '<|endoftext|>': 'b<|endoftext|>'",
    ),
    "an empty text": (PromptError, (["a", ""], [" he", " he"]), "prompt 1 is empty, expected a text"),
    "no text": (PromptError, ([5], [" he"]), "prompt 0 is no text but 5, expected a text"),
    "one text": (InputError, ("a", [" he"]), "texts are a list with an entry for each prompt, got 'a'"),
    "one answer": (InputError, (["a"], " he"), "answers are a list with an entry for each prompt, got ' he'"),
    "too few answers": (InputError, (["a", "b"], [" he"]), "2 texts but answers for 1: each text needs its own"),
    "too many foils": (
        InputError,
        (["a"], [" he"], [" she", " she"]),
        "1 texts but incorrect for 2: each text needs its own",
    ),
    "no texts": (InputError, ([], []), "a batch needs at least one prompt, got none"),
    **{
        f"{name} in a {type(given).__name__}": (
            InputError,
            tuple(given if name == n else [word] for n, word in WORDS.items()),
            f"{name} are a list with an entry for each prompt, got {given!r}",
        )
        for name in WORDS
        for given in ({" he"}, {" he": " she"}, {}.keys())
    },
    "half a character": (
        PromptError,
        (["a", "b\ud800"], [" he", " he"]),
        r"prompt 1 holds the lone surrogate '\ud800', which is no character: 'b\ud800'",
    ),
    "half a character in an answer": (
        PromptError,
        (["a", "b"], [" he", [" she", "\udfff"]]),
        r"prompt 1: answer holds the lone surrogate '\udfff', which is no character: '\udfff'",
    ),
    "an answer without a value": (
        InputError,
        (["a"], torch.zeros(1, device="meta")),
        "prompt 0: answer has no values: it lies on the meta device",
    ),
    "BOS by name": (InputError, (["a"], [" he"], None, "yes"), "prepend_bos is True, False or None, got 'yes'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gpt2: Any, name: str) -> None:
    kind, arguments, message = REFUSED[name]
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        dla.text_prompts(gpt2, *arguments)


def test_a_model_without_tokenizer() -> None:
    with pytest.raises(InputError, match=r"^SimpleNamespace has no tokenizer"):
        dla.text_prompts(SimpleNamespace(cfg=SimpleNamespace(d_vocab=5)), ["a"], ["b"])


def test_another_models_tokenizer(gpt2: Any) -> None:
    smaller = SimpleNamespace(tokenizer=gpt2.tokenizer, cfg=SimpleNamespace(d_vocab=300))
    with pytest.raises(PromptError, match=r"^the token 'The' is number 464 of the tokenizer, .* has 300 tokens"):
        dla.text_prompts(smaller, ["The capital"], [" Paris"])
