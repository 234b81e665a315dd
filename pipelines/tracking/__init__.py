"""MLflow: where it keeps its records, and how corpora and models stand in them."""
