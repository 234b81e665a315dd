"""Voices and noises that are made on the spot: for the demo, and for stages that are tried out."""
