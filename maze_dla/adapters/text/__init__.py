"""Prompts from any text, and those of Indirect Object Identification."""
