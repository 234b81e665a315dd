"""`ssiforge lineage`: what was made of what, walked both ways and drawn."""
