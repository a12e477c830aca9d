"""Small models whose circuit is known, since every weight is set by hand: no norm, no MLP, two layers of two heads.

The stream has a block for the token that stands there, one for its position, one for what a first layer found out, one
that the unembedding reads, and a number that a head raises when it has spoken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.engine.small_models import make_model

N_TOKENS, N_PLACES = 8, 10
TOKEN, PLACE, FOUND, OUT, SPOKEN = (
    slice(0, 8),
    slice(8, 18),
    slice(18, 26),
    slice(26, 34),
    slice(34, 35),
)
D_MODEL = 36
SHARP = 200.0  # scores that differ by so much leave nothing to the smaller one: exp(-60) of it


def blank(n_layers: int = 2) -> Any:
    """Tokens and positions are there, and read out is what stands in OUT; no head does anything."""
    model = make_model(
        torch.float64,
        normalization_type=None,
        attn_only=True,
        d_model=D_MODEL,
        d_head=10,
        n_heads=2,
        n_layers=n_layers,
        n_ctx=N_PLACES,
        d_vocab=N_TOKENS,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.W_U.zero_()
        model.b_U.zero_()
        model.embed.W_E[:, TOKEN] += torch.eye(N_TOKENS, dtype=torch.float64)
        model.pos_embed.W_pos[:, PLACE] += torch.eye(N_PLACES, dtype=torch.float64)
        model.W_U[OUT] += torch.eye(N_TOKENS, dtype=torch.float64)
    return model


def look(model: Any, layer: int, head: int, queries: Tensor, keys: Tensor) -> None:
    """Scores of a head: what `queries` and `keys`, [d_model, d_head], have in common."""
    attn = model.blocks[layer].attn
    with torch.no_grad():
        attn.W_Q[head] += SHARP * queries
        attn.W_K[head] += keys


def move(model: Any, layer: int, head: int, taken: Tensor, written: Tensor) -> None:
    """What a head takes from where it looks, [d_model, d_head], and writes, [d_head, d_model]."""
    attn = model.blocks[layer].attn
    with torch.no_grad():
        attn.W_V[head] += taken
        attn.W_O[head] += written


def block(rows: slice, columns: Tensor | None = None) -> Tensor:
    """A block of the stream as the first numbers of a head, or by a matrix of its own."""
    size = rows.stop - rows.start
    found = torch.zeros(D_MODEL, 10, dtype=torch.float64)
    columns = torch.eye(size, dtype=torch.float64) if columns is None else columns
    found[rows, : columns.shape[1]] = columns
    return found


def place(*positions: int) -> Tensor:
    """1 at these positions, as the first number of a head."""
    rows = torch.zeros(N_PLACES, 1, dtype=torch.float64)
    rows[list(positions)] = 1.0
    return block(PLACE, rows)


def anywhere() -> Tensor:
    """1 at every position, as the first number of a head."""
    return place(*range(N_PLACES))


def to(rows: slice, gain: float | Tensor = 1.0) -> Tensor:
    """The first numbers of a head written into a block, each with its gain."""
    return block(rows).T * torch.as_tensor(gain, dtype=torch.float64)


def induction() -> Any:
    """L0H0 notes at each place the token before it; L1H0 looks where that is the token here, and repeats what is there.

    Both are needed; L0H1 and L1H1 do nothing.
    """
    model = blank()
    before = torch.zeros(N_PLACES, N_PLACES, dtype=torch.float64)
    before[range(1, N_PLACES), range(N_PLACES - 1)] = 1.0
    look(model, 0, 0, block(PLACE, before), block(PLACE))
    move(model, 0, 0, block(TOKEN), to(FOUND))
    look(model, 1, 0, block(TOKEN), block(FOUND))
    move(model, 1, 0, block(TOKEN), to(OUT, 3.0))
    return model


def eraser() -> Any:
    """L0H0 copies the token at position 1, L1H0 takes exactly that away again; L0H1 copies the token at position 2."""
    model = blank()
    for head, position, gain in ((0, 1, 2.0), (1, 2, 1.0)):
        look(model, 0, head, anywhere(), place(position))
        move(model, 0, head, block(TOKEN), to(OUT, gain))
    look(model, 1, 0, block(PLACE), block(PLACE))  # at itself
    move(model, 1, 0, block(OUT), to(OUT, -1.0))
    with torch.no_grad():  # L0H1 speaks to another block, which L1H1 carries over
        model.blocks[0].attn.W_O[1].zero_()
        model.blocks[0].attn.W_O[1] += to(FOUND, 1.0)
    look(model, 1, 1, block(PLACE), block(PLACE))
    move(model, 1, 1, block(FOUND), to(OUT, 1.0))
    return model


def backup(gain: float = 0.8) -> Any:
    """L0H0 copies the token at position 1 and says that it has spoken; L1H0 copies it too where nobody has spoken.

    Where somebody has, it looks at position 0, whose token 0 it does not write.
    """
    model = blank()
    look(model, 0, 0, anywhere(), place(1))
    taken = block(TOKEN)
    taken[PLACE, N_TOKENS] = 1.0  # of any position: a 1
    move(model, 0, 0, taken, to(OUT, 2.0))
    with torch.no_grad():
        model.blocks[0].attn.W_O[0, N_TOKENS, SPOKEN] += 1.0
    queries = torch.zeros(D_MODEL, 10, dtype=torch.float64)
    queries[PLACE, 0], queries[SPOKEN, 1] = 1.0, 2.0
    keys = torch.zeros(D_MODEL, 10, dtype=torch.float64)
    keys[PLACE.start + 1, 0], keys[PLACE.start, 1] = 1.0, 1.0
    look(model, 1, 0, queries, keys)
    taken = block(TOKEN)
    taken[0, 0] = 0.0
    move(model, 1, 0, taken, to(OUT, 2.0 * gain))
    return model


SHORTCUT = torch.arange(N_TOKENS, dtype=torch.float64) ** 2 / 10  # what the last position says whatever stands there


def shortcut() -> Any:
    """L0H0 writes by the read position alone; L0H1 copies the token at position 1."""
    model = blank(n_layers=1)
    look(model, 0, 0, block(PLACE), block(PLACE))  # at itself
    says = torch.zeros(10, D_MODEL, dtype=torch.float64)
    says[0, OUT] = SHORTCUT
    move(model, 0, 0, anywhere(), says)
    look(model, 0, 1, anywhere(), place(1))
    move(model, 0, 1, block(TOKEN), to(OUT, 2.0))
    return model
