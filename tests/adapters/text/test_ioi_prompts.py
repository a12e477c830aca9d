"""IOI prompts: the standard ones, sampled ones, and those that are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import maze_dla as dla
from maze_dla.adapters.text.ioi import KINDS, IOISentence, ioi_prompts
from maze_dla.adapters.text.words import NAMES, OBJECTS, PLACES, TEMPLATES, fill
from maze_dla.engine.forward.prefixes import shared_prefixes
from maze_dla.engine.forward.running import SequenceQueue
from maze_dla.errors import InputError, PromptError

STANDARD = "When John and Mary went to the shops, John gave the bag to"


@pytest.fixture(scope="module")
def gpt2_words(test_data: Path) -> Any:
    """GPT-2's tokenizer without its weights."""
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(test_data / "gpt2-tokenizer")
    return SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(d_vocab=50257))


def message(function: Any, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        function()
    return str(caught.value)


def test_the_eight_standard_prompts_are_those_of_the_reference(gpt2_words: Any, test_data: Path) -> None:
    reference = json.loads((test_data / "reference" / "ioi_gpt2_small.json").read_text())
    batch = ioi_prompts(gpt2_words)
    assert ["".join(row[1:]) for row in batch.labels] == reference["prompts"]
    answers = [
        [batch.token_name(c), batch.token_name(i)]
        for c, i in zip(batch.targets.tolist(), batch.incorrect.tolist(), strict=True)
    ]
    assert answers == reference["answers_correct_incorrect"]
    assert set(batch.lengths.tolist()) == {reference["n_tokens_with_bos"]}
    assert set(batch.tokens[:, 0].tolist()) == {50256}
    assert batch.tokens[0, 2] == 1757


def test_every_word_is_one_token_of_gpt2(gpt2_words: Any) -> None:
    for words in (NAMES, PLACES, OBJECTS):
        assert len(set(words)) == len(words)
        assert {len(ids) for ids in gpt2_words.tokenizer([f" {w}" for w in words])["input_ids"]} == {1}


def test_the_bundled_tokenizer_splits_sentences_as_gpt2_does(gpt2_words: Any, bundled: Any) -> None:
    theirs, ours = ioi_prompts(gpt2_words, 200), ioi_prompts(bundled, 200)
    assert theirs.labels == ours.labels


def test_sampling(bundled: Any) -> None:
    batch = ioi_prompts(bundled, 60, seed=4)
    assert batch.sentences == ioi_prompts(bundled, 60, seed=4).sentences
    assert batch.sentences != ioi_prompts(bundled, 60, seed=5).sentences
    first_is_correct = [s.text.find(f" {s.correct}") < s.text.find(f" {s.incorrect}") for s in batch.sentences]
    assert first_is_correct == [True, False] * 30  # ABBA and BABA in turn
    assert all(s.text.count(s.incorrect) == 2 and s.text.count(s.correct) == 1 for s in batch.sentences)
    assert len(set(batch.lengths.tolist())) > 3


def test_the_logit_difference_is_that_of_the_answers(bundled: Any) -> None:
    batch = ioi_prompts(bundled, 5)
    with torch.no_grad():
        for i, sentence in enumerate(batch.sentences):
            logits = bundled(batch.tokens[i : i + 1, : batch.lengths[i]])[0, -1]
            names = bundled.tokenizer([f" {sentence.correct}", f" {sentence.incorrect}"], add_special_tokens=False)
            (correct,), (incorrect,) = names["input_ids"]
            found = dla.logit_lens(bundled, batch, dla.logit_diff(batch)).metric[i]
            torch.testing.assert_close(found, logits[correct] - logits[incorrect], rtol=0, atol=1e-4)


def test_correct_is_the_likelier_of_the_two_names(bundled: Any) -> None:
    batch = ioi_prompts(bundled, 40)
    swapped = ioi_prompts(
        bundled, prompts=[s.text for s in batch.sentences], answers=[(s.correct, s.incorrect) for s in batch.sentences]
    )
    result = dla.attribute(bundled, swapped, dla.logit_diff(swapped))
    assert torch.equal(result.correct, result.metric > 0)


def test_kinds_of_tokens(bundled: Any) -> None:
    batch = ioi_prompts(bundled, prompts=[STANDARD], answers=[("Mary", "John")])
    found = [
        (label.strip(), KINDS[k]) for label, k in zip(batch.labels[0], batch.sequence_kinds[0].tolist(), strict=True)
    ]
    assert [pair for pair in found if pair[1] != "other"] == [
        ("John", "subject"),
        ("Mary", "indirect object"),
        ("John", "subject"),
    ]


def test_corrupted_prompts_swap_the_answers(bundled: Any) -> None:
    batch = ioi_prompts(bundled, 50)
    corrupted = batch.corrupted
    assert torch.equal(corrupted.targets, batch.incorrect)
    assert torch.equal(corrupted.incorrect, batch.targets)
    differs = corrupted.tokens != batch.tokens
    assert differs.sum(1).tolist() == [1] * 50
    assert torch.equal(corrupted.tokens[differs], batch.targets)
    assert corrupted.corrupted.sentences == batch.sentences


def test_corrupting_a_name_inside_another() -> None:
    sentence = IOISentence("When Dan and Daniel met, Dan gave a thing from Daniels to", "Daniel", "Dan")
    assert sentence.corrupted().text == "When Dan and Daniel met, Daniel gave a thing from Daniels to"


def test_pairs_in_one_run_have_the_numbers_of_their_own_runs_and_share_their_beginnings(bundled: Any) -> None:
    batch = ioi_prompts(bundled, 24, seed=3)
    pairs = batch.with_corrupted
    assert pairs.sentences == (*batch.sentences, *batch.corrupted.sentences)
    together = dla.attribute(bundled, pairs, dla.logit_diff(pairs), sources=True)
    apart = [dla.attribute(bundled, b, dla.logit_diff(b), sources=True) for b in (batch, batch.corrupted)]
    for name in ("metric", "layers", "heads", "sources", "patterns"):
        expected = torch.cat([getattr(result, name) for result in apart])
        torch.testing.assert_close(getattr(together, name), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    plan = SequenceQueue(pairs, 48).take(48, 10_000)
    assert plan is not None
    computed = len(shared_prefixes(plan.tokens, plan.rows, plan.positions, torch.device("cpu")).ids)
    alone = SequenceQueue(batch, batch.sequences.shape[1]).take(24, 10_000)
    assert alone is not None
    computed_alone = len(shared_prefixes(alone.tokens, alone.rows, alone.positions, torch.device("cpu")).ids)
    assert computed < 1.7 * computed_alone  # what stands after the second name is a third of a prompt and more


def test_the_standard_prompts_are_each_others_corrupted_ones(bundled: Any) -> None:
    batch = ioi_prompts(bundled)
    texts = [s.text for s in batch.sentences]
    assert [s.text for s in batch.corrupted.sentences] == [texts[i ^ 1] for i in range(8)]


@pytest.mark.parametrize("chosen", [[2, 0], torch.tensor([False, True, True, False])])
def test_selected_prompts_keep_their_sentences(bundled: Any, chosen: Any) -> None:
    batch = ioi_prompts(bundled, 4)
    part = batch.select(chosen)
    expected = [2, 0] if isinstance(chosen, list) else [1, 2]
    assert part.sentences == tuple(batch.sentences[i] for i in expected)
    assert part.incorrect.tolist() == [batch.incorrect[i] for i in expected]
    assert part.labels == tuple(batch.labels[i] for i in expected)


def test_names_are_a_token_set(bundled: Any) -> None:
    batch = ioi_prompts(bundled)
    assert int(batch.token_set("names").sum()) == 8
    metric = dla.correct_vs_other(batch, "names")
    assert dla.attribute(bundled, batch, metric).gap.abs().max() < 1e-3


@pytest.mark.parametrize("function", [dla.token_lens, lambda m, b: dla.token_lens(m, b, positions="all")])
def test_token_lens_names_the_tokens(bundled: Any, function: Any) -> None:
    result = function(bundled, ioi_prompts(bundled))
    assert set(result.token_names.values()) & {" Mary", " John"}


def test_an_before_a_vowel() -> None:
    assert fill("{A} had a {object}", A="Sara", object="apple") == "Sara had an apple"
    assert fill("{A} had a {object}", A="Sara", object="pen") == "Sara had a pen"


def test_templates_of_ones_own(bundled: Any) -> None:
    batch = ioi_prompts(bundled, 6, templates=["When {A} and {B} met, {S} gave the bag to"], names=["Mary", "John"])
    assert {s.text for s in batch.sentences} <= {
        f"When {a} and {b} met, {s} gave the bag to" for a, b in (("Mary", "John"), ("John", "Mary")) for s in (a, b)
    }


ALL_NAMES = ["Mary", "John", "Bartholomew", "Wilhelmina"]
REFUSED = {
    "names of several tokens": (
        PromptError,
        {"n_prompts": 3, "names": ALL_NAMES},
        r"^names are single tokens .* these are not: 'Bartholomew' \(.* \+ .*\), 'Wilhelmina' \(",
    ),
    "answers of several tokens": (
        PromptError,
        {"prompts": ["When Mary and Bartholomew met, Mary gave it to"], "answers": [("Bartholomew", "Mary")]},
        "these are not: 'Bartholomew'",
    ),
    "a doubled space": (
        PromptError,
        {"prompts": [STANDARD, "When John and  Mary went, John gave it to"], "answers": [("Mary", "John")] * 2},
        "^prompt 1 has two spaces in a row, at 'and  Mary': perhaps the template has a space in front of a name",
    ),
    "names that bring a space": (
        PromptError,
        {"n_prompts": 3, "names": [" Mary", " John"]},
        "^the name ' Mary' brings a space of its own: templates have one in front of each name",
    ),
    "a doubled space in a template": (
        PromptError,
        {"n_prompts": 3, "templates": ["When {A} and  {B} met, {S} gave it to"]},
        "two spaces in a row, at 'and  ",
    ),
    "a space at the end": (PromptError, {"prompts": ["to "], "answers": [("Mary", "John")]}, "ends with a space"),
    "equal answers": (
        InputError,
        {"prompts": [STANDARD], "answers": [("Mary", "Mary")]},
        "^prompt 0: correct and incorrect are both 'Mary'",
    ),
    "an answer that is not in the prompt": (
        PromptError,
        {"prompts": [STANDARD], "answers": [("Tom", "John")]},
        "^prompt 0 has the token ' Tom' 0 times, expected 1",
    ),
    "answers the wrong way round": (
        PromptError,
        {"prompts": [STANDARD], "answers": [("John", "Mary")]},
        "^prompt 0 has the token ' John' 2 times, expected 1",
    ),
    "a name at the very beginning": (
        PromptError,
        {"n_prompts": 2, "templates": ["{A} and {B} met, {S} gave it to"]},
        "0 times, expected 1|1 times, expected 2",
    ),
    "answers without prompts": (InputError, {"answers": [("Mary", "John")]}, "^0 prompts but 1 answers"),
    "more prompts than answers": (InputError, {"prompts": ["a", "b"], "answers": [("x", "y")]}, "^2 prompts but 1 an"),
    "half a character": (
        PromptError,
        {"n_prompts": 2, "names": ["Mary", "\ud800"]},
        r"^the name holds the lone surrogate '\\ud800', which is no character: '\\ud800'$",
    ),
    "an answer alone": (InputError, {"prompts": ["a"], "answers": ["Mary"]}, "are a pair .* got 'Mary'"),
    "no prompts": (
        InputError,
        {"n_prompts": 0},
        "^n_prompts is a whole .* at most 1000000, got 0",
    ),
    "half a prompt": (
        InputError,
        {"n_prompts": 1.5},
        "^n_prompts is a whole .* at most 1000000, got 1.5",
    ),
    "one name": (InputError, {"n_prompts": 1, "names": ["Mary", "Mary"]}, "^names is a list of at least 2 different"),
    "a template without a slot": (
        InputError,
        {"n_prompts": 1, "templates": [*TEMPLATES[:1], "When {A} and {B} met"]},
        r"^template 1 has the slots A, B, expected A and B, then S, once each",
    ),
    "a template with another slot": (
        InputError,
        {"n_prompts": 1, "templates": ["{A} {B} {S} {verb}"]},
        r"^template 0 has the slots A, B, S, verb, expected",
    ),
    "a template that looks inside": (
        InputError,
        {"n_prompts": 1, "templates": ["{A} {B} {S} {object.__class__}"]},
        r"^template 0 has the slots A, B, S, object.__class__, expected",
    ),
    "a template with the subject first": (
        InputError,
        {"n_prompts": 1, "templates": ["When {S} saw {A} and {B} to"]},
        "^template 0 has the slots S, A, B, expected A and B, then S",
    ),
    "a template with a brace": (InputError, {"n_prompts": 1, "templates": ["{A} {B} {S} {"]}, "cannot be read"),
    "templates that are none": (InputError, {"n_prompts": 1, "templates": [5]}, "^templates is a list of at least 1"),
    "no names": (InputError, {"n_prompts": 1, "names": []}, "^names is a list of at least 2 different words, got"),
    "names that are no words": (InputError, {"n_prompts": 1, "names": ["John", 5]}, "^names is a list of at least 2"),
    "a negative seed": (InputError, {"n_prompts": 1, "seed": -1}, "^seed is a whole number of at least 0, got -1"),
    "no prompts of one's own": (InputError, {"prompts": [], "answers": []}, "^0 prompts but 0 answers"),
    "prompts as one text": (InputError, {"prompts": STANDARD, "answers": [("a", "b")]}, "^prompts are a list of texts"),
    "prompts that are no texts": (PromptError, {"prompts": [5], "answers": [("Mary", "John")]}, "^prompt 0 is a text"),
    "answers that are no names": (InputError, {"prompts": [STANDARD], "answers": [(1, 2)]}, "are a pair"),
    "a number of one's own prompts": (
        InputError,
        {"prompts": [STANDARD], "answers": [("Mary", "John")], "n_prompts": 3},
        "^n_prompts is for sampled prompts",
    ),
    "a tab": (
        PromptError,
        {"prompts": [STANDARD.replace("John gave", "John\tgave")], "answers": [("Mary", "John")]},
        "without tabs, line breaks or odd spaces",
    ),
    "a special token": (
        PromptError,
        {"prompts": [STANDARD + "<|endoftext|>"], "answers": [("Mary", "John")]},
        r"^prompt 0 holds the special token '<\|endoftext\|>'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(bundled: Any, name: str) -> None:
    kind, arguments, expected = REFUSED[name]
    with pytest.raises(kind, match=expected):
        ioi_prompts(bundled, **arguments)


def test_a_vocabulary_that_is_not_the_tokenizers(bundled: Any) -> None:
    smaller = SimpleNamespace(tokenizer=bundled.tokenizer, cfg=SimpleNamespace(d_vocab=300))
    text = message(lambda: ioi_prompts(smaller), PromptError)
    assert re.match(r"the token .* is number \d+ of the tokenizer, the model's vocabulary has 300 tokens", text)


def test_a_model_without_tokenizer(bundled: Any) -> None:
    text = message(lambda: ioi_prompts(SimpleNamespace(cfg=bundled.cfg)), InputError)
    assert text == "SimpleNamespace has no tokenizer, so no sentence can be put to it"
