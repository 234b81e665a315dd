"""`ssiforge score`: scores of a corpus's samples, beside its shards."""
