"""A stage as a sentence: what was drawn and, where it came out otherwise, what was measured.

A sentence is written as text with fields. `{snr_db SNR}` is a drawn value with its unit and words behind it, and what
was measured where that differs: `7.3 dB SNR (measured 7.2)`. `{=drr_db}` is a value that was only measured,
`{#speakers voice}` a number of things. What stands in `[...]` is left out where one of its fields has no value.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from manifests.sample import StageRecord
from pipelines.report.scales import figure, percent
from pipelines.stages.settings import ACRONYMS, UNITS

SENTENCES = {
    "agc": "automatic gain control to {target_dbfs}, at most {rise_db} up, by {rise_db_per_s}",
    "air_absorption": "air absorption over {distance_m}: {attenuation_db} at {reference_hz}",
    "audiomentations": "{transform} of audiomentations",
    "babble": "babble of {#speakers voice} at {snr_db SNR}",
    "bandpass": "band-pass ({family}[, order {order}]) from {low_hz} to {high_hz}",
    "bandwidth_loss": "resampled to {rate_hz} and back ({method}[ {quality}])[, which leaves {=bandwidth_hz}]",
    "bit_depth": "quantised to {bits} bits[, {=snr_db SNR}]",
    "clipping": "{kind} clipping[ of {share}][ to {sdr_db SDR}][ below the quantile of {low_quantile} and above that "
    "of {high_quantile}]",
    "clock_drift": "clock drift of {drift_ppm}",
    "codec": "{codec}[ at {bitrate_kbps}][, quality {quality}][, {law}-law][, audio band {bandwidth_hz}]"
    "[, sampled at {rate_hz}]",
    "coloured_noise": "coloured noise of {exponent} at {snr_db SNR}",
    "comb": "one reflection, {delay_ms} later at {echo_db} (comb filter)",
    "comfort_noise": "pauses filled with comfort noise, {level_offset_db} against their own[; "
    "{=replaced_share} of the clip]",
    "compressor": "compressor of ratio {ratio}[, {reduction_db} down on average][, from {threshold_dbfs} on]",
    "dc_offset": "DC offset of {offset} of full scale",
    "expander": "expander of ratio {ratio}[, {reduction_db} down on average][, below {threshold_dbfs}]",
    "final_level": "set to an active level of {active_level_dbfs}",
    "freeverb": "artificial reverberation (Freeverb)[, room size {room_size}][, mix {mix}]",
    "gain_step": "level steps by {step_db} at {start_s}[ until {end_s}]",
    "half_duplex": "half duplex: {attenuation_db} down for {attenuated_share} of the time",
    "highpass": "high-pass ({family}[, order {order}]) at {cutoff_hz}",
    "interfering_talker": "{#speakers other talker} at {sir_db SIR}",
    "jitter": "jitter buffer: {#event_count event}, playing up to {largest_offset_ms} early or late",
    "level": "level changed[ by {gain_db}][ to {active_level_dbfs}]",
    "level_drift": "level drifts over {range_db}",
    "limiter": "limiter[, the highest peak {peak_reduction_db} down][, ceiling {ceiling_dbfs}]",
    "lowpass": "low-pass ({family}[, order {order}]) at {cutoff_hz}",
    "mains_hum": "mains hum of {begin_hz} at {snr_db SNR}",
    "microphone_eq": "microphone response: {deviation_db} off on average, at most {largest_db} at {largest_hz}",
    "noise": "noise from {#begin_samples source} at {snr_db SNR}",
    "noise_gate": "noise gate that turns {cut_share} of the speech down, by up to {range_db}",
    "noise_suppressor": "noise suppressor with a floor of {floor_db}; what the speech loses is at "
    "{speech_distortion_db}",
    "notch": "{#notches notch}, {depth_db} deep",
    "opus_packet_loss": "packet loss inside Opus[ at {bitrate_kbps}]: {loss_share lost}, in bursts of "
    "{mean_burst_packets} × {packet_ms} on average[; {=repaired_share} repaired]",
    "overdrive": "overdrive ({curve}) by {drive_db}[, {=sdr_db SDR}]",
    "packet_loss": "packet loss: {loss_share lost}, in bursts of {mean_burst_packets} × {packet_ms} on average, "
    "concealed by {concealment}",
    "phaser": "phaser[ at {rate_hz}][, mix {mix}]",
    "room": "room with an RT60 of {rt60_s}[ and a DRR of {=drr_db}]",
    "short_events": "{#begin_samples short event} ({kind}), the loudest at {loudest_snr_db SNR}",
    "spectral_holes": "{#at_ms spectral hole}, {depth_db} deep",
    "tandem": "{first_codec}[ at {first_bitrate_kbps}][ in {first_bandwidth_hz}], and then {second_codec}"
    "[ at {second_bitrate_kbps}][ in {second_bandwidth_hz}]",
    "wind": "wind at {snr_db SNR}",
}
NAMES = {
    "aac": "AAC",
    "adpcm": "ADPCM",
    "amr_nb": "AMR-NB",
    "bessel": "Bessel",
    "butter": "Butterworth",
    "cheby1": "Chebyshev I",
    "cheby2": "Chebyshev II",
    "ellip": "elliptic",
    "hold": "the last value, fading",
    "g711": "G.711",
    "g722": "G.722",
    "g723_1": "G.723.1",
    "g726": "G.726",
    "gsm": "GSM",
    "mp3": "MP3",
    "mp3_vbr": "MP3 (variable rate)",
    "opus": "Opus",
    "repeat": "the last packet again",
    "sbc": "SBC",
    "vorbis": "Vorbis",
    "zero": "silence",
}
"""Drawn words that are written otherwise in running text."""
SPELLED = ACRONYMS | {"agc"}
_FIELD = re.compile(r"\{([=#]?)(\w+)(?: ([^}]*))?\}")
_OPTIONAL = re.compile(r"\[([^\]]*)\]")
DB_PER_OCTAVE = -10.0 * math.log10(2.0)
"""Of noise whose power falls as 1/f."""
_MOST_VALUES = 6
"""Of a stage that has no sentence of its own, so many values are named."""


def stage_in_words(stage: StageRecord) -> str:
    """Return what a stage did to a sample, as the beginning of a sentence."""
    sentence = SENTENCES.get(stage.stage)
    if sentence is None:
        return _in_general(stage)
    filled = _OPTIONAL.sub(lambda part: _filled(part[1], stage) or "", sentence)
    return _filled(filled, stage) or _in_general(stage)


def stage_title(label: str) -> str:
    """Return a stage's label as words: `coloured_noise#2` -> `coloured noise 2`."""
    return " ".join(
        word.upper() if word in SPELLED else "Opus" if word == "opus" else word
        for word in label.replace("_", " ").replace("#", " ").split()
    )


def in_units(name: str, value: Any) -> str:
    """Write a value with the unit that its name ends in: `snr_db`, 7.31 -> `7.3 dB`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NAMES.get(str(value), str(value).replace("_", " "))
    if name == "exponent":
        return f"{DB_PER_OCTAVE * value:+.1f} dB per octave"
    first, _, per = name.partition("_per_")
    if per in UNITS:
        return f"{in_units(first, value)}/{UNITS[per]}"
    last = name.rpartition("_")[2]
    if last in ("share", "quantile"):
        return percent(value)
    if last == "hz" and abs(value) >= 1000.0:
        return f"{figure(value / 1000.0)} kHz"
    unit = UNITS.get(last, "")
    text = f"{value:.1f}" if last in ("db", "dbfs", "lufs") else figure(value)
    return f"{text} {unit}".strip()


def in_span(name: str, span: tuple[float, float, float]) -> str:
    """Write a median with the values that most lie between: `7.3 dB (-2.1 to 24.0)`, in one unit."""
    low, middle, high = span
    scale, unit = 1.0, UNITS.get(name.rpartition("_")[2], "")
    if name.endswith("_hz") and max(map(abs, span)) >= 1000.0:
        scale, unit = 1e-3, "kHz"
    elif name.rpartition("_")[2] in ("share", "quantile"):
        scale, unit = 100.0, "%"
    texts = [
        f"{scale * value:.1f}" if unit.startswith("dB") else figure(scale * value)
        for value in (middle, low, high)
    ]
    return f"{f'{texts[0]} {unit}'.strip()} ({texts[1]} to {texts[2]})"


def value_title(name: str) -> str:
    """Return a value's name as words, without its unit: `low_quantile` -> `low quantile`, `snr_db` -> `SNR`."""
    return _spelled(name)


def _filled(text: str, stage: StageRecord) -> str | None:
    """Fill in fields; None where one of them has no value."""
    missing = False

    def value(field: re.Match[str]) -> str:
        nonlocal missing
        kind, name, words = field[1], field[2], field[3]
        given = (stage.measured if kind == "=" else stage.values).get(name)
        if given is None:
            missing = True
            return ""
        if kind == "#":
            return _counted(given, words)
        written = in_units(name, given) + (f" {words}" if words else "")
        return written if kind == "=" else written + _measured(name, given, stage.measured)

    filled = _FIELD.sub(value, text)
    return None if missing else filled


def _counted(value: Any, noun: str) -> str:
    number = len(value) if isinstance(value, list | tuple) else int(value)
    plural = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}{plural}"


def _measured(name: str, drawn: Any, measured: Mapping[str, Any]) -> str:
    """Say what came out where it is written otherwise than what was drawn."""
    delivered = measured.get(name)
    if isinstance(delivered, bool) or not isinstance(delivered, int | float):
        return ""
    written = in_units(name, delivered)
    if written == in_units(name, drawn):
        return ""
    unit = in_units(name, drawn).partition(" ")[2]
    return f" (measured {written.removesuffix(f' {unit}') if unit else written})"


def _in_general(stage: StageRecord) -> str:
    """Name values one after the other, those that were also measured first."""
    names = [name for name, value in stage.values.items() if isinstance(value, int | float | str)]
    names.sort(key=lambda name: name not in stage.measured)
    parts = [
        f"{_spelled(name)} {in_units(name, stage.values[name])}{_measured(name, stage.values[name], stage.measured)}"
        for name in names
        if not name.endswith("_seed")
    ]
    title = stage_title(stage.stage)
    return f"{title}: {', '.join(parts[:_MOST_VALUES])}" if parts else title


def _spelled(name: str) -> str:
    """Return a value's name as words, without its unit."""
    first, _, last = name.rpartition("_")
    return stage_title(first if first and last in UNITS else name)
