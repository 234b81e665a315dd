"""Batches out of a corpus: what they hold, in which order, and what happens when a shard is damaged."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_corpus import degraded, voice, write_corpus

from manifests.corpus import open_corpus
from manifests.errors import JobError, UserError
from training.order import Pick
from training.shards import Reader
from training.source import DamagedError
from training.stream import Batch, SampleStream, fixed_batches

WHOLE_S = 0.5
STEP_16_BIT = 1.0 / 32768.0


def opened(root: Path, **options: int) -> SampleStream:
    settings = {"batch_size": 4, "window_shards": 2} | options
    return SampleStream(Reader(open_corpus(root), "train"), 5, segment_s=0.2, **settings)  # type: ignore[arg-type]


def taken(stream: SampleStream, count: int) -> list[Batch]:
    with stream:
        return [next(stream) for _ in range(count)]


def equal(ours: Batch, theirs: Batch) -> bool:
    same = torch.equal(ours.degraded, theirs.degraded) and torch.equal(ours.target, theirs.target)
    return same and ours.keys == theirs.keys


def test_a_sample_is_what_was_written(corpus_dir: Path) -> None:
    stream = SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 3, WHOLE_S)
    batch = next(stream)
    assert batch.degraded.shape == batch.target.shape == (3, 24_000)
    for key, rough, clean in zip(batch.keys, batch.degraded.numpy(), batch.target.numpy(), strict=True):
        index = int(key.removeprefix("train-"))
        target = voice(index, 24_000)
        np.testing.assert_allclose(clean, target, atol=STEP_16_BIT)
        np.testing.assert_allclose(rough, degraded(target, index), atol=STEP_16_BIT)


def test_reading_leaves_no_file_open_and_needs_no_files_of_memory(
    corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corpus_dir, tmp_path / "c")
    reader = Reader(open_corpus(tmp_path / "c"), "train")
    shard = reader.shards[0]
    with (tmp_path / "c" / shard.tar_name).open("r+b") as stream:
        stream.seek(shard.samples[1].members["degraded.flac"].offset)
        stream.write(bytes(400))
    opened = list(Path("/proc/self").glob("fd/*"))  # none where there is no /proc
    first = reader.read(Pick(0, 0), 1000, 2000)
    for _ in range(3):
        with pytest.raises(DamagedError):
            reader.read(Pick(0, 1), 1000, 2000)
    assert len(list(Path("/proc/self").glob("fd/*"))) == len(opened)
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert all(map(np.array_equal, first, reader.read(Pick(0, 0), 1000, 2000)))


def test_a_cut_is_the_same_stretch_of_both_waves(corpus_dir: Path) -> None:
    batch = next(opened(corpus_dir))
    for key, rough, clean in zip(batch.keys, batch.degraded.numpy(), batch.target.numpy(), strict=True):
        index = int(key.removeprefix("train-"))
        target = voice(index, 24_000)
        windows = np.lib.stride_tricks.sliding_window_view(target, 9600)
        start = int(np.argmin(np.abs(windows - clean).max(axis=1)))
        np.testing.assert_allclose(clean, windows[start], atol=STEP_16_BIT)
        np.testing.assert_allclose(rough, degraded(target, index)[start:][:9600], atol=STEP_16_BIT)


def test_an_epoch_brings_every_sample_once_and_the_next_in_another_order(corpus_dir: Path) -> None:
    epochs = [
        [key for batch in taken(opened(corpus_dir), 6)[at : at + 3] for key in batch.keys] for at in (0, 3)
    ]
    assert all(sorted(keys) == [f"train-{index:07d}" for index in range(12)] for keys in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("threads", [1, 3])
def test_reading_ahead_changes_nothing(corpus_dir: Path, threads: int) -> None:
    plain = taken(opened(corpus_dir), 8)
    ahead = taken(opened(corpus_dir, threads=threads, prefetch_batches=5), 8)
    assert all(map(equal, plain, ahead))


@pytest.mark.parametrize("batches_before", [0, 2, 4, 7])
def test_a_restored_stream_goes_on_with_the_next_batch_in_any_epoch(
    corpus_dir: Path, batches_before: int
) -> None:
    undisturbed = taken(opened(corpus_dir, batch_size=5), batches_before + 3)
    first = opened(corpus_dir, batch_size=5, threads=2)
    taken(first, batches_before)
    state = first.state
    assert (state.epoch, state.position) == divmod(5 * batches_before, 12)
    second = opened(corpus_dir, batch_size=5, threads=2)
    second.restore(state)
    assert all(map(equal, taken(second, 3), undisturbed[batches_before:]))


def test_restoring_forgets_what_was_read_ahead(corpus_dir: Path) -> None:
    with opened(corpus_dir, threads=1) as stream:
        state = stream.state
        first = next(stream)
        next(stream)
        stream.restore(state)
        assert equal(next(stream), first)


def test_another_number_of_ranks_goes_on_in_the_same_global_order(corpus_dir: Path) -> None:
    alone = [key for batch in taken(opened(corpus_dir, batch_size=1), 24) for key in batch.keys]
    two = [opened(corpus_dir, batch_size=4, rank=rank, ranks=2) for rank in range(2)]
    seen = [key for pair in zip(*(next(stream).keys for stream in two), strict=True) for key in pair]
    assert two[0].state == two[1].state
    three = [opened(corpus_dir, batch_size=6, rank=rank, ranks=3) for rank in range(3)]
    for stream in three:
        stream.restore(two[0].state)
    for _ in range(3):
        seen += [key for group in zip(*(next(stream).keys for stream in three), strict=True) for key in group]
    assert seen == alone[: len(seen)]
    assert len(seen) == 22


def test_a_state_of_another_corpus_or_seed_is_refused(corpus_dir: Path, tmp_path: Path) -> None:
    stream = opened(corpus_dir)
    other = opened(write_corpus(tmp_path / "other", seed=2))
    with pytest.raises(UserError, match="is corpus .* but the run to resume was reading corpus"):
        other.restore(stream.state)
    with pytest.raises(UserError, match="seed 6"):
        stream.restore(replace(stream.state, seed=6))


def damage(root: Path, shard: int, sample: int) -> str:
    """Alter bytes in the middle of one sample's target; return the sample's key."""
    corpus = open_corpus(root)
    record = corpus.of("train")[shard]
    entry = record.samples[sample]
    member = entry.members["target.flac"]
    with (root / record.tar_name).open("r+b") as tar:
        tar.seek(member.offset + member.bytes // 2)
        tar.write(b"\x00" * 64)
    return entry.key


def test_a_damaged_sample_is_named_and_replaced_by_the_next(corpus_dir: Path, tmp_path: Path) -> None:
    root = shutil.copytree(corpus_dir, tmp_path / "damaged")
    key = damage(root, 1, 2)
    healthy = taken(opened(corpus_dir, batch_size=1), 12)
    streams = [opened(root, batch_size=1), opened(root, batch_size=1, threads=2)]
    hurt, again = (taken(stream, 12) for stream in streams)
    assert all(map(equal, hurt, again))
    keys = [batch.keys[0] for batch in healthy]
    at = keys.index(key)
    changed = [i for i in range(12) if not equal(hurt[i], healthy[i])]
    assert changed == [at]
    assert hurt[at].keys[0] == keys[(at + 1) % 12]
    assert key in hurt[at].damaged[0]
    assert "shard-000001.tar" in hurt[at].damaged[0]
    assert sum(len(batch.damaged) for batch in hurt) == 1


@pytest.mark.parametrize("threads", [0, 1])
def test_many_damaged_samples_in_a_row_stop_with_the_shard_named(
    corpus_dir: Path, tmp_path: Path, threads: int
) -> None:
    root = shutil.copytree(corpus_dir, tmp_path / "damaged")
    for sample in range(4):
        damage(root, 2, sample)
    # The shards of an epoch follow each other unmixed in windows of one.
    stream = opened(root, batch_size=12, window_shards=1, max_damaged_in_row=4, threads=threads)
    with stream, pytest.raises(JobError, match=r"shard-000002\.tar.*4 samples in a row"):
        next(stream)


def test_a_truncated_shard_and_a_missing_one_are_refused_before_training(
    corpus_dir: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(corpus_dir, tmp_path / "cut")
    tar = root / "train" / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"shard-000001\.tar: missing or truncated"):
        open_corpus(root)


def test_held_out_stretches_are_the_same_each_time_and_spread_over_the_split(corpus_dir: Path) -> None:
    reader = Reader(open_corpus(corpus_dir), "train")
    first, again = (fixed_batches(reader, 6, 0.2, 4) for _ in range(2))
    assert all(map(equal, first, again))
    assert [key for batch in first for key in batch.keys] == [
        f"train-{index:07d}" for index in range(0, 12, 2)
    ]
    target = voice(0, 24_000)[7200:16_800]
    np.testing.assert_allclose(first[0].target[0].numpy(), target, atol=STEP_16_BIT)


def test_an_empty_split_is_a_sentence(corpus_dir: Path) -> None:
    with pytest.raises(UserError, match="no samples in its test split"):
        SampleStream(Reader(open_corpus(corpus_dir), "test"), 0, 4, 1.0)


def test_a_key_that_leads_out_of_its_folder_is_refused(corpus_dir: Path, tmp_path: Path) -> None:
    root = shutil.copytree(corpus_dir, tmp_path / "hostile")
    record = root / "val" / "shard-000000.json"
    record.write_text(record.read_text().replace("val-0000000", "../../evil"))
    with pytest.raises(UserError, match="not a shard record"):
        open_corpus(root)


def test_samples_that_are_not_aligned_with_their_targets_are_left_out_aloud(corpus_dir: Path, caplog) -> None:
    corpus = open_corpus(corpus_dir)
    moved = {entry.key for shard in corpus.of("train") for entry in shard.samples[:1]}
    shards = tuple(
        shard.model_copy(
            update={
                "samples": tuple(
                    entry.model_copy(update={"aligned": entry.key not in moved}) for entry in shard.samples
                )
            }
        )
        for shard in corpus.shards
    )
    reader = Reader(replace(corpus, shards=shards), "train")
    assert f"{len(moved)} of 12 train samples are not aligned" in caplog.text
    seen = {key for batch in taken(SampleStream(reader, 5, 3, segment_s=0.2), 3) for key in batch.keys}
    assert seen == {f"train-{index:07d}" for index in range(12)} - moved
