"""What a command says of an error that is not a bug."""

from __future__ import annotations

from pathlib import Path

from maze_dla.errors import InputError, MazeDlaError

TORCH_IS_OUT_OF_MEMORY = ("DefaultCPUAllocator", "not enough memory", "out of memory")


def words_of(problem: BaseException) -> str | None:
    """The line for an error that input, the machine or its files led to; None for any other, which is a bug."""
    if isinstance(problem, MazeDlaError):
        return str(problem)
    if isinstance(problem, OSError):
        where = f"{problem.filename}: " if problem.filename is not None and problem.strerror else ""
        return f"{where}{problem.strerror or problem}"
    if is_out_of_memory(problem):
        why = str(problem) or "Python could not get any more"
        return f"not enough memory: {why}; fewer prompts or mazes need less"
    if isinstance(problem, RecursionError):
        return f"something is nested too deeply to be worked through ({problem})"
    return None


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether Python, or torch on the CPU or another device, got no memory."""
    if isinstance(problem, MemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in TORCH_IS_OUT_OF_MEMORY)


def check_current_folder() -> None:
    """Refuse to run in a folder that was deleted: libraries look at it when they are loaded, and end the process.

    Raises:
        InputError: it is not there.
    """
    try:
        Path.cwd()
    except OSError as problem:
        raise InputError(f"the current folder is not there any more ({problem.strerror}): go to another") from None
