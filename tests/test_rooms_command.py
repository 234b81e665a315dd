"""`ssiforge rooms`: what it builds is what `generate` uses, and what it says of rooms is true."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datagen.degradations import bind
from datagen.provenance import Found, Provenance
from datagen.rooms import bank_folder
from manifests.catalogue import Catalogue, read_catalogue
from manifests.documents import parse_document
from manifests.recipe import Recipe, RoomBank
from pipelines.rooms.bank import simulated_rooms

ROOMS = "rooms: {count: 4, rt60_s: [0.15, 0.4], seed: 9}"
RECIPE = f"name: mine\nseconds: 1\n{ROOMS}\nstages:\n  - {{stage: room}}\n"
BANK = RoomBank(count=4, rt60_s=(0.15, 0.4), seed=9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one bank, and the recipe that it was built for."""
    home = tmp_path_factory.mktemp("home")
    (home / "mine.yaml").write_text(RECIPE)
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "rooms",
        "build",
        home / "mine.yaml",
        "--cache",
        home / "cache",
    ]
    subprocess.run([*map(str, command), "--json"], check=True, capture_output=True)
    return home


def test_what_was_built_is_what_generate_uses(home):
    document = parse_document(RECIPE, "mine")
    bound = bind(Recipe.model_validate(document.content), document)
    folder = bank_folder(BANK, home / "cache")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    said: list[str] = []
    catalogue = Catalogue(simulated_rooms(bound, home / "cache", said.append))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert len(catalogue) == 8 and len({source.room for source in catalogue}) == 4
    assert "4 simulated, 2 positions in each" in said[0]


def test_a_bank_that_is_there_is_summed_up_and_not_rendered_again(home, ssiforge):
    code, out, _ = ssiforge("rooms", "build", home / "mine.yaml", "--cache", home / "cache", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["rooms"], found["responses"], found["rendered"]) == (4, 8, 0)
    assert sum(found["methods"].values()) == 8 and found["worst_error"] <= 0.15
    for name, low, high in (("asked_rt60_s", 0.15, 0.4), ("rt60_s", 0.12, 0.46), ("distance_m", 0.19, 3.01)):
        assert low <= found[name][0] <= found[name][2] <= found[name][-1] <= high
    code, out, _ = ssiforge("rooms", "build", home / "mine.yaml", "--cache", home / "cache")
    assert "8 responses of 4 rooms" in out and "0 rooms rendered" in out


def test_options_and_settings_take_the_place_of_those_of_the_recipe(home, ssiforge):
    arguments = ("--cache", home / "cache", "--count", 1, "--positions", 1, "--rt60", 0.2, 0.2, "--seed", 5)
    code, out, _ = ssiforge("rooms", "build", home / "mine.yaml", *arguments, "--set", "height_m=3", "--json")
    found = json.loads(out)
    assert (code, found["rooms"], found["responses"]) == (0, 1, 1)
    assert found["settings"]["height_m"] == [3, 3] and found["asked_rt60_s"] == [0.2] * 5
    assert RoomBank.model_validate(found["settings"]).seed == 5


def test_banks_rooms_and_one_room_are_shown(home, ssiforge, tmp_path):
    cache = ("--cache", home / "cache")
    banks = json.loads(ssiforge("rooms", "show", *cache, "--json")[1])
    (bank,) = [bank for bank in banks if bank["settings"]["seed"] == 9]
    assert bank["current"] and (bank["rooms"], bank["responses"]) == (4, 8)
    assert bank["bank"] in ssiforge("rooms", "show", *cache)[1]
    records = json.loads(ssiforge("rooms", "show", bank["bank"], *cache, "--json")[1])
    assert [(record["room"], record["position"]) for record in records] == [
        (room, position) for room in range(4) for position in range(2)
    ]
    assert records == json.loads(ssiforge("rooms", "show", home / "mine.yaml", *cache, "--json")[1])
    code, out, _ = ssiforge("rooms", "show", bank["bank"], 2, *cache, "--out", tmp_path / "new" / "room.png")
    assert code == 0 and f"{records[4]['distance_m']:.2f}" in out and "microphone at" in out
    assert (tmp_path / "new" / "room.png").read_bytes().startswith(b"\x89PNG")


def test_an_exported_bank_is_scanned_as_the_same_rooms(home, ssiforge, tmp_path):
    code, out, _ = ssiforge(
        "rooms", "export", home / "mine.yaml", "--cache", home / "cache", "--out", tmp_path / "bank"
    )
    assert (code, out) == (0, f"{tmp_path / 'bank'}: 8 responses\n")
    ssiforge("scan", "--rir", tmp_path / "bank", "--out", tmp_path / "s.parquet", "--workers", 1)
    document = parse_document(RECIPE, "mine")
    bound = bind(Recipe.model_validate(document.content), document)
    own = Catalogue(simulated_rooms(bound, home / "cache", lambda line: None))
    scanned = read_catalogue(tmp_path / "s.parquet")
    assert {s.sha256: (s.room, s.licence) for s in scanned} == {s.sha256: (s.room, s.licence) for s in own}
    for mine, theirs in zip(own, scanned, strict=True):
        assert theirs.refused is None
        assert theirs.rt60_s == pytest.approx(mine.rt60_s, abs=1e-3)
    path = next((tmp_path / "bank").glob("*/*.wav"))
    found = Found(str(path), str(tmp_path / "bank"), f"{path.parent.name}/{path.name}")
    assert Provenance().facts(found, "rir")["room"].startswith("simulated-")
    assert np.abs(soundfile.read(path)[0]).max() == pytest.approx(1.0)
    assert (
        ssiforge(
            "rooms", "export", home / "mine.yaml", "--cache", home / "cache", "--out", tmp_path / "bank"
        )[0]
        == 2
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build", "--rt60", 2, 1), "'rt60_s': is empty"),
        (("build", "--set", "colour=1"), "'colour': no such field"),
        (("build", "--count", 0), "'count'"),
        (("build", "--rt60", 0.05, 0.05, "--count", 1), "room 0, to reverberate for 0.05 s, still has"),
        (("build", "ssi84k"), "did you mean 'ssi48k'"),
        (("show", "ffff"), "has an id that begins with 'ffff'"),
        (("show", "ssi48k"), "'ssiforge rooms build ssi48k' makes them"),
        (("show", "mine.yaml", 77), "holds no room 77"),
        (("show", "--out", "x.png"), "give a bank and the number of a room"),
        (("show", "mine.yaml", 1, "--out", "mine.yaml/x.png"), "cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(home, ssiforge, arguments, said):
    arguments = tuple(str(home / a) if str(a).startswith("mine.yaml") else a for a in arguments)
    code, _, err = ssiforge("rooms", *arguments, "--cache", home / "cache")
    assert code == 2, err
    assert said in err and err.count("\n") <= 2


def test_an_export_onto_a_file_and_a_picture_that_is_none_are_mistakes(home, ssiforge, tmp_path):
    taken = tmp_path / "taken.wav"
    taken.write_bytes(b"mine")
    for arguments, said in [
        (("export", home / "mine.yaml", "--out", taken), "taken.wav: is a file; give a new folder"),
        (("show", home / "mine.yaml", 1, "--out", tmp_path / "room.txt"), "room.txt: must end in .png"),
    ]:
        code, _, err = ssiforge("rooms", *arguments, "--cache", home / "cache")
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
    assert taken.read_bytes() == b"mine"


@pytest.mark.faults
def test_a_build_that_was_killed_goes_on_and_ends_with_the_same_bytes(home, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "rooms",
        "build",
        str(home / "mine.yaml"),
        "--cache",
        str(tmp_path),
    ]
    folder = bank_folder(BANK, tmp_path)
    begun = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.wav")) and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    subprocess.run(command, check=True, capture_output=True)
    whole = bank_folder(BANK, home / "cache")

    def hashes(where: Path) -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in where.iterdir()
            if not path.name.startswith(".")
        }

    assert hashes(folder) == hashes(whole)
