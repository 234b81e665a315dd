"""The two networks and their chain: causality, teacher and student, start, gradients, sizes, behaviour in use."""

import math

import pytest
import torch
from torch import Tensor, nn
from wakeful import awake

from training.models.attention import ComplexAxialAttention
from training.models.chain import Chain
from training.models.denoiser import Denoiser, DenoiserConfig, freeze_batch_norm
from training.models.fading import fading_sums
from training.models.layers import Memory, carrying
from training.models.level import SPEECH_LEVEL, RunningLevel
from training.models.presets import DENOISERS, build_denoiser, build_repair
from training.models.repair import RepairConfig, _share, louder
from training.models.stft import analyse

PRESETS = ["tiny", "small", "paper"]
# Millions of parameters of both nets: the table of docs/training.md.
SIZES = [("paper", 2.26, 1.26), ("small", 0.60, 0.56), ("tiny", 0.105, 0.052)]
LATENCY_SAMPLES = 960


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tiny_denoiser(**changes: float) -> Denoiser:
    return Denoiser(DenoiserConfig(**{**vars(DENOISERS["tiny"]), **changes}))


# --- causality: the challenge's check


@torch.no_grad()
def lookahead(run: nn.Module, samples: int, midpoint: int) -> int:
    """Return how many samples before the midpoint outputs differ of two inputs that differ from there on."""
    a = 0.1 * torch.randn(1, samples)
    b = torch.cat((a[:, :midpoint], 0.1 * torch.randn(1, samples - midpoint)), dim=1)
    out_a, out_b = run(a), run(b)
    changed = (wave_of(out_a) - wave_of(out_b)).abs()[0] > 0
    assert changed[midpoint:].any()
    return midpoint - int(changed.nonzero()[0])


def wave_of(output: tuple[Tensor, ...]) -> Tensor:
    named = output._asdict()  # type: ignore[attr-defined]
    wave: Tensor = named.get("denoised", named.get("wave"))
    return wave


OFFSETS = [12_000, 12_001, 11_777, 12_479]
"""At the border of frames, one sample after it, and in between."""


@pytest.mark.parametrize("midpoint", OFFSETS)
@pytest.mark.parametrize("preset", PRESETS)
def test_student_looks_at_most_20_ms_ahead(preset: str, midpoint: int) -> None:
    student = awake(build_repair(preset, causal=True))
    assert lookahead(student, 24_000, midpoint) <= LATENCY_SAMPLES


@pytest.mark.parametrize("midpoint", OFFSETS)
@pytest.mark.parametrize("preset", PRESETS)
def test_both_stages_together_look_at_most_20_ms_ahead(preset: str, midpoint: int) -> None:
    chain = awake(Chain(build_repair(preset, causal=True), build_denoiser(preset)))
    assert lookahead(chain, 24_000, midpoint) <= LATENCY_SAMPLES


@pytest.mark.parametrize("midpoint", OFFSETS)
@pytest.mark.parametrize("change", [{"asa_over_time": True}, {"use_asa": False}, {"asa_key_pool_bins": 1}])
def test_other_forms_of_attention_look_no_further_ahead(change: dict[str, int], midpoint: int) -> None:
    chain = awake(Chain(build_repair("tiny", causal=True), tiny_denoiser(**change)))
    assert lookahead(chain, 24_000, midpoint) <= LATENCY_SAMPLES


def test_teacher_looks_further_ahead() -> None:
    assert lookahead(awake(build_repair("tiny", causal=False)), 24_000, 12_000) > 4 * LATENCY_SAMPLES


def test_the_past_reaches_the_output_through_time_attention() -> None:
    # Only the time attention links frame 5 to frame 40 here: a leak to earlier frames or a dead branch shows.
    net = ComplexAxialAttention(4, bins=8, over_time=True).eval()
    x = torch.randn(1, 8, 8, 60)
    changed = x.clone()
    changed[..., 5] += 1.0
    reach = (net(x) - net(changed)).abs().amax((0, 1, 2))
    assert (reach[:5] == 0).all()
    assert reach[40] > 0


# --- teacher and student


@pytest.mark.parametrize("preset", PRESETS)
def test_teacher_and_student_exchange_weights(preset: str) -> None:
    teacher, student = build_repair(preset, causal=False), build_repair(preset, causal=True)
    student.load_state_dict(teacher.state_dict(), strict=True)
    teacher.load_state_dict(student.state_dict(), strict=True)


def test_features_of_teacher_and_student_match_in_name_and_shape() -> None:
    wave = 0.1 * torch.randn(1, 4800)
    teacher, student = (
        build_repair("tiny", causal)(wave, with_features=True).features for causal in (False, True)
    )
    assert list(student) == ["fd1", "fd2", "fd3", "gtcm1", "gtcm2", "fu3", "fu2"]
    assert {k: v.shape for k, v in student.items()} == {k: v.shape for k, v in teacher.items()}
    assert [student[f"fd{i}"].shape[2] for i in (1, 2, 3)] == [120, 30, 7]
    assert build_repair("tiny", causal=True)(wave).features == {}


def test_even_time_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        RepairConfig(time_kernel=2)


# --- start, gradients, sizes


def scale_free_error(estimate: torch.Tensor, wave: torch.Tensor) -> float:
    gain = (estimate * wave).sum() / estimate.square().sum()
    return float(((gain * estimate - wave).norm() / wave.norm()).detach())


def test_an_untrained_chain_nearly_returns_its_input_up_to_level() -> None:
    wave = 0.1 * torch.randn(2, 9600)
    chain = Chain(build_repair("tiny", causal=True), build_denoiser("tiny")).eval()
    repaired, denoised = chain(wave)
    assert scale_free_error(repaired, wave) < 0.1
    assert scale_free_error(denoised, repaired) < 0.1
    bounded_by_one = Chain(chain.repair, tiny_denoiser(mask_bound=1.0)).eval()
    assert scale_free_error(bounded_by_one(wave).denoised, repaired) < 0.2


@pytest.mark.parametrize("causal", [True, False])
def test_a_whisper_and_a_shout_come_out_at_nearly_one_level(causal: bool) -> None:
    torch.manual_seed(1)
    envelope = torch.repeat_interleave(torch.tensor([0.0, 1.0, 0.2, 1.0, 0.0, 0.7]), 9600)
    wave = (0.1 * envelope * torch.randn(1, len(envelope))).repeat(
        1, 4
    )  # a causal net has to hear some speech first
    net = build_repair("tiny", causal).eval()
    levels_db = [
        20 * torch.log10(net(wave * 10 ** (db / 20)).wave.square().mean().sqrt()) for db in (-25, 0, 15)
    ]
    assert max(levels_db) - min(levels_db) < 4.0


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("causal", [True, False])
def test_every_parameter_of_a_repairing_net_learns(preset: str, causal: bool) -> None:
    net = build_repair(preset, causal)
    net(0.1 * torch.randn(2, 9600)).wave.square().mean().backward()
    assert_all_learn(net)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("over_time", [False, True])
def test_every_parameter_of_a_denoiser_learns(preset: str, over_time: bool) -> None:
    config = DENOISERS[preset]
    net = Denoiser(DenoiserConfig(**{**vars(config), "asa_over_time": over_time}))
    net(analyse(0.1 * torch.randn(2, 4800))).square().mean().backward()
    assert_all_learn(net)


def assert_all_learn(net: nn.Module) -> None:
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name}: gradient is not finite"
        assert parameter.grad.abs().max() > 0, f"{name}: gradient is zero"


def test_gradients_are_finite_where_the_input_is_digital_silence() -> None:
    wave = 0.1 * torch.randn(2, 9600)
    wave[0, :4800] = 0.0
    wave[1] = 0.0
    chain = Chain(build_repair("tiny", causal=True), build_denoiser("tiny"))
    chain(wave).denoised.square().mean().backward()
    for name, parameter in chain.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("preset", "repair_millions", "denoiser_millions"), SIZES)
def test_sizes_are_those_of_the_documentation(
    preset: str, repair_millions: float, denoiser_millions: float
) -> None:
    sizes = [
        sum(p.numel() for p in net.parameters())
        for net in (build_repair(preset, True), build_denoiser(preset))
    ]
    assert sizes == pytest.approx([repair_millions * 1e6, denoiser_millions * 1e6], rel=0.05)


def test_attention_is_a_small_share_of_the_denoiser_and_can_be_left_out() -> None:
    with_asa, without = (
        sum(p.numel() for p in Denoiser(DenoiserConfig(use_asa=use)).parameters()) for use in (True, False)
    )
    # Apart from the positions of queries and keys, few parameters per block.
    assert 2 * 2 * 480 * 8 < with_asa - without < 2 * 2 * 480 * 8 + 1000


def test_unknown_presets_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="huge.*tiny, small, paper"):
        build_repair("huge", causal=True)


# --- behaviour in use


def test_a_noisy_pause_is_not_taken_for_quiet_speech_and_quiet_speech_is_lifted() -> None:
    level = RunningLevel(causal=True)
    bins = 481

    def lift_db(amplitudes: list[float]) -> float:
        compressed = (torch.tensor(amplitudes) / 2.0).sqrt().expand(1, 2, bins, -1).clone()
        return float(20.0 * torch.log10((level(compressed) / compressed).square()[0, 0, 0, -1]))

    whisper = SPEECH_LEVEL * 10 ** (-24 / 20)
    hiss, speech = [whisper] * 50, [whisper, whisper / 2, 0.1 * whisper, 0.03 * whisper] * 50
    assert lift_db([0.001] * 50) < 10.0  # all of the measured level would be 33 dB
    assert lift_db(hiss) < 3.0  # half a second at the level of a whisper that is no speech
    assert lift_db(speech) > 19.0  # two seconds
    assert 23.0 < lift_db(speech * 20) < 27.0


def of_level(amplitudes: Tensor) -> Tensor:
    """Make a compressed spectrum (1, 2, 4, T) of frames of such levels."""
    return (amplitudes / 2.0).sqrt().expand(1, 2, 4, -1).clone()


def come_and_go(level: float, seconds: int) -> Tensor:
    """Make levels that vary as those of speech."""
    return level * torch.tensor([1.0, 0.5, 0.1, 0.03]).repeat_interleave(5).repeat(5 * seconds)


@torch.no_grad()
def test_a_talker_who_becomes_quieter_is_followed_and_noise_after_speech_is_not() -> None:
    level = RunningLevel(causal=True)

    def lifts_db(amplitudes: Tensor) -> Tensor:
        compressed = of_level(amplitudes)
        return 20.0 * torch.log10((level(compressed) / compressed).square()[0, 0, 0])

    loud, far = come_and_go(SPEECH_LEVEL, 120), SPEECH_LEVEL * 10 ** (-30 / 20)
    dropped = lifts_db(torch.cat((loud, come_and_go(far, 60))))
    assert dropped[-1] - dropped[len(loud) - 1] > 20.0
    noise = far * (1.0 + 0.1 * torch.rand(18_000, generator=torch.Generator().manual_seed(0)))
    steady = lifts_db(torch.cat((loud, noise)))
    assert abs(steady[-1] - steady[len(loud) - 1]) < 1.0


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 7, 499, 777])
def test_the_level_in_pieces_is_that_of_the_whole(frames: int) -> None:
    level = RunningLevel(causal=True)
    compressed = of_level(torch.cat((come_and_go(0.3, 8), come_and_go(0.01, 8))))
    carried: Memory = {}
    with carrying(level, carried):
        pieces = torch.cat([level(piece) for piece in torch.split(compressed, frames, -1)], -1)
    torch.testing.assert_close(pieces, level(compressed), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_that_fade_as_fast_as_they_may_stay_exact_for_minutes(dtype: torch.dtype) -> None:
    ones = torch.ones(1, 20_000, dtype=dtype)
    sums = fading_sums(ones, torch.tensor([0.1], dtype=dtype), ones[:, :1])
    limit = torch.full((1, 1), 1.0 / (1.0 - math.exp(-0.1)), dtype=dtype)
    torch.testing.assert_close(sums[:, -1:], limit, rtol=1e-4, atol=0.0)


def test_the_gradient_of_the_level_is_finite_in_long_clips_and_in_silence() -> None:
    long = torch.cat((come_and_go(0.3, 30), come_and_go(0.003, 30)))
    for amplitudes in (long, torch.zeros(1200)):
        compressed = of_level(amplitudes).requires_grad_()
        RunningLevel(causal=True)(compressed).sum().backward()
        assert compressed.grad is not None and compressed.grad.isfinite().all()


def test_what_is_added_fills_what_is_gone_and_below_8_khz_covers_nothing_else() -> None:
    compressed_24_db = 4.0  # as magnitudes to the power 0.5
    added = torch.full((1, 2, 481, 1), 0.1)
    beside = _share(added, added / compressed_24_db, louder().unsqueeze(-1))[0, 0, :, 0]
    assert beside[:141].max() < 0.02  # up to 7 kHz
    torch.testing.assert_close(beside[180:], torch.full((301,), 0.5), atol=1e-4, rtol=0.0)  # from 9 kHz
    assert (beside.diff() >= 0.0).all()
    gone = _share(added, torch.zeros_like(added), louder().unsqueeze(-1))
    assert gone.min() > 0.999


@torch.no_grad()
def test_an_item_in_a_batch_equals_the_item_alone() -> None:
    chain = awake(Chain(build_repair("tiny", causal=True), build_denoiser("tiny")))
    waves = torch.randn(3, 7000) * torch.tensor([[0.001], [0.1], [0.5]])
    together = chain(waves).denoised
    alone = torch.cat([chain(wave.unsqueeze(0)).denoised for wave in waves])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 481, 4799])
def test_output_is_as_long_as_the_input(samples: int) -> None:
    chain = Chain(build_repair("tiny", causal=True), build_denoiser("tiny")).eval()
    repaired, denoised = chain(torch.randn(1, samples))
    assert repaired.shape == denoised.shape == (1, samples)


@torch.no_grad()
def test_a_minute_of_audio_stays_finite_and_steady() -> None:
    net = awake(build_repair("tiny", causal=True))
    noise = torch.randn(1, 1, 48_031)  # falls with frequency, as speech does
    second = 0.1 * torch.nn.functional.avg_pool1d(noise, 32, stride=1)[0] * 32**0.5
    second[:, 20_000:] *= 0.05  # it comes and goes, as speech does
    wave = net(second.repeat(1, 60)).wave
    assert wave.isfinite().all()
    late, later = (wave[:, at * 48_000 : (at + 1) * 48_000] for at in (40, 58))  # the last frames see the end
    assert (late - later).norm() < 0.02 * late.norm()


@torch.no_grad()
def test_stage_1_can_raise_a_whisper_and_stage_2_never_raises() -> None:
    # The head does not depend on the input level, so the same net gives a quiet input far more gain.
    net = awake(build_repair("tiny", causal=True))
    speech = torch.randn(1, 9600)
    gains = [net(level * speech).wave.norm() / (level * speech).norm() for level in (1e-1, 1e-4)]
    assert gains[1] > 10 * gains[0]
    spectrum = analyse(0.1 * speech)
    assert (awake(build_denoiser("paper"))(spectrum).norm(dim=1) <= spectrum.norm(dim=1) + 1e-6).all()


@torch.no_grad()
def test_both_stages_run_under_autocast() -> None:
    chain = Chain(build_repair("tiny", causal=True), build_denoiser("tiny")).eval()
    wave = 0.1 * torch.randn(1, 9600)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = chain(wave).denoised
    assert rough.dtype == torch.float32
    assert (rough - chain(wave).denoised).norm() < 0.05 * wave.norm()


def test_frozen_batch_norms_do_not_move() -> None:
    net = build_denoiser("tiny").train()
    freeze_batch_norm(net)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(analyse(0.1 * torch.randn(1, 4800)))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
