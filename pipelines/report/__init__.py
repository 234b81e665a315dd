"""Pages about corpora: one file each, that works offline, without scripts or styles from elsewhere."""
