"""The jobs: scan, generate, verify, train, evaluate, enhance, lineage, demo. Ray, MLflow and the command line live here."""
