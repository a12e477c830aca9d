"""How long an attribution takes beside a plain forward pass and beside the tutorial way, and how much memory."""
