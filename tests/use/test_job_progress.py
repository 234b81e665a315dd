"""Lines of progress in a log: now and then, and each state once."""

import pytest

from pipelines import progress
from pipelines.progress import JobProgress


@pytest.mark.parametrize("every_s", [0.0, 1e9])
def test_the_end_is_said_once(
    every_s: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY_S", every_s)
    with JobProgress("enhance", 3, "files") as job:
        for _ in range(3):
            job.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" after")[0] for line in lines] == [
        f"enhance: {done} of 3 files" for done in ((1, 2, 3) if every_s == 0.0 else (3,))
    ]


def test_a_job_that_fails_does_not_say_that_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), JobProgress("enhance", 3, "files"):
        raise ValueError("no")
    assert capsys.readouterr().err == ""
