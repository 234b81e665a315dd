"""The converter: amplitudes, steps and clocks."""
