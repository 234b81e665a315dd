"""Codecs, one or two in a row."""
