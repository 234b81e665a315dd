"""A stretch is the same samples whatever was read before it, resampling keeps time, FLAC loses nothing."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import datagen.audio
from datagen.audio import AudioError, decode_flac, flac_bytes, quantised, read_all, read_stretch, resampled

RATE_HZ = 44_100
SOUNDFILE_FORMATS = {
    "a.wav": {"subtype": "PCM_24"},
    "a.flac": {},
    "a.ogg": {},
    "a.mp3": {},
    "a.aiff": {},
}


def signal(seconds: float = 3.0, rate_hz: int = RATE_HZ, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    tone = 0.3 * np.sin(2 * np.pi * (200 * time_s + 300 * time_s**2))
    return (tone + 0.02 * rng.standard_normal(len(time_s))).astype(np.float32)


def write_with_av(path: Path, codec: str, audio: NDArray[np.float32], rate_hz: int) -> None:
    """Encode mono audio with timestamps from 0, as a recording program does."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        convert = av.AudioResampler(
            stream.codec_context.format.name,
            "mono",
            rate_hz,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        for part in (*convert.resample(frame), *convert.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("Aufnähmen mit Leerzeichen")
    made = {}
    for name, options in SOUNDFILE_FORMATS.items():
        made[name] = folder / name
        soundfile.write(made[name], signal(), RATE_HZ, **options)
    made["a.opus"] = folder / "a.opus"
    soundfile.write(made["a.opus"], signal(rate_hz=48_000), 48_000, format="OGG", subtype="OPUS")
    for name, codec in {"a.m4a": "aac", "a.webm": "libopus"}.items():
        made[name] = folder / name
        write_with_av(made[name], codec, signal(rate_hz=48_000), 48_000)
    return made


@pytest.mark.parametrize("name", [*SOUNDFILE_FORMATS, "a.opus", "a.m4a", "a.webm"])
@pytest.mark.parametrize("kept_bytes", [64 << 20, 0], ids=["cached", "uncached"])
def test_stretches_are_slices_of_the_whole_file(
    files: dict[str, Path], name: str, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagen.audio, "KEPT_BYTES", kept_bytes)
    path = str(files[name])
    whole, rate_hz = read_all(path)
    for start in (0, 1, 40_000, len(whole) - 20_000, len(whole) - 1, 12_345, 0):
        stretch, stretch_rate_hz = read_stretch(path, start, min(20_000, len(whole) - start))
        assert stretch_rate_hz == rate_hz
        np.testing.assert_array_equal(stretch, whole[start : start + 20_000, 0])


@pytest.mark.parametrize(("name", "rate_hz"), [("a.opus", 48_000), ("a.m4a", 48_000), ("a.webm", 48_000)])
def test_encoder_delay_and_padding_are_cut_off(files: dict[str, Path], name: str, rate_hz: int) -> None:
    decoded = read_all(str(files[name]))[0][:, 0]
    original = signal(rate_hz=rate_hz)
    assert len(decoded) == len(original)
    correlation = np.fft.irfft(
        np.fft.rfft(decoded, 2 * len(original)) * np.conj(np.fft.rfft(original, 2 * len(original)))
    )
    assert int(np.argmax(correlation)) == 0


def test_real_vorbis_stretches_near_the_end_are_exact(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("noise/esc10/001*/*.ogg"))[:10]:
        whole, _ = read_all(str(path))
        for start in (0, len(whole) - 40_000, len(whole) - 5_000, len(whole) - 300):
            stretch, _ = read_stretch(str(path), start, 300)
            np.testing.assert_array_equal(stretch, datagen.audio.mixed_down(whole)[start : start + 300])


def test_channels_are_mixed_or_picked(tmp_path: Path) -> None:
    stereo = np.stack([signal(), signal(seed=1)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, RATE_HZ, subtype="FLOAT")
    path = str(tmp_path / "s.wav")
    np.testing.assert_array_equal(read_stretch(path, 10, 100, channel=1)[0], stereo[10:110, 1])
    np.testing.assert_allclose(read_stretch(path, 10, 100)[0], stereo[10:110].mean(axis=1), atol=1e-7)
    with pytest.raises(AudioError, match="no channel 2"):
        read_stretch(path, 0, 10, channel=2)


def test_what_was_read_cannot_be_written_to(files: dict[str, Path]) -> None:
    for name in ("a.wav", "a.ogg"):
        with pytest.raises(ValueError, match="read-only"):
            read_stretch(str(files[name]), 0, 100)[0][0] = 1.0


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, signal(), RATE_HZ)
    before = read_stretch(str(path), 0, 1000)[0].copy()
    soundfile.write(path, signal(seed=5, seconds=2.0), RATE_HZ)
    assert not np.array_equal(read_stretch(str(path), 0, 1000)[0], before)


def test_kept_audio_stays_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagen.audio, "KEPT_BYTES", 1 << 20)
    for number in range(6):
        path = tmp_path / f"{number}.ogg"
        soundfile.write(path, signal(), RATE_HZ)
        read_stretch(str(path), 0, 10)
    assert sum(held.audio.nbytes for held in datagen.audio._kept.values()) <= 1 << 20


def test_a_compressed_file_is_decoded_no_further_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagen.audio, "BLOCK_FRAMES", 1_000)
    path = tmp_path / "a.ogg"
    soundfile.write(path, signal(), RATE_HZ)
    whole, _ = read_all(str(path))
    opened = []
    open_file = soundfile.SoundFile
    monkeypatch.setattr(
        soundfile, "SoundFile", lambda *args, **kwargs: opened.append(args) or open_file(*args, **kwargs)
    )
    np.testing.assert_array_equal(read_stretch(str(path), 500, 2_000)[0], whole[500:2_500, 0])
    (kept,) = [held for key, held in datagen.audio._kept.items() if key[0] == str(path)]
    assert len(kept.audio) == 3_000
    read_stretch(str(path), 0, 3_000)
    assert len(opened) == 1
    np.testing.assert_array_equal(read_stretch(str(path), 0, len(whole))[0], whole[:, 0])
    with pytest.raises(AudioError, match="ends 1 frames too early"):
        read_stretch(str(path), 1, len(whole))
    assert len(opened) == 3


def test_a_stretch_beyond_the_end_and_nan_are_refused(tmp_path: Path) -> None:
    audio = signal()
    audio[500] = np.nan
    soundfile.write(tmp_path / "n.wav", audio, RATE_HZ, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        read_stretch(str(tmp_path / "n.wav"), 400, 200)
    with pytest.raises(AudioError, match="too early"):
        read_stretch(str(tmp_path / "n.wav"), len(audio) - 10, 20)


@pytest.mark.parametrize("name", ["notes.wav", "notes.m4a", "nothing.flac", "absent.ogg"])
def test_what_is_not_audio_is_an_audio_error(tmp_path: Path, name: str) -> None:
    if name.startswith("notes"):
        (tmp_path / name).write_text("not audio " * 50)
    elif name.startswith("nothing"):
        (tmp_path / name).touch()
    with pytest.raises(AudioError):
        read_all(str(tmp_path / name))


def test_a_name_that_is_no_text_is_an_audio_error(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.wav"
    soundfile.write(os.fsencode(path), np.zeros(100), 48_000, format="WAV")
    with pytest.raises(AudioError, match="not valid UTF-8"):
        read_all(str(path))


@pytest.mark.parametrize(
    "script", ["#EXTM3U\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"]
)
def test_a_playlist_in_disguise_opens_no_other_file(
    tmp_path: Path, files: dict[str, Path], script: str
) -> None:
    (tmp_path / "list.m4a").write_text(script.format(files["a.m4a"]))
    with pytest.raises(AudioError):
        read_all(str(tmp_path / "list.m4a"))


@pytest.mark.parametrize("from_hz", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 96_000])
def test_resampling_keeps_clicks_and_sines_in_place(from_hz: int) -> None:
    frames = 2 * from_hz + 7
    sine = np.sin(2 * np.pi * 997 * np.arange(frames) / from_hz).astype(np.float32)
    got = resampled(sine, from_hz, 48_000)
    assert len(got) == round(frames * 48_000 / from_hz)
    expected = np.sin(2 * np.pi * 997 * np.arange(len(got)) / 48_000)
    middle = slice(len(got) // 4, 3 * len(got) // 4)
    np.testing.assert_allclose(got[middle], expected[middle], atol=2e-6)
    click = np.zeros(frames, np.float32)
    click[from_hz] = 1.0
    assert int(np.argmax(resampled(click, from_hz, 48_000))) == 48_000


@pytest.mark.parametrize("bits", [16, 24])
def test_flac_gives_back_the_quantised_samples(bits: int) -> None:
    step = 2.0 ** (1 - bits)
    audio = signal(rate_hz=48_000)
    audio[:6] = [1.0, -1.0, 1.7, -1.7, 0.5 * step, 1.5 * step]
    content = flac_bytes(audio, bits)
    decoded = decode_flac(content)
    np.testing.assert_array_equal(decoded, (quantised(audio, bits) * step).astype(np.float32))
    np.testing.assert_array_equal(decoded[:6], np.float32([1 - step, -1.0, 1 - step, -1.0, 0.0, 2 * step]))
    assert np.abs(decoded[6:] - audio[6:]).max() <= 0.5 * step + 1e-9
    assert flac_bytes(decoded, bits) == content == flac_bytes(audio, bits)
    info = soundfile.info(io.BytesIO(content))
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, f"PCM_{bits}")


def test_what_is_not_flac_cannot_be_decoded() -> None:
    with pytest.raises(AudioError):
        decode_flac(b"fLaC, or so it says")
