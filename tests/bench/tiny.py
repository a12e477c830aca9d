"""Shapes that take milliseconds."""

from dataclasses import replace

from maze_dla.bench.models import MAZE, BenchModel

SIZES = {"n_layers": 2, "n_heads": 3, "d_model": 24, "d_head": 8, "d_mlp": 40, "d_vocab": 23, "n_ctx": 48}
MANY_LENGTHS = BenchModel(replace(MAZE.spec, **SIZES, name="tiny maze shape"), shortest=9, longest=31)
ONE_LENGTH = BenchModel(replace(MAZE.spec, **SIZES, name="tiny gpt2 shape"), shortest=16, longest=16)
TINY = {"maze": MANY_LENGTHS, "gpt2": ONE_LENGTH}
