"""What a finished model puts out: bands that it left alone are its input, and the rest is its own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from training.models.finishing import kept, likeness
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


@pytest.mark.parametrize("wrong", [{"kept_share": 1.1}, {"kept_share": -0.1}, {"makeup_db": 7.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be from"):
        RepairConfig(**wrong)  # type: ignore[arg-type]
