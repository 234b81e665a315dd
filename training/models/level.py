"""Loudness at the door of the repairing net: the input is brought to the level that targets have.

Inputs of the challenge range over 50 dB, targets have one active level. A network that starts from its input as it
comes has to learn that range first, and a few hundred steps are not enough for it.
"""

import torch
from torch import Tensor, nn

from training.models.fading import fading_sums
from training.models.layers import Memory
from training.models.stft import at_least_float32

TINY = torch.finfo(torch.float32).tiny

SPEECH_LEVEL = 0.27
"""Level, as measured here, of speech at -26 dBFS active level: 0.25 full-band, 0.32 with a band of 11 kHz."""
FLOOR = 0.005
"""Added to the measured level: noise is lifted by 35 dB at most."""
TRUSTED_FRAMES = 2.0
"""A causal net follows the measured level half, in decibels, once it has heard so many frames of sound that comes and
goes, as speech does (`chosen`, with the next three; docs/results.md)."""
STEADY_VARIATION = 0.2
"""Sound whose level varies less is steady, as noise in a pause before the first word."""
SPEECH_VARIATION = 0.7
"""Sound whose level varies so much is speech; between the two it counts in part."""
STEADY_TRUST = 0.005
"""What a frame of steady sound counts beside one of speech."""
RECENT_FRAMES = 150.0
"""Time constant of the level and the variation of the last moments, 1.5 s (`chosen`, with all that follow)."""
REMEMBERED_FRAMES = 3000.0
"""Time constant of the level with which they are compared, 30 s."""
LASTING_FRAMES = 3000.0
"""After so many further frames of speech, what was heard counts 1/e as much."""
QUICKLY_FADING_FRAMES = 80.0
"""As much per neper by which the last moments are quieter than what is remembered, but for the first `SLACK_NEPERS`."""
SLACK_NEPERS = 0.7
"""As much quieter a talker becomes now and then, 6 dB."""
MOST_NEPERS = 2.5
"""More than the slack and this counts no more."""
SETTLED_FRAMES = 500.0
"""After so many frames of speech, what is no speech counts 1/e as much."""
STATES = (3, 3, 2, 1, 2)
"""Sums that a causal net keeps for each signal: of all that was heard, of the last moments, of what is remembered, of
speech, and of the level."""


class RunningLevel(nn.Module):
    """Scales a compressed spectrum so that its level so far is that of speech at -26 dBFS (`chosen`).

    The level is the mean of p = |X| over bins, and over frames weighted by itself, sum p^2 / sum p: loud frames count
    and pauses do not, as in an active level. A causal net knows the frames up to the present one; its teacher all.

    What was heard so far is not always speech, and a gain that lifts a noisy pause by 20 dB falls on the first word. So
    a causal net begins with gain 1 and follows as it hears speech: (sum p)^2 / sum p^2 is the number of frames n_a in
    which there was sound, and v = n / n_a - 1 the squared coefficient of variation of p, near 0 for noise and about 1
    for speech. v brought from [`STEADY_VARIATION`, `SPEECH_VARIATION`] to [0, 1], plus `STEADY_TRUST`, times n_a is the
    evidence e, and the gain in decibels is the measured one times e / (e + `TRUSTED_FRAMES`).

    A stream may go on for hours, and a talker step back or a gain be turned down. So the two sums of the level
    forget, but only what speech has replaced. How much the last moments vary says how much like speech they are, and
    the sums fade in those of their frames in which there is sound: slowly, and faster where the moments are much
    quieter than the last half minute. A louder talker needs no help, since loud frames weigh more. After some seconds
    of speech, moments that are no speech add less and less, so that noise in a long pause does not thin the level out
    either.

    Args:
        causal: whether the level is that of the frames so far, or of the whole.
    """

    memory: Memory | None = None

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, compressed: Tensor) -> Tensor:
        """Scale (B, 2, F, T), compressed with power 0.5; the same shape."""
        wide = at_least_float32(compressed)
        running = torch.float32 if compressed.device.type == "mps" else torch.float64
        magnitude = wide.square().sum(1).mean(1).to(running)
        gain = (
            self._gain_so_far(magnitude) if self.causal else _gain(_level(_moments(magnitude).sum(-1, True)))
        )
        levelled: Tensor = compressed * gain.sqrt().to(compressed.dtype)[:, None, None, :]
        return levelled

    def _gain_so_far(self, p: Tensor) -> Tensor:
        """Return the gain for every frame, for levels (B, T); goes on with what `memory` holds."""
        parts = p.new_zeros(sum(STATES), len(p), 1)
        if self.memory is not None:
            parts = self.memory.get(self, parts)
        heard, recent, remembered, spoken, followed = torch.split(parts, list(STATES))
        moments, never = _moments(p), p.new_zeros(1)
        heard = fading_sums(moments, never, heard)
        recent = fading_sums(moments, never + 1.0 / RECENT_FRAMES, recent)
        remembered = fading_sums(moments[:2], never + 1.0 / REMEMBERED_FRAMES, remembered)

        now = _level(recent) + FLOOR
        speech = _like_speech(recent)
        spoken = fading_sums(speech.unsqueeze(0), never, spoken)
        quieter = ((_level(remembered) + FLOOR).log() - now.log() - SLACK_NEPERS).clamp(0.0, MOST_NEPERS)
        fading = speech * (p / now).clamp_max(1.0) * (1.0 / LASTING_FRAMES + quieter / QUICKLY_FADING_FRAMES)
        sure = speech + STEADY_TRUST
        counted = sure + (1.0 - sure) * (-spoken[0] / SETTLED_FRAMES).exp()
        followed = fading_sums(counted * moments[:2], fading, followed)

        evidence = _sounding(heard) * (_like_speech(heard) + STEADY_TRUST)
        if self.memory is not None:
            self.memory[self] = torch.cat((heard, recent, remembered, spoken, followed))[..., -1:].clone()
        return _gain(_level(followed)) ** (evidence / (evidence + TRUSTED_FRAMES))


def _moments(p: Tensor) -> Tensor:
    """Return p^2, p and 1, whose sums are used: (3, B, T)."""
    return torch.stack((p.square(), p, torch.ones_like(p)))


def _level(sums: Tensor) -> Tensor:
    """Return the level of sums of p^2, of p and of whatever else."""
    return sums[0] / (sums[1] + TINY)


def _sounding(sums: Tensor) -> Tensor:
    """Return in how many frames there was sound."""
    return sums[1].square() / (sums[0] + TINY)


def _like_speech(sums: Tensor) -> Tensor:
    """Return how much frames vary as those of speech do, 0 to 1."""
    variation = sums[2] / (_sounding(sums) + TINY) - 1.0
    return ((variation - STEADY_VARIATION) / (SPEECH_VARIATION - STEADY_VARIATION)).clamp(0.0, 1.0)


def _gain(level: Tensor) -> Tensor:
    """Return what brings a level to that of targets."""
    return SPEECH_LEVEL / (level + FLOOR)
