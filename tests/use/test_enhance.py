"""Enhancing files: any rate and channel count in, 48 kHz out, as long as before, in bounded memory."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpora import RATE_HZ, voice

from datagen.audio import resampled
from manifests.errors import JobError, UserError
from pipelines.enhancement.enhance import enhance
from pipelines.evaluation.evaluate import evaluate
from training import enhance as enhancing
from training.bundle import Bundle, Origin, load_bundle, save_bundle
from training.models.repair import RepairConfig, RepairNet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Any]) -> Path:
    folder = tmp_path_factory.mktemp("model") / "student"
    make_bundle(folder, "student")
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def whole(bundle: Bundle, wave: np.ndarray) -> np.ndarray:
    enhanced: np.ndarray = bundle.enhance(torch.from_numpy(wave[None])).numpy()[0]
    return enhanced


@pytest.mark.parametrize(
    ("rate_hz", "channels", "suffix", "subtype"),
    [
        (8_000, 1, ".wav", "ULAW"),
        (44_100, 2, ".flac", "PCM_24"),
        (48_000, 3, ".wav", "FLOAT"),
        (96_000, 1, ".wav", "PCM_U8"),
    ],
)
def test_any_rate_and_channel_count_becomes_48_khz_of_the_same_length_and_channels(
    model: Path, tmp_path: Path, rate_hz: int, channels: int, suffix: str, subtype: str
) -> None:
    frames = round(1.37 * rate_hz) + 1
    wave = 0.1 * np.random.default_rng(0).standard_normal((frames, channels))
    soundfile.write(tmp_path / f"in{suffix}", wave, rate_hz, subtype=subtype)
    for output in ("out.wav", "out.flac"):
        enhance(tmp_path / f"in{suffix}", tmp_path / output, str(model))
        info = soundfile.info(tmp_path / output)
        assert (info.samplerate, info.channels) == (RATE_HZ, channels)
        assert info.frames == round(frames * RATE_HZ / rate_hz)
        assert info.format == output[-4:].upper().strip(".")


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".ogg"])
def test_a_file_that_was_cut_off_is_refused_though_decoders_take_what_is_there(
    model: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"in{suffix}"
    soundfile.write(path, voice(1, 1.0), RATE_HZ)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=f"in{suffix}: truncated"):
        enhance(path, tmp_path / "out.wav", str(model))
    assert not (tmp_path / "out.wav").exists()


def test_each_channel_is_enhanced_alone(model: Path, tmp_path: Path) -> None:
    first, second = voice(1, 1.0), voice(2, 1.0)
    soundfile.write(tmp_path / "in.wav", np.stack([first, second], 1), RATE_HZ, subtype="FLOAT")
    enhance(tmp_path / "in.wav", tmp_path / "out.wav", str(model))
    out = soundfile.read(tmp_path / "out.wav")[0]
    bundle = load_bundle(model)
    for channel, wave in enumerate((first, second)):
        np.testing.assert_allclose(out[:, channel], whole(bundle, wave), atol=1.01 / 2**15)


def test_a_long_stereo_file_of_another_rate_is_enhanced_as_its_channels_are(
    model: Path, tmp_path: Path
) -> None:
    seconds = enhancing.WHOLE_S + 4.0
    waves = [voice(seed, seconds)[::2] for seed in (1, 2)]
    soundfile.write(tmp_path / "in.wav", np.stack(waves, 1), RATE_HZ // 2, subtype="FLOAT")
    enhance(tmp_path / "in.wav", tmp_path / "out.wav", str(model))
    out = soundfile.read(tmp_path / "out.wav")[0]
    bundle = load_bundle(model)
    for channel, wave in enumerate(waves):
        expected = enhancing.enhance_array(bundle, resampled(wave, RATE_HZ // 2, RATE_HZ))
        np.testing.assert_allclose(out[:, channel], np.clip(expected, -1, 1), atol=1e-4)


def test_folder_is_mirrored_and_unreadable_files_are_reported_while_the_rest_goes_on(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rëcordings one"
    (source / "deep er").mkdir(parents=True)
    soundfile.write(source / "a b.wav", voice(1, 0.5), RATE_HZ)
    soundfile.write(source / "a b.flac", voice(1, 0.5), RATE_HZ)
    soundfile.write(source / "deep er" / "ü.ogg", voice(2, 0.5), RATE_HZ, format="OGG", subtype="VORBIS")
    (source / "text.wav").write_text("not audio")
    (source / "empty.wav").write_bytes(b"")
    (source / "notes.txt").write_text("left alone")
    soundfile.write(source / "nan.wav", np.full(4800, np.nan, np.float32), RATE_HZ, subtype="FLOAT")
    said: list[str] = []
    output = source / "enhanced"
    for _ in range(2):  # the second time, what was written the first time is not taken for input
        with pytest.raises(JobError, match="3 of 6 files"):
            enhance(source, output, str(model), file_format="flac", say=said.append)
        found = sorted(p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file())
        assert found == ["a b.flac.flac", "a b.wav.flac", "deep er/ü.flac"]
    assert len(said) == 6
    assert {line.split(":")[0].rsplit("/")[-1] for line in said} == {"text.wav", "empty.wav", "nan.wav"}


def test_every_file_of_a_folder_has_an_output_of_its_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.wav", "a.flac", "a.flac.wav", "b.flac", "b.flac.wav"):
        soundfile.write(source / name, voice(1, 0.05), RATE_HZ)
    done = enhance(source, tmp_path / "out", str(model))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.flac.wav", "a.flac.wav.wav", "a.wav.wav", "b.flac.wav", "b.wav"]
    assert sorted(path.name for path in done.written) == names


def test_the_input_is_never_overwritten(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.wav"
    soundfile.write(path, voice(1, 0.2), RATE_HZ)
    before = path.read_bytes()
    (tmp_path / "same.wav").symlink_to(path)
    for output in (path, tmp_path / "same.wav", tmp_path, tmp_path / ".." / tmp_path.name / "in.wav"):
        with pytest.raises(UserError, match="input"):
            enhance(path, output, str(model))
    with pytest.raises(UserError, match="input"):
        enhance(tmp_path, tmp_path, str(model))
    assert path.read_bytes() == before


def test_a_file_that_breaks_off_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.flac"
    soundfile.write(path, np.random.default_rng(0).standard_normal(480_000) * 0.1, RATE_HZ)
    path.write_bytes(path.read_bytes()[:300_000])
    with pytest.raises(UserError, match="in.flac"):
        enhance(path, tmp_path / "out" / "x.wav", str(model))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("known", [True, False], ids=["into a folder that is there", "into a new one"])
def test_a_file_that_turns_out_to_be_spoilt_leaves_no_folder(
    model: Path, tmp_path: Path, known: bool
) -> None:
    wave = np.tile(voice(1, 1.0), 12)
    wave[-100] = np.nan
    soundfile.write(tmp_path / "in.wav", wave, RATE_HZ, subtype="FLOAT")
    if known:
        (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match=r"in\.wav: contains NaN or infinity"):
        enhance(tmp_path / "in.wav", tmp_path / "a" / "b" / "out.wav", str(model))
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["in.wav", *(["a"] if known else [])])


@pytest.mark.parametrize(
    ("source", "output", "says"),
    [
        ("missing.wav", "o.wav", "no such file"),
        ("in.wav", "o.mp3", ".flac"),
        ("empty", "o", "no audio files"),
        ("pipe", "o.wav", "pipe: is neither a file nor a folder; .* --stream - -"),
        ("nine.wav", "o.flac", "nine.wav: has 9 channels, and FLAC holds 8; write it as .wav"),
        ("integers.wav", "o.wav", "integers.wav: holds values of 1e.04, and full scale is 1"),
        ("in.wav", "/proc/o.wav", r"/proc/o.wav: cannot be written \([A-Z][a-z ]*\)"),
        ("in.wav", "in.wav/o.wav", r"in.wav/o.wav: cannot be written \((Not a directory|File exists)\)"),
    ],
)
def test_mistakes_are_named(model: Path, tmp_path: Path, source: str, output: str, says: str) -> None:
    soundfile.write(tmp_path / "in.wav", voice(1, 0.2), RATE_HZ)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    soundfile.write(tmp_path / "nine.wav", np.zeros((480, 9)), RATE_HZ)
    soundfile.write(tmp_path / "integers.wav", np.full(480, 1e4, np.float32), RATE_HZ, subtype="FLOAT")
    with pytest.raises(UserError, match=says):
        enhance(tmp_path / source, tmp_path / output, str(model))


@pytest.mark.parametrize("name", [f"{251 * 'a'}.wav", f"{83 * '語'}.wav"])
def test_names_may_be_as_long_as_the_file_system_takes(model: Path, tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "in.wav", voice(1, 0.2), RATE_HZ)
    enhance(tmp_path / "in.wav", tmp_path / name, str(model))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.wav", name])


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(model: Path, tmp_path: Path, device: str) -> None:
    soundfile.write(tmp_path / "in.wav", voice(1, 0.2), RATE_HZ)
    with pytest.raises(UserError, match=f"--device {device}: no such device on this machine"):
        enhance(tmp_path / "in.wav", tmp_path / "o" / "out.wav", str(model), device)
    with pytest.raises(UserError, match=f"--device {device}: no such device on this machine"):
        evaluate([str(model)], tmp_path / "e", input_dir=tmp_path, device=device)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_an_empty_argument_is_not_the_current_folder(ssiforge: Callable[..., Any], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(1, 0.2), RATE_HZ)
    for arguments, name in ((("", "out"), "INPUT"), (("in.wav", ""), "OUTPUT")):
        code, _, err = ssiforge("enhance", *arguments)
        assert code == 2 and f"{name}': is empty" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.faults
def test_asked_to_end_it_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", np.tile(voice(1, 10.0), 60), RATE_HZ)
    command = [sys.executable, "-m", "pipelines.cli", "enhance", "in.wav", "o.wav", "--model", str(model)]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        while not list(tmp_path.glob(".o.wav*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


MEMORY_SCRIPT = """
import resource, sys
from pathlib import Path
import torch
from pipelines.enhancement.enhance import enhance_file, enhancer_of
torch.set_num_threads(1)
enhance_file(enhancer_of(sys.argv[1], "cpu", False, print), Path(sys.argv[2]), Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture(scope="module")
def smallest_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that takes no longer than its spectra: how long it must remember does not depend on its width."""
    sizes = {"channels": 1, "tfcm_layers": 1, "gtcm_hidden": 1, "gtcm_groups": 1, "head_channels": 1}
    folder = tmp_path_factory.mktemp("smallest")
    origin = Origin("student", "tiny", "c", "s", {}, {})
    save_bundle(folder, RepairNet(RepairConfig(**sizes), causal=True), origin, 1, {})
    return folder


@pytest.mark.faults
def test_a_long_file_needs_no_more_memory_than_a_short_one(tmp_path: Path, smallest_model: Path) -> None:
    peaks_mib = []
    for minutes in (1, 10):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1, subtype="PCM_16") as stream:
            for _ in range(minutes):
                stream.write(np.zeros(60 * 16_000, np.int16))
        script = [
            sys.executable,
            "-c",
            MEMORY_SCRIPT,
            *map(str, (smallest_model, path, tmp_path / "out.wav")),
        ]
        peaks_mib.append(int(subprocess.run(script, capture_output=True, check=True, text=True).stdout))
        assert soundfile.info(tmp_path / "out.wav").duration == 60 * minutes
    # 9 minutes more are 100 MiB as float32 at 48 kHz.
    assert peaks_mib[1] - peaks_mib[0] < 40, peaks_mib
