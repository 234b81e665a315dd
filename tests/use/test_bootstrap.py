"""Intervals agree with scipy's and with theory, speakers count and not their samples, and comparing is fair."""

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from pipelines.quality.bootstrap import RESAMPLES, grouped, interval, resampled_means, two_sided_p
from pipelines.quality.comparison import compared, difference
from pipelines.quality.scores import Column, Row
from pipelines.quality.summary import summarised

HIGHER = Column("x", "x", True, 2)
LOWER = Column("x", "x", False, 2)
NEAREST_ZERO = Column("x", "x", None, 2)


def normal(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def by_sample(values: np.ndarray) -> np.ndarray:
    means = resampled_means(values, grouped([None] * len(values)))
    assert means is not None
    return means


def rows(values: list[float | None], system: str = "a", speakers: list[str] | None = None) -> list[Row]:
    return [
        Row(f"k{number}", system, (), {"x": value}, {}, speakers[number] if speakers else None)
        for number, value in enumerate(values)
    ]


def test_interval_is_scipys_but_for_the_draws() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, 60)
    found = interval(by_sample(values))
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_two_samples_are_drawn_as_by_hand() -> None:
    means = by_sample(np.array([0.0, 1.0]))
    assert len(means) == RESAMPLES
    assert [np.mean(means == mean) for mean in (0.0, 0.5, 1.0)] == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert interval(means) == (0.0, 1.0)


def test_draws_depend_on_nothing_that_ran_before() -> None:
    values = normal(20, seed=1)
    first = by_sample(values)
    np.random.default_rng().random(10)
    assert np.array_equal(first, by_sample(values))


def test_p_is_that_of_a_z_test_where_that_holds() -> None:
    values = normal(400, seed=2)
    values += 2.0 * values.std() / 20.0 - values.mean()  # two standard errors from zero
    assert two_sided_p(by_sample(values)) == pytest.approx(2 * norm.sf(2.0), abs=0.015)
    assert two_sided_p(by_sample(values + 10.0)) == pytest.approx(2 / (RESAMPLES + 1))


def test_more_samples_of_the_same_speakers_do_not_make_a_mean_surer() -> None:
    of_speakers = normal(12, seed=3)
    names = [f"talker {number:02d}" for number in range(12)]
    repeated = resampled_means(np.tile(of_speakers, 5), grouped(names * 5))
    assert repeated is not None
    assert interval(repeated) == pytest.approx(interval(by_sample(of_speakers)), abs=1e-12)
    naive = interval(by_sample(np.tile(of_speakers, 5)))
    assert naive[1] - naive[0] < 0.6 * (interval(repeated)[1] - interval(repeated)[0])


def test_speakers_are_resampled_where_all_are_known_and_there_are_eight() -> None:
    eight = [f"t{number % 8}" for number in range(20)]
    assert (grouped(eight).unit, grouped(eight).units) == ("speaker", 8)
    assert (grouped([f"t{n % 7}" for n in range(20)]).unit, grouped([*eight, None]).units) == ("sample", 21)
    summary = summarised(rows(list(normal(20, seed=4)), speakers=eight), [HIGHER])["a"]
    assert (summary["unit"], summary["units"], summary["small"]) == ("speaker", 8, True)
    assert not summarised(rows([1.0] * 10), [HIGHER])["a"]["small"]


def test_a_mean_stands_in_its_interval_with_the_number_of_its_samples() -> None:
    values: list[float | None] = [*normal(30, seed=5), None, None]
    entry = summarised(rows(values), [HIGHER])["a"]["x"]
    assert entry["mean"] == pytest.approx(np.mean([v for v in values if v is not None]), abs=1e-6)
    assert entry["low"] < entry["mean"] < entry["high"]
    assert (entry["n"], entry["failures"]) == (30, 2)


def test_errors_of_both_signs_do_not_cancel_where_zero_is_best() -> None:
    entry = summarised(rows([10.0, -10.0]), [NEAREST_ZERO])["a"]["x"]
    assert (entry["mean"], entry["mean_absolute"]) == (0.0, 10.0)


def test_a_system_does_not_differ_from_itself() -> None:
    same = rows(list(normal(15, seed=6)))
    entry = difference(same, same, HIGHER)
    assert [entry[name] for name in ("mean", "low", "high", "better", "p")] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert entry["verdict"] == "not shown"


def test_swapping_two_systems_flips_the_difference() -> None:
    first = normal(40, seed=7)
    second = first + 0.3 + 0.2 * normal(40, seed=8)
    one, other = rows(list(first)), rows(list(second), "b")
    there, back = difference(one, other, HIGHER), difference(other, one, HIGHER)
    assert there["mean"] == pytest.approx(np.mean(second - first), abs=1e-6)
    assert (back["mean"], back["low"], back["high"]) == (-there["mean"], -there["high"], -there["low"])
    assert there["better"] == np.mean(second > first) and back["better"] == pytest.approx(1 - there["better"])
    assert (there["verdict"], back["verdict"]) == ("better", "worse") and there["p"] == back["p"] < 0.05
    worse = difference(one, other, LOWER)
    assert worse["verdict"] == "worse" and worse["better"] == pytest.approx(1 - there["better"], abs=1e-6)


def test_pairing_sees_what_the_spread_of_samples_hides() -> None:
    hard = 10.0 * normal(50, seed=9)
    one, other = rows(list(hard)), rows(list(hard + 0.5 + 0.1 * normal(50, seed=10)), "b")
    means = summarised([*one, *other], [HIGHER])
    assert means["b"]["x"]["low"] < means["a"]["x"]["high"]  # the two intervals overlap
    assert difference(one, other, HIGHER)["verdict"] == "better"


def test_where_zero_is_best_distances_from_it_are_compared() -> None:
    entry = difference(rows([-6.0, 6.0, -6.0] * 4), rows([2.0, -1.0, -3.0] * 4, "b"), NEAREST_ZERO)
    assert (entry["mean"], entry["better"], entry["verdict"]) == (-4.0, 1.0, "better")


def test_nothing_is_concluded_from_fewer_than_ten_samples_or_speakers() -> None:
    nine, ten = [0.0] * 9, [0.0] * 10
    assert difference(rows(nine), rows([1.0] * 9, "b"), HIGHER)["verdict"] == "too few"
    assert difference(rows(ten), rows([1.0] * 10, "b"), HIGHER)["verdict"] == "better"
    talkers = [f"t{number % 9}" for number in range(90)]
    many, few_talkers = rows([0.0] * 90, "a", talkers), rows([1.0] * 90, "b", talkers)
    assert difference(many, few_talkers, HIGHER)["verdict"] == "too few"


def test_only_samples_that_both_have_are_compared_and_the_others_are_counted() -> None:
    entry = difference(rows([1.0, None, 3.0, 4.0]), rows([2.0, 2.0, None, 6.0], "b"), HIGHER)
    assert (entry["n"], entry["left_out"], entry["mean"]) == (2, 2, 1.5)
    nothing = difference(rows([None]), rows([1.0], "b"), HIGHER)
    assert (nothing["n"], nothing["left_out"], nothing["mean"]) == (0, 1, None)
    alone = difference(rows([1.0]), rows([2.0], "b"), HIGHER)
    assert (alone["mean"], alone["low"], alone["p"]) == (1.0, None, None)
    assert nothing["verdict"] == alone["verdict"] == "too few"


def test_every_pair_of_systems_is_compared_and_what_only_describes_is_not() -> None:
    described = Column("y", "y", None, 1, describes=True)
    table = [Row("k", system, (), {"x": 1.0, "y": 2.0}) for system in ("degraded", "a", "b")]
    pairs = compared(table, [HIGHER, described])
    assert [(pair["system"], pair["with"]) for pair in pairs] == [
        ("a", "degraded"),
        ("b", "degraded"),
        ("b", "a"),
    ]
    assert all(pair["scores"].keys() == {"x"} for pair in pairs)
