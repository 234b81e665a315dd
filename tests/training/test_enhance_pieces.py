"""Enhancing clips of any length: as long as the input, aligned, without seams, in bounded memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_corpus import degraded, voice

import training.enhance as enhance
from training.bundle import Bundle, Origin, load_bundle, save_bundle
from training.enhance import enhance_array, enhance_blocks
from training.models.chain import Chain
from training.models.presets import REPAIRERS, build_denoiser, build_repair
from training.models.repair import RepairNet

Audio = NDArray[np.float32]


def bundle_of(tmp_path: Path, causal: bool) -> Bundle:
    torch.manual_seed(0)
    origin = Origin("student", "tiny", "c", "s", {}, {})
    save_bundle(tmp_path, build_repair("tiny", causal), origin, 1, {})
    return load_bundle(tmp_path)


@pytest.fixture(params=[True, False], ids=["causal", "teacher"])
def bundle(tmp_path: Path, request: pytest.FixtureRequest, one_thread: None) -> Bundle:
    return bundle_of(tmp_path, request.param)


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut in pieces of 0.2 s; a teacher from 0.5 s on, with 0.3 s of context."""
    lengths = {"STRETCH_S": 0.2, "WHOLE_S": 0.5, "PIECE_S": 0.2, "CONTEXT_S": 0.3, "FADE_S": 0.05}
    for name, seconds in lengths.items():
        monkeypatch.setattr(enhance, name, seconds)


def clip(seconds: float) -> Audio:
    target = voice(3, round(seconds * 48_000))
    return degraded(target, 3)


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 10_001, 24_000, 24_001, 60_001])
def test_the_output_is_as_long_as_the_input(bundle: Bundle, short_pieces: None, samples: int) -> None:
    audio = clip(2.0)[:samples]
    audio.setflags(write=False)
    enhanced = enhance_array(bundle, audio)
    assert enhanced.shape == (samples,)
    assert enhanced.dtype == np.float32
    assert np.isfinite(enhanced).all()


def test_a_short_clip_is_what_the_network_gives(bundle: Bundle) -> None:
    audio = clip(0.7)
    whole = bundle.enhance(torch.from_numpy(audio).unsqueeze(0))[0].numpy()
    np.testing.assert_array_equal(enhance_array(bundle, audio), whole)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """Return a network whose every weight does something, unlike those that start near the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("chain", [False, True], ids=["student", "joint"])
def test_stretches_of_a_causal_model_are_what_the_whole_gives(
    tmp_path: Path, short_pieces: None, one_thread: None, chain: bool
) -> None:
    student = RepairNet(
        replace(REPAIRERS["tiny"], kept_share=0.5, dry_share=0.4, makeup_db=1.0, by_noise=True), causal=True
    )
    model = moved(Chain(student, build_denoiser("tiny")) if chain else student)
    save_bundle(tmp_path, model, Origin("joint", "tiny", "c", "s", {}, {}), 1, {})  # type: ignore[arg-type]
    bundle = load_bundle(tmp_path)
    audio = clip(3.0)[:140_123]
    audio[60_000:110_000] = 0.0
    whole = bundle.enhance(torch.from_numpy(audio).unsqueeze(0))[0].numpy()
    assert 10 * np.log10(np.mean(whole**2) / np.mean((whole - audio) ** 2)) < 20.0
    for _ in range(2):  # nothing is left in the model for the next recording
        error = enhance_array(bundle, audio) - whole
        assert 10 * np.log10(np.mean(whole**2) / np.mean(error**2)) > 100.0


def test_channels_that_take_turns_do_not_mix(bundle: Bundle, short_pieces: None) -> None:
    waves = [clip(1.0), clip(1.0)[::-1].copy()]
    alone = [list(enhance_blocks(bundle, [wave])) for wave in waves]
    together = zip(*(enhance_blocks(bundle, [wave]) for wave in waves), strict=True)
    for ours, theirs in zip(zip(*together, strict=True), alone, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))


def test_pieces_of_a_teacher_agree_with_the_whole_up_to_what_the_norms_remember(
    tmp_path: Path, short_pieces: None, one_thread: None
) -> None:
    bundle = bundle_of(tmp_path, causal=False)
    audio = clip(3.0)
    whole = bundle.enhance(torch.from_numpy(audio).unsqueeze(0))[0].numpy()
    error = enhance_array(bundle, audio) - whole
    assert 10 * np.log10(np.mean(whole**2) / np.mean(error**2)) > 25.0


def test_seams_are_not_steeper_than_the_signal(bundle: Bundle, short_pieces: None) -> None:
    enhanced = enhance_array(bundle, clip(3.0))
    steps = np.abs(np.diff(enhanced))
    seams = np.arange(9600, len(steps), 9600)
    assert steps[np.concatenate([seams + shift for shift in (-1, 0, 1)])].max() < 1.5 * np.quantile(
        steps, 0.999
    )


def test_blocks_of_any_size_give_the_same_as_one(bundle: Bundle, short_pieces: None) -> None:
    audio = clip(2.0)
    once = enhance_array(bundle, audio)
    cuts = [0, 7, 7, 30_000, 30_480, 71_111, len(audio)]
    blocks = [audio[start:end] for start, end in zip(cuts[:-1], cuts[1:], strict=True)]
    np.testing.assert_array_equal(np.concatenate(list(enhance_blocks(bundle, blocks))), once)


def test_a_long_clip_comes_out_before_it_is_read_to_the_end(bundle: Bundle, short_pieces: None) -> None:
    read = 0

    def blocks() -> Iterator[Audio]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield clip(0.1)

    first = next(enhance_blocks(bundle, blocks()))
    assert len(first) in (9600, 9600 - 480)
    assert read < 8


def test_more_than_one_channel_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match=r"one channel of shape \(N,\)"):
        enhance_array(bundle, np.zeros((2, 100), np.float32))
