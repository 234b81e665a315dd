"""A user's package with stages, installed into a folder as pip would, and a job that cannot be done."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def installed_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site folder that holds the package."""
    source = Path(__file__).with_name("stages.py").read_text()
    package = tmp_path_factory.mktemp("site")
    (package / "faulty_stages.py").write_text(source)
    names = {
        "Halve": "halve",
        "Refuses": "refuses",
        "DoesNothing": "does_nothing",
        "WritesIntoItsInput": "writes_into_its_input",
    }
    names |= {"DelaysSilently": "delays_silently", "DelaysAndSaysSo": "delays_and_says_so"}
    names |= {"YieldsNan": "yields_nan", "KillsItsProcess": "kills_its_process"}
    names |= {"RunsOutOfMemory": "runs_out_of_memory", "PromisesTooMuch": "promises_too_much"}
    info = package / "faulty_stages-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-stages\nVersion: 1.2.3\n")
    points = "".join(f"{name} = faulty_stages:{cls}\n" for cls, name in names.items())
    (info / "entry_points.txt").write_text(f"[ssiforge.degradations]\n{points}")
    return package


@pytest.fixture
def user_stages(installed_stages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stages of `stages.py` known under their names, here and in child processes."""
    monkeypatch.syspath_prepend(str(installed_stages))
    monkeypatch.setenv("PYTHONPATH", str(installed_stages))


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `generate` start the job of `poisoned.py`, here and in child processes, for corpora in `tmp_path`."""
    from poisoned import PoisonedJob

    monkeypatch.setattr("pipelines.generation.generate.RenderJob", PoisonedJob)
    monkeypatch.setattr("pipelines.executors.DEATHS_OF_ONE_SHARD", 3)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    (tmp_path / "poison").touch()
