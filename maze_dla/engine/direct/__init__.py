"""Direct logit attribution, logit lens and token lens, each from one forward pass."""
