"""`ssiforge degradations` lists every stage, shows one, and lets one be heard just as a corpus would have it."""

import io
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import soundfile
from PIL import Image
from pydantic import BaseModel, Field

from datagen.alignment import residual_lag
from datagen.degradations import stage_names
from datagen.degradations.registry import BUILT_IN
from datagen.level import active_level_dbfs
from manifests.ranges import Probability, Span, Within
from pipelines.quality.figures import before_and_after_png, spectrogram_png
from pipelines.stages.example_voice import example_voice
from pipelines.stages.pictures import shown_trial
from pipelines.stages.settings import first_sentence, settings_of
from pipelines.stages.trial_material import trial_sources
from pipelines.stages.try_stage import Sources

RATE_HZ = 48_000

PACKAGE = """
    from typing import Annotated, ClassVar

    import numpy as np

    from datagen.degradations.base import Applied, Degradation, Drawn, Tolerance
    from datagen.time_map import Piece, TimeMap
    from manifests.ranges import Span, Within, uniform
    from manifests.sample import Axis


    class Halve(Degradation):
        \"\"\"Halves, 500 samples late. It says so.\"\"\"

        name: ClassVar[str] = "halve_late"

        def draw(self, rng, scene):
            return Drawn({})

        @staticmethod
        def apply(audio, values, inputs):
            return Applied(np.concatenate([np.zeros(500, np.float32), audio / 2]), delay_samples=500)


    class Nothing(Degradation):
        \"\"\"Does nothing.\"\"\"

        name: ClassVar[str] = "nothing"

        def draw(self, rng, scene):
            return Drawn({})

        @staticmethod
        def apply(audio, values, inputs):
            return Applied(audio.copy())


    class Promises(Degradation):
        \"\"\"Promises a gain and delivers another.\"\"\"

        name: ClassVar[str] = "promises"
        axis: ClassVar[Axis | None] = "loudness"
        promises = {"gain_db": Tolerance(absolute=0.5)}
        gain_db: Annotated[Span, Within(-60.0, 0.0)] = (-6.0, -3.0)

        def draw(self, rng, scene):
            return Drawn({"gain_db": uniform(rng, self.gain_db)})

        @staticmethod
        def apply(audio, values, inputs):
            return Applied(audio / 10, measured={"gain_db": -20.0})


    class Skips(Degradation):
        \"\"\"Skips 100 samples.\"\"\"

        name: ClassVar[str] = "skips"
        warps_time: ClassVar[bool] = True

        def draw(self, rng, scene):
            return Drawn({})

        @staticmethod
        def apply(audio, values, inputs):
            moved = TimeMap((Piece(0, 0), Piece(10_000, 10_100)))
            return Applied(moved.applied(audio), time_map=moved)
"""


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSIFORGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's stages, laid out as pip does."""
    site = tmp_path / "site"
    info = site / "others-2.0.dist-info"
    info.mkdir(parents=True)
    (site / "others_stages.py").write_text(textwrap.dedent(PACKAGE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 2.0\n")
    points = {"halve_late": "Halve", "nothing": "Nothing", "promises": "Promises", "skips": "Skips"}
    lines = "".join(f"{name} = others_stages:{cls}\n" for name, cls in points.items())
    (info / "entry_points.txt").write_text(f"[ssiforge.degradations]\n{lines}")
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def recording(tmp_path: Path, material_folder: Path) -> Path:
    """Speech in stereo at 44.1 kHz, both channels alike."""
    audio, _ = soundfile.read(material_folder / "speech" / "anna" / "0.flac", dtype="float32")
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.stack([audio, audio], axis=1), 44_100, subtype="PCM_16")
    return path


def heard(path: Path) -> np.ndarray:
    audio, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == RATE_HZ
    return audio


def before_48k(path: Path) -> np.ndarray:
    import soxr

    audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(audio.mean(axis=1), rate_hz, RATE_HZ)


def test_every_stage_is_listed_with_its_package(ssiforge, package) -> None:
    code, out, err = ssiforge("degradations")
    assert (code, err) == (0, "")
    for name in stage_names():
        assert f" {name} " in out
    assert "halve_late" in out and " others " in out
    noise = next(line for line in out.splitlines() if " noise " in line)
    assert "noisiness" in noise and "snr_db [-5, 30], sources [1, 3]" in noise
    assert "package: others 2.0" in ssiforge("degradations", "halve_late")[1]
    assert "Halves, 500 samples late. " in out and "It says so" not in out
    code, out, _ = ssiforge("degradations", "--json")
    listed = {stage["name"]: stage for stage in json.loads(out)}
    assert sorted(listed) == stage_names()
    assert listed["noise"]["axis"] == "noisiness"
    assert listed["skips"]["delay"] == "moves time"


def test_stages_are_listed_in_the_order_of_the_chain(ssiforge) -> None:
    listed = [stage["name"] for stage in json.loads(ssiforge("degradations", "--json")[1])]
    followed = ["level", "room", "noise", "microphone_eq", "clipping", "codec", "packet_loss", "final_level"]
    assert [name for name in listed if name in followed] == followed


def test_a_package_that_cannot_be_loaded_hides_no_other(ssiforge, tmp_path, monkeypatch) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ssiforge.degradations]\nbroken = no_such_module:Broken\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = ssiforge("degradations")
    assert code == 0
    assert " noise " in out
    assert "package broken 1.0" in err and "cannot be loaded" in err


def test_a_stage_is_shown_with_its_settings_ranges_and_promises(ssiforge) -> None:
    code, out, _ = ssiforge("degradations", "noise")
    assert code == 0
    assert "[-5, 30]" in out and "-30 to 60" in out
    assert "How many recordings play at once" in out
    assert "snr_db is delivered ± 0.1 dB" in out
    shown = json.loads(ssiforge("degradations", "noise", "--json")[1])
    assert shown["promises"]["snr_db"] == {"absolute": 0.1, "relative": 0.0}
    settings = {setting["name"]: setting for setting in shown["settings"]}
    assert settings["snr_db"]["default"] == [-5, 30]


def test_settings_within_a_setting_are_shown(ssiforge) -> None:
    out = ssiforge("degradations", "codec")[1]
    assert "codecs.opus.bitrate_kbps" in out and "6 to 256" in out


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ssiforge', 'degradations']\n"
        "from pipelines.cli import main\n"
        "main()\n"
        "heavy = {'torch', 'ray', 'mlflow', 'matplotlib', 'audiomentations', 'pyroomacoustics'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_trial_is_as_long_as_its_input_and_leaves_it_alone(ssiforge, recording, tmp_path) -> None:
    content = recording.read_bytes()
    out = tmp_path / "new" / "out.wav"
    code, said, _ = ssiforge("degradations", "clipping", "--input", recording, "--out", out)
    assert code == 0, said
    assert len(heard(out)) == len(before_48k(recording))
    assert soundfile.info(out).subtype == "FLOAT"
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert recording.read_bytes() == content
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.png", "out.wav"]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(ssiforge, recording, tmp_path) -> None:
    made = []
    for number, seed in enumerate((3, 3, 4)):
        out = tmp_path / f"{number}.wav"
        ssiforge("degradations", "microphone_eq", "--input", recording, "--out", out, "--seed", seed)
        made.append((out.read_bytes(), out.with_suffix(".png").read_bytes()))
    assert made[0] == made[1]
    assert made[0][0] != made[2][0]


def test_the_snr_that_was_asked_for_is_delivered(ssiforge, recording, tmp_path) -> None:
    out = tmp_path / "out.wav"
    code, said, _ = ssiforge("degradations", "noise", "--input", recording, "--out", out, "--set", "snr_db=7")
    assert code == 0
    assert "± 0.1 dB: kept" in said
    speech = before_48k(recording)
    noise = heard(out) - speech
    assert active_level_dbfs(speech) - active_level_dbfs(noise) == pytest.approx(7.0, abs=0.1)


def test_noise_comes_from_the_file_that_was_given(ssiforge, recording, tmp_path) -> None:
    seconds = np.arange(20 * RATE_HZ) / RATE_HZ
    soundfile.write(tmp_path / "tone.wav", 0.2 * np.sin(2 * np.pi * 1_000 * seconds), RATE_HZ)
    (tmp_path / "notes.wav").write_text("no audio")
    out = tmp_path / "out.flac"
    arguments = ("degradations", "noise", "--input", recording, "--out", out, "--set", "snr_db=0")
    code, said, _ = ssiforge(*arguments, "--noise", tmp_path / "tone.wav")
    assert code == 0
    assert f"drawn from {tmp_path / 'tone.wav'}" in said
    added = heard(out) - before_48k(recording)
    spectrum = np.abs(np.fft.rfft(added * np.hanning(len(added))))
    assert np.argmax(spectrum) * RATE_HZ / len(added) == pytest.approx(1_000, abs=2)
    (tmp_path / "folder").mkdir()
    for name in ("tone.wav", "notes.wav"):
        (tmp_path / name).rename(tmp_path / "folder" / name)
    code, _, err = ssiforge(*arguments, "--noise", tmp_path / "folder")
    assert (code, "notes.wav: left out" in err) == (0, True)


def test_a_given_response_is_convolved_with_and_its_direct_path_stays(ssiforge, recording, tmp_path) -> None:
    response = np.zeros(6_000, np.float32)
    response[700], response[700 + 2_400] = 0.9, 0.45
    soundfile.write(tmp_path / "rir.wav", response, RATE_HZ, subtype="FLOAT")
    out = tmp_path / "out.wav"
    arguments = ("degradations", "room", "--input", recording, "--out", out)
    code, said, err = ssiforge(*arguments, "--rir", tmp_path / "rir.wav")
    assert code == 0, err
    speech = before_48k(recording)
    echoed = speech.copy()
    echoed[2_400:] += 0.5 * speech[:-2_400]
    wet = heard(out)
    gain = float(np.dot(wet, echoed) / np.dot(echoed, echoed))
    assert np.sum((wet - gain * echoed) ** 2) < 1e-4 * np.sum(wet**2)


def test_rooms_are_simulated_where_no_response_is_given(ssiforge, recording, tmp_path) -> None:
    out = tmp_path / "out.wav"
    arguments = ("degradations", "room", "--input", recording, "--out", out, "--json")
    code, said, err = ssiforge(*arguments, "--set", "rt60_s=[0.3, 0.6]")
    assert code == 0, err
    trial = json.loads(said)
    assert 0.25 < trial["measured"]["rt60_s"] < 0.65
    assert trial["sources"][0]["kind"] == "rir"


def test_what_a_codec_delays_is_removed(ssiforge, recording, tmp_path) -> None:
    out = tmp_path / "out.wav"
    arguments = ("degradations", "codec", "--input", recording, "--out", out, "--json")
    code, said, _ = ssiforge(*arguments, "--set", "codecs={aac: {bitrate_kbps: 64, rates_hz: [48000]}}")
    trial = json.loads(said)
    assert code == 0
    assert trial["values"]["codec"] == "aac"
    assert trial["delay_samples"] > 1_000
    assert abs(residual_lag(heard(out), before_48k(recording))[0]) < 0.5


def test_the_engine_removes_the_delay_of_a_stranger_s_stage(ssiforge, recording, package, tmp_path) -> None:
    out = tmp_path / "out.wav"
    code, said, _ = ssiforge("degradations", "halve_late", "--input", recording, "--out", out)
    assert (code, "delay removed: 500 samples" in said) == (0, True)
    assert np.allclose(heard(out), before_48k(recording) / 2, atol=1e-6)


def test_a_stage_that_moves_time_says_in_how_many_pieces(ssiforge, recording, package, tmp_path) -> None:
    out = tmp_path / "out.wav"
    code, said, _ = ssiforge("degradations", "skips", "--input", recording, "--out", out)
    assert (code, "moves time in 2 pieces" in said) == (0, True)
    assert np.allclose(heard(out)[10_000:20_000], before_48k(recording)[10_100:20_100], atol=1e-6)


def test_a_promise_that_was_not_kept_is_said_to_be_broken(ssiforge, recording, package, tmp_path) -> None:
    out = tmp_path / "out.wav"
    code, said, _ = ssiforge("degradations", "promises", "--input", recording, "--out", out)
    assert (code, "± 0.5 dB: broken" in said) == (0, True)


def test_what_changes_nothing_is_refused_with_one_sentence(ssiforge, recording, package, tmp_path) -> None:
    out = tmp_path / "out.wav"
    code, _, err = ssiforge("degradations", "nothing", "--input", recording, "--out", out)
    assert (code, "fired and changed nothing" in err, err.count("\n")) == (1, True, 1)
    assert not out.exists()


def test_what_cannot_be_applied_is_refused_with_one_sentence(ssiforge, tmp_path) -> None:
    narrow = tmp_path / "click.wav"
    click = np.zeros(8_000)
    click[4_000:4_010] = 0.5
    soundfile.write(narrow, click, 8_000)
    out = tmp_path / "out.wav"
    arguments = ("degradations", "bandwidth_loss", "--input", narrow, "--out", out)
    code, _, err = ssiforge(*arguments, "--set", "rates_hz=[44100]")
    assert (code, "bandwidth_loss: the speech ends at" in err, err.count("\n")) == (1, True, 1)
    assert not out.exists()


def test_flac_is_turned_down_where_it_would_clip_and_wav_is_not(ssiforge, recording, tmp_path) -> None:
    loud = ("degradations", "level", "--input", recording, "--set", "gain_db=30", "--out")
    assert ssiforge(*loud, tmp_path / "out.wav")[2] == ""
    assert "quieter" in ssiforge(*loud, tmp_path / "out.flac")[2]
    wav, flac = heard(tmp_path / "out.wav"), heard(tmp_path / "out.flac")
    assert np.abs(wav).max() > 1.0 > np.abs(flac).max()
    assert soundfile.info(tmp_path / "out.flac").subtype == "PCM_24"
    assert np.corrcoef(wav, flac)[0, 1] > 0.999_999


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "nois"}, "no stage is called 'nois'"),
        ({"--set": "snr=5"}, "did you mean 'snr_db'"),
        ({"--set": "snr_db=500"}, "leaves what is possible, -30 to 60"),
        ({"--set": "snr_db"}, "write it as field.subfield=value"),
        ({"--input": "missing.wav"}, "missing.wav: no such file"),
        ({"--input": "."}, "is a folder"),
        ({"--input": "text.wav"}, "text.wav: not an audio file"),
        ({"--input": "silent.wav"}, "silent.wav: is silent"),
        ({"--input": "short.wav"}, "short.wav: lasts 0.0"),
        ({"--input": "infinite.wav"}, "infinite.wav: contains NaN"),
        ({"--out": "out.mp3"}, "must end in .wav or .flac"),
        ({"--out": "speech.wav"}, "would overwrite the input"),
        ({"--out": "other/../speech.wav"}, "would overwrite the input"),
        ({"--out": "folder.wav"}, "is a folder"),
        ({"--out": "text.wav/out.wav"}, "cannot be written"),
        ({"--noise": "missing"}, "missing: no such file or folder"),
        ({"--noise": "text.wav"}, "cannot be used as noise"),
        ({"--noise": "folder.wav"}, "holds no audio files"),
        ({"--out": None}, "give its name, --input and --out"),
        ({"--input": None}, "give its name, --input and --out"),
        ({"--input": None, "--out": None}, "need --input and --out"),
        ({"name": "room", "--set": "rt60_s=9"}, "nothing that it could draw from fits"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(
    ssiforge, recording, tmp_path, monkeypatch, change, said
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.wav").write_text("not audio at all")
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(tmp_path / "short.wav", np.full(100, 0.1), RATE_HZ)
    soundfile.write(tmp_path / "infinite.wav", np.full(RATE_HZ, np.inf), RATE_HZ, subtype="FLOAT")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "other").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    options = {"name": "noise", "--input": "speech.wav", "--out": "out.wav", "--set": "snr_db=5", **change}
    words = [options.pop("name")]
    for option, value in options.items():
        words += [] if value is None else [option, value]
    code, _, err = ssiforge("degradations", *words)
    assert (code, said in err, err.count("\n")) == (2, True, 1), err
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


class Inner(BaseModel):
    """Fields of its own. More of it."""

    weight: float = Field(default=1.0, ge=0.0)


class Toy(BaseModel):
    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (-5, 30)
    """What it
    means."""
    high_shelf_hz: Annotated[Span, Within(20.0, 2e4)] | None = None
    kinds: tuple[Literal["a", "b"], ...] = ("a", "b")
    share: Probability = 0.00001
    count: int = Field(default=3, ge=1, le=500)
    inner: Inner | None = Inner()
    name: str


def test_settings_are_read_from_the_class() -> None:
    read = [(s.name, s.default_text, s.possible, s.meaning) for s in settings_of(Toy)]
    assert read == [
        ("snr_db", "[-5, 30]", "-30 to 60", "What it means."),
        ("high_shelf_hz", "null", "20 to 20000, or null", "High shelf, in Hz."),
        ("kinds", "[a, b]", "a, b", "Kinds; one of them is drawn."),
        ("share", "0.00001", "0 to 1", "Share."),
        ("count", "3", "1 to 500", "Count."),
        ("inner", "weight", "the settings below", "Fields of its own."),
        ("inner.weight", "1", "at least 0", "Weight."),
        ("name", "required", "text", "Name."),
    ]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("One.", "One."),
        ("After R. Bristow-Johnson,\n    at 0.5 dB. Two.", "After R. Bristow-Johnson, at 0.5 dB."),
        ("By a level (P.56)\n\nMore.", "By a level (P.56)"),
        (None, ""),
    ],
)
def test_the_summary_is_the_first_sentence(docstring: str | None, sentence: str) -> None:
    assert first_sentence(docstring) == sentence


def test_pictures_repeat_to_the_byte_and_show_a_tone_at_its_frequency() -> None:
    seconds = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 4_000 * seconds)).astype(np.float32)
    content = before_and_after_png(np.zeros_like(tone), tone)
    assert content == before_and_after_png(np.zeros_like(tone), tone)
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("L")).astype(float)
    rows = picture[25:215, picture.shape[1] // 2 + 50 : -50].mean(axis=1)  # within the second spectrogram
    # O'Shaughnessy's mel scale from 0 to 24 kHz over 200 pixels, of which the highest is the 20th of the picture.
    expected = 220 - 200 * np.log10(1 + 4_000 / 700) / np.log10(1 + 24_000 / 700)
    assert 25 + np.argmax(rows) == pytest.approx(expected, abs=3)
    before = picture[25:215, 100 : picture.shape[1] // 2 - 50]
    assert before.max() < 10


@pytest.fixture(scope="module")
def built_in(_own_cache: None) -> tuple[np.ndarray, Sources]:
    """A voice, and what can be drawn from without any file."""
    return example_voice(4.0), trial_sources({}, 0, None, print)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_stage_can_be_shown_on_what_is_built_in(
    name: str, built_in: tuple[np.ndarray, Sources]
) -> None:
    voice, sources = built_in
    trial = shown_trial(name, voice, sources)
    assert len(trial.after) == len(voice)
    assert trial.record.out_of_tolerance == ()


def test_a_long_title_leaves_the_picture_as_it_is():
    """Otherwise it runs into the scale, and its end is lost."""
    wave = np.zeros(RATE_HZ, np.float32)
    short, long = (
        np.asarray(Image.open(io.BytesIO(spectrogram_png({"x": wave, title: wave}))).convert("L"))
        for title in ("codec", "codec: " + "rate_hz 48000, " * 12)
    )
    assert short.shape == long.shape
    beside_the_scale = np.s_[:, -115:-95]
    assert (short[beside_the_scale] > 250).all()
    assert (long[beside_the_scale] > 250).all()
