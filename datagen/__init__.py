"""One sample: from a spec to audio, and a shard of them. numpy and scipy; no ray, no mlflow, no torch."""
