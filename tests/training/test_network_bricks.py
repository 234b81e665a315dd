"""The networks' bricks, each against an independent formula: front end, norm, complex layers, attention."""

import pytest
import torch
from torch import Tensor, nn

from training.models.attention import ComplexAxialAttention, attend_recent
from training.models.complex_layers import ComplexConv, ComplexTransposedConv, bounded_mask, complex_product
from training.models.layers import CumulativeNorm
from training.models.stft import analyse, compress, decompress, frame_count, synthesise


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


# --- front end


@pytest.mark.parametrize("samples", [1, 479, 480, 481, 960, 5003, 48_000])
def test_synthesis_undoes_analysis(samples: int) -> None:
    wave = torch.rand(2, samples) * 2 - 1
    spectrum = analyse(wave)
    assert spectrum.shape == (2, 2, 481, frame_count(samples))
    assert (synthesise(spectrum, samples) - wave).abs().max() < 1e-5


def test_analysis_is_the_dft_of_windowed_frames() -> None:
    wave = torch.randn(1, 2400, dtype=torch.float64)
    frame = wave[0, 480:1440] * torch.hann_window(960, dtype=torch.float64).sqrt()
    expected = torch.fft.rfft(frame)
    spectrum = analyse(wave)[0, :, :, 2]
    torch.testing.assert_close(torch.complex(spectrum[0], spectrum[1]), expected)


@pytest.mark.parametrize("wave", [torch.zeros(480), torch.zeros(1, 0)])
def test_only_batches_of_waves_are_analysed(wave: Tensor) -> None:
    with pytest.raises(ValueError, match="wave"):
        analyse(wave)


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0])
def test_decompression_undoes_compression_and_phase_is_kept(power: float) -> None:
    spectrum = torch.randn(1, 2, 481, 5) * torch.logspace(-3, 2, 5)
    small = compress(spectrum, power)
    torch.testing.assert_close(decompress(small, power), spectrum, rtol=1e-4, atol=1e-7)
    before, after = (torch.atan2(x[:, 1], x[:, 0]) for x in (spectrum, small))
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(small.norm(dim=1), spectrum.norm(dim=1) ** power)


def test_compression_of_silence_has_a_finite_gradient() -> None:
    silence = torch.zeros(1, 2, 481, 3, requires_grad=True)
    decompress(compress(silence, 0.5), 0.5).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


# --- cumulative norm


@pytest.mark.parametrize("shape", [(2, 3, 20), (2, 3, 5, 20)])
def test_cumulative_norm_equals_a_loop_over_prefixes(shape: tuple[int, ...]) -> None:
    norm = CumulativeNorm(3)
    nn.init.normal_(norm.gain)
    nn.init.normal_(norm.bias)
    x = torch.randn(shape) * 3 + 1
    per_channel = (-1,) + (1,) * (len(shape) - 3)
    for item, result in zip(x, norm(x), strict=True):
        for t in range(shape[-1]):
            past = item[..., : t + 1].double()
            unit = (item[..., t] - past.mean()) / (past.var(unbiased=False) + norm.eps).sqrt()
            expected = unit * norm.gain.view(per_channel) + norm.bias.view(per_channel)
            torch.testing.assert_close(result[..., t], expected.float(), rtol=1e-4, atol=1e-5)


def test_cumulative_norm_stays_exact_over_minutes() -> None:
    # Loud, offset frames are where running float32 sums lose their digits.
    x = 30.0 + torch.randn(1, 4, 8, 30_000)
    y = CumulativeNorm(4)(x)[..., -100:]
    past = x.double()
    expected = (past[..., -1] - past.mean()) / (past.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(y[..., -1], expected.float(), rtol=0, atol=2e-3)


def test_cumulative_norm_keeps_float32_statistics_of_half_precision_input() -> None:
    x = (100.0 + torch.randn(1, 4, 8, 500)).bfloat16()
    y = CumulativeNorm(4)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), CumulativeNorm(4)(x.float()), rtol=1e-2, atol=1e-2)


# --- complex layers


@pytest.mark.parametrize("groups", [1, 2])
def test_complex_convolution_is_the_complex_one(groups: int) -> None:
    conv = ComplexConv(4, 6, (3, 2), stride_bins=2, groups=groups, bias=False).double()
    x = torch.randn(2, 4, 9, 7, dtype=torch.complex128)
    weight = torch.complex(conv.weight_real, conv.weight_imag)
    expected = nn.functional.conv2d(
        nn.functional.pad(x, (1, 0)), weight, stride=(2, 1), padding=(1, 0), groups=groups
    )
    assert_groups_agree(conv(by_group(x, groups)), expected, groups)


@pytest.mark.parametrize("groups", [1, 2])
def test_complex_transposed_convolution_is_the_complex_one(groups: int) -> None:
    conv = ComplexTransposedConv(4, 6, (5, 2), extra_bins=1, groups=groups).double()
    x = torch.randn(2, 4, 9, 7, dtype=torch.complex128)
    weight = torch.complex(conv.weight_real, conv.weight_imag)
    expected = nn.functional.conv_transpose2d(
        x, weight, stride=(2, 1), padding=(2, 0), output_padding=(1, 0), groups=groups
    )
    assert_groups_agree(conv(by_group(x, groups)), expected[..., :7], groups)


def by_group(x: Tensor, groups: int) -> Tensor:
    return torch.cat([torch.cat((part.real, part.imag), dim=1) for part in x.chunk(groups, dim=1)], dim=1)


def assert_groups_agree(ours: Tensor, expected: Tensor, groups: int) -> None:
    torch.testing.assert_close(ours, by_group(expected, groups))


def test_masks_are_below_one_and_products_are_complex() -> None:
    a, b = torch.randn(2, 3, 4, 5, dtype=torch.complex64), torch.randn(2, 3, 4, 5, dtype=torch.complex64) * 10
    mask = bounded_mask(by_group(b, 1))
    assert mask.unflatten(1, (2, 3)).norm(dim=1).max() <= 1.0 + 1e-6
    torch.testing.assert_close(complex_product(by_group(a, 1), by_group(b, 1)), by_group(a * b, 1))


# --- attention


@pytest.mark.parametrize("frames", [1, 7, 10, 43])
def test_windowed_attention_equals_full_attention_with_a_mask(frames: int) -> None:
    q, k, v = torch.randn(3, 2, frames, 4).unbind(0)
    age = torch.arange(frames).unsqueeze(1) - torch.arange(frames)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=(age >= 0) & (age < 10))
    torch.testing.assert_close(attend_recent(q, k, v, window=10), expected)


def test_frequency_attention_equals_its_complex_formula() -> None:
    net = ComplexAxialAttention(4, bins=12).eval()
    x = torch.randn(1, 8, 12, 3)
    (out,) = net(x)
    q = (net.query(x) + net.query_position)[0]
    k = (net.key(x) + net.key_position)[0]
    q, k, v = (torch.complex(y[..., :2], y[..., 2:]) for y in (q, k, net.value(x)[0]))
    weights = torch.einsum("ftd,gtd->tfg", q, k.conj()).real.div(2.0).softmax(-1)
    attended = torch.einsum("tfg,gtd->dft", weights.to(v.dtype), v)
    expected = x + net.out(torch.cat((attended.real, attended.imag)).unsqueeze(0))
    torch.testing.assert_close(out, expected[0])


def test_pooled_keys_must_divide_the_bins() -> None:
    with pytest.raises(ValueError, match="divide"):
        ComplexAxialAttention(4, bins=480, key_pool_bins=7)
