"""Measuring how well a stage keeps the voice in place: the delay that it declares, and the lag that is left.

The lag is where the cross-correlation of the voice before and after has its peak, upsampled eight times with a
parabola through its top: exact to about a hundredth of a sample at 48 kHz.
"""

import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import fft, signal

from datagen.chain import SampleFailed
from datagen.degradations import stage_class
from datagen.degradations.base import Audio, Degradation, NoMaterial, Scene
from datagen.degradations.codec.mix import CodecMix, every_codec
from datagen.degradations.codec.settings import MP3_BITRATES_KBPS, MP3_RATES_HZ, mp3_version
from datagen.degradations.codec.telephone import AMR_MODES_KBPS, MSBC_KBPS, sbc_kbps
from datagen.degradations.registry import BUILT_IN
from datagen.render import apply_stage
from manifests.keyed import generator
from manifests.sample import StageSpec, Values
from manifests.source import Kind, Source

BANDWIDTH_HZ = 23_000.0
"""What stages are told of the voices."""
FURTHEST_SAMPLES = 2_400
"""Lags up to 50 ms are looked for."""
UPSAMPLING = 8
AROUND_SAMPLES = 128
"""How much of the correlation is upsampled, to either side of its peak."""
ADDED_DB = 20.0
"""What is added is added so far below the voice, to find the voice in it."""
MOST_COMBINATIONS = 24
"""Of kinds, families, orders; where there are more, each is varied on its own."""

NOT_ONE_LAG = {
    "comb": "an echo is a later arrival; the direct path stays in place",
    "phaser": "its all-passes bend the phase of the voice, by another amount at each moment",
    "room": "reflections are later arrivals; the direct path is put in place when the response is read",
}
"""Stages after which no single number is the lag of the voice, and why."""
NEEDS_A_CHOICE = {"audiomentations": "as the transform that is named; refused when it moves the speech"}
MEASURED_APART = {"codec"}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    stage: str
    setting: str
    rate_hz: int | None
    bitrate_kbps: float | None
    """As delivered, mean over the voices."""
    delays: tuple[float, ...]
    """Declared, in samples at 48 kHz, one for each voice."""
    lags: tuple[float, ...]
    """Left, likewise."""

    @property
    def worst(self) -> float:
        """The lag that is furthest from 0."""
        return max(self.lags, key=abs)


# --- measuring ------------------------------------------------------------------------------------


def lag_samples(reference: Audio, audio: Audio) -> float:
    """By how many samples `audio` lags `reference`, both of shape (N,), to a hundredth of a sample."""
    size = fft.next_fast_len(len(reference) + 2 * (FURTHEST_SAMPLES + AROUND_SAMPLES), real=True)
    product = fft.rfft(audio, size) * np.conj(fft.rfft(reference, size))
    correlation = np.roll(fft.irfft(product, size), FURTHEST_SAMPLES + AROUND_SAMPLES)
    searched = correlation[AROUND_SAMPLES : AROUND_SAMPLES + 2 * FURTHEST_SAMPLES + 1]
    peak = int(np.argmax(searched))
    around = correlation[peak : peak + 2 * AROUND_SAMPLES]
    # The Hann window is flat at the peak; it lets the ends meet.
    fine: NDArray[np.float64] = signal.resample(
        around * signal.windows.hann(2 * AROUND_SAMPLES, sym=False), 2 * AROUND_SAMPLES * UPSAMPLING
    )
    top = int(np.argmax(fine))
    before, at, after = fine[top - 1 : top + 2]
    vertex = top + 0.5 * (before - after) / (before - 2.0 * at + after)
    return peak - FURTHEST_SAMPLES + vertex / UPSAMPLING - AROUND_SAMPLES


def measured(
    stage: Degradation,
    values: Callable[[int], tuple[Values, Any]],
    setting: str,
    voices: list[Audio],
    sources: dict[str, Source],
) -> Row | None:
    """Apply a stage to every voice with the values drawn for it, as the engine does."""
    delays, lags, rates, bitrates = [], [], set(), []
    for number, voice in enumerate(voices):
        drawn, clips = values(number)
        spec = StageSpec(
            label=stage.name, stage=stage.name, values=drawn, clips=clips, package="", code_digest=""
        )
        try:
            after, record = apply_stage(spec, voice, sources)
        except SampleFailed as refusal:
            print(f"{stage.name} ({setting}): {refusal}", file=sys.stderr)
            continue
        delays.append(record.delay_samples)
        lags.append(lag_samples(voice, after))
        rates.add(drawn.get("rate_hz"))
        bitrates.append(record.measured.get("bitrate_kbps"))
    if not lags:
        return None
    return Row(
        stage.name,
        setting,
        rates.pop() if len(rates) == 1 else None,
        None if None in bitrates else statistics.mean(bitrates),
        tuple(delays),
        tuple(lags),
    )


# --- the codecs -----------------------------------------------------------------------------------


def codec_values() -> Iterator[tuple[str, Values]]:
    """Every codec at its rates, with a low, a middle and a high bitrate; and what else it can be told."""
    for application, bandwidth_hz, kbps in itertools.product(
        ("voip", "audio", "lowdelay"), (4_000, 8_000, 12_000, 20_000), (6.0, 16.0, 32.0, 64.0)
    ):
        opus = {"rate_hz": 48_000, "bitrate_kbps": kbps, "bandwidth_hz": bandwidth_hz, "complexity": 5}
        setting = f"{application}, {bandwidth_hz // 1_000} kHz"
        yield setting, {"codec": "opus", **opus, "application": application, "rate_mode": "vbr"}
    for rate_hz in MP3_RATES_HZ:
        table = MP3_BITRATES_KBPS[mp3_version(rate_hz)]
        for kbps in (max(16, table[0]), 48, min(128, table[-1])):
            yield "constant", {"codec": "mp3", "rate_hz": rate_hz, "bitrate_kbps": kbps, "effort": 7}
        for quality in (2.0, 6.0, 9.9):
            yield f"V{quality:g}", {"codec": "mp3_vbr", "rate_hz": rate_hz, "quality": quality}
    for rate_hz in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        for coder, kbps in itertools.product(("fast", "twoloop"), (16.0, 48.0, 96.0)):
            yield coder, {"codec": "aac", "rate_hz": rate_hz, "bitrate_kbps": kbps, "coder": coder}
        for quality in (0.0, 5.0, 10.0):
            yield f"q{quality:g}", {"codec": "vorbis", "rate_hz": rate_hz, "quality": quality}
    for law in ("mu", "A"):
        yield f"{law}-law", {"codec": "g711", "rate_hz": 8_000, "bitrate_kbps": 64, "law": law}
    for name, rate_hz, bitrates in (
        ("g722", 16_000, (48, 56, 64)),
        ("g726", 8_000, (16, 24, 32, 40)),
        ("amr_nb", 8_000, AMR_MODES_KBPS),
    ):
        for kbps in bitrates:
            yield "", {"codec": name, "rate_hz": rate_hz, "bitrate_kbps": kbps}
    for name in ("gsm", "g723_1"):
        yield "", {"codec": name, **getattr(every_codec(), name).draw(generator(0))}
    for kind, rate_hz in itertools.product(("ima", "ms"), (8_000, 11_025, 16_000, 22_050, 44_100)):
        mix = CodecMix.model_validate({"adpcm": {"kinds": [kind], "rates_hz": [rate_hz]}})
        yield kind, mix.draw(generator(0))
    yield "mSBC", {"codec": "sbc", "rate_hz": 16_000, "bitrate_kbps": MSBC_KBPS}
    for rate_hz, bitpool in itertools.product((32_000, 44_100, 48_000), (6, 18, 31)):
        kbps = sbc_kbps(bitpool, rate_hz)
        yield f"bitpool {bitpool}", {"codec": "sbc", "rate_hz": rate_hz, "bitrate_kbps": kbps}


def codec_rows(voices: list[Audio]) -> list[Row]:
    codec = stage_class("codec")()
    rows = []
    for setting, values in codec_values():
        row = measured(codec, lambda number, values=values: (values, ()), setting, voices, {})
        if row is None:
            raise SystemExit(f"{values} was refused by every voice")
        rows.append(Row(values["codec"], *list(vars(row).values())[1:]))
    return rows


# --- all other stages -----------------------------------------------------------------------------


def variants(cls: type[Degradation]) -> Iterator[dict[str, Any]]:
    """Settings under which a stage works differently: each kind, method, family it knows; each end of an order."""
    choices: dict[str, list[Any]] = {}
    numbers: dict[str, list[Any]] = {}
    for name, field in cls.model_fields.items():
        member = get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else None
        if get_origin(member) is Literal:
            known = get_args(member)
            (choices if isinstance(known[0], str) else numbers)[name] = [[one] for one in known]
        elif name == "order":
            choices[name] = list(field.get_default())
    fixed = {name: ADDED_DB for name in ("snr_db", "sir_db", "event_snr_db") if name in cls.model_fields}
    combined = [dict(zip(choices, one, strict=True)) for one in itertools.product(*choices.values())]
    if len(combined) > MOST_COMBINATIONS:
        combined = [{name: value} for name, values in choices.items() for value in values]
    alone = [{name: value} for name, values in numbers.items() for value in values]
    for settings in combined + alone:
        yield fixed | settings


def stage_rows(voices: list[Audio], look_up: Callable[[Kind], tuple[Source, ...]]) -> list[Row]:
    rows = []
    for name in sorted(set(BUILT_IN) - set(NOT_ONE_LAG) - set(NEEDS_A_CHOICE) - MEASURED_APART):
        cls = stage_class(name)
        if cls.warps_time:
            continue
        for settings in variants(cls):
            setting = ", ".join(f"{key} {_plain(value)}" for key, value in settings.items())
            try:
                stage = cls(**settings)
                row = _row_of(stage, setting, voices, look_up)
            except (ValidationError, NoMaterial) as refusal:
                print(f"{name} ({setting}): {refusal}", file=sys.stderr)
                continue
            if row is not None:
                rows.append(row)
    return rows


def _row_of(
    stage: Degradation, setting: str, voices: list[Audio], look_up: Callable[[Kind], tuple[Source, ...]]
) -> Row | None:
    offered: dict[str, Source] = {}

    def offering(kind: Kind) -> tuple[Source, ...]:
        offered.update((source.sha256, source) for source in look_up(kind))
        return look_up(kind)

    def values(number: int) -> tuple[Values, Any]:
        scene = Scene(len(voices[number]), BANDWIDTH_HZ, offering, speaker="nobody")
        drawn = stage.draw(generator("alignment", stage.name, setting, number), scene)
        return drawn.values, drawn.clips

    return measured(stage, values, setting, voices, offered)


def _plain(value: Any) -> str:
    return f"{value[0]}" if isinstance(value, list) else f"{value:g}"
