"""Models by any name that a user has for them, and the folders that they lie in."""
