"""`ssiforge enhance`: recordings, folders and streams through a model."""
