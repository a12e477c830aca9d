"""Indirect Object Identification: GPT-2 models, the prompts, and a tiny model that comes with maze_dla."""
