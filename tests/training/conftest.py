from pathlib import Path

import pytest
import torch
from training_corpus import write_corpus

from manifests.experiment import Experiment, load_experiment


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 train samples in shards of 4 and 3 val samples, half a second each."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)


MICRO = [
    *(
        f"stages.{stage}={{steps: 5, batch_size: 2, segment_s: 0.1, validate_every: 2}}"
        for stage in ("teacher", "student", "denoiser", "joint")
    ),
    "validation={samples: 2, segment_s: 0.2, shown: 1}",
    "loader={threads: 1, prefetch_batches: 2, window_shards: 2}",
    "records={checkpoint_every: 2, metrics_every: 2}",
]
"""The tiny networks, for a few steps on tenths of a second."""


@pytest.fixture
def micro() -> Experiment:
    return load_experiment("tiny", MICRO)
