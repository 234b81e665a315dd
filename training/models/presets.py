"""Named sizes of the two networks.

The paper's own channel counts were not available. `paper` has the widths of published networks of the same parts, but
less depth where a causal run frame by frame pays for it each 10 ms (docs/training.md says what was cut and what it
brought). `small` is what two CPU cores can train in an afternoon; it is the size that is shipped. `tiny` exists so
that a demo or a test trains every stage within minutes. In these two, attention averages keys over more bins and
the final mask may reach 2.
"""

from types import MappingProxyType
from typing import Literal, get_args

from training.models.denoiser import Denoiser, DenoiserConfig
from training.models.repair import RepairConfig, RepairNet

__all__ = [
    "DENOISERS",
    "REPAIRERS",
    "DenoiserConfig",
    "Preset",
    "RepairConfig",
    "build_denoiser",
    "build_repair",
]

Preset = Literal["tiny", "small", "paper"]

REPAIRERS = MappingProxyType(
    {
        "tiny": RepairConfig(channels=12, tfcm_layers=2, gtcm_hidden=24, gtcm_groups=2, head_channels=4),
        "small": RepairConfig(channels=24, tfcm_layers=3, gtcm_hidden=64, gtcm_groups=2, head_channels=4),
        "paper": RepairConfig(),
    }
)

DENOISERS = MappingProxyType(
    {
        "tiny": DenoiserConfig(
            channels=2,
            dense_depth=2,
            sub_channels=(4, 8, 8, 8, 8),
            full_channels=(4, 4, 8, 8, 8, 8),
            bottleneck=32,
            tcm_hidden=16,
            tcm_groups=1,
            mask_bound=2.0,
            asa_key_pool_bins=16,
        ),
        "small": DenoiserConfig(
            channels=3,
            dense_depth=2,
            sub_channels=(8, 12, 16, 24, 32),
            full_channels=(4, 8, 12, 16, 24, 32),
            bottleneck=96,
            tcm_hidden=48,
            tcm_groups=2,
            mask_bound=2.0,
            asa_key_pool_bins=8,
        ),
        "paper": DenoiserConfig(),
    }
)


def build_repair(preset: str, causal: bool) -> RepairNet:
    """Return an untrained repairing net: the student if ``causal``, else the teacher.

    Raises:
        ValueError: no such preset.
    """
    return RepairNet(REPAIRERS[_known(preset)], causal)


def build_denoiser(preset: str) -> Denoiser:
    """Return an untrained denoiser.

    Raises:
        ValueError: no such preset.
    """
    return Denoiser(DENOISERS[_known(preset)])


def _known(preset: str) -> str:
    if preset not in get_args(Preset):
        raise ValueError(f"no preset {preset!r}; there are {', '.join(get_args(Preset))}")
    return preset
