"""Pages about corpora, runs and evaluations: one file each, that works offline."""
