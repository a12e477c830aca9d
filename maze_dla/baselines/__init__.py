"""Recorded numbers of saved models, and the check of a new run against them."""
