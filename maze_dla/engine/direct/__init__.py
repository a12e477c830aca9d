"""What can be read from one forward pass: direct logit attribution, logit lens, token lens."""
