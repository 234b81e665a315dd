"""The jobs behind each command. Ray, MLflow and the command line live here."""
