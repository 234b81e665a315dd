"""Several ranks: the same samples, gradients and decisions as one process, and the same weights on all of them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from two_ranks import BATCH, CPU, STEPS, Recorded, fitted, gradients, statistics

from manifests.errors import UserError
from training.ranks import ALONE, Ranks, _buckets, device_of_rank, joined

Batches = Sequence[tuple[int, Sequence[str]]]


def of_two_ranks(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of what two ranks left, which takes long to make, and one process makes for all of these tests."""
    return pytest.mark.faults(pytest.mark.xdist_group("two ranks")(test))


def of_rank(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment that torchrun gives to a rank."""
    told = {
        "RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_PORT": port,
    }
    return (
        os.environ
        | {name: str(value) for name, value in told.items()}
        | {
            "MASTER_ADDR": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
        }
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True)
class Together:
    """What two ranks left of their work, by rank, and of what one process did before and after them."""

    results: list[dict[str, Any]]
    said: list[dict[str, Any]]
    alone: Recorded
    begun: Recorded
    finished: Recorded
    lost: str


@pytest.fixture(scope="module")
def together(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Run two ranks once for all tests; one process begins a run before them, and finishes it after them."""
    out = tmp_path_factory.mktemp("two ranks")
    alone, begun, finished = (Recorded(corpus_dir) for _ in range(3))
    torch.set_num_threads(1)
    begun.train(out / "mixed", stop_after=3)
    command = [sys.executable, str(Path(__file__).parent / "two_ranks.py"), str(corpus_dir), str(out)]
    port = free_port()
    ranks = [
        subprocess.Popen(command, env=of_rank(rank, 2, port), stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    finished.train(out / "mixed", resume=True)
    alone.train(out / "one")
    return Together(
        [torch.load(out / f"rank-{rank}.pt", weights_only=True) for rank in range(2)],
        [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(2)],
        alone,
        begun,
        finished,
        (out / "lost.txt").read_text(),
    )


def steps_of(*ranks: Batches) -> dict[int, tuple[str, ...]]:
    """Keys of each step, by its first slot; a step that was done again must have had the same."""
    steps: dict[int, tuple[str, ...]] = {}
    for batches in zip(*ranks, strict=True):
        assert len({slot for slot, _ in batches}) == 1, "the ranks are not at the same step"
        keys = tuple(key for stripe in zip(*(keys for _, keys in batches), strict=True) for key in stripe)
        assert steps.setdefault(batches[0][0], keys) == keys
    return steps


@of_two_ranks
def test_two_ranks_see_the_samples_of_one_in_the_same_steps(together: Together) -> None:
    alone = steps_of(together.alone.batches)
    assert list(alone) == list(range(0, STEPS * BATCH, BATCH))
    assert steps_of(*(rank["whole"] for rank in together.said)) == alone


@of_two_ranks
def test_a_run_goes_from_one_rank_to_two_and_back_in_the_second_epoch(together: Together) -> None:
    legs = [
        steps_of(together.begun.batches),
        steps_of(*(rank["mixed"] for rank in together.said)),
        steps_of(together.finished.batches),
    ]
    # Stopped after 3 and 5 steps, with checkpoints at 2 and 4; an epoch is 3 steps.
    assert [(min(leg) // BATCH, max(leg) // BATCH) for leg in legs] == [(0, 2), (2, 4), (4, 5)]
    alone = steps_of(together.alone.batches)
    assert all(leg[slot] == alone[slot] for leg in legs for slot in leg)


@of_two_ranks
def test_two_ranks_that_were_stopped_and_resumed_end_with_the_same_weights(together: Together) -> None:
    (undisturbed, resumed), of_the_other = (rank["ended"] for rank in together.said)
    assert undisturbed == resumed != ""
    assert of_the_other == [undisturbed, resumed]
    assert len(together.said[0]["broken"]) == 5 + 2


@of_two_ranks
@pytest.mark.parametrize("batch_size", [4, 3])
def test_gradients_and_weights_of_networks_and_discriminators_are_those_of_the_whole_batch(
    corpus_dir: Path, together: Together, batch_size: int
) -> None:
    ours, theirs = (rank["gradients"][batch_size] for rank in together.results)
    assert all(map(torch.equal, ours, theirs))
    expected = gradients(corpus_dir, ALONE, batch_size)
    for found, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@of_two_ranks
def test_batch_norm_statistics_are_the_mean_of_those_of_the_ranks(
    corpus_dir: Path, together: Together
) -> None:
    ours, theirs = (rank["statistics"][0] for rank in together.results)
    assert all(map(torch.equal, ours, theirs))
    first, second = (statistics(corpus_dir, ALONE, stripe=Ranks(rank, 2))[0] for rank in range(2))
    fresh = list(fitted(corpus_dir, ALONE, 4, spoilt=False).task.trained.buffers())
    for found, one, other, before in zip(ours, first, second, fresh, strict=True):
        if torch.equal(one, before):  # a constant, such as a window
            assert torch.equal(found, before)
        elif found.is_floating_point():
            assert not torch.equal(one, other)
            torch.testing.assert_close(found, (one + other) / 2.0)


@of_two_ranks
def test_the_weight_of_adversarial_terms_is_the_mean_of_what_the_ranks_measure(
    corpus_dir: Path, together: Together
) -> None:
    ours, theirs = (rank["statistics"][1] for rank in together.results)
    assert ours == theirs
    first, second = (statistics(corpus_dir, ALONE, stripe=Ranks(rank, 2))[1] for rank in range(2))
    assert first is not None and second is not None
    assert first != second
    assert ours == pytest.approx((first + second) / 2.0, rel=1e-5)


@of_two_ranks
def test_a_step_that_is_not_finite_on_one_rank_moves_nothing_on_any(together: Together) -> None:
    for rank in together.results:
        after_1, after_2, after_3 = rank["spoilt"]["states"]
        assert rank["spoilt"]["skipped"] == 1
        assert all(map(torch.equal, after_1, after_2))
        assert not all(map(torch.equal, after_2, after_3))
    ours, theirs = (rank["spoilt"]["states"][2] for rank in together.results)
    assert all(map(torch.equal, ours, theirs))


@of_two_ranks
def test_ranks_that_start_from_other_weights_are_refused(together: Together) -> None:
    assert all("do not start from the same weights" in rank["refused"] for rank in together.results)


def test_more_ranks_than_samples_are_a_mistake() -> None:
    assert [Ranks(rank, 3).share(4) for rank in range(3)] == [0.5, 0.25, 0.25]
    with pytest.raises(UserError, match="batch_size 2: 3 processes cannot share so few samples"):
        Ranks(0, 3).share(2)


def test_buckets_hold_every_tensor_once_in_order_and_one_kind_of_number() -> None:
    tensors = [torch.zeros(4 * 2**20) for _ in range(5)] + [torch.zeros(3, dtype=torch.float64)]
    buckets = list(_buckets([tensors[0], tensors[5], *tensors[1:5]]))
    assert [len(bucket) for bucket in buckets] == [2, 2, 1, 1]
    assert [id(tensor) for bucket in buckets for tensor in bucket] == [id(tensor) for tensor in tensors]
    assert list(_buckets([])) == []


def test_an_environment_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="RANK expected, but not set; start them with torchrun"), joined(CPU):
        pass
    assert device_of_rank("auto") == "auto"
    # torchrun's own restart, with the store that still knows the ranks that died.
    for name, value in of_rank(1, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"), joined(CPU):
        pass


def test_a_named_gpu_is_made_the_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams and recorded steps are made on the current GPU; with it on another, every step would do nothing."""
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in ("cuda:1", "cuda", "cpu"):
        with joined(torch.device(name)) as ranks:
            assert ranks is ALONE
    assert taken == [torch.device("cuda:1")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="LOCAL_RANK does not say which GPU"), joined(torch.device("cuda")):
        pass


@of_two_ranks
def test_a_rank_whose_peer_is_gone_says_so(together: Together) -> None:
    assert together.lost.startswith("RankLostError: rank 0 of 2: another rank is gone (")
