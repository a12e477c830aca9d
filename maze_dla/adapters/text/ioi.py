"""Prompts of Indirect Object Identification (Wang et al. 2022, arXiv 2211.00593, section 2)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from maze_dla.adapters.text.texts import TextEncoder, brief, check_characters
from maze_dla.adapters.text.words import NAMES, OBJECTS, PLACES, STANDARD_PROMPTS, TEMPLATES, fill
from maze_dla.engine.prompts import PromptBatch, chosen_prompts
from maze_dla.errors import InputError, PromptError, whole_number
from maze_dla.results.torch_defaults import torch_defaults

KINDS = ("subject", "indirect object", "other")
DEPRECATED = "gives way to ioi_pairs(model, change='names'), whose pairs dla.contrast takes"
MOST_PROMPTS = 1_000_000
ORDERS = ("ABBA", "BABA")  # the indirect object comes first, or second


@dataclass(frozen=True)
class IOISentence:
    """A prompt with what should follow and what should not: the indirect object, and the subject that comes twice."""

    text: str
    correct: str
    incorrect: str

    def corrupted(self) -> IOISentence:
        """The sentence in which the other name comes twice, so that correct and incorrect change places."""
        return IOISentence(self.with_last_subject(self.correct), self.incorrect, self.correct)

    def with_last_subject(self, name: str) -> str:
        """The text with another name where the subject comes for the second time."""
        last = [*re.finditer(rf"(?<= ){re.escape(self.incorrect)}\b", self.text)][-1]
        return self.text[: last.start()] + name + self.text[last.end() :]


@dataclass(frozen=True, eq=False, repr=False)
class IOIPromptBatch(PromptBatch):
    """Prompts about two names, read at their last token; `incorrect` is the subject, so `logit_diff(batch)` is the
    logit difference of the literature.

    Token set "names": every name of the batch. Kinds of tokens: subject (both times), indirect object, other.
    """  # fmt: skip

    sentences: tuple[IOISentence, ...] = ()
    encoder: Any = None

    def names_swapped(self) -> Self:
        """The prompts in which the other name comes twice, and the answers change places; as long token by token."""
        sentences = [s.corrupted() for s in self.sentences]
        return self.build(sentences, self.encoder, {**self.info, "task": "IOI, names swapped"})

    @property
    def corrupted(self) -> Self:
        """The earlier way to `ioi_pairs(model, change="names").corrupted`."""
        warnings.warn(f"corrupted {DEPRECATED}", DeprecationWarning, stacklevel=2)
        return self.names_swapped()

    @property
    def with_corrupted(self) -> Self:
        """These prompts, and after them their counterfactuals in the same order; `ioi_pairs` takes its place."""
        warnings.warn(f"with_corrupted {DEPRECATED}", DeprecationWarning, stacklevel=2)
        sentences = [*self.sentences, *(s.corrupted() for s in self.sentences)]
        task = f"{self.info['task']}, and names swapped"
        return self.build(sentences, self.encoder, {**self.info, "task": task})

    @torch_defaults()
    def select(self, prompts: Any) -> Self:
        """The batch with just these prompts, in this order, or those where a mask holds."""
        chosen = chosen_prompts(prompts, len(self)).tolist()
        return replace(super().select(prompts), sentences=tuple(self.sentences[i] for i in chosen))

    def _joined_with(self, other: Any) -> dict[str, Any]:
        """The fields of the prompts of both, with their sentences."""
        return {**super()._joined_with(other), "sentences": (*self.sentences, *other.sentences)}

    @classmethod
    @torch_defaults()
    def build(cls, sentences: Sequence[IOISentence], encoder: TextEncoder, info: dict[str, Any]) -> Self:
        """Prompts from sentences.

        Raises:
            PromptError: two spaces in a row, a name that is not one token, or not there as often as it should be.
        """
        names = dict.fromkeys(name for s in sentences for name in (s.correct, s.incorrect))
        _single_tokens(list(names), encoder)
        tokens = [_tokens(i, sentence, encoder) for i, sentence in enumerate(sentences)]
        targets = [encoder.answer("the name", f" {s.correct}") for s in sentences]
        incorrect = [encoder.answer("the name", f" {s.incorrect}") for s in sentences]
        kinds = [_kinds(i, *parts) for i, parts in enumerate(zip(tokens, sentences, targets, incorrect, strict=True))]
        width = max(map(len, tokens))
        named = torch.zeros(encoder.d_vocab, dtype=torch.bool)
        named[targets + incorrect] = True
        return cls.from_tokens(
            tokens,
            targets,
            token_sets={"names": named},
            info=info,
            incorrect=incorrect,
            kinds=KINDS,
            sequence_kinds=torch.tensor([row + [KINDS.index("other")] * (width - len(row)) for row in kinds]),
            sentences=tuple(sentences),
            encoder=encoder,
            **encoder.described(tokens),
        )


@torch_defaults()
def ioi_prompts(
    model: Any,
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
) -> IOIPromptBatch:
    """IOI prompts for a model with a tokenizer: the eight standard ones, sampled ones, or your own.

    Args:
        model: a model of TransformerLens with a tokenizer, from `load_gpt2` for one.
        n_prompts: how many to sample; None for the eight standard prompts.
        prompts, answers: your own prompts, with (correct, incorrect) for each, as names without a space in front.
        templates: with {A} and {B} for the names in the order of their introduction, {S} for the one that comes again,
            and if wanted {place} and {object}. Half of the sampled prompts are ABBA (the indirect object comes first),
            half BABA.
        names, places, objects: what is sampled from; two different names for each prompt.
        seed: of the sampling.
        prepend_bos: whether BOS comes first (Wang et al. use none); None for the model's own convention, which GPT-2's
            models have with BOS.

    Raises:
        InputError: a model without tokenizer, BOS asked of a tokenizer without one, fewer than two names, a template
            without its slots, answers that are not paired with prompts or equal each other.
        PromptError: naming the prompt and the token: a name of several tokens, two spaces in a row, a name that is not
            in its prompt.
    """
    encoder = TextEncoder.of(model, prepend_bos)
    if prompts is not None or answers is not None:
        if n_prompts is not None:
            raise InputError("n_prompts is for sampled prompts: leave it out beside prompts of your own")
        sentences, task, more = _own(prompts, answers), "IOI, own prompts", {}
    elif n_prompts is None:
        sentences, task, more = [IOISentence(*s) for s in STANDARD_PROMPTS], "IOI, the eight standard prompts", {}
    else:
        words = (
            checked_words("names", names, 2),
            checked_words("places", places, 1),
            checked_words("objects", objects, 1),
        )
        _single_tokens(words[0], encoder)
        sentences = sample_sentences(n_prompts, _checked(templates), *words, seed=seed)
        task, more = "IOI, sampled prompts", {"seed": seed}
    info = {"task": task, "prompts": task.removeprefix("IOI, "), "prepend_bos": encoder.bos is not None, **more}
    return IOIPromptBatch.build(sentences, encoder, info)


def sample_sentences(
    n: int, templates: Sequence[str], names: Sequence[str], places: Sequence[str], objects: Sequence[str], *, seed: int
) -> list[IOISentence]:
    """Sentences from templates, ABBA and BABA in turn."""
    if not 1 <= (whole_number(n) or 0) <= MOST_PROMPTS:
        raise InputError(f"n_prompts is a whole number of at least 1 and at most {MOST_PROMPTS}, got {brief(n)}")
    if (checked := whole_number(seed)) is None or checked < 0:
        raise InputError(f"seed is a whole number of at least 0, got {brief(seed)}")
    rng = np.random.default_rng(seed)
    sentences = []
    for i in range(int(n)):
        first, second = (names[int(k)] for k in rng.choice(len(names), 2, replace=False))
        correct, subject = (first, second) if ORDERS[i % 2] == "ABBA" else (second, first)
        template = templates[int(rng.integers(len(templates)))]
        place, thing = places[int(rng.integers(len(places)))], objects[int(rng.integers(len(objects)))]
        text = fill(template, A=first, B=second, S=subject, place=place, object=thing)
        sentences.append(IOISentence(text, correct, subject))
    return sentences


def _own(prompts: Sequence[str] | None, answers: Sequence[tuple[str, str]] | None) -> list[IOISentence]:
    """Prompts of the user's own, each with its pair of answers."""
    if not _are_lists(prompts, answers):
        raise InputError(
            f"prompts are a list of texts and answers a list of pairs, got {brief(prompts)} and {brief(answers)}"
        )
    if prompts is None or answers is None or len(prompts) != len(answers) or not prompts:
        counts = [0 if given is None else len(given) for given in (prompts, answers)]
        raise InputError(f"{counts[0]} prompts but {counts[1]} answers: each prompt needs its (correct, incorrect)")
    for i, pair in enumerate(answers):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise InputError(f"the answers of prompt {i} are a pair (correct, incorrect), got {brief(pair)}")
    return [IOISentence(p, a.strip(" "), b.strip(" ")) for p, (a, b) in zip(prompts, answers, strict=True)]


def _checked(templates: Sequence[str]) -> Sequence[str]:
    for i, template in enumerate(checked_words("templates", templates, 1)):
        slots = _slots(template)
        names = [s for s in slots if s not in ("place", "object")]
        if names not in (["A", "B", "S"], ["B", "A", "S"]):
            raise InputError(
                f"template {i} has the slots {', '.join(slots) or 'none'}, expected A and B, then S, once each, and if "
                f"wanted place and object: {template!r}"
            )
    return templates


def _slots(template: str) -> list[str]:
    """The slots in a template, each with whatever is done to it."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as problem:
        raise InputError(f"the template {template!r} cannot be read ({problem})") from problem
    return [f"{s}{'!' + how if how else ''}{':' + form if form else ''}" for _, s, form, how in parsed if s is not None]


def _are_lists(*given: Any) -> bool:
    return all(g is None or isinstance(g, list | tuple) for g in given)


def checked_words(what: str, words: Sequence[str], n: int) -> list[str]:
    """The different words of a list.

    Raises:
        InputError: no list of words, or fewer than `n` different ones.
    """
    given = [] if isinstance(words, str) or not isinstance(words, Sequence) else list(words)
    if not all(isinstance(word, str) for word in given) or len(set(given)) < n:
        raise InputError(f"{what} is a list of at least {n} different words, got {brief(words)}")
    return list(dict.fromkeys(words))


def _single_tokens(names: Sequence[str], encoder: TextEncoder) -> None:
    """Refuse names that are not one token, all of them at once."""
    if spaced := [name for name in names if name != name.strip()]:
        raise PromptError(
            f"the name {spaced[0]!r} brings a space of its own: templates have one in front of each name, and two "
            "spaces in a row make other tokens"
        )
    for name in names:
        check_characters("the name", name)
    ids = encoder.tokenizer([f" {name}" for name in names], add_special_tokens=False)["input_ids"]
    if split := [
        f"{name!r} ({' + '.join(repr(encoder.name(t)) for t in row)})"
        for name, row in zip(names, ids, strict=True)
        if len(row) != 1
    ]:
        raise PromptError(f"names are single tokens of the model behind a space, these are not: {', '.join(split)}")


def _tokens(prompt: int, sentence: IOISentence, encoder: TextEncoder) -> list[int]:
    if not isinstance(sentence.text, str) or not sentence.text.isprintable():
        raise PromptError(
            f"prompt {prompt} is a text without tabs, line breaks or odd spaces, got {brief(sentence.text)}"
        )
    if found := re.search(r"\S*  +\S*", sentence.text):
        raise PromptError(
            f"prompt {prompt} has two spaces in a row, at {found[0]!r}: perhaps the template has a space in front of a "
            f"name that brings its own. The prompt is {sentence.text!r}"
        )
    if sentence.text != sentence.text.strip():
        raise PromptError(
            f"prompt {prompt} begins or ends with a space, and the answer brings its own: {sentence.text!r}"
        )
    return encoder.tokens(f"prompt {prompt}", sentence.text)


def _kinds(prompt: int, tokens: list[int], sentence: IOISentence, correct: int, incorrect: int) -> list[int]:
    """The kind of each token, once the names are where they should be."""
    if correct == incorrect:
        raise InputError(f"prompt {prompt}: correct and incorrect are both {sentence.correct!r}")
    for name, token, times in ((sentence.correct, correct, 1), (sentence.incorrect, incorrect, 2)):
        if tokens.count(token) != times:
            raise PromptError(
                f"prompt {prompt} has the token {f' {name}'!r} {tokens.count(token)} times, expected {times} (a "
                f"name counts with the space in front of it): {sentence.text!r}"
            )
    kinds = {incorrect: KINDS.index("subject"), correct: KINDS.index("indirect object")}
    return [kinds.get(token, KINDS.index("other")) for token in tokens]
