"""A corpus as it lies in a folder or bucket: locked, filled, sealed, described for people and for other programs."""
