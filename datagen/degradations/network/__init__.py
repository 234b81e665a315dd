"""The network: what gets lost and what moves."""
