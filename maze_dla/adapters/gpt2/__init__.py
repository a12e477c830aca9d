"""GPT-2 models from files or the hub, and a tiny model that comes with maze_dla."""
