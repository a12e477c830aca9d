"""Logit lens and direct logit attribution for any model whose residual stream is a sum.

Imports torch and jaxtyping; knows no maze, no text, no plot and no file format.
"""
