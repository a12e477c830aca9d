"""Prompts from any text, tokenized by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from maze_dla.adapters.transformer_lens.identity import Words
from maze_dla.adapters.transformer_lens.weights import parameter, tokens_read
from maze_dla.engine.ids import filled_up
from maze_dla.engine.prompts import PromptBatch
from maze_dla.errors import InputError, PromptError, check_list, is_panic, shortened, whole_number
from maze_dla.results.arrays import check_values
from maze_dla.results.torch_defaults import torch_defaults


@torch_defaults()
def text_prompts(
    model: Any,
    texts: Sequence[str],
    answers: Sequence[Any],
    incorrect: Sequence[Any] | None = None,
    prepend_bos: bool | None = None,
) -> PromptBatch:
    """Prompts from texts, for a model with a tokenizer; each is read at its last token.

    Answers are tokens as they follow the text: after "The cat sat on the" comes " mat", with its space.

    Args:
        model: a model of TransformerLens with a tokenizer, from `load_gpt2` for one.
        texts: what the model reads.
        answers: for each text what should follow: a token's string or id, or a list or set of several, each of which
            is right and weighs the same.
        incorrect: for each text what `logit_diff` sets against it, likewise.
        prepend_bos: whether BOS comes first; None for the model's own convention, and never where it has no BOS.

    Raises:
        InputError: a model without tokenizer, lists that are not paired, BOS asked of a tokenizer without one.
        PromptError: naming the prompt: an empty text, a lone surrogate, a special token, an answer of several tokens
            (which it shows) or outside the vocabulary, one given twice, or both right and wrong.
    """
    encoder = TextEncoder.of(model, prepend_bos)
    for name, given in (("texts", texts), ("answers", answers), ("incorrect", () if incorrect is None else incorrect)):
        check_list(given, name)
    for name, given in (("answers", answers), ("incorrect", incorrect)):
        if given is not None and len(given) != len(texts):
            raise InputError(f"{len(texts)} texts but {name} for {len(given)}: each text needs its own")
    tokens = [encoder.tokens(f"prompt {i}", text) for i, text in enumerate(texts)]
    right = [encoder.several(f"prompt {i}: answer", given) for i, given in enumerate(answers)]
    wrong = [
        encoder.several(f"prompt {i}: incorrect answer", given)
        for i, given in enumerate([] if incorrect is None else incorrect)
    ]
    info = {"task": "texts", "prompts": "own texts", "prepend_bos": encoder.bos is not None}
    return PromptBatch.from_tokens(
        tokens,
        filled_up(right),
        incorrect=None if incorrect is None else filled_up(wrong),
        info=info,
        **encoder.described(tokens),
    )


def brief(value: Any) -> str:
    """A value for a message, short; a number of thousands of digits, which has no text, by their number."""
    try:
        return shortened(repr(value), 80)
    except ValueError:
        return f"a {type(value).__name__} with a number of more digits than can be shown"


@contextmanager
def tokenizing(what: str) -> Iterator[None]:
    """Whatever a tokenizer raises on a text or a token, in Rust as well.

    Raises:
        PromptError: naming it.
    """
    try:
        yield
    except BaseException as problem:
        if not isinstance(problem, Exception) and not is_panic(problem):
            raise
        said = shortened(" ".join(str(problem).split()))
        raise PromptError(
            f"the tokenizer fails at {shortened(what, 60)!r} ({type(problem).__name__}: {said})"
        ) from problem


def check_characters(what: str, text: str) -> None:
    """Refuse a text with half of a surrogate pair in it, which no tokenizer takes.

    Raises:
        PromptError: showing the text.
    """
    if not text.isascii() and (halves := [c for c in text if "\ud800" <= c <= "\udfff"]):
        raise PromptError(f"{what} holds the lone surrogate {halves[0]!r}, which is no character: {text!r}")


@dataclass(frozen=True)
class TextEncoder:
    """A model's tokenizer with the sizes of its vocabularies; `bos` is what goes in front of each text, if anything."""

    tokenizer: Any
    d_vocab_in: int
    d_vocab: int
    bos: int | None
    known: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, model: Any, prepend_bos: bool | None) -> TextEncoder:
        """That of a model.

        Raises:
            InputError: it has no tokenizer, or BOS is asked for and the tokenizer has none.
        """
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise InputError(f"{type(model).__name__} has no tokenizer, so no sentence can be put to it")
        if prepend_bos is not None and not isinstance(prepend_bos, bool):
            raise InputError(f"prepend_bos is True, False or None, got {brief(prepend_bos)}")
        bos = tokenizer.bos_token_id
        if prepend_bos and bos is None:
            raise InputError("prepend_bos=True, but the tokenizer has no BOS token: leave it out, or pass False")
        wanted = getattr(model.cfg, "default_prepend_bos", True) if prepend_bos is None else prepend_bos
        W_U, d_vocab_in = parameter(model, "W_U"), tokens_read(model)
        d_vocab = d_vocab_in if W_U is None else W_U.shape[-1]
        return cls(tokenizer, d_vocab_in, d_vocab, bos if wanted is not False else None)

    def tokens(self, what: str, text: Any) -> list[int]:
        """The ids of a text, after BOS where that is wanted.

        Raises:
            PromptError: no text, an empty one, a lone surrogate or a special token in it, or another model's tokenizer.
        """
        if not isinstance(text, str) or not text:
            raise PromptError(f"{what} is {'empty' if text == '' else f'no text but {brief(text)}'}, expected a text")
        check_characters(what, text)
        ids = self._ids(text)
        if special := set(ids) & set(self.tokenizer.all_special_ids):
            names = ", ".join(repr(self.name(t)) for t in sorted(special))
            raise PromptError(f"{what} holds the special token {names}: {text!r}")
        self._check_size(ids, self.d_vocab_in)
        return ids if self.bos is None else [self.bos, *ids]

    def several(self, what: str, given: Any) -> list[int]:
        """The ids of one or several answers, each a token's string or id.

        Raises:
            PromptError: an answer that is not one token, none at all, or one twice.
        """
        check_values(what, given)
        given = given.tolist() if hasattr(given, "tolist") else given
        listed = sorted(given, key=str) if isinstance(given, set | frozenset) else given
        ids = [self.answer(what, one) for one in (listed if isinstance(listed, list | tuple) else [listed])]
        if not ids:
            raise PromptError(f"{what}s are an empty list, expected at least one")
        if twice := [t for t in ids if ids.count(t) > 1]:
            raise PromptError(f"{what} {self.name(twice[0])!r} is given twice, expected once")
        return ids

    def answer(self, what: str, given: Any) -> int:
        """The id of an answer.

        Raises:
            PromptError: neither a string that is one token nor an id of the vocabulary.
        """
        if isinstance(given, str):
            if given not in self.known:
                self.known[given] = self._single(what, given)
            return self.known[given]
        if whole_number(given) is None:
            raise PromptError(f"{what} is a token's string or its id, a whole number, got {brief(given)}")
        if not 0 <= int(given) < self.d_vocab:
            raise PromptError(f"{what} {brief(given)} is outside the vocabulary of {self.d_vocab} tokens")
        return int(given)

    def _single(self, what: str, answer: str) -> int:
        if self.d_vocab != self.d_vocab_in:
            raise PromptError(
                f"{what} {answer!r} is a word, but the model reads {self.d_vocab_in} tokens and has {self.d_vocab} "
                "outputs, which the tokenizer does not name: give ids"
            )
        check_characters(what, answer)
        ids = self._ids(answer)
        if len(ids) != 1:
            other = f" {answer}" if not answer.startswith(" ") else answer.lstrip(" ")
            hint = f"; {other!r} would be one" if other.strip() and len(self._ids(other)) == 1 else ""
            shown = " + ".join(repr(self.name(t)) for t in ids) or "nothing"
            raise PromptError(f"{what} {answer!r} is {len(ids)} tokens ({shown}), expected one{hint}")
        if ids[0] in self.tokenizer.all_special_ids:
            raise PromptError(
                f"{what} {answer!r} is the special token {self.name(ids[0])!r}; where it is meant, give its id"
            )
        self._check_size(ids, self.d_vocab)
        return ids[0]

    def _ids(self, text: str) -> list[int]:
        with tokenizing(text):
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _check_size(self, ids: Iterable[int], size: int) -> None:
        if outside := [t for t in ids if t >= size]:
            raise PromptError(
                f"the token {self.name(outside[0])!r} is number {outside[0]} of the tokenizer, the model's "
                f"vocabulary has {size} tokens: it belongs to another tokenizer"
            )

    def name(self, token: int) -> str:
        """A token as a string."""
        with tokenizing(f"token {token}"):
            return self.tokenizer.decode([token])

    def described(self, tokens: Sequence[Sequence[int]]) -> dict[str, Any]:
        """A batch's fields about its vocabulary and these tokens."""
        outputs_are_tokens = self.d_vocab == self.d_vocab_in
        return {
            "d_vocab": self.d_vocab,
            "d_vocab_in": self.d_vocab_in,
            "pad_id": 0 if self.bos is None else self.bos,
            "labels": [[self.name(t) for t in row] for row in tokens],
            "vocabulary": Words(self.tokenizer, self.d_vocab) if outputs_are_tokens else None,
        }
