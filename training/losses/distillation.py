"""Distances between the non-causal teacher and the causal student of stage 1; `training.distiller` weighs them.

The paper's exact distance is not public; three candidates are here. All take activations by name, as
:class:`training.models.repair.RepairOutput` holds them: fd*, fu* are (B, C, F, T), gtcm* are (B, D, T). The
teacher's are detached. Each distance is exactly zero where student and teacher agree.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from training.losses.spectral import RESOLUTIONS, compressed_stft, spectral_loss
from training.models.stft import at_least_float32

Features = Mapping[str, Tensor]

GRAM_BLOCK_FRAMES = 64


def layer_weight(name: str) -> float:
    """Return the weight of a layer: a quarter for the two shallowest, fd1 and fd2, one for all others."""
    return 0.25 if name in ("fd1", "fd2") else 1.0


def feature_match(student: Features, teacher: Features) -> Tensor:
    """KD-A: mean absolute difference of activations, relative to the teacher's mean absolute value.

    sum_l w_l mean|A_S - A_T| / (mean|A_T| + 1e-5) / sum_l w_l. Needs no projection: both nets have the same
    shapes.

    Args:
        student: activations by layer name.
        teacher: activations of the same names and shapes.

    Returns:
        A scalar.

    Raises:
        ValueError: names or shapes differ.
    """
    return _over_layers(student, teacher, _relative_difference)


def similarity_match(student: Features, teacher: Features) -> Tensor:
    """KD-B: mean squared difference of cosine-similarity maps, which tolerate rotated features.

    For fd*, fu* the F x F map of the bins of each frame; for gtcm* the T x T map of the frames in blocks of
    64. Arguments, result and errors as :func:`feature_match`.
    """
    return _over_layers(student, teacher, _similarity_difference)


def attention_match(student: Features, teacher: Features) -> Tensor:
    """KD-C: distance of energy maps, plus divergence of their distributions over time.

    The map of a layer is the channel mean of A^2; (B, F, T) or (B, T). Distance: squared L2 between maps
    scaled to unit norm. Divergence: KL(teacher || student) of the energy's share of each frame. Arguments,
    result and errors as :func:`feature_match`.
    """
    return _over_layers(student, teacher, _energy_difference)


def output_match(student_wave: Tensor, teacher_wave: Tensor) -> Tensor:
    """Return the spectral loss (a scalar) of the student's wave (B, N) against the teacher's, detached."""
    return spectral_loss(student_wave, teacher_wave.detach()).total


def output_match_where_teacher_is_better(
    student_wave: Tensor, teacher_wave: Tensor, target: Tensor
) -> Tensor:
    """Return the output match over those time-frequency bins alone in which the teacher is nearer to the target.

    Which bins these are is decided at each resolution by |Y|Y|^(p-1) - S|S|^(p-1)|^2, the error of the compressed
    spectrum, and passes no gradient. The other bins count as zeros in the mean, so the less of the teacher is better,
    the less it weighs. The idea is DISPatch's; its form here is ours (`chosen`).

    Args:
        student_wave: (B, N).
        teacher_wave: (B, N), detached.
        target: (B, N).

    Returns:
        A scalar; as :func:`output_match` where the teacher is better everywhere, 0 where it is nowhere.
    """
    with torch.autocast(student_wave.device.type, enabled=False):
        terms = [_better_at_resolution(student_wave, teacher_wave, target, *shape) for shape in RESOLUTIONS]
    return torch.stack(terms).mean()


def _better_at_resolution(
    student_wave: Tensor, teacher_wave: Tensor, target: Tensor, window: int, hop: int
) -> Tensor:
    magnitude_ours, ours = compressed_stft(student_wave, window, hop)
    with torch.no_grad():
        magnitude_theirs, theirs = compressed_stft(teacher_wave, window, hop)
        _, wanted = compressed_stft(target, window, hop)
        teacher_is_better = (theirs - wanted).square().sum(-1) < (ours - wanted).square().sum(-1)
    lack = magnitude_theirs - magnitude_ours
    error = lack.square() + (ours - theirs).square().sum(-1) + lack.clamp_min(0.0).square()
    return (error * teacher_is_better).mean()


def distillation_weight(
    step: int, total_steps: int, full_weight: float = 0.5, decay_share: float = 0.2
) -> float:
    """Return the weight of a distillation term at a step: constant, then linearly to zero.

    Args:
        step: optimiser steps done, 0 .. total_steps.
        total_steps: steps of the whole stage.
        full_weight: weight before the decay.
        decay_share: share of all steps, at the end, over which it decays; 0 switches the decay off.

    Returns:
        A weight in [0, full_weight]; 0 from ``total_steps`` on if there is a decay.
    """
    if decay_share <= 0.0:
        return full_weight
    left = 1.0 - step / total_steps
    return full_weight * min(1.0, max(0.0, left / decay_share))


def _over_layers(
    student: Features, teacher: Features, distance: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the weighted mean over layers of ``distance(student activation, teacher activation)``."""
    if not student or student.keys() != teacher.keys():
        raise ValueError(f"layers differ or are missing: student {list(student)}, teacher {list(teacher)}")
    terms, weights = [], 0.0
    for name, ours in student.items():
        theirs = teacher[name].detach()
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: student is {tuple(ours.shape)}, teacher {tuple(theirs.shape)}")
        with torch.autocast(ours.device.type, enabled=False):
            terms.append(layer_weight(name) * distance(at_least_float32(ours), at_least_float32(theirs)))
        weights += layer_weight(name)
    return torch.stack(terms).sum() / weights


def _relative_difference(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).abs().mean() / (teacher.abs().mean() + 1e-5)


def _similarity_difference(student: Tensor, teacher: Tensor) -> Tensor:
    pairs = zip(_row_sets(student), _row_sets(teacher), strict=True)
    squares = [(_similarity(ours) - _similarity(theirs)).square().flatten() for ours, theirs in pairs]
    return torch.cat(squares).mean()


def _row_sets(x: Tensor) -> tuple[Tensor, ...]:
    """Return sets of rows to compare, each (..., rows, C): bins of every frame, or blocks of 64 frames."""
    if x.dim() == 4:
        return (x.permute(0, 3, 2, 1),)
    return torch.split(x.transpose(1, 2), GRAM_BLOCK_FRAMES, dim=1)


def _similarity(rows: Tensor) -> Tensor:
    """Return the cosine similarities (..., R, R) of rows (..., R, C)."""
    unit = F.normalize(rows, dim=-1)
    return unit @ unit.transpose(-1, -2)


def _energy_difference(student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = student.square().mean(1), teacher.square().mean(1)
    unit_ours, unit_theirs = F.normalize(ours.flatten(1)), F.normalize(theirs.flatten(1))
    distance = (unit_ours - unit_theirs).square().sum(1).mean()
    return distance + F.kl_div(_log_share(ours), _log_share(theirs), reduction="batchmean", log_target=True)


def _log_share(energy: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the logarithm of each frame's share of the energy, (B, T) from (B, F, T) or (B, T)."""
    by_frame = (energy.mean(1) if energy.dim() == 3 else energy) + eps
    return (by_frame / by_frame.sum(-1, keepdim=True)).log()
