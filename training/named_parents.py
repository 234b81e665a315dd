"""Parents by name: `--from teacher=PLACE` lets a stage build on a model that lies outside the run's folder.

Such a parent may have been trained on another corpus; its id is recorded as any parent's is. It must be a model of
the stage that is wanted, of the experiment's preset and of that preset's sizes today. A stage that is trained by
itself may also be given a model of its own (`--stage joint --from joint=PLACE`): it begins with those weights.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from manifests.canonical import canonical_json
from manifests.errors import UserError
from manifests.experiment import STAGES, Experiment, StageName
from training.bundle import BundleInfo, read_info
from training.models.presets import DENOISERS, REPAIRERS, Preset
from training.models.repair import UNCALIBRATED
from training.stages import PARENT

NamedParents = Mapping[StageName, Path]
"""Bundle folders by the stage whose models they hold."""

NO_NAMED_PARENTS: NamedParents = MappingProxyType({})


def named_parents(
    options: Iterable[str],
    experiment: Experiment,
    stages: Sequence[StageName],
    locate: Callable[[str], Path] = Path,
) -> NamedParents:
    """Find and check the models that `--from ROLE=PLACE` options name.

    Args:
        options: each `ROLE=PLACE`.
        experiment: its preset is the size that parents must have.
        stages: those to be trained.
        locate: turns a PLACE into a bundle folder.

    Raises:
        UserError: when a role is unknown, given twice or of no use, or a model is not the one that is needed.
    """
    found: dict[StageName, Path] = {}
    for option in options:
        name, _, place = option.partition("=")
        if not place:
            raise UserError(f"--from {option}: must be ROLE=PLACE, e.g. teacher=runs/small/teacher/model")
        role = _role(option, name, stages)
        if role in found:
            raise UserError(f"--from {option}: {role} is given twice")
        directory = locate(place)
        _refuse_unfit(f"--from {option}", read_info(directory), role, experiment)
        found[role] = directory
    return found


def _role(option: str, name: str, stages: Sequence[StageName]) -> StageName:
    for role in STAGES:
        if role != name:
            continue
        if [role] == list(stages):
            return role
        if role in stages:
            raise UserError(
                f"--from {option}: this run trains its own {role}; choose the stages with --stage"
            )
        if role not in [PARENT[stage] for stage in stages]:
            raise UserError(f"--from {option}: stage {', '.join(stages)} does not build on a {role}")
        return role
    raise UserError(f"--from {option}: no such role {name}; there are {', '.join(STAGES)}")


def _refuse_unfit(option: str, info: BundleInfo, role: StageName, experiment: Experiment) -> None:
    if info.stage != role:
        raise UserError(f"{option}: is a {info.stage}, and a {role} is needed")
    if experiment.preset not in get_args(Preset):
        return  # building the networks says which presets there are
    if info.preset != experiment.preset:
        raise UserError(
            f"{option}: is of preset {info.preset}, and experiment {experiment.name} is of {experiment.preset}"
        )
    wanted = {"repair": asdict(REPAIRERS[info.preset])}
    given = {"repair": {**info.repair, **UNCALIBRATED}}
    if info.denoiser is not None:
        ours = replace(DENOISERS[info.preset], use_asa=experiment.denoiser.use_asa)
        wanted["denoiser"], given["denoiser"] = asdict(ours), info.denoiser
    for network, sizes in wanted.items():
        differing = sorted(
            name
            for name in sizes.keys() | given[network].keys()
            if canonical_json(sizes.get(name)) != canonical_json(given[network].get(name))
        )
        if differing:
            raise UserError(
                f"{option}: its {network} network has other sizes than preset {info.preset} has here "
                f"({', '.join(differing)})"
            )
