"""Interventions: what a model uses, by putting something else in place of an activation."""
