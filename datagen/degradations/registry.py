"""Which stages there are: the ones that ship, and those that installed packages register.

A package adds a stage with an entry point whose name is the stage's name:

```toml
[project.entry-points."ssiforge.degradations"]
tremolo = "my_package.tremolo:Tremolo"
```
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from typing import Any

from datagen.degradations.base import Degradation
from datagen.degradations.source_digest import source_digest
from manifests.documents import suggestion
from manifests.errors import UserError
from manifests.recipe import StageEntry

GROUP = "ssiforge.degradations"
NO_STAGE = "none"
"""What a recipe writes for the empty alternative of a `one_of`."""

_PACKAGE = "ssiforge"

BUILT_IN = {
    "level": "datagen.degradations.talker.level:Level",
    "gain_step": "datagen.degradations.talker.level:GainStep",
    "level_drift": "datagen.degradations.talker.level:LevelDrift",
    "room": "datagen.degradations.room.room:Room",
    "freeverb": "datagen.degradations.room.freeverb:Freeverb",
    "air_absorption": "datagen.degradations.room.air_absorption:AirAbsorption",
    "noise": "datagen.degradations.additive.noise:EnvironmentalNoise",
    "interfering_talker": "datagen.degradations.additive.interferers:InterferingTalker",
    "babble": "datagen.degradations.additive.interferers:Babble",
    "short_events": "datagen.degradations.additive.short_events:ShortEvents",
    "coloured_noise": "datagen.degradations.additive.coloured_noise:ColouredNoise",
    "mains_hum": "datagen.degradations.additive.mains_hum:MainsHum",
    "wind": "datagen.degradations.additive.wind:Wind",
    "microphone_eq": "datagen.degradations.microphone.microphone_eq:MicrophoneEq",
    "highpass": "datagen.degradations.microphone.filters:HighPass",
    "lowpass": "datagen.degradations.microphone.filters:LowPass",
    "bandpass": "datagen.degradations.microphone.filters:BandPass",
    "notch": "datagen.degradations.microphone.notch:Notch",
    "comb": "datagen.degradations.microphone.comb:Comb",
    "spectral_holes": "datagen.degradations.microphone.spectral_holes:SpectralHoles",
    "dc_offset": "datagen.degradations.converter.dc_offset:DcOffset",
    "clipping": "datagen.degradations.converter.clipping:Clipping",
    "overdrive": "datagen.degradations.converter.overdrive:Overdrive",
    "bit_depth": "datagen.degradations.converter.bit_depth:BitDepth",
    "clock_drift": "datagen.degradations.converter.clock_drift:ClockDrift",
    "agc": "datagen.degradations.device.agc:Agc",
    "compressor": "datagen.degradations.device.compressor:Compressor",
    "expander": "datagen.degradations.device.expander:Expander",
    "limiter": "datagen.degradations.device.limiter:Limiter",
    "noise_gate": "datagen.degradations.device.noise_gate:NoiseGate",
    "noise_suppressor": "datagen.degradations.device.noise_suppressor:NoiseSuppressor",
    "half_duplex": "datagen.degradations.device.half_duplex:HalfDuplex",
    "phaser": "datagen.degradations.device.phaser:Phaser",
    "bandwidth_loss": "datagen.degradations.rate.bandwidth_loss:BandwidthLoss",
    "codec": "datagen.degradations.codec.codec:Codec",
    "tandem": "datagen.degradations.codec.tandem:Tandem",
    "packet_loss": "datagen.degradations.network.packet_loss:PacketLoss",
    "opus_packet_loss": "datagen.degradations.network.opus_packet_loss:OpusPacketLoss",
    "jitter": "datagen.degradations.network.jitter:Jitter",
    "comfort_noise": "datagen.degradations.network.comfort_noise:ComfortNoise",
    "final_level": "datagen.degradations.playout.final_level:FinalLevel",
    "audiomentations": "datagen.degradations.library:Audiomentations",
}
"""Stage name to `module:Class`, in the order in which sound meets them on its way from the talker to the listener; a
module is imported when its stage is first used."""

PLACES = {
    "talker": "The talker",
    "room": "The room",
    "additive": "What is added",
    "microphone": "The microphone",
    "converter": "The converter",
    "device": "The device",
    "rate": "The sample rate",
    "codec": "The codec",
    "network": "The network",
    "playout": "Playout",
    "library": "A library of further transforms",
    "": "Of other packages",
}
"""Name of each link of the chain, by the folder (or module) that holds its stages; the last for what users bring."""

_RESERVED_FIELDS = frozenset(StageEntry.model_fields)


def stage_names() -> list[str]:
    """Return the names of all stages, shipped and registered, sorted."""
    return sorted({*BUILT_IN, *(point.name for point in _entry_points())})


def place_of(name: str) -> str:
    """Return the link of the chain that a stage belongs to: one of `PLACES`."""
    module = BUILT_IN.get(name, "").partition(":")[0].removeprefix(f"{__name__.rpartition('.')[0]}.")
    return PLACES[module.partition(".")[0]]


def stage_class(name: str) -> type[Degradation]:
    """Return the class of a stage.

    Raises:
        UserError: when no stage has this name, two packages claim it, or its package cannot be loaded.
    """
    points = [point for point in _entry_points() if point.name == name]
    if len(points) + (name in BUILT_IN) > 1:
        owners = [_PACKAGE] * (name in BUILT_IN) + [_owner(point) for point in points]
        raise UserError(f"stage '{name}' is registered more than once, by {' and by '.join(owners)}")
    if points:
        return _load_registered(points[0])
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: type[Degradation] = getattr(importlib.import_module(module), attribute)
        return found
    names = stage_names()
    raise UserError(f"no stage is called '{name}'; known: {', '.join(names)}{suggestion(name, names)}")


def provenance(cls: type[Degradation]) -> tuple[str, str]:
    """Return who wrote a stage, and its state: distribution with version, and digest of its sources.

    Raises:
        UserError: when the class has no source file (it was typed into an interpreter).
    """
    return _distribution(cls), _source_digest(cls)


@lru_cache(maxsize=256)
def _source_digest(cls: type[Degradation]) -> str:
    found = source_digest(cls)
    if found is None:
        raise UserError(f"stage '{cls.name}': its class {cls.__qualname__} has no source file to record")
    return found


def _distribution(cls: type[Degradation]) -> str:
    top = cls.__module__.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return f"{_PACKAGE} {_version(_PACKAGE)}"
    for point in _entry_points():
        if point.value.partition(":")[0] == cls.__module__ and point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    return f"{top} {_version(top)}"


@lru_cache(maxsize=64)
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unversioned"


def _entry_points() -> tuple[metadata.EntryPoint, ...]:
    return _entry_points_on(tuple(sys.path))


@lru_cache(maxsize=8)
def _entry_points_on(_path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    # Reading the metadata of every package takes tens of milliseconds: once for each state of sys.path.
    return tuple(metadata.entry_points(group=GROUP))


def _owner(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


@lru_cache(maxsize=256)
def _load_registered(point: metadata.EntryPoint) -> type[Degradation]:
    where = f"package {_owner(point)}: its entry point {point.name} = {point.value}"
    try:
        found: Any = point.load()
    except Exception as error:  # a stranger's import may fail in any way; the user must learn whose it is
        raise UserError(f"{where} cannot be loaded ({type(error).__name__}: {error})") from error
    _check_stage(found, point.name, lambda problem: UserError(f"{where} {problem}"))
    stage: type[Degradation] = found
    return stage


def _check_stage(found: Any, name: str, failed: Callable[[str], UserError]) -> None:
    if not (isinstance(found, type) and issubclass(found, Degradation)):
        raise failed("is not a subclass of datagen.degradations.base.Degradation")
    if inspect.isabstract(found):
        raise failed(f"does not implement {', '.join(sorted(found.__abstractmethods__))}")
    if getattr(found, "name", None) != name:
        raise failed(f"must have the class attribute name = '{name}'")
    if clash := _RESERVED_FIELDS & set(found.model_fields):
        raise failed(
            f"has a setting '{sorted(clash)[0]}', a word that every stage entry of a recipe uses itself"
        )
