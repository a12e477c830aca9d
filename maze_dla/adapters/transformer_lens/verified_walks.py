"""The engine's own decoding, token by token, in place of a model's, once it has given the model's logits."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from maze_dla.engine.forward.continuing import Continuation, WholePasses
from maze_dla.engine.model import MicroBatch

Agrees = Callable[[Tensor, MicroBatch], bool]


class VerifiedWalks:
    """A `Continuation` that compares the own logits after the first new tokens with those of the model itself.

    Where they differ the model itself is run from there on, from each walk's first token.
    """

    def __init__(self, own: Continuation, itself: WholePasses, agrees: Agrees) -> None:
        self._going: Continuation = own
        self._itself: WholePasses | None = itself  # None once they have been compared
        self._agrees = agrees

    @property
    def logits(self) -> Float[Tensor, "walk vocab"]:
        """The logits after the last token of each walk, in front of a soft cap."""
        return self._going.logits

    def advance(self, tokens: Int[Tensor, " walk"]) -> None:
        """Give each walk one more token."""
        self._going.advance(tokens)
        if self._itself is None:
            return
        self._itself.note(tokens)
        if not self._agrees(self._going.logits, self._itself.micro):
            self._itself.repeat()
            self._going = self._itself
        self._itself = None

    def keep(self, walks: Int[Tensor, " kept"]) -> None:
        """Go on with these walks alone, in this order; a walk that is named twice goes on twice."""
        self._going.keep(walks)
        if self._itself is not None:
            self._itself.keep(walks)
