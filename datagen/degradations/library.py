"""Any transform of audiomentations that keeps length and alignment, by name, seeded and recorded by us.

audiomentations draws from the global generators of `random` and NumPy. Here they are seeded from the sample's own
key, and put back as they were, around each of its calls. What it drew is recorded and applied from the record.
Transforms that look at the audio when they draw, or draw what JSON cannot hold, draw when they are applied, from a
seed that is recorded; what they drew is then among the measured values.
"""

import inspect
import io
import json
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, field_validator, model_validator

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from manifests.canonical import canonical_json
from manifests.documents import suggestion
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Values

_MOVES = "moves the speech in time, so that its target no longer matches"
_RESIZES = "changes the length"
_SKEWS = "delays some frequencies against others by several samples; use the stage 'microphone_eq'"
_READS = "reads files that the catalogue does not know; use the stage"
REFUSED = {
    "AddBackgroundNoise": f"{_READS} 'noise'",
    "AddShortNoises": f"{_READS} 'noise'",
    "AdjustDuration": _RESIZES,
    "ApplyImpulseResponse": f"{_READS} 'room'",
    "HighShelfFilter": _SKEWS,
    "Lambda": "needs code in a recipe; write a stage of your own instead",
    "LowShelfFilter": _SKEWS,
    "Padding": "silences the speech but not its target",
    "PeakingFilter": _SKEWS,
    "PitchShift": _MOVES,
    "PolarityInversion": "inverts the speech but not its target",
    "Resample": _RESIZES,
    "Reverse": _MOVES,
    "RoomSimulator": f"{_RESIZES} and simulates a room for each sample; use the stage 'room'",
    "SevenBandParametricEQ": _SKEWS,
    "Shift": _MOVES,
    "TimeStretch": _MOVES,
    "Trim": _RESIZES,
}
FIXED_KEYWORDS: dict[str, Any] = {"p": 1.0, "zero_phase": True, "preserve_delay": False}
"""Where a transform has these: whether it fires is up to the stage, and it must not delay."""
MODES = {"RepeatPart": "replace"}
"""The only mode that leaves what follows where it was."""

_PROBES = 4
_GLOBAL_GENERATORS = threading.Lock()


class Audiomentations(Degradation):
    """Applies a transform of the library audiomentations by name; what else is set are keywords of that transform.

    For example `{stage: audiomentations, transform: TanhDistortion, min_distortion: 0.1}`. Transforms that move
    speech, change its length or read files that no catalogue knows are refused, with a hint at what to use instead.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: ClassVar[str] = "audiomentations"
    transform: str
    """Name of its class; a wrong one is answered with all that can be used."""

    @field_validator("transform")
    @classmethod
    def _is_usable(cls, name: str) -> str:
        if reason := REFUSED.get(name):
            raise ValueError(f"transform {name} cannot be used: it {reason}")
        known = usable_transforms()
        if name not in known:
            raise ValueError(
                f"audiomentations has no {name}; usable: {', '.join(known)}{suggestion(name, known)}"
            )
        return name

    @model_validator(mode="after")
    def _is_complete(self) -> "Audiomentations":
        keywords = self.model_extra or {}
        allowed = _keywords_of(self.transform)
        for keyword in keywords:
            if keyword not in allowed:
                guess = suggestion(keyword, allowed)
                names = ", ".join(allowed) or "none"
                raise ValueError(
                    f"transform {self.transform} has no keyword '{keyword}'; allowed: {names}{guess}"
                )
        try:
            _try_out(self.transform, canonical_json(keywords))
        except ImportError as error:
            package = error.name or str(error)
            raise ValueError(
                f"transform {self.transform} needs the package {package}, not installed"
            ) from error
        except Exception as error:  # constructors of a library may refuse in any way
            given = ", ".join(f"{name}={value}" for name, value in keywords.items()) or "its defaults"
            reason = f"{error}" or type(error).__name__
            raise ValueError(f"transform {self.transform} refuses {given} ({reason})") from error
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the transform's parameters, where they do not depend on the audio, and a seed for the rest."""
        keywords = dict(self.model_extra or {})
        seed = int(rng.integers(2**32))
        values: Values = {"transform": self.transform, "keywords": keywords, "seed": seed, "parameters": None}
        if _draws_without_audio(self.transform, canonical_json(keywords), scene.frames):
            transform = _construct(self.transform, keywords)
            with _seeded(seed):
                transform.randomize_parameters(np.zeros(scene.frames, np.float32), SAMPLE_RATE_HZ)
            values["parameters"] = _plain(transform.parameters)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Apply the transform with its recorded parameters, or draw them now from the recorded seed."""
        transform = _construct(values["transform"], values["keywords"])
        samples = audio.copy()
        measured: Values = {}
        with _seeded(values["seed"]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if values["parameters"] is None:
                    transform.randomize_parameters(samples, SAMPLE_RATE_HZ)
                    measured["parameters"] = _describable(transform.parameters)
                else:
                    transform.parameters = dict(values["parameters"])
                transform.freeze_parameters()
                changed = transform(samples, SAMPLE_RATE_HZ)
            except Exception as error:  # what a library cannot do with some audio, it says in its own ways
                raise CannotApply(f"{values['transform']}: {type(error).__name__}: {error}") from error
        if changed.shape != audio.shape:
            raise CannotApply(
                f"{values['transform']} changed the length from {len(audio)} to {changed.shape}"
            )
        return Applied(np.ascontiguousarray(changed, np.float32), measured=measured)


def usable_transforms() -> list[str]:
    """Return the names of the transforms that a recipe can use."""
    import audiomentations
    from audiomentations.core.transforms_interface import BaseWaveformTransform

    return sorted(
        name
        for name, found in vars(audiomentations).items()
        if inspect.isclass(found) and issubclass(found, BaseWaveformTransform) and name not in REFUSED
    )


def _keywords_of(name: str) -> list[str]:
    return sorted(set(_signature(name)) - set(FIXED_KEYWORDS))


@lru_cache(maxsize=64)
def _signature(name: str) -> tuple[str, ...]:
    import audiomentations

    return tuple(inspect.signature(getattr(audiomentations, name)).parameters)


def _construct(name: str, keywords: dict[str, Any]) -> Any:
    import audiomentations

    signature = _signature(name)
    fixed = {key: value for key, value in FIXED_KEYWORDS.items() if key in signature}
    if mode := MODES.get(name):
        if keywords.get("mode", mode) != mode:
            raise ValueError(f"mode '{keywords['mode']}' {_MOVES}; use '{mode}'")
        fixed["mode"] = mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(audiomentations, name)(
            **keywords, **{k: v for k, v in fixed.items() if k not in keywords}
        )


@lru_cache(maxsize=64)
def _try_out(name: str, keywords: bytes) -> None:
    """Apply once to noise: an optional package that is missing, or keywords that do not fit, show up here."""
    transform = _construct(name, json.loads(keywords))
    # It prints advice of its own where an optional package is missing.
    with _seeded(0), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        transform(_noise(SAMPLE_RATE_HZ) * np.float32(0.1), SAMPLE_RATE_HZ)


def _noise(frames: int) -> Audio:
    return np.random.Generator(np.random.Philox(0)).standard_normal(frames, np.float32)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for the duration, and leave them as they were found."""
    with _GLOBAL_GENERATORS:
        before, numpy_before = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)


@lru_cache(maxsize=64)
def _draws_without_audio(name: str, keywords: bytes, frames: int) -> bool:
    """Find out by trying: from equal seeds, the same plain parameters for silence as for noise of any level."""
    noise = _noise(frames)
    for seed in range(_PROBES):
        drawn = []
        for level in (0.0, 0.001, 0.3):
            transform = _construct(name, json.loads(keywords))
            with _seeded(seed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    transform.randomize_parameters(noise * np.float32(level), SAMPLE_RATE_HZ)
                    drawn.append(canonical_json(_plain(transform.parameters)))
                except Exception:  # cannot draw without real audio, or not what JSON can hold
                    return False
        if len(set(drawn)) > 1:
            return False
    return True


def _plain(parameters: dict[str, Any]) -> Values:
    """Turn NumPy scalars into Python's; nothing else is converted, so that the record gives back what was drawn.

    Raises:
        TypeError: for an array, a tuple or an object.
    """
    return {key: _plain_value(value) for key, value in parameters.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} does not survive JSON")


def _describable(parameters: dict[str, Any]) -> Values:
    """Keep what JSON can hold of the parameters, for the record."""
    described = {}
    for key, value in parameters.items():
        try:
            described[key] = _plain_value(value)
            canonical_json(described[key])
        except (TypeError, ValueError):
            described[key] = type(value).__name__
    return described
