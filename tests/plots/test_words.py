from __future__ import annotations

import pytest

from maze_dla.plots._words import component_kind, component_name, shown_token, signed
from maze_dla.results.components import Component
from maze_dla.results.words import depth_names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (
            ("0_pre", "0_mid", "1_pre", "1_mid", "final_post"),
            ["embeddings", "attention 0", "MLP 0", "attention 1", "MLP 1"],
        ),
        (("0_pre", "1_pre", "final_post"), ["embeddings", "layer 0", "layer 1"]),
        (("final_post",), ["embeddings"]),
        (("0_pre", "elsewhere", "final_post"), ["embeddings", "layer 0", "final_post"]),
    ],
)
def test_a_depth_is_named_by_what_was_written_last(labels, names):
    assert depth_names(labels) == names


@pytest.mark.parametrize(
    ("label", "name", "kind"),
    [
        ("embed", "token embedding", "embeddings"),
        ("pos_embed", "position embedding", "embeddings"),
        ("11_attn_out", "attention 11", "attention"),
        ("0_mlp_out", "MLP 0", "MLP"),
        ("added", "added", "other"),
    ],
)
def test_components_in_words(label, name, kind):
    component = Component.named(label)
    assert (component_name(component), component_kind(component), str(component)) == (name, kind, label)


def test_characters_that_the_font_lacks_are_written_by_their_number():
    assert shown_token(" a\u88cfb") == "·aU+88CFb"
    assert shown_token("é\t$") == r"é\t\$"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.426, "+1.43"),
        (-0.005, "\N{MINUS SIGN}0.01"),
        (-0.004, "\N{MINUS SIGN}0.004"),
        (0.0005001, "+0.001"),
        (0.0004, "0.000"),
        (-4e-9, "0.000"),
        (0.0, "0.00"),
        (-0.0, "0.00"),
    ],
)
def test_small_numbers_are_decimals_as_the_large_ones_beside_them(value, written):
    assert signed(value) == written
