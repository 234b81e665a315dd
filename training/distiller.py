"""What the teacher teaches in a step of the student: the one interface between the student's task and distillation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from manifests.experiment import Distillation
from training.losses.distillation import (
    attention_match,
    distillation_weight,
    feature_match,
    output_match,
    output_match_where_teacher_is_better,
    similarity_match,
)
from training.models.repair import RepairNet, RepairOutput

TAUGHT = "teacher"
"""Name of the weighted sum among the named losses."""

INNER_MATCH = {"features": feature_match, "similarity": similarity_match, "attention": attention_match}


@dataclass(frozen=True)
class Distiller:
    """A frozen teacher, and how much of it the student is to match when.

    Attributes:
        teacher: in evaluation mode, weights fixed; of the student's shapes, so no projections are needed.
        settings: which activations are matched and with what weights.
        steps: of the student's whole stage: the weights fade out over the last share of them.
    """

    teacher: RepairNet
    settings: Distillation
    steps: int

    def compares_features(self, step: int) -> bool:
        """Say whether the student's activations are needed after `step` steps."""
        return self._inner_weight(step) > 0.0

    def losses(self, student: RepairOutput, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Compare the student with the teacher on the same input.

        Args:
            student: its output for `degraded`, with activations if `compares_features(step)`.
            degraded: (B, N) waves.
            target: (B, N) waves.
            step: steps done so far.

        Returns:
            Scalars by name: `teacher_features` and `teacher_output`, unweighted and each only while it has a weight,
            and under `TAUGHT` their weighted sum. Each is exactly 0 where the student does as the teacher. Empty once
            all weights are 0.
        """
        inner, output = self.weights(step)
        if inner <= 0.0 and output <= 0.0:
            return {}
        with torch.no_grad():
            teacher = self.teacher(degraded, with_features=inner > 0.0)
        terms, weighted = {}, []
        if inner > 0.0:
            terms["teacher_features"] = INNER_MATCH[self.settings.match](student.features, teacher.features)
            weighted.append(inner * terms["teacher_features"])
        if output > 0.0:
            if self.settings.only_where_teacher_is_better:
                matched = output_match_where_teacher_is_better(student.wave, teacher.wave, target)
            else:
                matched = output_match(student.wave, teacher.wave)
            terms["teacher_output"] = matched
            weighted.append(output * matched)
        return {**terms, TAUGHT: torch.stack(weighted).sum()}

    def weights(self, step: int) -> tuple[float, float]:
        """Return the weights of inner activations and of outputs after `step` steps."""
        return self._inner_weight(step), self._output_weight(step)

    def _inner_weight(self, step: int) -> float:
        return self._weight(step, 0.0 if self.settings.match == "none" else self.settings.features)

    def _output_weight(self, step: int) -> float:
        return self._weight(step, self.settings.output)

    def _weight(self, step: int, full_weight: float) -> float:
        return distillation_weight(step, self.steps, full_weight, self.settings.fade_share)
