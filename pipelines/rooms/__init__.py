"""`ssiforge rooms`: simulated rooms ahead of time."""
