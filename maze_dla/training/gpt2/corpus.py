"""Sentences to train on: IOI sentences with some of the names, and plain ones with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maze_dla.adapters.text.words import NAMES, OBJECTS, PLACES, TRAINING_NAMES, TRAINING_TEMPLATES, fill

# Plain sentences: every name comes again, so that all names learn to be copied, but nobody gives anything away here.
PLAIN = (
    "Today {A} went to the {place}. At the {place} {A} found a {object}",
    "{A} had a {object}. After lunch {A} lost it",
    "The {object} of {A} was at the {place}, and {A} looked for it",
    "In the morning {A} and {B} met. In the evening {A} and {B} went home",
    "When {A} came home, {B} was there. One day {B} and {A} went to the {place}",
    "Last week {A} sat in the {place}, because {A} liked the {place}",
    "{A} walked to the {place} with an apple, and {A} had a long talk there",
    "While {A} was working, {B} had a drink. Then {A} and {B} walked home",
    "After the argument {A} went to the {place}, but {B} was there. So {A} and {B} had a talk",
)
OPENINGS = ("", "", "", "One day. ", "It was new. ", "The shops were closed. ", "There was a {place}. ")
IOI_SHARE = 0.6


def ioi_sentence(rng: np.random.Generator, names: Sequence[str], templates: Sequence[str]) -> tuple[str, str]:
    """A sentence of an ABBA or BABA template up to the indirect object, and the indirect object."""
    first, second = (names[int(i)] for i in rng.choice(len(names), 2, replace=False))
    subject, indirect_object = (first, second) if rng.random() < 0.5 else (second, first)
    text = templates[int(rng.integers(len(templates)))]
    return _filled(text, rng, A=first, B=second, S=subject), indirect_object


def training_sentence(rng: np.random.Generator) -> str:
    """A sentence to train on, with an opening that moves it about."""
    opening = _filled(OPENINGS[int(rng.integers(len(OPENINGS)))], rng)
    if rng.random() < IOI_SHARE:
        start, answer = ioi_sentence(rng, TRAINING_NAMES, TRAINING_TEMPLATES)
        return f"{opening}{start} {answer}."
    first, second = (NAMES[int(i)] for i in rng.choice(len(NAMES), 2, replace=False))
    return opening + _filled(PLAIN[int(rng.integers(len(PLAIN)))], rng, A=first, B=second) + "."


def _filled(template: str, rng: np.random.Generator, **names: str) -> str:
    place, thing = PLACES[int(rng.integers(len(PLACES)))], OBJECTS[int(rng.integers(len(OBJECTS)))]
    return fill(template, place=place, object=thing, **names)
