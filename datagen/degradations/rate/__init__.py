"""Conversion to a lower sample rate."""
