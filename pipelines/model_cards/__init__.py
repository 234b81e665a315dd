"""`ssiforge card`: what is known of a model, for those who are to use it."""
