"""What a finished model puts out: bands that it left alone are its input, and the rest is its own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from wakeful import awake

from training.models import finishing
from training.models.finishing import (
    CLEAN_DB,
    FADE_DB,
    NOISY_DB,
    OPEN_DB,
    RATE_DB,
    SHUT_DB,
    SOFT_DB,
    NoiseGauge,
    SilenceGate,
    audible,
    kept,
    likeness,
    taken_db,
)
from training.models.layers import Memory, carrying
from training.models.presets import REPAIRERS
from training.models.repair import RepairConfig, RepairNet
from training.models.stft import BINS, compress


def spectrum(seed: int, frames: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, BINS, frames, generator=generator)


def test_a_band_that_was_left_as_loud_as_it_was_is_the_input() -> None:
    levelled = spectrum(0)
    turned = torch.stack((-levelled[:, 1], levelled[:, 0]), dim=1)  # of the same magnitudes
    assert torch.allclose(kept(turned, levelled, 1.0), levelled, atol=1e-6)
    assert torch.allclose(kept(turned, levelled, 0.25), turned + 0.25 * (levelled - turned), atol=1e-6)


def test_a_band_that_was_taken_away_stays_away_and_what_was_added_stays() -> None:
    levelled = spectrum(0)
    enhanced = levelled.clone()
    enhanced[:, :, 32:64] *= 0.01
    enhanced[:, :, 416:] *= 100.0
    out = kept(enhanced, levelled, 1.0)
    assert torch.equal(out[:, :, :32], levelled[:, :, :32])
    # A hundredth is left of a band, so a hundredth of the rest comes back.
    assert torch.allclose(out[:, :, 32:64], (0.01 + 0.01 * 0.99) * levelled[:, :, 32:64], atol=1e-5)
    assert torch.allclose(out[:, :, 416:], (100.0 - 0.01 * 99.0) * levelled[:, :, 416:], rtol=1e-3)


def test_the_last_band_of_one_bin_and_silence_are_bands_as_well() -> None:
    levelled = torch.zeros(1, 2, BINS, 1)
    levelled[:, 0, -1] = 1.0
    ratio = likeness(0.5 * levelled, levelled)
    assert ratio.shape == (1, 1, BINS, 1)
    assert torch.all(ratio[:, :, :-1] == 1.0)
    assert abs(float(ratio[0, 0, -1, 0]) - 0.5) < 1e-5


def test_a_network_with_all_three_settings_does_one_after_the_other() -> None:
    torch.manual_seed(0)
    plain = RepairNet(REPAIRERS["tiny"], causal=True).eval()
    finished = RepairNet(
        replace(REPAIRERS["tiny"], kept_share=0.5, dry_share=0.2, makeup_db=6.0), causal=True
    )
    finished.load_state_dict(plain.state_dict())
    x = 0.1 * spectrum(1, 20)
    with torch.inference_mode():
        enhanced, given = plain.enhance_spectrum(x), finished.eval().enhance_spectrum(x)
        levelled = plain.levelled(x)
        dry = levelled * levelled.square().sum(1, keepdim=True).sqrt()
    wanted = 10.0 ** (6.0 / 20.0) * (0.8 * kept(enhanced, dry, 0.5) + 0.2 * dry)
    assert torch.allclose(compress(given, 0.5), compress(wanted, 0.5), atol=1e-5)


def softer(levelled: Tensor, decibels: float) -> Tensor:
    return levelled * 10.0 ** (decibels / 20.0)


def test_what_is_taken_is_a_ratio_of_power_below_8_khz() -> None:
    levelled = spectrum(0)
    assert torch.allclose(taken_db(softer(levelled, -12.0), levelled), torch.full((2, 4), -12.0), atol=1e-4)
    above = levelled.clone()
    above[:, :, 160:] = 0.0
    assert torch.equal(taken_db(above, levelled), torch.zeros(2, 4))
    assert torch.equal(taken_db(0.0 * levelled, 0.0 * levelled), torch.zeros(2, 4))


@pytest.mark.parametrize("causal", [True, False])
def test_pauses_in_which_nothing_is_to_be_heard_say_nothing(causal: bool) -> None:
    """A talker who waits in a quiet room is no noise, though the model takes all of the room's sound."""
    levelled = spectrum(6, 1)[:1].expand(1, 2, BINS, 1000).clone()
    loud = 10.0 ** (28.0 / 20.0) / levelled[:, :, :160, :1].square().sum().sqrt()
    levelled *= loud  # as speech at the level of targets
    levelled[..., 300:] *= 10.0 ** (-40.0 / 20.0)
    enhanced = levelled.clone()
    enhanced[..., 300:] *= 0.01
    assert torch.equal(audible(levelled)[0], (torch.arange(1000) < 300).float())
    assert NoiseGauge(causal)(enhanced, levelled).min() == 1.0
    louder = levelled.clone()
    louder[..., 300:] *= 10.0 ** (20.0 / 20.0)  # noise at 20 dB less than the talker is heard
    assert NoiseGauge(causal)(enhanced, louder).min() == 0.0
    assert torch.all(NoiseGauge(causal)(0.0 * enhanced, 0.0 * louder) == 1.0)


@pytest.mark.parametrize("decibels", [-30.0, 30.0])
def test_the_middle_moves_5_db_a_second_from_that_of_clean_speech(decibels: float) -> None:
    levelled = spectrum(2, 1).expand(2, 2, BINS, 600)
    clean = NoiseGauge(causal=True)(softer(levelled, decibels), levelled)
    assert clean.shape == (2, 1, 1, 600)
    if decibels > 0:
        assert torch.all(clean == 1.0)
        return
    middle = -RATE_DB * torch.arange(1, 601)
    wanted = ((middle - NOISY_DB) / (CLEAN_DB - NOISY_DB)).clamp(0.0, 1.0)
    assert torch.allclose(clean[0, 0, 0], wanted, atol=1e-3)
    assert clean[0, 0, 0, 108] == 1.0 and clean[0, 0, 0, 182] == 0.0


def test_the_middle_is_that_of_all_frames_however_far_the_others_are() -> None:
    """Pauses, of which a model takes 40 dB, are no noise as long as they are less than half of the time."""
    levelled = spectrum(3, 1)[:1].expand(1, 2, BINS, 6000)
    decibels = torch.zeros(6000)
    decibels[torch.rand(6000, generator=torch.Generator().manual_seed(0)) < 0.4] = -40.0
    enhanced = levelled * 10.0 ** (decibels / 20.0)
    assert NoiseGauge(causal=True)(enhanced, levelled).min() == 1.0
    assert torch.all(NoiseGauge(causal=False)(enhanced, levelled) == 1.0)
    shifted = softer(enhanced, 0.5 * (CLEAN_DB + NOISY_DB))
    assert torch.allclose(NoiseGauge(causal=False)(shifted, levelled), torch.tensor(0.5), atol=1e-3)
    # Where it follows, it is off by what makes it soft, at most.
    followed = float(NoiseGauge(causal=True)(shifted, levelled)[..., -1])
    assert abs(followed - 0.5) <= SOFT_DB / (CLEAN_DB - NOISY_DB)


def test_in_stretches_the_gauge_is_where_it_is_in_one_piece() -> None:
    levelled = spectrum(4, 500)
    enhanced = softer(levelled, -20.0) * torch.rand(2, 1, 1, 500, generator=torch.Generator().manual_seed(1))
    gauge = NoiseGauge(causal=True)
    memory: Memory = {}
    parts = []
    for begin, end in ((0, 1), (1, 290), (290, 500)):
        with carrying(gauge, memory):
            parts.append(gauge(enhanced[..., begin:end], levelled[..., begin:end]))
    assert torch.equal(torch.cat(parts, dim=-1), gauge(enhanced, levelled))


@pytest.mark.parametrize("level_db", [0.0, 28.0])
def test_silence_is_silent_some_time_after_the_last_sound(level_db: float) -> None:
    frame = spectrum(7, 1)[:1]
    levelled = (frame / frame.square().sum().sqrt() * 10.0 ** (level_db / 20.0)).repeat(1, 1, 1, 300)
    levelled[..., 20:25] = 0.0  # a lost packet, which is to be filled
    levelled[..., 100:] = 0.0
    gate = SilenceGate()(levelled)[0, 0, 0]
    fallen = level_db - FADE_DB * (torch.arange(300) - 99.0)
    wanted = ((fallen - SHUT_DB) / (OPEN_DB - SHUT_DB)).clamp(0.0, 1.0)
    assert torch.all(gate[:100] == 1.0)
    assert torch.allclose(gate[100:], wanted[100:], atol=1e-4)
    assert gate[100 + int((level_db - OPEN_DB) / FADE_DB) - 2] == 1.0
    assert gate[100 + int((level_db - SHUT_DB) / FADE_DB) + 1] == 0.0
    faint = levelled * 10.0 ** ((OPEN_DB + 0.5 - level_db) / 20.0)
    faint[..., 20:25] = faint[..., :1]
    assert torch.all(SilenceGate()(faint)[0, 0, 0, :100] == 1.0)


def test_in_stretches_the_gate_is_where_it_is_in_one_piece() -> None:
    generator = torch.Generator().manual_seed(2)
    levelled = spectrum(8, 500) * 10.0 ** (-3.0 * torch.rand(2, 1, 1, 500, generator=generator))
    levelled[..., 80:400] = 0.0
    gate = SilenceGate()
    memory: Memory = {}
    parts = []
    for begin, end in ((0, 1), (1, 150), (150, 151), (151, 290), (290, 500)):
        with carrying(gate, memory):
            parts.append(gate(levelled[..., begin:end]))
    whole = gate(levelled)
    assert torch.allclose(torch.cat(parts, dim=-1), whole, atol=1e-5)
    assert whole[..., :80].min() == 1.0 and whole[..., 200:400].max() == 0.0 and whole[..., 410:].min() > 0.0


def test_a_network_says_nothing_in_silence() -> None:
    torch.manual_seed(0)
    network = awake(RepairNet(REPAIRERS["tiny"], causal=True))
    x = 0.1 * spectrum(9, 400)
    x[..., 200:] = 0.0
    with torch.inference_mode():
        drawn, put_out = network.unfinished(x)[0], network.enhance_spectrum(x)
    assert drawn[..., 380:].abs().max() > 0.0
    assert torch.allclose(put_out[..., :200], drawn[..., :200], atol=1e-6)
    assert torch.all(put_out[..., 380:] == 0.0)


def test_a_network_goes_by_noise_in_both_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = replace(REPAIRERS["tiny"], kept_share=0.8, dry_share=0.4, makeup_db=2.0, by_noise=True)
    network = awake(RepairNet(config, causal=True))
    x = 0.1 * spectrum(5, 30)
    with torch.inference_mode():
        enhanced, levelled = network.unfinished(x)
        monkeypatch.setattr(finishing, "CLEAN_DB", 1.0)  # where the signals are in these few frames
        clean = network.noise(enhanced, levelled)
        assert 0.1 < clean.min() < clean.max() < 0.95
        mixed = kept(enhanced, levelled, 0.8 * clean)
        wanted = 10.0 ** (2.0 / 20.0) * ((1.0 - 0.4 * clean) * mixed + 0.4 * clean * levelled)
        assert torch.allclose(network.enhance_spectrum(x), wanted, atol=1e-5)
        monkeypatch.setattr(finishing, "CLEAN_DB", 101.0)
        monkeypatch.setattr(finishing, "NOISY_DB", 100.0)
        own = network.enhance_spectrum(x)
    assert torch.allclose(own, 10.0 ** (2.0 / 20.0) * enhanced, atol=1e-6)  # nothing of the input


@pytest.mark.parametrize("wrong", [{"kept_share": 1.1}, {"kept_share": -0.1}, {"makeup_db": 7.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be from"):
        RepairConfig(**wrong)  # type: ignore[arg-type]
