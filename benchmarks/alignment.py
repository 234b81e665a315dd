"""How well every stage keeps the voice in place: writes `docs/alignment.md`.

    python benchmarks/alignment.py [--speech FOLDER] [--out docs/alignment.md]

For every codec at each rate and at several bitrates, and for every stage of the registry with each kind, family,
method and order that it knows: the delay that it declares, and the lag that is left after the engine has removed it.
The lag is where the cross-correlation of the voice before and after has its peak, upsampled eight times with a
parabola through its top: exact to about a hundredth of a sample at 48 kHz. Voices are four of the demo's, or those of
`--speech`. Takes a minute and a half.
"""

import argparse
import statistics
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

from alignment_measured import (  # noqa: E402
    ADDED_DB,
    NEEDS_A_CHOICE,
    NOT_ONE_LAG,
    Row,
    codec_rows,
    stage_rows,
)
from alignment_voices import demo_voices, given_voices  # noqa: E402

from datagen.degradations import stage_class  # noqa: E402
from datagen.degradations.registry import BUILT_IN  # noqa: E402
from manifests.recipe import SAMPLE_RATE_HZ  # noqa: E402
from pipelines.stages.trial_material import trial_sources  # noqa: E402

PAGE = Path(__file__).resolve().parents[1] / "docs" / "alignment.md"


def page(codecs: list[Row], stages: list[Row], voices: str) -> str:
    import av
    import soundfile

    moving = [name for name in sorted(BUILT_IN) if stage_class(name).warps_time]
    worst = max((*codecs, *stages), key=lambda row: abs(row.worst))
    lines = [
        "# Alignment",
        "",
        "Written by `python benchmarks/alignment.py`; not to be edited.",
        "",
        "Every stage declares the delay that it adds, and the engine takes it out, so that degraded speech lies on its",
        "target to the sample. Here is what every stage declares, and what lag is left of the voice once the engine is",
        "done: the place of the peak of the cross-correlation, upsampled eight times with a parabola through its top.",
        "Delays are in samples at 48 kHz; a range means that the stage looks up where the waveform fits best, or draws",
        "how far it looks ahead.",
        "",
        f"{len(codecs)} settings of codecs and {len(stages)} of other stages, each on {voices}; "
        f"the worst lag left anywhere is **{abs(worst.worst):.2f} samples** "
        f"({1e6 * abs(worst.worst) / SAMPLE_RATE_HZ:.0f} µs, `{worst.stage}`).",
        f"Codecs of FFmpeg {av.ffmpeg_version_info} and libsndfile {soundfile.__libsndfile_version__}.",
        "",
        "## Codecs",
        "",
        "Where the delays come from stands with the table in `datagen/degradations/codec/codec.py`.",
        "",
        *_table(codecs, "codec"),
        "",
        "## Other stages",
        "",
        f"What adds something to the voice does so {ADDED_DB:g} dB below it here.",
        "",
        *_table(stages, "stage"),
        "",
        "## Not in the table",
        "",
        "| stage | why |",
        "|---|---|",
        *(
            f"| `{name}` | {why} |"
            for name, why in (NOT_ONE_LAG | NEEDS_A_CHOICE).items()
            if name in BUILT_IN
        ),
        *(f"| `{name}` | moves the voice in time, and records from where to where |" for name in moving),
        "",
    ]
    return "\n".join(lines)


def _table(rows: list[Row], what: str) -> list[str]:
    head = (what, "setting", "rate, Hz", "kbit/s", "delay", "ms", "lag left, median", "worst")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        median = statistics.median(row.lags)
        cells = (
            f"`{row.stage}`",
            row.setting,
            "" if row.rate_hz is None else str(row.rate_hz),
            "" if row.bitrate_kbps is None else f"{row.bitrate_kbps:.1f}",
            _range(row.delays, 1.0, 1),
            _range(row.delays, 1_000.0 / SAMPLE_RATE_HZ, 2),
            _signed(median),
            _signed(row.worst),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _range(delays: tuple[float, ...], unit: float, digits: int) -> str:
    low, high = (f"{unit * end:.{digits}f}".removesuffix(".0") for end in (min(delays), max(delays)))
    return low if low == high else f"{low} to {high}"


def _signed(lag: float) -> str:
    text = f"{lag:+.2f}"
    return "0" if float(text) == 0.0 else text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, help="a folder with recordings, instead of the demo's voices")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    voices = given_voices(arguments.speech) if arguments.speech else demo_voices()
    told = f"{len(voices)} {'recorded' if arguments.speech else 'synthetic'} voices"
    codecs = codec_rows(voices)
    stages = stage_rows(voices, trial_sources({}, 0, None, print))
    arguments.out.write_text(page(codecs, stages, told))
    worst = max((*codecs, *stages), key=lambda row: abs(row.worst))
    print(f"alignment: {abs(worst.worst):.2f} samples left at the worst ({worst.stage}, {worst.setting})")


if __name__ == "__main__":
    main()
