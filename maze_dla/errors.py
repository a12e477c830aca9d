"""The errors that maze_dla raises, under one base class."""

from __future__ import annotations

from maze_dla.visible import visible


class MazeDlaError(Exception):
    """Base class: the message says what was seen and what was expected, on one line, whatever a file's names hold."""

    def __str__(self) -> str:
        return visible(super().__str__())


class InputError(MazeDlaError, ValueError):
    """An argument that cannot be used: a shape, a range, a name."""


class CheckpointError(MazeDlaError, ValueError):
    """A model file that cannot be read as a model; the message names the file and the member."""


class DatasetError(MazeDlaError, ValueError):
    """A data set that cannot be read, or from which no prompts can be built."""


class PromptError(MazeDlaError, ValueError):
    """A prompt that the model cannot be asked; the message names the prompt and the token."""


class ModelError(MazeDlaError, ValueError):
    """A model whose residual stream is not a sum that can be attributed exactly."""


class ResultFileError(MazeDlaError, ValueError):
    """A saved result that cannot be read or written."""


class CompletenessError(MazeDlaError, ArithmeticError):
    """Contributions that do not add up to what they are parts of; the message names the prompt and the gap."""
