"""Exported models: one ONNX graph, hop by hop, that does what torch does."""

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpora import RATE_HZ, voice
from wakeful import awake

from manifests.errors import UserError
from pipelines.enhancement.enhance import enhance
from pipelines.onnx_export.chain import streaming_model
from pipelines.onnx_export.export import export, noisy_voice, quantised
from pipelines.onnx_export.streaming import StreamingModel
from pipelines.quality.sigmos import open_sigmos
from training.bundle import output_wave
from training.models.chain import Chain
from training.models.denoiser import Denoiser, DenoiserConfig
from training.models.layers import Memory, carrying
from training.models.presets import DENOISERS, REPAIRERS, build_denoiser, build_repair
from training.models.repair import RepairNet

TOLERANCE = 1e-5
HOP = 480
LATENCY_SAMPLES = 960


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


def chain(preset: str) -> Chain:
    return awake(Chain(build_repair(preset, causal=True), build_denoiser(preset)))


def running(network: Any) -> StreamingModel:
    return StreamingModel(streaming_model(network, {}).SerializeToString())


@pytest.fixture(scope="module")
def tiny() -> tuple[Chain, StreamingModel]:
    torch.manual_seed(0)
    network = chain("tiny")
    return network, running(network)


@torch.no_grad()
def in_one_piece(network: Any, wave: np.ndarray) -> np.ndarray:
    whole: np.ndarray = output_wave(network, torch.from_numpy(wave).reshape(-1, wave.shape[-1])).numpy()
    return whole.reshape(wave.shape)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    drawn: np.ndarray = 0.1 * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return drawn


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_graph_gives_what_torch_gives(preset: str) -> None:
    network = chain(preset)
    wave = noise(RATE_HZ + 77) * np.linspace(0.02, 2.0, RATE_HZ + 77, dtype=np.float32)
    got = np.concatenate(list(running(network).enhanced([wave])))
    assert got.shape == wave.shape
    assert np.abs(got - in_one_piece(network, wave)).max() <= TOLERANCE


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(lambda: build_repair("tiny", causal=True), id="student"),
        pytest.param(
            lambda: Chain(
                build_repair("tiny", causal=True),
                Denoiser(DenoiserConfig(**{**vars(DENOISERS["tiny"]), "use_asa": False})),
            ),
            id="without attention",
        ),
        pytest.param(
            lambda: RepairNet(replace(REPAIRERS["tiny"], dry_share=0.3), causal=True), id="dry share"
        ),
        pytest.param(
            lambda: RepairNet(
                replace(REPAIRERS["tiny"], kept_share=0.8, dry_share=0.3, makeup_db=4.0), causal=True
            ),
            id="finished",
        ),
        pytest.param(
            lambda: RepairNet(
                replace(REPAIRERS["tiny"], kept_share=0.8, dry_share=0.3, by_noise=True), causal=True
            ),
            id="by noise",
        ),
        pytest.param(
            lambda: RepairNet(replace(REPAIRERS["tiny"], makeup_db=-2.0), causal=True), id="makeup gain"
        ),
        pytest.param(
            lambda: Chain(
                build_repair("tiny", causal=True),
                Denoiser(DenoiserConfig(**{**vars(DENOISERS["tiny"]), "asa_key_pool_bins": 1})),
            ),
            id="keys not pooled",
        ),
    ],
)
def test_variants_of_the_networks_export_too(network: Callable[[], Any]) -> None:
    net = awake(network())
    wave = noise(RATE_HZ // 2)
    got = np.concatenate(list(running(net).enhanced([wave])))
    assert np.abs(got - in_one_piece(net, wave)).max() <= TOLERANCE


@pytest.mark.parametrize("network", [lambda: build_repair("tiny", causal=True), lambda: chain("tiny")])
def test_a_graph_is_silent_in_silence_when_torch_is(network: Callable[[], Any]) -> None:
    net = awake(network())
    wave = noise(3 * RATE_HZ)
    wave[RATE_HZ : RATE_HZ + 480] = 0.0  # a lost packet
    wave[RATE_HZ + 10_000 :] = 0.0
    got = np.concatenate(list(running(net).enhanced([wave])))
    assert np.abs(got - in_one_piece(net, wave)).max() <= TOLERANCE * max(1.0, np.abs(got).max())
    assert np.abs(got[RATE_HZ : RATE_HZ + 480]).max() > 1e-5
    assert not got[int(2.7 * RATE_HZ) :].any()


def test_a_graph_goes_by_noise_as_torch_does() -> None:
    """From a middle at which some of the input is left in, which then moves."""
    config = replace(REPAIRERS["tiny"], kept_share=0.8, dry_share=0.4, by_noise=True)
    net = awake(RepairNet(config, causal=True))
    model = running(net)
    wave = noise(2 * RATE_HZ)
    wave[RATE_HZ:] *= 1e-4  # a pause in which nothing is to be heard
    wave[2 * RATE_HZ - 20_000 :] = 0.0  # and silence
    stream = model.stream()
    states = stream.states()
    states["noise_middle"][:] = -6.5
    stream.set_states(states)
    hops = np.pad(wave, (0, HOP)).reshape(-1, 1, HOP)
    got = np.concatenate([stream.push(hop) for hop in hops], axis=1)[0, HOP:]
    memory: Memory = {net.noise: torch.tensor([-6.5])}
    with torch.no_grad(), carrying(net, memory):
        wanted = output_wave(net, torch.from_numpy(wave).unsqueeze(0)).numpy()[0]
    assert np.abs(got - wanted).max() <= TOLERANCE
    assert abs(float(memory[net.noise][0]) + 6.5) > 0.5
    assert float(stream.states()["noise_middle"].item()) == pytest.approx(
        float(memory[net.noise][0]), abs=1e-3
    )
    assert np.abs(in_one_piece(net, wave) - wanted).max() > 100 * TOLERANCE  # as a clean one begins


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.faults)])
def test_hop_by_hop_it_is_the_whole_clip(tiny: tuple[Chain, StreamingModel], seconds: int) -> None:
    network, model = tiny
    wave = noisy_voice(float(seconds))
    wave *= np.repeat([1.0, 0.03, 0.3], len(wave) // 3).astype(np.float32)
    got = np.concatenate(list(model.enhanced([wave])))
    assert np.abs(got - in_one_piece(network, wave)).max() <= TOLERANCE


@pytest.mark.faults
def test_after_half_an_hour_the_norms_are_as_steady_as_after_a_minute(
    tiny: tuple[Chain, StreamingModel],
) -> None:
    # A signal that repeats has the same means after 90 times the frames: sums and number of frames are set there.
    _, model = tiny
    wave = noise(20 * RATE_HZ).reshape(-1, 1, HOP)
    wave[np.arange(len(wave)) // 40 % 2 == 1] *= 0.05  # it comes and goes, as speech does
    states = {}
    for times in (1, 90):
        stream = model.stream()
        for hop in wave:
            stream.push(hop)
        present = stream.states()
        for name, value in present.items():
            if value.dtype == np.float64 or name == "frame":
                value *= times
        stream.set_states(present)
        states[times] = np.concatenate([stream.push(hop) for hop in wave[:50]])
    assert np.isfinite(states[90]).all()
    assert np.abs(states[90] - states[1]).max() < 0.05 * np.abs(states[1]).max()


def test_signals_of_a_batch_are_those_alone(tiny: tuple[Chain, StreamingModel]) -> None:
    network, model = tiny
    wave = noise(3, 20 * HOP)
    stream = model.stream(batch=3)
    hops = np.pad(wave, ((0, 0), (0, HOP))).reshape(3, -1, HOP).swapaxes(0, 1)
    got = np.concatenate([stream.push(hop) for hop in hops], axis=1)[:, HOP:]
    assert np.abs(got - in_one_piece(network, wave)).max() <= TOLERANCE


@pytest.mark.parametrize("midpoint", [24_000, 24_001, 23_777, 24_479])
def test_the_challenges_check_finds_20_ms(tiny: tuple[Chain, StreamingModel], midpoint: int) -> None:
    # Two clips with equal first halves: outputs may differ 960 samples before the midpoint, and not earlier.
    a, b = noise(48_000), noise(48_000, seed=1)
    b[:midpoint] = a[:midpoint]
    outputs = [np.concatenate(list(tiny[1].enhanced([wave]))) for wave in (a, b)]
    changed = np.flatnonzero(outputs[0] != outputs[1])
    assert midpoint - changed[0] <= LATENCY_SAMPLES


@pytest.mark.parametrize("cuts", [[100], [480], [7, 9000, 9001], [23_999]])
def test_where_blocks_are_cut_makes_no_difference(
    tiny: tuple[Chain, StreamingModel], cuts: list[int]
) -> None:
    wave = noise(24_000)
    whole = np.concatenate(list(tiny[1].enhanced([wave])))
    parts = np.concatenate(list(tiny[1].enhanced(np.split(wave, cuts))))
    assert np.array_equal(whole, parts)


def test_export_writes_a_graph_with_states_and_a_report(
    tmp_path: Path, make_bundle: Callable[..., Any], quickly: None
) -> None:
    make_bundle(tmp_path / "m", "joint")
    done = export(str(tmp_path / "m"), tmp_path / "out", int8=True, checked=noisy_voice(2.0))
    report = json.loads((tmp_path / "out" / "parity.json").read_bytes())
    exact, int8 = report["variants"]
    assert exact["max_difference"] <= TOLERANCE
    assert 0.0 < int8["max_difference"] < 0.1
    assert (report["opset"], report["latency_ms"], report["states"]) == (18, 20.0, done.states)
    page = (tmp_path / "out" / "parity.md").read_text()
    assert "model.int8.onnx" in page and "Opset 18" in page
    model = StreamingModel(tmp_path / "out" / "model.onnx")
    assert model.session.get_modelmeta().custom_metadata_map["model_id"] == report["model_id"]


def test_weights_of_8_bits_make_a_model_smaller() -> None:
    model = streaming_model(chain("small"), {})
    smaller = quantised(model)
    assert smaller.ByteSize() < model.ByteSize()
    wave = noise(RATE_HZ // 2)
    exact, rounded = (
        np.concatenate(list(StreamingModel(m.SerializeToString()).enhanced([wave]))) for m in (model, smaller)
    )
    assert 0.0 < np.mean((exact - rounded) ** 2) < 0.01 * np.mean(exact**2)


def test_a_teacher_cannot_be_exported(tmp_path: Path, make_bundle: Callable[..., Any]) -> None:
    make_bundle(tmp_path / "m", "teacher")
    with pytest.raises(UserError, match="teacher, which looks ahead"):
        export(str(tmp_path / "m"), tmp_path / "out")
    with pytest.raises(UserError, match="teacher, which looks ahead"):
        soundfile.write(tmp_path / "in.wav", voice(1, 0.2), RATE_HZ)
        enhance(tmp_path / "in.wav", tmp_path / "out.wav", str(tmp_path / "m"), stream=True)


def test_what_is_no_exported_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match=r"x\.onnx: not a model that onnxruntime can load"):
        StreamingModel(tmp_path / "x.onnx", "x.onnx")
    with pytest.raises(UserError, match=r"^y\.onnx: no such file$"):
        StreamingModel(tmp_path / "y.onnx", "y.onnx")


def test_as_a_sigmos_network_it_is_refused_in_a_sentence(
    tmp_path: Path, tiny: tuple[Chain, StreamingModel]
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(streaming_model(tiny[0], {}).SerializeToString())
    with pytest.raises(UserError, match=r"this network takes \d+ arrays and gives \d+ arrays$"):
        open_sigmos(path)


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "contains NaN or infinity"), (1e4, "holds values of 1e.04")]
)
def test_a_recording_to_compare_on_is_checked_as_one_to_enhance(
    ssiforge: Callable[..., Any], tmp_path: Path, value: float, says: str
) -> None:
    soundfile.write(tmp_path / "odd.wav", np.full(48_000, value), RATE_HZ, subtype="FLOAT")
    code, _, err = ssiforge("export", "--model", "shipped", "--out", "o", "--input", "odd.wav")
    assert code == 2 and f"--input odd.wav: {says}".replace("1e.04", "1e+04") in err
    assert not (tmp_path / "o").exists()


def test_eight_bits_are_for_the_dense_layers_alone(tiny: tuple[Chain, StreamingModel]) -> None:
    network, model = tiny
    exact = streaming_model(network, {})
    int8 = quantised(exact)
    before, after = (Counter(node.op_type for node in each.graph.node) for each in (exact, int8))
    assert (after["MatMulInteger"], after["Gemm"]) == (before["Gemm"], 0)
    assert (after["MatMul"], after["Conv"]) == (before["MatMul"], before["Conv"])  # DFTs and attention
    wave = noise(RATE_HZ)
    wanted, got = (
        np.concatenate(list(each.enhanced([wave])))
        for each in (model, StreamingModel(int8.SerializeToString()))
    )
    assert 20.0 < 10.0 * np.log10(np.mean(wanted**2) / np.mean((got - wanted) ** 2)) < 100.0


def test_how_a_model_runs_and_where_is_said_once(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(1, 0.2), RATE_HZ)
    files = (tmp_path / "in.wav", tmp_path / "out.wav")
    with pytest.raises(UserError, match=r"x\.onnx: an exported model runs with --stream"):
        enhance(*files, "x.onnx")
    with pytest.raises(UserError, match="--device cuda: --stream runs on one core of the CPU"):
        enhance(*files, "x.onnx", device="cuda", stream=True)


def test_enhancing_as_a_stream_is_enhancing(tmp_path: Path, make_bundle: Callable[..., Any]) -> None:
    make_bundle(tmp_path / "m", "joint")
    wave = np.stack([voice(1, 0.7), voice(2, 0.7)], axis=1)
    soundfile.write(tmp_path / "in.wav", wave, RATE_HZ)
    enhance(tmp_path / "in.wav", tmp_path / "whole.wav", str(tmp_path / "m"))
    enhance(tmp_path / "in.wav", tmp_path / "streamed.wav", str(tmp_path / "m"), stream=True)
    whole, streamed = (soundfile.read(tmp_path / name)[0] for name in ("whole.wav", "streamed.wav"))
    assert streamed.shape == wave.shape
    assert np.abs(whole - streamed).max() <= 1.0 / 32768


THROUGH_A_PIPE = [
    sys.executable,
    "-m",
    "pipelines.cli",
    *["enhance", "--stream", "-", "-", "--model", "model.onnx"],
]


def test_pcm_goes_from_stdin_to_stdout(tmp_path: Path, tiny: tuple[Chain, StreamingModel]) -> None:
    network, model = tiny
    (tmp_path / "model.onnx").write_bytes(streaming_model(network, {}).SerializeToString())
    wave = np.round(voice(1, 0.33)[:15_555] * 32768.0)
    done = subprocess.run(THROUGH_A_PIPE, input=wave.astype("<i2").tobytes(), capture_output=True, check=True)
    got = np.frombuffer(done.stdout, "<i2")
    expected = np.concatenate(list(model.enhanced([(wave / 32768.0).astype(np.float32)])))
    assert len(got) == len(wave)
    assert np.abs(got - expected * 32768.0).max() <= 0.51

    # What ends within a sample is told of after all whole samples were enhanced.
    odd = subprocess.run(THROUGH_A_PIPE, input=wave.astype("<i2").tobytes() + b"x", capture_output=True)
    assert (odd.returncode, b"ends within a sample" in odd.stderr) == (2, True)
    assert odd.stdout == done.stdout


def test_a_reader_that_leaves_early_is_one_sentence(
    tmp_path: Path, tiny: tuple[Chain, StreamingModel]
) -> None:
    (tmp_path / "model.onnx").write_bytes(streaming_model(tiny[0], {}).SerializeToString())
    with subprocess.Popen(
        THROUGH_A_PIPE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as job:
        assert job.stdin is not None and job.stdout is not None and job.stderr is not None
        job.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            job.stdin.write(bytes(2 * RATE_HZ))
            job.stdin.close()
        said = job.stderr.read().decode()
    assert (job.returncode, said) == (1, "ssiforge: stdout: was closed before stdin ended\n")
