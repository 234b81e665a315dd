"""What an ablation compares: arms, that is, experiments which differ in one thing, on the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from manifests.errors import UserError
from manifests.experiment import Experiment, StageName

StudyName = Literal["kd", "asa"]

Changes = Mapping[str, Mapping[str, Any]]
"""By section of the experiment: fields and their values."""


@dataclass(frozen=True)
class Study:
    """A question, and what is trained to answer it."""

    name: StudyName
    question: str
    stage: StageName
    """The one stage that every arm trains."""
    parent: StageName
    """The stage whose one finished model all arms build on."""
    arms: Mapping[str, Changes]
    """What each arm changes in the experiment; the first is the one that the others are compared with."""

    @property
    def baseline(self) -> str:
        """The first arm."""
        return next(iter(self.arms))


KD_ARMS: Mapping[str, Changes] = MappingProxyType(
    {
        "none": {"distillation": {"match": "none", "output": 0.0}},
        "output": {"distillation": {"match": "none"}},
        "features": {"distillation": {"match": "features"}},
        "similarity": {"distillation": {"match": "similarity"}},
        "attention": {"distillation": {"match": "attention"}},
    }
)
"""No teacher; a match of outputs; and a match of inner activations of one kind beside that of outputs."""

DEFAULT_KD_ARMS = ("none", "output", "features", "similarity")

ASA_ARMS: Mapping[str, Changes] = MappingProxyType(
    {"without": {"denoiser": {"use_asa": False}}, "with": {"denoiser": {"use_asa": True}}}
)


def kd_study(experiment: Experiment, names: Sequence[str] = DEFAULT_KD_ARMS) -> Study:
    """Return the comparison of students that learn from a teacher in several ways, or not at all.

    Raises:
        UserError: when an arm does not exist, comes twice, stands alone, or has no weight in the experiment.
    """
    for name in names:
        if name not in KD_ARMS:
            raise UserError(f"--arms: no arm {name}; there are {', '.join(KD_ARMS)}")
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(
            "--arms: needs two or more different arms, the first being what others are compared with"
        )
    weights = experiment.distillation
    if weights.output <= 0.0 and "output" in names:
        raise UserError("--arms: arm output needs an experiment whose distillation.output is above 0")
    if weights.features <= 0.0 and set(names) - {"none", "output"}:
        raise UserError("--arms: arms that match activations need a distillation.features above 0")
    question = "Does a causal student gain from a non-causal teacher?"
    return Study("kd", question, "student", "teacher", {name: KD_ARMS[name] for name in names})


def asa_study() -> Study:
    """Return the comparison of denoisers with and without complex axial self-attention."""
    question = "Does the denoiser gain from complex axial self-attention?"
    return Study("asa", question, "denoiser", "student", ASA_ARMS)


def arm_experiment(
    experiment: Experiment, study: Study, arm: str, seed: int, steps: int | None
) -> Experiment:
    """Return the experiment of one arm at one seed: nothing but the arm's changes tells it from the others.

    Weights and the order of samples are drawn from the seed and the stage's name alone, so all arms of a seed start
    from the same weights and see the same batches.

    Args:
        experiment: the one given.
        study: which has the arm.
        arm: its name.
        seed: takes the place of the experiment's.
        steps: of the stage that is trained; the experiment's if None.
    """
    content = experiment.written() | {"seed": seed}
    content["stages"][study.stage]["stop_after"] = 0  # all arms do equally many steps
    if steps is not None:
        content["stages"][study.stage]["steps"] = steps
    for section, fields in study.arms[arm].items():
        content[section] |= fields
    return Experiment.model_validate(content)
