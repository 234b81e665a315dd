"""The room: speech convolved with the impulse response between a talker and a microphone.

The response is cut to its direct path, so reverberant speech stays aligned with the dry talker to the sample, and
the active level of what comes in is kept, so that the level drawn for the talker and every later SNR keep meaning.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from datagen import convolution
from datagen.degradations.base import (
    Applied,
    Audio,
    Degradation,
    Drawn,
    Inputs,
    NoMaterial,
    Scene,
    Tolerance,
)
from datagen.degradations.room.conditioning import LEAD_SAMPLES, Conditioned, early_response, prepared
from datagen.level import SILENCE_DBFS, active_level_dbfs, scaled
from datagen.rooms import NAME_PREFIX
from manifests.ranges import Probability, Span, Within, one_of, uniform
from manifests.recipe import TargetKind
from manifests.sample import Axis, Clip, Values
from manifests.source import Source


class Room(Degradation):
    """Reverberation by a measured or simulated room impulse response of the sample's split.

    The response may be perturbed, so that few rooms sound like many: played faster or slower (a smaller or larger
    room), and faded exponentially after its direct path (a room with more absorption).
    """

    name: ClassVar[str] = "room"
    axis: ClassVar[Axis | None] = "reverberation"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "rt60_s": Tolerance(relative=0.15),
        "drr_db": Tolerance(absolute=0.5),
    }

    rt60_s: Annotated[Span, Within(0.0, 10.0)] | None = None
    """Only responses with a reverberation time in this range are drawn, before they are perturbed; null for all."""
    simulated_share: Probability | None = None
    """How often a simulated room is drawn where there are measured ones as well; null draws from all alike."""
    drr_db: Annotated[Span, Within(-20.0, 40.0)] | None = None
    """Direct-to-reverberant ratio to give the response, by weighing what follows the direct path; null keeps it."""
    resample: Annotated[Span, Within(0.5, 2.0)] | None = None
    """How many times as fast a perturbed response is played: 0.8 is a room a quarter larger; null for as it is."""
    decay_rt60_s: Annotated[Span, Within(0.05, 5.0)] | None = None
    """Reverberation time that a perturbed response is brought down to; one that is shorter already is left alone."""
    perturb_share: Probability = 0.5
    """How often a response is perturbed, where `resample` or `decay_rt60_s` is given."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a response, one of its channels, a perturbation and a DRR where the recipe asks for them."""
        source = self._response(rng, scene)
        clip = Clip(
            sha256=source.sha256,
            start=0,
            frames=source.frames,
            channel=int(rng.integers(0, max(1, source.channels))),
        )
        values: Values = {"room": source.room, "catalogue_drr_db": source.drr_db}
        values |= self._perturbation(rng, source.rt60_s)
        if self.drr_db is not None:
            values["drr_db"] = uniform(rng, self.drr_db)
        return Drawn(values, (clip,), rir=source)

    def _response(self, rng: np.random.Generator, scene: Scene) -> Source:
        pool = scene.pool("rir")
        if self.rt60_s is not None:
            pool = pool.within("rt60_s", *self.rt60_s)
        if not pool:
            reach = f" with an RT60 of {self.rt60_s[0]:g} to {self.rt60_s[1]:g} s" if self.rt60_s else ""
            raise NoMaterial(
                f"stage room: there is no room impulse response{reach} in a split that samples are made for; "
                "scan some with --rir, add 'rooms' to the recipe, or remove the stage"
            )
        if self.simulated_share is not None:
            wanted = rng.random() < self.simulated_share
            pool = pool.starting_with("room", NAME_PREFIX, wanted) or pool
        return one_of(rng, pool)

    def _perturbation(self, rng: np.random.Generator, rt60_s: float | None) -> Values:
        """Draw how to perturb a response of a known RT60, and say which RT60 it will have."""
        values: Values = {"rt60_s": rt60_s}
        if (self.resample or self.decay_rt60_s) and rng.random() < self.perturb_share:
            if self.resample is not None:
                values["resample"] = uniform(rng, self.resample)
                values["rt60_s"] = rt60_s and rt60_s / values["resample"]
            if self.decay_rt60_s is not None:
                wanted_s = uniform(rng, self.decay_rt60_s)
                if values["rt60_s"] is not None and wanted_s < values["rt60_s"]:
                    values["decay_rt60_s"] = values["rt60_s"] = wanted_s
        return values

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Put the talker into the room.

        Raises:
            CannotApply: when the response is silent, or the drawn DRR would bury its direct path.
        """
        room = _conditioned(values, inputs)
        wet = convolved(audio, room.response)
        before, after = _active_level_dbfs(audio, inputs), active_level_dbfs(wet)
        gain_db = before - after if min(before, after) > SILENCE_DBFS else 0.0
        measured = {"rt60_s": room.rt60_s, "drr_db": room.drr_db, "gain_db": gain_db}
        return Applied(scaled(wet, gain_db), measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Half for RT60 (0.1 to 1.5 s, logarithmic) and half for DRR (20 to -5 dB)."""
        rt60 = measured.get("rt60_s") or values.get("rt60_s") or 0.1
        drr = measured.get("drr_db")
        long = np.clip(math.log(rt60 / 0.1) / math.log(15.0), 0.0, 1.0)
        far = np.clip((20.0 - drr) / 25.0, 0.0, 1.0) if drr is not None else long
        return float(0.5 * long + 0.5 * far)

    @staticmethod
    def on_target(target: Audio, values: Values, inputs: Inputs, kind: TargetKind, early_ms: float) -> Audio:
        """Give the target the early or the whole response, at its own level, aligned as the degraded speech is."""
        if kind == "dry":
            return target
        response = _conditioned(values, inputs).response
        if kind == "early":
            response = early_response(response, early_ms)
        wet = convolved(target, response)
        before, after = _active_level_dbfs(target, inputs), active_level_dbfs(wet)
        return scaled(wet, before - after) if min(before, after) > SILENCE_DBFS else wet


def conditioned(rir: Audio, wanted_drr_db: float | None = None) -> Audio:
    """Prepare a response: direct path at `LEAD_SAMPLES`, no pre-echo, a tail that decays into silence.

    Args:
        rir: shape (N,), 48 kHz.
        wanted_drr_db: direct-to-reverberant ratio to give it, or None.

    Returns:
        A read-only array.

    Raises:
        CannotApply: when there is no direct path, or it would be weaker than a reflection.
    """
    return prepared(rir, wanted_drr_db).response


def convolved(audio: Audio, response: Audio) -> Audio:
    """Convolve with a conditioned response; the result has the length of `audio` and lags it by nothing."""
    return convolution.convolved(audio, response, LEAD_SAMPLES)


def _conditioned(values: Values, inputs: Inputs) -> Conditioned:
    return prepared(inputs.clips[0], values.get("drr_db"), values.get("resample"), values.get("decay_rt60_s"))


def _active_level_dbfs(audio: Audio, inputs: Inputs) -> float:
    """Active level of audio, which is often the speech that has been measured already."""
    return inputs.speech_level_dbfs if audio is inputs.reference else active_level_dbfs(audio)
