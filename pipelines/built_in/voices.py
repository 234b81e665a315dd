"""Voices for the demo: sentences spoken by eSpeak NG, whose library and data come inside a wheel.

Synthetic voices are for showing that the chain works. They are nobody's speech: no licence, no privacy, no realism.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NOISE_SEED = 1
_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_CHARACTERS = 1
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4

_SampleSink = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Talker:
    """One synthetic talker."""

    name: str
    voice: str
    """eSpeak NG voice with variant: `en-us+f3`."""
    words_per_minute: int
    pitch: int
    """0 to 99."""
    pitch_range: int
    """0 (monotone) to 99."""


TALKERS = (
    Talker("anna", "en-us+f3", 165, 62, 60),
    Talker("ben", "en-us+m3", 170, 40, 55),
    Talker("clara", "en-gb-x-rp+f4", 155, 70, 65),
    Talker("david", "en-gb-x-rp+m7", 150, 32, 50),
    Talker("emma", "en-gb-scotland+f2", 160, 58, 70),
    Talker("frank", "en-us+m1", 180, 48, 45),
    Talker("grace", "en-us+f5", 150, 66, 50),
    Talker("henry", "en-gb-scotland+m4", 175, 36, 60),
)

SENTENCES = (
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It is easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
    "The boy was there when the sun rose.",
    "A rod is used to catch pink salmon.",
    "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.",
    "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.",
    "Smoky fires lack flame and heat.",
)
"""Harvard sentences, lists 1 and 2 (IEEE Recommended Practice for Speech Quality Measurements, 1969)."""


class Synthesizer:
    """The eSpeak NG library. One instance a process: the library keeps global state."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        folder = Path(espeakng_loader.get_data_path())
        data = str(folder.parent if folder.name == "espeak-ng-data" else folder).encode()
        self.rate_hz = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT))
        if self.rate_hz <= 0:
            raise RuntimeError("eSpeak NG could not be started")
        self._blocks: list[NDArray[np.int16]] = []
        self._sink = _SampleSink(self._take)  # held here: the library keeps only a pointer to it
        self._library.espeak_SetSynthCallback(self._sink)

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: object) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, talker: Talker, text: str) -> NDArray[np.float32]:
        """Say `text`; returns mono audio at `rate_hz`, full scale 1.0."""
        self._blocks.clear()
        if self._library.espeak_SetVoiceByName(talker.voice.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice {talker.voice}")
        for parameter, value in (
            (_RATE, talker.words_per_minute),
            (_PITCH, talker.pitch),
            (_RANGE, talker.pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        # Breathy voices hold noise, which eSpeak NG would seed from the clock.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(NOISE_SEED))
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, _CHARACTERS, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._blocks).astype(np.float32) / 32768.0


def write_voices(folder: Path) -> Iterator[Path]:
    """Write every sentence by every talker as `folder/TALKER/00.flac`; yield each path.

    What is there is kept, but spoken again where anything is missing: the library carries its state from one
    sentence to the next, so only the whole sequence, from the start of a process, is the same every time.
    """
    import soundfile

    lines = [
        (talker, sentence, folder / talker.name / f"{number:02d}.flac")
        for talker in TALKERS
        for number, sentence in enumerate(SENTENCES)
    ]
    if all(path.exists() for _, _, path in lines):
        yield from (path for _, _, path in lines)
        return
    synthesizer = Synthesizer()
    for talker, sentence, path in lines:
        audio = synthesizer.speak(talker, sentence)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, audio, synthesizer.rate_hz, subtype="PCM_16")
        yield path
