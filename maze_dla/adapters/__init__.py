"""Models and data as they are found outside, brought to the engine."""
