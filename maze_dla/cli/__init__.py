"""The command line; the only place that prints.

Until `main` has begun, an interruption is Python's to report: so importing this loads next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing's own name for it would have to be imported
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done; 1 changed, of `baseline check`; 2 bad input; 130 interrupted, 143 terminated.

    Args:
        arguments: the words after `maze-dla`; without them those of this process, which is then the command's own.
    """
    try:
        from maze_dla.cli import process

        if arguments is None:
            process.take_over()
        from maze_dla.cli.commands import run

        code = run(arguments)
        if arguments is None:
            process.finish()
        return code
    except KeyboardInterrupt:  # so early that nothing has begun
        return 130
