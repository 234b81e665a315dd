"""`ssiforge withdraw` and `promote`: what may be used, what went out, and who decided it."""
