"""What pages draw and write: scales, pictures, numbers."""

import base64
import io

import numpy as np
import pytest
from pages import Page
from PIL import Image

from datagen.level import scaled
from pipelines.quality.figures import FLOOR_DB, TOP_DB
from pipelines.quality.recordings import flat_top_share
from pipelines.report.charts import histogram, spans
from pipelines.report.line_chart import line_chart
from pipelines.report.media import CELLS, opus, palette, panel, spectrogram_png
from pipelines.report.page import Section, page
from pipelines.report.scales import bin_edges, coordinate, figure, percent, tick_labels, ticks

RATE_HZ = 48_000


def test_spectrograms_share_one_scale_of_levels() -> None:
    """A full-scale bin is the lightest colour, silence the darkest; 20 dB less is less light."""
    time_s = np.arange(RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 4_000 * time_s).astype(np.float32)
    shades = [np.asarray(Image.open(io.BytesIO(spectrogram_png(scaled(tone, db))))) for db in (-25.0, -45.0)]
    loud, soft = (int(shade.max()) for shade in shades)
    assert loud - soft == pytest.approx(20.0 / 3.0, abs=1.01)
    assert not np.asarray(Image.open(io.BytesIO(spectrogram_png(np.zeros(RATE_HZ, np.float32))))).any()
    assert len(palette()) == 3 * (round((TOP_DB - FLOOR_DB) / 3.0) + 1)
    assert opus(tone) == opus(tone)


def test_a_panel_says_what_its_axes_and_colours_are() -> None:
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * time_s)).astype(np.float32)
    drawn = Page.parsed(page("", "", [Section("a", "A", panel(tone, "a tone"))]))
    words = drawn.text.split("\n")
    assert {"kHz", "0", "1", "8", "24", "0 s", "2", "dBFS", "-100", "-20", "peak", "-6.0"} <= set(words)
    (picture,) = (Image.open(io.BytesIO(held(a))) for a in drawn.of("image") if a.get("class") != "scale")
    (scale,) = (Image.open(io.BytesIO(held(a))) for a in drawn.of("image") if a.get("class") == "scale")
    assert picture.size == CELLS and scale.size == (1, len(palette()) // 3)
    assert scale.convert("RGB").getpixel((0, 0)) == tuple(palette()[-3:])  # the loudest above
    silent = Page.parsed(page("", "", [Section("a", "A", panel(np.zeros(100, np.float32), "nothing"))]))
    assert "silent" in silent.text


def held(attributes: dict[str, str | None]) -> bytes:
    return base64.b64decode((attributes["href"] or "").partition(",")[2])


def test_spans_that_differ_by_a_rounding_stand_in_one_place() -> None:
    """One sample, drawn and delivered: -11.2 dB twice must not be told apart by where it is drawn."""
    drawn = Page.parsed(
        page("", "", [Section("a", "A", spans([((-11.2,) * 3, "a"), ((-11.19997,) * 3, "c")]))])
    )
    marks = [float(a["x"] or "nan") for a in drawn.of("rect") if a.get("class") == "middle"]
    assert marks[0] == pytest.approx(marks[1], abs=0.2)


def test_few_values_are_shown_one_by_one() -> None:
    """Three recordings are no distribution: their outline would be three towers of a third each."""
    values = np.linspace(0.0, 10.0, 400)
    few, many = (
        histogram(bin_edges([values]), [values, second], "dB", "a chart", "samples")
        for second in (values[:3], values)
    )
    assert few.count('<line class="each-b"') == 3 and "<path" not in few
    assert many.count('<path class="line-b"') == 1 and '<line class="each-b"' not in many
    assert len(bin_edges([values[::8]])) < len(bin_edges([np.linspace(0.0, 10.0, 4000)]))


def test_a_bar_of_counts_names_the_counts_in_it() -> None:
    one, many = np.array([1.0, 1.0, 2.0]), np.arange(0.0, 64.0)
    told = [histogram(bin_edges([v], True), [v], "stages", "a chart", "samples") for v in (one, many)]
    assert "<title>1: 66.7 %</title>" in told[0] and "<title>2: 33.3 %</title>" in told[0]
    assert "<title>0 to 1: 3.1 %</title>" in told[1] and ".5 to" not in told[1]


def test_flat_tops_are_what_clipping_leaves() -> None:
    rng = np.random.default_rng(0)
    speech = np.convolve(rng.standard_normal(RATE_HZ), np.hanning(40) / 20, "same").astype(np.float32)
    limit = float(np.quantile(np.abs(speech), 0.95))
    clipped = np.clip(speech, -limit, limit)
    for gain_db in (0.0, -20.0):  # turned down afterwards, it is still clipped
        assert flat_top_share(scaled(clipped, gain_db)) == pytest.approx(0.05, abs=0.01)
    assert flat_top_share(speech) < 0.001
    assert flat_top_share(np.zeros(100, np.float32)) == 0.0


def test_bins_hold_every_value_and_end_on_round_numbers() -> None:
    rng = np.random.default_rng(1)
    for scale in (1e-3, 1.0, 24_000.0):
        values = rng.normal(scale, scale, 500)
        edges = bin_edges([values])
        assert np.histogram(values, edges)[0].sum() == 500
        assert len(edges) <= 35
        step = float(np.diff(edges)[0])
        assert np.allclose(edges / step, np.round(edges / step))
    assert bin_edges([np.array([1.0, 2.0, 4.0])], whole=True).tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert len(bin_edges([np.array([3.0])])) == 2
    assert len(bin_edges([np.zeros(0)])) > 1


def test_ticks_of_values_that_hardly_differ_are_told_apart() -> None:
    assert tick_labels([-3.701, -3.7005, -3.7]) == ["-3.7010", "-3.7005", "-3.7000"]
    assert tick_labels([0.0, 2.5, 5.0]) == ["0", "2.5", "5"]
    assert tick_labels([1.0, 1.0]) == ["1", "1"]


def test_steps_are_whole() -> None:
    chart = Page.parsed(
        page("", "", [Section("a", "A", line_chart("loss", {"train": ((6, 0.2), (12, 0.1))}))])
    )
    words = chart.text.split("\n")
    assert {"0", "5", "10"} <= set(words) and not {"2.5", "7.5"} & set(words)


def test_numbers_are_written_for_people() -> None:
    assert [figure(v) for v in (0.0, 12345.6, -21.34, 0.0421, 0.5, float("nan"))] == [
        "0",
        "12 346",
        "-21.3",
        "0.0421",
        "0.5",
        "–",
    ]
    assert [percent(share) for share in (0.0, 0.0001, 0.1234, 1.0)] == [
        "0.0 %",
        "< 0.1 %",
        "12.3 %",
        "100.0 %",
    ]
    assert ticks(0.0, 10.0) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert [coordinate(v) for v in (-0.01, 3.0, 2.55)] == ["0", "3", "2.5"]
