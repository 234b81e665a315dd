"""Frame by frame: `step` of every causal network gives what the whole clip gives."""

import pytest
import torch
from torch import Tensor, nn
from wakeful import awake

from training.models.chain import Chain
from training.models.denoiser import Denoiser, DenoiserConfig
from training.models.presets import DENOISERS, build_denoiser, build_repair
from training.models.stft import analyse

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tiny_denoiser(**changes: float) -> Denoiser:
    return Denoiser(DenoiserConfig(**{**vars(DENOISERS["tiny"]), **changes}))


NETS = {
    "student": lambda: build_repair("tiny", causal=True),
    "denoiser": lambda: build_denoiser("tiny"),
    "denoiser without attention": lambda: tiny_denoiser(use_asa=False),
    "denoiser that attends along time": lambda: tiny_denoiser(asa_over_time=True),
    "chain": lambda: Chain(build_repair("tiny", True), tiny_denoiser(asa_over_time=True)),
}


def whole(net: nn.Module, spectrum: Tensor) -> Tensor:
    if isinstance(net, Chain):
        return net.denoiser(net.repair.map_spectrum(spectrum)[0])
    return net(spectrum) if isinstance(net, Denoiser) else net.map_spectrum(spectrum)[0]


@torch.no_grad()
@pytest.mark.parametrize("name", NETS)
def test_steps_give_what_the_whole_clip_gives(name: str) -> None:
    net = awake(NETS[name]())
    # Longer than the second that attention along time sees; the level changes on the way.
    level = torch.linspace(0.01, 0.3, 60_000)
    spectrum = analyse(level * torch.randn(2, 60_000))
    state = None
    frames = []
    for frame in spectrum.unbind(-1):
        out, state = net.step(frame, state)
        frames.append(out)
    expected = whole(net, spectrum)
    # Spectra of this signal reach some tens: the tolerance is relative to them.
    assert (torch.stack(frames, dim=-1) - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.no_grad()
def test_a_step_leaves_the_state_that_it_is_given_as_it_was() -> None:
    net = awake(Chain(build_repair("tiny", causal=True), build_denoiser("tiny")))
    first, second, third = analyse(0.1 * torch.randn(1, 960)).unbind(-1)
    _, state = net.step(first)
    once, later = net.step(second, state)
    net.step(third, later)
    again, _ = net.step(second, state)
    assert torch.equal(once, again)


@torch.no_grad()
def test_signals_in_a_batch_do_not_mix() -> None:
    net = awake(Chain(build_repair("tiny", causal=True), build_denoiser("tiny")))
    spectrum = analyse(0.1 * torch.randn(2, 4800))
    outputs = {}
    for name, part in (("both", spectrum), ("second", spectrum[1:])):
        state = None
        for frame in part.unbind(-1):
            outputs[name], state = net.step(frame, state)
    assert torch.allclose(outputs["both"][1:], outputs["second"], atol=1e-5)
