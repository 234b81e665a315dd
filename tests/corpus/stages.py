"""Stages with known faults, and one that is fine, for testing what the engine does about them."""

import os
import signal
from typing import ClassVar

import numpy as np

from datagen.degradations.base import Applied, CannotApply, Degradation, Drawn, Tolerance
from manifests.ranges import uniform


class _Plain(Degradation):
    def draw(self, rng, scene):
        return Drawn({"x": uniform(rng, (0.2, 0.8))})


class Halve(_Plain):
    name: ClassVar[str] = "halve"

    @staticmethod
    def apply(audio, values, inputs):
        return Applied(audio * np.float32(values["x"]))


class DoesNothing(_Plain):
    name: ClassVar[str] = "does_nothing"

    @staticmethod
    def apply(audio, values, inputs):
        return Applied(audio * np.float32(1.0))


class WritesIntoItsInput(_Plain):
    name: ClassVar[str] = "writes_into_its_input"

    @staticmethod
    def apply(audio, values, inputs):
        audio *= np.float32(0.5)
        return Applied(audio)


class DelaysSilently(_Plain):
    name: ClassVar[str] = "delays_silently"

    @staticmethod
    def apply(audio, values, inputs):
        return Applied(np.concatenate([np.zeros(500, np.float32), audio]))


class DelaysAndSaysSo(_Plain):
    name: ClassVar[str] = "delays_and_says_so"

    @staticmethod
    def apply(audio, values, inputs):
        late = np.concatenate([np.zeros(500, np.float32), audio]) * np.float32(0.5)
        return Applied(late, delay_samples=500)


class YieldsNan(_Plain):
    name: ClassVar[str] = "yields_nan"

    @staticmethod
    def apply(audio, values, inputs):
        out = audio.copy()
        out[100] = np.nan
        return Applied(out)


class RunsOutOfMemory(_Plain):
    name: ClassVar[str] = "runs_out_of_memory"

    @staticmethod
    def apply(audio, values, inputs):
        raise MemoryError("9 GB")


class PromisesTooMuch(_Plain):
    """Delivers more than it promised on half of its draws."""

    name: ClassVar[str] = "promises_too_much"
    promises: ClassVar = {"gain": Tolerance(relative=0.05)}

    def draw(self, rng, scene):
        return Drawn({"gain": uniform(rng, (0.2, 0.4)), "honest": bool(rng.random() < 0.5)})

    @staticmethod
    def apply(audio, values, inputs):
        gain = values["gain"] * (1.0 if values["honest"] else 1.5)
        return Applied(audio * np.float32(gain), measured={"gain": gain})


class Refuses(_Plain):
    name: ClassVar[str] = "refuses"

    @staticmethod
    def apply(audio, values, inputs):
        if values["x"] < 0.6:
            raise CannotApply(f"{values['x']:.3f} is below 0.6")
        return Applied(audio * np.float32(values["x"]))


class KillsItsProcess(_Plain):
    """Dies like a native crash would, on a fifth of its draws."""

    name: ClassVar[str] = "kills_its_process"

    @staticmethod
    def apply(audio, values, inputs):
        if values["x"] < 0.32:
            os.kill(os.getpid(), signal.SIGKILL)
        return Applied(audio * np.float32(values["x"]))


ALL = (
    Halve,
    DoesNothing,
    WritesIntoItsInput,
    DelaysSilently,
    DelaysAndSaysSo,
    YieldsNan,
    RunsOutOfMemory,
    PromisesTooMuch,
    KillsItsProcess,
)
