"""Other talkers, babble and short events: never the sample's own talker, at their places, as loud as drawn."""

import numpy as np
import pytest
from naive_p56 import active_dbfs
from stage_cases import Case, inputs_for, material_scene
from stage_signals import recorded, speech_like

from datagen.degradations import bind
from datagen.degradations.additive.event_sounds import synthetic_events
from datagen.degradations.additive.interferers import Babble, InterferingTalker
from datagen.degradations.additive.short_events import ShortEvents
from datagen.degradations.base import CannotApply, Inputs, NoMaterial, Scene
from datagen.plan import material, plan
from datagen.render import render
from manifests.catalogue import read_catalogue
from manifests.documents import check, parse_document
from manifests.recipe import Recipe
from manifests.source import Source

RATE = 48_000
FRAMES = 6 * RATE


def _frozen(audio: np.ndarray) -> np.ndarray:
    audio = np.ascontiguousarray(audio, np.float32)
    audio.setflags(write=False)
    return audio


def _utterance(number: int, speaker: str | None, seconds: float = 2.5, rate_hz: int = 44_100) -> Source:
    return Source(
        path=f"/speech/{number}.wav",
        kind="speech",
        sha256=f"{number:064d}",
        rate_hz=rate_hz,
        channels=1,
        frames=round(seconds * rate_hz),
        active_level_dbfs=-20.0 - number % 7,
        speaker=speaker,
        split="train",
    )


def _company(*speakers: str | None, each: int = 4) -> Scene:
    """A scene whose talker is the first of the speakers."""
    said = tuple(
        _utterance(each * n + k, speaker, 1.0 + 0.8 * k, (16_000, 44_100, 48_000)[k % 3])
        for n, speaker in enumerate(speakers)
        for k in range(each)
    )
    pools = {"speech": said, "noise": (), "rir": ()}
    return Scene(FRAMES, 20_000.0, lambda kind: pools[kind], speaker=speakers[0] or "")


def _by_sha(scene: Scene) -> dict[str, Source]:
    return {source.sha256: source for source in scene.sources("speech")}


# --- other talkers --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [InterferingTalker(), Babble()])
def test_others_are_of_the_split_and_never_the_sample_s_talker(stage):
    scene = _company("ann", "bob", "cat", "dan", None)
    known = _by_sha(scene)
    heard = set()
    for seed in range(150):
        drawn = stage.draw(np.random.default_rng(seed), scene)
        speakers = [known[clip.sha256].speaker for clip in drawn.clips]
        heard |= set(speakers)
        assert set(speakers) == set(drawn.values["speakers"])
        for clip in drawn.clips:
            source = known[clip.sha256]
            assert clip.start + clip.frames <= source.frames
            assert 0 <= clip.at < FRAMES
            assert clip.at + clip.frames * RATE / source.rate_hz <= FRAMES + RATE / source.rate_hz
            assert clip.gain_db == pytest.approx(-26.0 - source.active_level_dbfs)
    assert heard == {"bob", "cat", "dan"}


@pytest.mark.parametrize("stage", [InterferingTalker(), Babble()])
def test_a_split_without_others_has_no_material(stage):
    with pytest.raises(NoMaterial, match="another talker"):
        stage.draw(np.random.default_rng(0), _company("ann", None))
    if stage.name == "babble":
        with pytest.raises(NoMaterial, match="another talker"):
            stage.draw(np.random.default_rng(0), _company("ann", "bob"))


def test_an_interferer_fills_its_part_of_the_sample_and_nothing_else():
    scene = _company("ann", "bob", "cat")
    known = _by_sha(scene)
    stage = InterferingTalker(talkers=1, share=(0.3, 0.6), pause_s=(0.1, 0.2))
    begins = []
    for seed in range(200):
        drawn = stage.draw(np.random.default_rng(seed), scene)
        spans = [(clip.at, clip.at + clip.frames * RATE / known[clip.sha256].rate_hz) for clip in drawn.clips]
        begins.append(spans[0][0])
        covered = (spans[-1][1] - spans[0][0]) / FRAMES
        # A remainder of less than 0.3 s, after a pause of 0.2 s, stays silent.
        assert 0.3 - 0.5 * RATE / FRAMES <= covered <= 0.601
        for (_, end), (begin, _) in zip(spans, spans[1:], strict=False):
            assert 0.099 <= (begin - end) / RATE <= 0.201
    assert min(begins) < 0.05 * FRAMES and max(begins) > 0.5 * FRAMES


def test_an_interferer_is_heard_where_it_was_drawn_and_at_its_sir():
    speech = speech_like(6.0)
    voice = speech_like(1.0, 210.0, 5)
    values = {
        "sir_db": 7.0,
        "relative_db": [0.0],
        "begin_samples": [[100_000, 200_000]],
        "room_relations": [None],
    }
    applied = InterferingTalker.apply(speech, values, Inputs((voice, voice), speech))
    assert active_dbfs(speech) - active_dbfs(applied.added) == pytest.approx(7.0, abs=0.1)
    assert applied.measured["sir_db"] == pytest.approx(7.0, abs=0.01)
    assert np.array_equal(applied.audio, speech + applied.added)
    silent = np.ones(FRAMES, bool)
    for begin in (100_000, 200_000):
        silent[begin : begin + len(voice)] = False
        middle = slice(begin + 300, begin + len(voice) - 300)
        ratio = applied.added[middle] / voice[300:-300]
        assert np.ptp(ratio[np.abs(voice[300:-300]) > 0.01]) < 1e-4
    assert not applied.added[silent].any()


def test_two_interferers_differ_in_level_as_drawn():
    speech = speech_like(6.0)
    one, other = speech_like(2.0, 210.0, 5), _frozen(0.01 * speech_like(2.0, 160.0, 6))
    values = {
        "sir_db": 3.0,
        "relative_db": [0.0, -8.0],
        "begin_samples": [[0], [150_000]],
        "room_relations": [None, None],
    }
    added = InterferingTalker.apply(speech, values, Inputs((one, other), speech)).added
    assert active_dbfs(added[:96_000]) - active_dbfs(added[150_000:246_000]) == pytest.approx(8.0, abs=0.1)
    assert active_dbfs(speech) - active_dbfs(added) == pytest.approx(3.0, abs=0.1)


def test_an_interferer_in_a_room_stays_where_it_was():
    speech, voice = speech_like(6.0), speech_like(1.0, 210.0, 5)
    response = np.zeros(4_800)
    response[300], response[3_000] = 1.0, 0.5
    values = {"sir_db": 0.0, "relative_db": [0.0], "begin_samples": [[100_000]], "room_relations": ["any"]}
    added = InterferingTalker.apply(speech, values, Inputs((voice, _frozen(response)), speech)).added
    assert np.abs(added[:100_000]).max() < 1e-6
    dry = added[100_000 : 100_000 + 2_600] / voice[:2_600]
    loud = np.abs(voice[:2_600]) > 0.5 * np.abs(voice[300:2_600]).max()
    loud[:300] = False
    assert np.ptp(dry[loud]) < 1e-3 * abs(dry[loud].mean())
    assert np.abs(added[100_000 + len(voice) + 100 : 100_000 + len(voice) + 2_600]).max() > 0.01


@pytest.mark.parametrize("sir_db", [0.0, 25.0])
def test_recorded_talkers_come_at_their_sir(sir_db):
    speech, voice = recorded(0, 4.0), recorded(3, 3.0)
    values = {"sir_db": sir_db, "relative_db": [0.0], "begin_samples": [[9_000]], "room_relations": [None]}
    added = InterferingTalker.apply(speech, values, Inputs((voice,), speech)).added
    assert active_dbfs(speech) - active_dbfs(added) == pytest.approx(sir_db, abs=0.1)


# --- babble ---------------------------------------------------------------------------------------


def test_all_voices_of_a_babble_are_equally_loud():
    speech = speech_like(6.0)
    time_s = np.arange(FRAMES) / RATE
    hz = (300, 500, 700, 1_100)
    clips = tuple(_frozen(0.3 ** (n + 1) * np.sin(2 * np.pi * f * time_s)) for n, f in enumerate(hz))
    values = {"snr_db": 4.0, "begin_samples": [[0]] * 4}
    added = Babble.apply(speech, values, Inputs(clips, speech)).added
    lines = np.abs(np.fft.rfft(added))[[f * FRAMES // RATE for f in hz]]
    assert np.ptp(20 * np.log10(lines)) < 0.05
    assert active_dbfs(speech) - active_dbfs(added) == pytest.approx(4.0, abs=0.1)


def test_few_talkers_make_a_babble_by_saying_several_things_at_once():
    stage = Babble(voices=7)
    many = stage.draw(np.random.default_rng(1), _company(*(f"talker {n}" for n in range(9))))
    assert len(set(many.values["speakers"])) == 7
    few = stage.draw(np.random.default_rng(1), _company("ann", "bob", "cat"))
    assert sorted(few.values["speakers"]).count("bob") in (3, 4)
    assert len(few.values["speakers"]) == len(few.values["begin_samples"]) == 7


def test_every_voice_of_a_babble_talks_from_beginning_to_end():
    scene = _company("ann", "bob", "cat", "dan")
    known = _by_sha(scene)
    drawn = Babble(voices=3, pause_s=(0.0, 0.1)).draw(np.random.default_rng(4), scene)
    clips = iter(drawn.clips)
    for begins in drawn.values["begin_samples"]:
        said = [next(clips) for _ in begins]
        talked = sum(clip.frames / known[clip.sha256].rate_hz for clip in said)
        assert begins[0] == 0 and talked > 0.85 * FRAMES / RATE


# --- short events ---------------------------------------------------------------------------------


def _loudest_5_ms_dbfs(audio: np.ndarray) -> float:
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(240) / 240)
    return 10 * np.log10(power.max())


@pytest.mark.parametrize("kind", ["click", "key", "thump", "recorded"])
def test_each_event_has_its_own_level_and_place_and_there_is_nothing_between(kind):
    speech = speech_like(6.0)
    case = Case("short_events", {"kinds": [kind], "per_10_s": 12})
    for drawn in case.draws(speech, 4):
        applied = ShortEvents.apply(speech, drawn.values, inputs_for(drawn, speech))
        silent = np.ones(FRAMES, bool)
        places = list(zip(drawn.values["begin_samples"], drawn.values["length_samples"], strict=True))
        assert len(places) == round(12 * FRAMES / RATE / 10)
        for (begin, length), snr_db in zip(places, drawn.values["event_snr_db"], strict=True):
            assert silent[begin : begin + length].all(), "two events at once"
            silent[begin : begin + length] = False
            event = applied.added[begin : begin + length]
            assert active_dbfs(speech) - _loudest_5_ms_dbfs(event) == pytest.approx(snr_db, abs=0.1)
        assert not applied.added[silent].any()
        assert np.array_equal(applied.audio, speech + applied.added)
        loudest = min(drawn.values["event_snr_db"])
        assert active_dbfs(speech) - _loudest_5_ms_dbfs(applied.added) == pytest.approx(loudest, abs=0.2)


def test_a_broken_event_would_break_a_promise():
    speech = speech_like(6.0)
    case = Case("short_events", {"kinds": ["click"], "per_10_s": 5})
    drawn = case.draws(speech, 1)[0]
    measured = dict(ShortEvents.apply(speech, drawn.values, Inputs((), speech)).measured)
    assert ShortEvents.broken_promises(drawn.values, measured) == ()
    louder = drawn.values | {"loudest_snr_db": drawn.values["loudest_snr_db"] - 1}
    assert ShortEvents.broken_promises(louder, measured) == ("loudest_snr_db",)


def test_events_are_drawn_within_their_settings_and_all_over_the_sample():
    scene = material_scene(FRAMES)
    stage = ShortEvents(event_snr_db=(-6, 18), per_10_s=(5, 20))
    kinds, begins, levels = set(), [], []
    for seed in range(200):
        values = stage.draw(np.random.default_rng(seed), scene).values
        kinds.add(values["kind"])
        begins += values["begin_samples"]
        levels += values["event_snr_db"]
        assert values["loudest_snr_db"] == min(values["event_snr_db"])
        assert values["quietest_snr_db"] == max(values["event_snr_db"])
    assert kinds == {"click", "key", "thump", "recorded"}
    assert -6 <= min(levels) < -5 and 17 < max(levels) <= 18
    parts = np.histogram(begins, bins=6, range=(0, FRAMES))[0]
    assert parts.min() > 0.7 * parts.max()


def test_recordings_are_only_cut_where_there_are_any():
    without = Scene(FRAMES, 20_000.0, lambda kind: ())
    kinds = {ShortEvents().draw(np.random.default_rng(seed), without).values["kind"] for seed in range(40)}
    assert kinds == {"click", "key", "thump"}
    with pytest.raises(NoMaterial, match="noise recording"):
        ShortEvents(kinds=("recorded",)).draw(np.random.default_rng(0), without)


def test_more_events_than_fit_are_left_out():
    values = (
        ShortEvents(kinds=("thump",), per_10_s=60)
        .draw(np.random.default_rng(0), material_scene(2 * RATE))
        .values
    )
    assert len(values["begin_samples"]) == 5
    assert max(np.add(values["begin_samples"], values["length_samples"])) <= 2 * RATE


def test_what_is_cut_out_of_a_recording_is_its_bark_and_not_its_silence():
    bark = np.random.default_rng(1).standard_normal(6_000) * np.exp(-np.arange(6_000) / 2_000)
    recording = np.zeros(5 * RATE)
    recording[100_000:106_000] = bark
    speech = speech_like(2.0)
    for share in (0.0, 0.3, 0.999):
        values = {
            "kind": "recorded",
            "begin_samples": [20_000],
            "length_samples": [12_000],
            "event_snr_db": [0.0],
            "recording": [0],
            "energy_share": [share],
        }
        added = ShortEvents.apply(speech, values, Inputs((_frozen(recording),), speech)).added
        event = added[20_000:32_000]
        onset = int(np.flatnonzero(np.abs(event) > 0)[0])
        assert 0.1 * 12_000 < onset < 0.3 * 12_000
        gain = event[onset + 1_000] / bark[1_000]
        assert event[onset : onset + 2_500] == pytest.approx(gain * bark[:2_500], rel=1e-3)
    with pytest.raises(CannotApply, match="silent"):
        ShortEvents.apply(speech, values, Inputs((_frozen(np.zeros(RATE)),), speech))


def _spectrum(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    power = sum(np.abs(np.fft.rfft(event, 1 << 15)) ** 2 for event in synthetic_events(kind, seed, 5))
    return np.fft.rfftfreq(1 << 15, 1 / RATE), np.asarray(power)


def test_clicks_are_bright_and_short_and_thumps_are_dull_and_long():
    for seed in range(12):
        for kind, low_hz, high_hz in (("click", 800, 24_000), ("key", 100, 15_000), ("thump", 10, 1_500)):
            hz, power = _spectrum(kind, seed)
            within = power[(hz >= low_hz) & (hz <= high_hz)].sum() / power.sum()
            assert within > 0.9, (kind, seed, within)
        click = next(synthetic_events("click", seed, 1)).astype(np.float64) ** 2
        thump = next(synthetic_events("thump", seed, 1)).astype(np.float64) ** 2
        assert np.searchsorted(np.cumsum(click) / click.sum(), 0.95) < 0.006 * RATE
        assert np.searchsorted(np.cumsum(thump) / thump.sum(), 0.95) > 0.015 * RATE


def test_a_key_is_touched_hits_the_ground_and_comes_back():
    for number, stroke in enumerate(synthetic_events("key", 5, 20)):
        level = np.convolve(stroke.astype(np.float64) ** 2, np.ones(96), "same")
        hit = int(np.argmax(level))
        assert 0.003 < hit / RATE < 0.035, number
        later = level[hit + round(0.04 * RATE) :]
        release = hit + round(0.04 * RATE) + int(np.argmax(later))
        assert 0.065 < release / RATE < 0.145
        assert -20 < 10 * np.log10(level[release] / level[hit]) < 0


def test_events_of_one_thing_are_alike_and_never_the_same():
    one, other = list(synthetic_events("key", 5, 2))
    assert not np.array_equal(one, other)
    again = list(synthetic_events("key", 5, 2))
    assert np.array_equal(one, again[0]) and np.array_equal(other, again[1])
    shape = [np.log(_spectrum("key", seed)[1][100:8_000].reshape(-1, 79).mean(axis=1)) for seed in (5, 6)]
    halves = [
        np.log((np.abs(np.fft.rfft(e, 1 << 15)) ** 2)[100:8_000].reshape(-1, 79).mean(axis=1))
        for e in (one, other)
    ]
    assert np.std(halves[0] - halves[1]) < np.std(shape[0] - shape[1])


# --- in the engine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stage",
    [
        "interfering_talker, sir_db: 0",
        "babble, snr_db: 0",
        "short_events, event_snr_db: 0",
        "mains_hum, snr_db: 15",
        "wind, snr_db: -5",
    ],
)
def test_what_is_added_never_touches_the_target(catalogue_path, stage):
    catalogue = read_catalogue(catalogue_path)

    def rendered(stages: str):
        splits = "splits: {train: 1, val: 0, test: 0}"
        document = parse_document(f"name: test\nseconds: 2\n{splits}\n{stages}", "test.yaml")
        recipe = bind(check(Recipe, document.content, document), document)
        return render(plan(material(catalogue, recipe.recipe, "train"), recipe, 1, 0), catalogue.by_sha256)

    clean = rendered("stages: [{stage: level, gain_db: 3}]\n")
    noisy = rendered(f"stages: [{{stage: {stage}}}]\n")
    assert np.array_equal(clean.target, noisy.target)
    assert noisy.record.aligned and not noisy.record.stages[0].out_of_tolerance
    talkers = set(noisy.record.stages[0].values.get("speakers", ()))
    assert noisy.record.speaker not in talkers
