"""Colours that tell kinds and signs apart for readers with any colour vision (Okabe and Ito 2008)."""

from __future__ import annotations

import numpy as np

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY, INK = "#8A8A8A", "#222222"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
KINDS = {"embeddings": GREEN, "attention": BLUE, "MLP": ORANGE, "final norm": SKY, "other": PURPLE, "constant": GREY}
POSITIVE, NEGATIVE = "#B2182B", "#2166AC"  # the ends of SIGNED

SIGNED = "RdBu_r"
DIVERGENCE = "YlGnBu"
ATTENTION = "Purples"

EQUAL_CONTRAST = 0.179  # the luminance on which black and white text stand out equally (WCAG 2.1)


def symmetric_limit(values: np.ndarray) -> float:
    """The largest size among the values, for limits that put zero in the middle; 1 where all are zero."""
    return float(np.abs(values).max(initial=0)) or 1.0


def text_colour(background: np.ndarray) -> str:
    """Black or white, whichever stands out more on a colour of red, green and blue from 0 to 1."""
    channels = np.asarray(background)[:3]
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if float(linear @ [0.2126, 0.7152, 0.0722]) > EQUAL_CONTRAST else "white"
