"""The clock of a step: all time between two marks belongs to the later one's part."""

import time

import pytest
import torch

from training.clock import StepClock
from training.window import Window


def test_parts_add_up_and_taking_them_loses_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter((0.0, 1.0, 3.0, 6.0, 10.0, 15.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(now_s))
    clock = StepClock(torch.device("cpu"))
    clock.mark("tracking")
    assert clock.take() == {}
    for part in ("data", "forward", "data"):
        clock.mark(part)
    assert clock.take() == {"data": 1.0 + 3.0, "forward": 2.0}
    assert clock.take() == {}
    for part in ("tracking", "data"):
        clock.mark(part)
    assert clock.take() == {"tracking": 4.0, "data": 5.0}


def test_a_loss_that_begins_within_a_window_is_averaged_over_its_own_steps() -> None:
    window = Window()
    for values in ({"loss": 1.0}, None, {"loss": 3.0, "feature_match": 5.0}):
        window.add(values)
    window.spend({"data": 6.0})
    assert {(m.name, m.value, m.step) for m in window.metrics(9)} == {
        ("train/loss", 2.0, 9),
        ("train/feature_match", 5.0, 9),
        ("time/data_s", 2.0, 9),
    }
