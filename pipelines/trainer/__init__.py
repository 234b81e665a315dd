"""`ssiforge train`: stages as MLflow runs, on this machine or on Ray."""
