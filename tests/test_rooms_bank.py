"""The simulated bank: the same rooms everywhere, whole or not at all, reverberating as long as they were asked to."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from datagen.air import air_absorption_db_m, through_air
from datagen.room_plan import draw_plan
from datagen.room_simulation import LEAD_SAMPLES, simulate
from datagen.rooms import bank_digest, bank_sources
from manifests.cache import cache_directory
from manifests.errors import UserError
from manifests.recipe import RoomBank
from manifests.source import Source

RATE = 48_000
BANK = RoomBank(count=6, positions=2, rt60_s=(0.12, 0.5), seed=3)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, ...]:
    return bank_sources(BANK, tmp_path_factory.mktemp("cache"))


def _hashes(sources: tuple[Source, ...]) -> list[str]:
    return [hashlib.sha256(Path(source.path).read_bytes()).hexdigest() for source in sources]


def _elsewhere(cache: Path, threads: int) -> subprocess.Popen[bytes]:
    program = (
        "import sys; from pathlib import Path; from datagen.rooms import bank_sources; "
        "from manifests.recipe import RoomBank; "
        "bank_sources(RoomBank.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = os.environ | {"PRA_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        [sys.executable, "-c", program, BANK.model_dump_json(), str(cache)], env=environment
    )


def _decay_time_s(rir: np.ndarray) -> float:
    """T20 by Schroeder's integration, written anew."""
    energy = np.cumsum(rir[LEAD_SAMPLES:][::-1].astype(np.float64) ** 2)[::-1]
    level_db = 10 * np.log10(energy / energy[0] + 1e-30)
    stretch = np.flatnonzero((level_db <= -5) & (level_db >= -25))
    return -60 / np.polyfit(stretch / RATE, level_db[stretch], 1)[0]


def test_rooms_are_the_same_bytes_in_another_process_with_another_number_of_threads(rendered, tmp_path):
    assert _elsewhere(tmp_path, threads=3).wait(120) == 0
    again = bank_sources(BANK, tmp_path)
    assert _hashes(again) == _hashes(rendered) == [source.sha256 for source in rendered]
    assert [source.identity() for source in again] == [source.identity() for source in rendered]


def test_rooms_are_the_same_from_a_pool_of_workers(rendered, tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        again = bank_sources(BANK, tmp_path, pool.map)
    assert _hashes(again) == _hashes(rendered)


def test_lost_and_damaged_rooms_come_back_and_the_others_are_not_rendered_again(tmp_path):
    first = bank_sources(BANK, tmp_path)
    paths = [Path(source.path) for source in first]
    hashes, times = _hashes(first), [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:-1_000])
    paths[3].with_suffix(".json").write_text("{")
    paths[8].write_bytes(b"")
    again = bank_sources(BANK, tmp_path)
    assert _hashes(again) == hashes
    kept = [n for n, path in enumerate(paths) if path.stat().st_mtime_ns == times[n]]
    # Positions of one room are simulated together: 0 and 1 of room 0, 2 and 3 of room 1, 8 and 9 of room 4.
    assert kept == [4, 5, 6, 7, 10, 11]


def test_only_missing_rooms_are_handed_to_workers(rendered, tmp_path):
    cache = Path(rendered[0].path).parents[1]
    asked = []

    def noted(function, numbers):
        asked.extend(numbers)
        return map(function, numbers)

    assert bank_sources(BANK, cache, noted) == rendered
    assert asked == []
    more = bank_sources(BANK.model_copy(update={"count": BANK.count + 1}), cache, noted)
    assert more[: -BANK.positions] == rendered
    assert asked == [BANK.count]


@pytest.mark.faults
def test_a_killed_rendering_leaves_nothing_partial_and_is_finished_by_the_next(rendered, tmp_path):
    process = _elsewhere(tmp_path, threads=1)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/*.wav")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = set(_hashes(rendered))
    found = list(tmp_path.glob("*/*.wav"))
    assert found
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in found} <= whole
    old, young = (found[0].with_name(f".room-000005-0.wav.{age}.tmp") for age in ("old", "young"))
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert _hashes(bank_sources(BANK, tmp_path)) == _hashes(rendered)
    assert not old.exists()
    assert young.exists()  # perhaps another process is writing it


def test_a_bank_grows_without_changing_and_another_seed_is_another_bank():
    assert bank_digest(BANK) == bank_digest(BANK.model_copy(update={"count": 99}))
    assert bank_digest(BANK) != bank_digest(BANK.model_copy(update={"seed": 4}))


def test_rows_say_what_a_room_is(rendered):
    for number, source in enumerate(rendered):
        rate, rir = wavfile.read(source.path)
        assert (rate, rir.dtype, rir.shape) == (RATE, np.float32, (source.frames,))
        assert source.kind == "rir" and source.split is None and source.refused is None
        assert source.room == f"simulated-{bank_digest(BANK)[:8]}-{number // BANK.positions:06d}"
        assert source.licence.startswith("CC0-1.0")
        assert source.rt60_s == pytest.approx(_decay_time_s(rir), rel=0.05)
        assert source.direct_path_frame == LEAD_SAMPLES == int(np.argmax(np.abs(rir)))


@pytest.mark.parametrize("rt60_s", [0.2, 0.8])
def test_a_tail_decays_without_hole_even_when_the_talker_is_near(rt60_s):
    bank = RoomBank(rt60_s=rt60_s, distance_m=0.2, length_m=8, width_m=6, height_m=3.5)
    rir = simulate(bank, 0).responses[0].rir
    window = round(0.02 * RATE)
    tail = rir[LEAD_SAMPLES + window :]
    tail = tail[: len(tail) // window * window].astype(np.float64).reshape(-1, window)
    level_db = 10 * np.log10(np.mean(tail**2, axis=1))
    level_db = level_db[level_db > level_db.max() - 45]
    assert np.abs(np.diff(level_db)).max() < 60 / rt60_s * 0.02 + 8


def test_direct_sound_falls_off_with_distance():
    ratios = [
        simulate(RoomBank(rt60_s=0.4, distance_m=metres, seed=5), 2).responses[0].drr_db
        for metres in (0.2, 0.6, 1.8)
    ]
    assert ratios == sorted(ratios, reverse=True)


def test_draws_are_within_the_settings_and_differ():
    bank = RoomBank(count=200, positions=3, rt60_s=(0.1, 1.2), distance_m=(0.3, 2.5))
    plans = [plan for number in range(200) if (plan := draw_plan(bank, number))]
    assert len(plans) > 190
    for plan in plans:
        assert 0.1 <= plan.rt60_s <= 1.2
        spans = (bank.length_m, bank.width_m, bank.height_m)
        for place in (*plan.positions_m, plan.microphone_m):
            for size, at, (low, high) in zip(plan.size_m, place, spans, strict=True):
                assert low <= size <= high and 0.2 < at < size - 0.2
        assert len(set(plan.positions_m)) == len(plan.positions_m) == 3
        for place, metres in zip(plan.positions_m, plan.distances_m, strict=True):
            assert 0.29 <= metres <= 2.51
            assert np.linalg.norm(np.subtract(place, plan.microphone_m)) == pytest.approx(metres)
    assert len({plan.size_m for plan in plans}) == len(plans)
    # Log-uniform: as many rooms below the geometric mean as above.
    assert 70 < sum(plan.rt60_s < np.sqrt(0.1 * 1.2) for plan in plans) < 130


def test_contradictory_settings_are_a_clear_error(tmp_path):
    cathedral = RoomBank(count=1, rt60_s=0.1, length_m=30, width_m=30, height_m=10)
    with pytest.raises(
        UserError, match="room 0, to reverberate for 0.10 s, still has no size that is so dead"
    ):
        bank_sources(cathedral, tmp_path)


def test_a_cache_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        bank_sources(BANK, tmp_path / "file")


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("SSIFORGE_CACHE", "/s")
    assert cache_directory() == Path("/s")
    monkeypatch.delenv("SSIFORGE_CACHE")
    assert cache_directory() == Path("/x/ssiforge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "ssiforge"


def test_air_absorbs_what_the_standard_says():
    # ISO 9613-1:1993, table 1, 20 degrees C, 50 % humidity, in dB per km at the exact mid-band frequencies.
    midband_hz = 1_000 * 10 ** (0.3 * np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]))
    expected = [0.445, 1.32, 2.73, 4.66, 9.86, 29.4, 104.0]
    assert air_absorption_db_m(midband_hz) * 1_000 == pytest.approx(expected, rel=0.02)


def test_late_sound_has_lost_its_treble_and_keeps_its_moment():
    response = np.zeros(24_000)
    response[14_400] = 1.0  # 300 ms: 102.9 m
    heard = through_air(response, RATE, 343.0)
    assert len(heard) == len(response) and int(np.argmax(np.abs(heard))) == 14_400
    loss_db = -20 * np.log10(np.abs(np.fft.rfft(heard))[[500, 4_000]])
    expected = air_absorption_db_m(np.array([1_000.0, 8_000.0])) * 102.9
    assert loss_db == pytest.approx(expected, rel=0.05)
