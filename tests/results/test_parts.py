"""Heads by place, by name and as ranked."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from maze_dla.errors import InputError
from maze_dla.results.parts import place_of_head
from maze_dla.results.ranking import RankedPart

RANKED = RankedPart("L5H3", (5, 3), 0.4, 0.1, 0.7)


@pytest.mark.parametrize("head", [(5, 3), [5, 3], "L5H3", RANKED, (np.int64(5), np.int32(3))])
def test_a_head_in_any_form(head: Any) -> None:
    assert place_of_head(head, 6, 4) == (5, 3)
    assert place_of_head("L11H10", 12, 12) == (11, 10)


@pytest.mark.parametrize(
    "head",
    [
        *("5,3", "L5N3", "L-1H3", "L5H3 ", "l5h3", "", 5, None, (5,), (5, 3, 1), (5.0, 3), (True, 3), ("5", "3")),
        {5, 3},
        RANKED._replace(name="L5N3"),
    ],
)
def test_what_is_no_head(head: Any) -> None:
    message = "head is (layer, head) such as (5, 3), a name such as 'L5H3', or an entry of top_heads(), got "
    with pytest.raises(InputError, match=re.escape(message)):
        place_of_head(head, 6, 4)


@pytest.mark.parametrize("head", [(6, 0), (0, 4), (-1, 0), (0, -1), "L6H0", RANKED._replace(name="L0H4")])
def test_a_head_that_is_not_there(head: Any) -> None:
    with pytest.raises(InputError, match="the model has 6 layers with 4 heads each, counted from 0, got head"):
        place_of_head(head, 6, 4)


def test_a_ranked_part_knows_its_place_by_its_name() -> None:
    assert (RANKED.layer, RANKED.number) == (5, 3)
    listed = RankedPart("L2N117", (4,), 0.4, 0.1, 0.7)  # the fifth of neurons that were asked for
    assert (listed.layer, listed.number) == (2, 117)
    with pytest.raises(AttributeError, match="2_mlp_out is no head or neuron"):
        _ = RankedPart("2_mlp_out", (2,), 0.4, 0.1, 0.7).layer
