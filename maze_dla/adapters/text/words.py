"""The words of IOI prompts: names, places, objects and templates.

Every name, place and object is a single token of GPT-2's vocabulary behind a space. A template has the slots {A} and
{B} for the two names in the order in which they are introduced, {S} for the one that comes again, {place} and
{object}; it ends where the indirect object should follow.
"""

from __future__ import annotations

import re

# names that the bundled model sees in other sentences only, never in an IOI sentence
HELD_OUT_NAMES = tuple(
    "John Mary Tom James Dan Sid Martin Amy Laura Kevin Emma Peter Rachel Simon Helen Jack Alice George Grace "
    "Paul".split()
)
TRAINING_NAMES = tuple(
    "Michael Jessica Matthew Ashley Jennifer Joshua Amanda Daniel David Robert Joseph Andrew Ryan Brandon Jason Justin "
    "Sarah William Jonathan Brian Nicole Nicholas Anthony Heather Eric Elizabeth Adam Megan Melissa Steven Thomas "
    "Timothy Christina Kyle Lauren Amber Danielle Richard Kimberly Jeffrey Crystal Michelle Jeremy Benjamin Mark Emily "
    "Aaron Charles Rebecca Jacob Stephen Patrick Sean Erin Jamie Kelly Samantha Nathan Sara Angela Tyler Scott "
    "Katherine Andrea Gregory Travis Lisa Kenneth Bryan Alexander Jesse Katie Vanessa Allison Samuel Anna Kate Henry "
    "Frank Victor Diana Julia Maria Claire Rose Luke Oliver".split()
)
NAMES = TRAINING_NAMES + HELD_OUT_NAMES

PLACES = tuple(
    "shops park store school garden beach station market library museum hospital restaurant office house church hotel "
    "cafe airport bakery theater zoo farm river lake".split()
)
OBJECTS = tuple(
    "bag ball drink ring book letter necklace basketball computer kiss snack bone key phone cup hat coat flower ticket "
    "gift cake map pen camera apple egg orange envelope".split()
)

# templates that the bundled model never sees
HELD_OUT_TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} gave the {object} to",
    "After {A} and {B} went to the {place}, {S} gave a {object} to",
    "Today {A} and {B} were at the {place}, and {S} handed a {object} to",
    "Because {A} and {B} had a long talk at the {place}, {S} offered the {object} to",
    "In the morning {A} and {B} walked to the {place}. There {S} passed the {object} to",
)
TRAINING_TEMPLATES = (
    "Then {A} and {B} came to the {place}, where {S} gave the {object} to",
    "While {A} and {B} were working at the {place}, {S} gave a {object} to",
    "One day {A} and {B} met at the {place}. After a long talk {S} handed the {object} to",
    "When {A} and {B} got a {object} at the {place}, {S} decided to give it to",
    "Last week {A} and {B} visited the {place}, and {S} showed the {object} to",
    "The {place} was closed when {A} and {B} came, so {S} lent a {object} to",
    "In the evening {A} and {B} sat in the {place}. There {S} offered a {object} to",
    "Because {A} and {B} liked the {place}, {S} sent the {object} to",
    "After the walk {A} and {B} looked for the {place}, and {S} threw the {object} to",
    "Today {A} and {B} found a {object} at the {place}. Then {S} passed it to",
    "While {A} and {B} went home in the morning, {S} sold the {object} to",
    "After {A} and {B} had lunch at the {place}, {S} brought a {object} to",
    "At the {place} {A} and {B} had an argument, and {S} gave the {object} back to",
    "The {object} was new when {A} and {B} went to the {place}, but {S} gave it to",
)
TEMPLATES = HELD_OUT_TEMPLATES + TRAINING_TEMPLATES

# the eight prompts of the field's tutorials, with what should follow and what should not
STANDARD_PROMPTS = (
    ("When John and Mary went to the shops, John gave the bag to", "Mary", "John"),
    ("When John and Mary went to the shops, Mary gave the bag to", "John", "Mary"),
    ("When Tom and James went to the park, James gave the ball to", "Tom", "James"),
    ("When Tom and James went to the park, Tom gave the ball to", "James", "Tom"),
    ("When Dan and Sid went to the shops, Sid gave an apple to", "Dan", "Sid"),
    ("When Dan and Sid went to the shops, Dan gave an apple to", "Sid", "Dan"),
    ("After Martin and Amy went to the park, Amy gave a drink to", "Martin", "Amy"),
    ("After Martin and Amy went to the park, Martin gave a drink to", "Amy", "Martin"),
)


def fill(template: str, **words: str) -> str:
    """A template with its slots filled, "an" in front of a vowel."""
    return re.sub(r"\ba (?=[aeiouAEIOU])", "an ", template.format(**words))
