"""maze_dla."""
