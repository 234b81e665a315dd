"""Absorption of sound in the air between talker and microphone."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from datagen.air import air_absorption_db_m
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
from datagen.frequency_response import grid_hz, with_response
from datagen.measured_response import response_between
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

REFERENCE_HZ = 8_000.0
"""Where the attenuation is stated and measured, when the speech reaches that far."""
INSIDE_SPEECH = 0.8
"""Of narrower speech it is stated at this share of the bandwidth."""
MEASURED_OCTAVES = 1.0 / 48.0
WORST_DB = 12.0


class AirAbsorption(Degradation):
    """Takes the treble that air swallows on the way to a distant microphone, with zero phase.

    Attenuation for temperature and humidity after ISO 9613-1:1993, at sea level; the level that distance costs is
    not taken. At 8 kHz it is 0.1 dB a metre at 20 degrees C and 50 % humidity, and twice that in dry air.
    """

    name: ClassVar[str] = "air_absorption"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {"attenuation_db": Tolerance(absolute=0.005, relative=0.02)}

    distance_m: Annotated[Span, Within(0.5, 200.0)] = (1.0, 20.0)
    temperature_c: Annotated[Span, Within(-20.0, 50.0)] = (10.0, 30.0)
    humidity_percent: Annotated[Span, Within(10.0, 100.0)] = (20.0, 80.0)
    """Relative humidity."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the distance, log-uniform, and the air; state the attenuation at 8 kHz, or inside narrower speech."""
        distance_m = log_uniform(rng, self.distance_m)
        temperature_c = uniform(rng, self.temperature_c)
        humidity_percent = uniform(rng, self.humidity_percent)
        reference_hz = min(REFERENCE_HZ, INSIDE_SPEECH * scene.bandwidth_hz)
        per_metre = air_absorption_db_m(np.array([reference_hz]), temperature_c, humidity_percent)
        return Drawn(
            {
                "distance_m": distance_m,
                "temperature_c": temperature_c,
                "humidity_percent": humidity_percent,
                "reference_hz": reference_hz,
                "attenuation_db": float(per_metre[0]) * distance_m,
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Attenuate each frequency; measures the attenuation at the reference frequency."""
        per_metre = air_absorption_db_m(grid_hz(), values["temperature_c"], values["humidity_percent"])
        filtered = with_response(audio, 10.0 ** (-per_metre * values["distance_m"] / 20.0))
        reference_hz = values["reference_hz"]
        gain_db = response_between(audio, filtered).gains_db(np.array([reference_hz]), MEASURED_OCTAVES)[0]
        if np.isnan(gain_db):
            raise CannotApply(f"there is no sound around {reference_hz:.0f} Hz for the air to absorb")
        return Applied(filtered, measured={"attenuation_db": round(-float(gain_db), 4)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Measured attenuation at the reference frequency, 12 dB being the worst."""
        return min(1.0, float(measured["attenuation_db"]) / WORST_DB)
