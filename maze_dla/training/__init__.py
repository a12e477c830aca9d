"""The runs that make the bundled models."""
