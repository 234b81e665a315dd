from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO
from training_corpus import write_corpus

from manifests.experiment import Experiment, load_experiment


@pytest.fixture(scope="session")
def corpus_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 train samples in shards of 4 and 3 val samples, half a second each."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def micro() -> Experiment:
    return load_experiment("tiny", MICRO)
