"""The learning rate: a function of the step and of what validation said, exact after a resume."""

import math

import pytest

from manifests.errors import UserError
from manifests.experiment import StageSettings, load_experiment
from training.schedule import Schedule


def settings(**fields: object) -> StageSettings:
    return StageSettings(steps=100, learning_rate=0.5, **fields)  # type: ignore[arg-type]


def test_the_rate_rises_in_equal_parts_and_then_stays() -> None:
    schedule = Schedule(settings(warmup_steps=4, schedule="constant"))
    assert [schedule.rate(step) for step in (0, 1, 2, 3, 4, 99)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]


def test_a_cosine_begins_at_the_full_rate_is_half_of_it_midway_and_ends_at_zero() -> None:
    schedule = Schedule(settings(warmup_steps=20, schedule="cosine"))
    assert schedule.rate(19) == schedule.rate(20) == 0.5
    assert schedule.rate(60) == pytest.approx(0.25)
    assert schedule.rate(100) == pytest.approx(0.0, abs=1e-12)
    rates = [schedule.rate(step) for step in range(20, 101)]
    assert rates == sorted(rates, reverse=True)
    assert schedule.rate(40) == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)))


def test_the_rate_is_halved_after_stale_validations() -> None:
    schedule = Schedule(settings(halve_after=2))
    rates = []
    for better in (True, False, True, False, False, False, False):
        schedule.take_note(better)
        rates.append(schedule.rate(50))
    assert rates == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


@pytest.mark.parametrize("fields", [{"halve_after": 0}, {"schedule": "constant"}, {"schedule": "cosine"}])
def test_no_other_schedule_is_halved(fields: dict[str, object]) -> None:
    schedule = Schedule(settings(**fields))
    before = schedule.rate(50)
    for _ in range(10):
        schedule.take_note(better=False)
    assert schedule.rate(50) == before


def test_a_resumed_schedule_goes_on_between_two_halvings() -> None:
    schedule = Schedule(settings(halve_after=2))
    for _ in range(3):
        schedule.take_note(better=False)
    resumed = Schedule(settings(halve_after=2))
    resumed.load_state_dict(schedule.state_dict())
    resumed.take_note(better=False)
    assert (schedule.rate(0), resumed.rate(0)) == (0.25, 0.125)


def test_a_warm_up_without_end_is_refused() -> None:
    with pytest.raises(UserError, match="stages.student.*warmup_steps is 200, and the stage has 200 steps"):
        load_experiment("tiny", ["stages.student.warmup_steps=200"])


def test_choices_that_were_not_there_before_leave_finished_stages_valid_until_they_are_used() -> None:
    plain = load_experiment("tiny")
    written = plain.stage_written("teacher")
    assert not {"warmup_steps", "schedule", "stop_after"} & written["settings"].keys()
    assert not {"accumulate", "compile"} & written["optimisation"].keys()
    assert "best_by" not in written["validation"]
    for choice in (
        "stages.teacher.warmup_steps=1",
        "stages.teacher.schedule=cosine",
        "stages.teacher.stop_after=1",
        "optimisation.accumulate=2",
        "optimisation.compile=true",
        "validation.best_by=si_snr_db",
    ):
        changed = load_experiment("tiny", [choice])
        assert changed.stage_digest("teacher") != plain.stage_digest("teacher"), choice
