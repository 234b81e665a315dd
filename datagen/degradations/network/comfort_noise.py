"""Discontinuous transmission: pauses are not sent, and the receiver fills them with noise of its own."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter1d
from scipy.signal import butter, sosfilt

from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Degradation,
    Drawn,
    Inputs,
    Scene,
    Tolerance,
)
from datagen.degradations.network.gilbert_elliott import runs
from datagen.level import SILENCE_DBFS
from manifests.keyed import generator
from manifests.ranges import Span, Within, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

FRAME_MS = 20
FRAME_SAMPLES = FRAME_MS * SAMPLE_RATE_HZ // 1_000
"""Speech is sent, or not, in frames of 20 ms."""
SHORTEST_PAUSE_FRAMES = 4
"""A shorter pause is sent: a description of the noise takes a few frames to be made."""
LOUDEST_PAUSE_DB = 3.0
"""Below the active level of the speech: what is louder than that is no pause, whatever the noise."""
FADE_SAMPLES = FRAME_SAMPLES // 4
"""Between speech and noise, within the frames that are not sent: 5 ms."""
FLOOR_DBFS = -85.0
"""White noise that is always there: what comes after digital silence is not silent."""
FLOOR_POWER = 10.0 ** (FLOOR_DBFS / 10.0)
LOUDER_THAN_BACKGROUND = 2.0
WORST_LATE_MS = 120.0
WORST_OFFSET_DB = 20.0
WORST_SHARE = 0.5

_RUMBLE_FILTER = butter(2, 150.0, "highpass", fs=SAMPLE_RATE_HZ, output="sos").astype(np.float32)
_WINDOW = np.hanning(FRAME_SAMPLES).astype(np.float32)
_BIN_HZ = SAMPLE_RATE_HZ / FRAME_SAMPLES
_BAND_STARTS = np.unique(np.rint(np.geomspace(1.0, 0.93 * FRAME_SAMPLES / 2, 25)).astype(int)) - 1
"""First bin of each band of the noise's spectrum: about a third of an octave wide, 50 Hz at least."""
_BAND_HZ = (_BAND_STARTS + np.diff(_BAND_STARTS, append=FRAME_SAMPLES // 2 + 1) / 2.0 - 0.5) * _BIN_HZ


class ComfortNoise(Degradation):
    """Replaces pauses by stationary comfort noise, as a call with discontinuous transmission does.

    A voice activity detector, set against the active level of the speech (ITU-T P.56), keeps sending for a hang-over
    after each word, and may be late at the next one, whose beginning is then lost in the noise. Where the background
    is louder than its threshold, so that it would send everything, it is set to the quietest stretch. The noise has
    level and coarse spectrum of the pause that it stands for (as ITU-T G.711 Appendix II and RFC 3389 describe it),
    off by a drawn number of dB.
    """

    name: ClassVar[str] = "comfort_noise"
    axis: ClassVar[Axis | None] = "discontinuity"
    promises: ClassVar[Mapping[str, Tolerance]] = {"level_offset_db": Tolerance(absolute=0.1)}

    level_offset_db: Annotated[Span, Within(-30.0, 20.0)] = (-12.0, 4.0)
    """Level of the noise against that of the pause."""
    threshold_db: Annotated[Span, Within(10.0, 50.0)] = (18.0, 32.0)
    """A frame so far below the active level of the speech is a pause; less where the background is louder."""
    hangover_ms: Annotated[Span, Within(0.0, 500.0)] = (40.0, 180.0)
    """How long the end of a word is still sent."""
    late_ms: Annotated[Span, Within(0.0, 200.0)] = (0.0, 60.0)
    """How much of the beginning of a word after a pause is lost; rounded to frames of 20 ms."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the detector's settings, the level of the noise, and its seed."""
        return Drawn(
            {
                "level_offset_db": uniform(rng, self.level_offset_db),
                "threshold_db": uniform(rng, self.threshold_db),
                "hangover_frames": round(uniform(rng, self.hangover_ms) / FRAME_MS),
                "late_frames": round(uniform(rng, self.late_ms) / FRAME_MS),
                "noise_seed": int(rng.integers(0, 1 << 32)),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Find the pauses and fill them; measures how much is replaced, and the noise against the pauses.

        Raises:
            CannotApply: when there is no speech, or no pause is long enough.
        """
        if inputs.reference is None or inputs.speech_level_dbfs <= SILENCE_DBFS:
            raise CannotApply("the speech is silent, so there are no pauses in it")
        loudness = _loudness(inputs.reference)
        asked = 10.0 ** ((inputs.speech_level_dbfs - values["threshold_db"]) / 10.0)
        threshold = max(asked, _quietest(loudness, values["hangover_frames"]))
        threshold_db = inputs.speech_level_dbfs - 10.0 * math.log10(max(threshold, FLOOR_POWER))
        spoken = _spoken(loudness > threshold, values["hangover_frames"])
        if spoken.all() or threshold_db < LOUDEST_PAUSE_DB:
            raise CannotApply("no pause is long enough not to be sent")
        sent = _noticed(spoken, values["late_frames"])
        rng = generator("comfort noise", values["noise_seed"])
        frames = _frames(audio)
        played = audio.copy()
        wanted = delivered = 0.0
        for first, count in runs(~sent):
            place = slice(first * FRAME_SAMPLES, min((first + count) * FRAME_SAMPLES, len(audio)))
            pause = first + np.flatnonzero(~spoken[first : first + count])
            quiet = _background(frames[pause], loudness[pause])
            noise = _noise_like(quiet, values["level_offset_db"], place.stop - place.start, rng)
            played[place] = _joined(audio[place], noise, place.start > 0, place.stop < len(audio))
            inside = played[place][FADE_SAMPLES:-FADE_SAMPLES]
            wanted += len(inside) * _power(quiet)
            delivered += float(np.dot(inside, inside))
        measured = {
            "level_offset_db": 10.0 * math.log10(delivered / wanted),
            "threshold_db": threshold_db,
            "replaced_share": float(1.0 - sent.mean()),
            "lost_onset_ms": float(FRAME_MS * (spoken & ~sent).sum() / max(1, _onsets(spoken))),
        }
        return Applied(played, measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Rises with the lost beginnings, the step in level, and how much is replaced."""
        late = 0.6 * min(1.0, float(measured["lost_onset_ms"]) / WORST_LATE_MS)
        step = 0.5 * min(1.0, abs(float(values["level_offset_db"])) / WORST_OFFSET_DB)
        much = 0.2 * min(1.0, float(measured["replaced_share"]) / WORST_SHARE)
        return 1.0 - (1.0 - late) * (1.0 - step) * (1.0 - much)


def _frames(audio: Audio) -> Audio:
    """Cut into frames, shape (frames, FRAME_SAMPLES), the last one filled up with silence."""
    return np.pad(audio, (0, -len(audio) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)


def _loudness(reference: Audio) -> NDArray[np.float32]:
    """Return the mean square of each frame, without rumble.

    In many recordings rumble is louder than the rest of the background; detectors do not listen to it.
    """
    frames = _frames(sosfilt(_RUMBLE_FILTER, reference))
    power: NDArray[np.float32] = np.einsum("fs,fs->f", frames, frames) / np.float32(FRAME_SAMPLES)
    return power


def _quietest(loudness: NDArray[np.float32], hangover_frames: int) -> float:
    """Return the mean square of the loudest frame of the quietest stretch that a hang-over leaves a pause of."""
    frames = SHORTEST_PAUSE_FRAMES + hangover_frames
    if len(loudness) < frames:
        return math.inf
    return float(np.lib.stride_tricks.sliding_window_view(loudness, frames).max(axis=1).min())


def _spoken(loud: NDArray[np.bool_], hangover_frames: int) -> NDArray[np.bool_]:
    """Say of each frame whether it belongs to a word, its hang-over, or a pause that is too short."""
    reach = hangover_frames + 1
    spoken: NDArray[np.bool_] = maximum_filter1d(loud, reach, origin=(reach - 1) // 2, mode="constant")
    for first, count in runs(~spoken):
        if count < SHORTEST_PAUSE_FRAMES:
            spoken[first : first + count] = True
    return spoken


def _noticed(spoken: NDArray[np.bool_], late_frames: int) -> NDArray[np.bool_]:
    """Say of each frame whether it is sent by a detector that is late after each pause."""
    sent = spoken.copy()
    for first, count in runs(spoken):
        if first > 0:
            sent[first : first + min(late_frames, count)] = False
    return sent


def _onsets(spoken: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(spoken[1:] & ~spoken[:-1]))


def _background(frames: Audio, loudness: NDArray[np.float32]) -> Audio:
    """Leave out breaths, and what is left of a word: what is more than 3 dB louder than half of the pause."""
    return frames[loudness <= LOUDER_THAN_BACKGROUND * np.median(loudness)]


def _power(frames: Audio) -> float:
    """Mean square, with a floor."""
    return float(np.mean(np.square(frames)) + FLOOR_POWER)


def _noise_like(frames: Audio, offset_db: float, length: int, rng: np.random.Generator) -> Audio:
    """Make noise with the level and the third-octave spectrum of `frames`, off by `offset_db`, shape (length,)."""
    spectrum = np.abs(fft.rfft(frames * _WINDOW)) ** 2
    bands = np.add.reduceat(spectrum.mean(axis=0), _BAND_STARTS) / np.diff(
        _BAND_STARTS, append=len(_WINDOW) // 2 + 1
    )
    level = np.log(bands + FLOOR_POWER * np.sum(_WINDOW**2))
    white = fft.rfft(rng.standard_normal(length, dtype=np.float32))
    hz = np.arange(len(white), dtype=np.float32) * np.float32(SAMPLE_RATE_HZ / length)
    noise: Audio = fft.irfft(white * np.exp(0.5 * np.interp(hz, _BAND_HZ, level)).astype(np.float32), length)
    # Rumble in a short pause is louder here and quieter there: the level is exact between the crossfades.
    now = float(np.mean(np.square(noise[FADE_SAMPLES:-FADE_SAMPLES])))
    return noise * np.float32(math.sqrt(_power(frames) * 10.0 ** (offset_db / 10.0) / now))


def _joined(sent: Audio, noise: Audio, at_start: bool, at_end: bool) -> Audio:
    """Go over from what is sent to the noise and back, keeping the power."""
    rise = np.sin(np.linspace(0.0, np.pi / 2.0, FADE_SAMPLES, dtype=np.float32))
    joined = noise.copy()
    if at_start:
        joined[:FADE_SAMPLES] = rise * noise[:FADE_SAMPLES] + rise[::-1] * sent[:FADE_SAMPLES]
    if at_end:
        joined[-FADE_SAMPLES:] = rise[::-1] * noise[-FADE_SAMPLES:] + rise * sent[-FADE_SAMPLES:]
    return joined
