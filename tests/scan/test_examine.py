"""Each file is measured as it is, or refused with a reason; nothing that a stranger's file holds is an exception."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from datagen.examine import examine
from manifests.source import Kind

RATE_HZ = 48_000


def speechlike(seconds: float = 2.0, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (0.1 * rng.standard_normal(len(time_s)) * (np.sin(2 * np.pi * 2 * time_s) > -0.5)).astype(
        np.float32
    )


def reason(path: Path, kind: Kind = "speech") -> str:
    refused = examine(str(path), kind).refused
    assert refused is not None
    return refused


def cut_off(path: Path, share: float) -> Path:
    content = path.read_bytes()
    shorter = path.with_name(f"cut_{path.name}")
    shorter.write_bytes(content[: int(len(content) * share)])
    return shorter


@pytest.mark.parametrize("share", [0.4, 0.98])
@pytest.mark.parametrize(
    "name", ["a.wav", "a.flac", "a.ogg", "a.aiff", "a.mp3", "a.rf64", "a.w64", "a.caf", "a.au"]
)
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, name: str, share: float) -> None:
    soundfile.write(tmp_path / name, speechlike(6.0), RATE_HZ)
    assert examine(str(tmp_path / name), "speech").refused is None
    assert "truncated" in reason(cut_off(tmp_path / name, share))


def test_an_mp4_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    from test_audio import write_with_av

    write_with_av(tmp_path / "a.m4a", "aac", speechlike(), RATE_HZ)
    assert examine(str(tmp_path / "a.m4a"), "speech").refused is None
    assert "not an audio file" in reason(cut_off(tmp_path / "a.m4a", 0.5))


def test_a_wav_of_unknown_length_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "streamed.wav"
    soundfile.write(path, speechlike(), RATE_HZ, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert examine(str(path), "speech").refused is None


def test_empty_silent_short_and_foreign_files_are_refused_by_reason(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").touch()
    (tmp_path / "text.wav").write_text("these are words, not sounds\n" * 20)
    soundfile.write(tmp_path / "header.wav", np.zeros(0, np.float32), RATE_HZ)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ, np.float32), RATE_HZ)
    soundfile.write(tmp_path / "dither.wav", np.tile(np.float32([0, 1, 0, -1]) / 32768, 20_000), RATE_HZ)
    soundfile.write(tmp_path / "short.wav", speechlike(0.3), RATE_HZ)
    assert reason(tmp_path / "zero.wav") == "empty file"
    assert reason(tmp_path / "text.wav") == "not an audio file that can be read"
    assert reason(tmp_path / "header.wav") == "holds no audio"
    assert reason(tmp_path / "silent.wav") == "all silent"
    assert reason(tmp_path / "dither.wav") == "all silent"
    assert reason(tmp_path / "short.wav") == "too short: 0.30 s, speech needs 0.5 s"
    assert examine(str(tmp_path / "short.wav"), "noise").refused is None
    assert "all silent" in reason(tmp_path / "silent.wav", "rir")
    assert "cannot be read" in reason(tmp_path / "absent.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_no_number_refuses_a_file(tmp_path: Path, value: float) -> None:
    audio = speechlike(8.0)
    audio[-5] = value
    soundfile.write(tmp_path / "a.wav", audio, RATE_HZ, subtype="FLOAT")
    assert reason(tmp_path / "a.wav") == "contains NaN or infinity"


def test_bytes_at_random_never_raise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heads = [
        b"",
        b"RIFF\xff\xff\x00\x00WAVEfmt ",
        b"fLaC\x00\x00\x00\x22",
        b"OggS\x00\x02",
        b"ID3\x04\x00",
        b"FORM",
        b"\xff\xfb",
    ]
    for number in range(60):
        path = tmp_path / f"{number}{('.wav', '.flac', '.ogg', '.mp3', '.m4a', '.opus')[number % 6]}"
        path.write_bytes(heads[number % len(heads)] + rng.bytes(int(rng.integers(1, 4_000))))
        assert examine(str(path), ("speech", "noise", "rir")[number % 3]).refused


def test_damage_in_the_middle_of_a_file_never_raises(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("a.flac", "a.ogg", "a.mp3", "a.wav"):
        soundfile.write(tmp_path / name, speechlike(), RATE_HZ)
        for _ in range(8):
            content = bytearray((tmp_path / name).read_bytes())
            for at in rng.integers(0, len(content), 20):
                content[at] = int(rng.integers(256))
            (tmp_path / f"x{name}").write_bytes(content)
            examine(str(tmp_path / f"x{name}"), "speech")


def test_clipping_is_counted_in_runs_at_the_extremes(tmp_path: Path) -> None:
    audio = np.full((96_000, 1), 0.1, np.float32) * np.sin(np.arange(96_000) / 10)[:, None].astype(np.float32)
    audio[1000:1010] = 0.7  # a run of ten at the file's own maximum
    audio[2000] = 0.7  # alone: a peak, not a flat top
    audio[3000:3004] = 0.6  # flat, but not at an extreme
    soundfile.write(tmp_path / "a.wav", audio, RATE_HZ, subtype="PCM_24")
    assert examine(str(tmp_path / "a.wav"), "noise").clipped_share == pytest.approx(10 / 96_000, abs=1e-6)


def test_a_heavily_clipped_talker_is_refused_and_the_same_as_noise_is_not(tmp_path: Path) -> None:
    overdriven = 1.0012 * np.sin(2 * np.pi * 200 * np.arange(RATE_HZ) / RATE_HZ)  # 4 % lies above full scale
    soundfile.write(tmp_path / "a.wav", np.clip(overdriven, -1, 1), RATE_HZ)
    assert reason(tmp_path / "a.wav").startswith("clipped: 4")
    assert examine(str(tmp_path / "a.wav"), "noise").refused is None


def test_a_true_sine_at_full_scale_is_not_clipped(tmp_path: Path) -> None:
    tone = 0.9999 * np.sin(2 * np.pi * 997 * np.arange(RATE_HZ) / RATE_HZ)
    soundfile.write(tmp_path / "a.wav", tone, RATE_HZ, subtype="PCM_24")
    assert examine(str(tmp_path / "a.wav"), "speech").clipped_share < 0.001


def test_facts_are_those_of_the_signal(tmp_path: Path) -> None:
    audio = speechlike(4.0) + np.float32(0.01)
    stereo = np.stack([audio, audio], axis=1)
    soundfile.write(tmp_path / "a.flac", stereo, RATE_HZ, subtype="PCM_24")
    source = examine(str(tmp_path / "a.flac"), "speech")
    assert (source.rate_hz, source.channels, source.frames, source.seconds) == (RATE_HZ, 2, 4 * RATE_HZ, 4.0)
    assert source.dc_offset == pytest.approx(audio.mean(), abs=1e-6)
    assert source.bandwidth_hz == 24_000.0
    # Noise at -20 dBFS two thirds of the time, and the offset; P.56's hangover of 200 ms bridges gaps of 167 ms.
    assert source.active_level_dbfs == pytest.approx(10 * np.log10(0.01 * 2 / 3 + 0.01**2), abs=0.1)
    assert len(source.sha256) == 64


def test_silence_is_counted(tmp_path: Path) -> None:
    audio = np.concatenate([speechlike(3.0, seed=1) * 0, speechlike(1.0) + 0.1 * np.sin(np.arange(RATE_HZ))])
    soundfile.write(tmp_path / "a.wav", audio, RATE_HZ)
    assert examine(str(tmp_path / "a.wav"), "noise").silence_share == pytest.approx(0.75, abs=0.02)


def test_a_long_file_is_measured_like_a_short_one_of_the_same_kind(tmp_path: Path) -> None:
    audio = np.tile(speechlike(10.0), 40)
    soundfile.write(tmp_path / "long.wav", audio, RATE_HZ)
    soundfile.write(tmp_path / "short.wav", audio[: 20 * RATE_HZ], RATE_HZ)
    long, short = (examine(str(tmp_path / name), "speech") for name in ("long.wav", "short.wav"))
    assert long.seconds == 400.0
    assert long.active_level_dbfs == pytest.approx(short.active_level_dbfs, abs=0.1)
    assert long.bandwidth_hz == short.bandwidth_hz
    assert long.silence_share == pytest.approx(short.silence_share, abs=0.02)


def test_a_uri_is_examined_like_a_path(tmp_path: Path) -> None:
    import fsspec

    soundfile.write(tmp_path / "a.flac", speechlike(), RATE_HZ)
    with fsspec.open("memory://scan/a.flac", "wb") as stream:
        stream.write((tmp_path / "a.flac").read_bytes())
    local, remote = examine(str(tmp_path / "a.flac"), "speech"), examine("memory://scan/a.flac", "speech")
    assert remote.refused is None
    assert remote.identity() == local.identity()
