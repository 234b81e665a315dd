"""The tiny networks, for a few steps on tenths of a second."""

MICRO = [
    *(
        f"stages.{stage}={{steps: 5, batch_size: 2, segment_s: 0.1, validate_every: 2}}"
        for stage in ("teacher", "student", "denoiser", "joint")
    ),
    "validation={samples: 2, segment_s: 0.2, shown: 1}",
    "loader={threads: 1, prefetch_batches: 2, window_shards: 2}",
    "records={checkpoint_every: 2, metrics_every: 2}",
]
"""Settings to give after the shipped experiment `tiny`."""
