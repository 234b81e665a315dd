"""What a user declares about a training run: the content of `manifests/experiments/*.yaml`.

The four stages are those of RaD-Net 2: a non-causal teacher, a causal student distilled from it, a denoiser
behind the frozen student, and both together. Defaults are full-scale numbers; where the paper does not state
one, it is our choice.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from manifests.canonical import digest
from manifests.documents import Document, check, load_document, with_overrides
from manifests.errors import UserError

FOLDER = "experiments"

StageName = Literal["teacher", "student", "denoiser", "joint"]
STAGES: tuple[StageName, ...] = ("teacher", "student", "denoiser", "joint")
"""In the order in which they are trained."""


BestBy = Literal["loss", "magnitude", "complex", "asymmetric", "level_error_db", "si_snr_db"]
"""Metrics of a validation."""


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageSettings(_Declared):
    """How long one stage is trained, on what batches, and how fast it learns."""

    steps: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Samples of one step, or of one of its `optimisation.accumulate` parts, shared by all ranks: their number changes
    nothing in what a step learns from."""
    segment_s: float = Field(default=4.0, ge=0.1, le=120.0)
    """Length of the stretch cut from each sample, in seconds; longer than the samples means all of them."""
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises to `learning_rate`, in equal parts."""
    schedule: Literal["halve", "constant", "cosine"] = "halve"
    """What the rate does after that: it is halved when validation gets no better, stays, or falls to 0 along half
    a cosine, which it reaches after the last step."""
    validate_every: int = Field(default=1000, ge=1)
    """Steps between validations; the last step is always validated."""
    halve_after: int = Field(default=3, ge=0)
    """With `schedule: halve`: validations without a better result before the rate is halved; 0 never halves it."""
    stop_after: int = Field(default=0, ge=0)
    """So many validations in a row without a better result end the stage early; 0 never does."""

    @model_validator(mode="after")
    def _warm_before_the_end(self) -> "StageSettings":
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, and the stage has {self.steps} steps")
        return self


class Stages(_Declared):
    """Settings of each stage."""

    teacher: StageSettings
    student: StageSettings
    denoiser: StageSettings
    joint: StageSettings

    def of(self, stage: StageName) -> StageSettings:
        """Return the settings of one stage."""
        settings: StageSettings = getattr(self, stage)
        return settings


class LossWeights(_Declared):
    """Weights of the losses against the clean target."""

    magnitude: float = Field(default=1.0, ge=0.0)
    complex: float = Field(default=0.3, ge=0.0)
    """Where the phase cannot be known (far talkers, low SNR) this term is least at silence, so it weighs
    less than the magnitudes (0.3 is the share of Braun and Tashev, 2021)."""
    asymmetric: float = Field(default=1.0, ge=0.0)
    """Extra penalty on what the estimate has too little of (over-suppression)."""
    level: float = Field(default=0.01, ge=0.0)
    """Of the level error in dB, in every stage: spectral losses alone let estimates get quieter in noise and rooms."""
    si_snr: float = Field(default=0.02, ge=0.0)
    """Of the SI-SNR in dB, in the denoiser's stage only: it is blind to level."""
    repaired: float = Field(default=0.3, ge=0.0)
    """In the joint stage: of the spectral loss on the repairing net's output, beside 1 on the final one."""


class Distillation(_Declared):
    """What the student learns from the teacher."""

    match: Literal["features", "similarity", "attention", "none"] = "features"
    """How inner activations are compared: KD-A, KD-B or KD-C of `training.losses.distillation`, or not at all."""
    features: float = Field(default=0.5, ge=0.0)
    """Weight of the match of inner activations."""
    output: float = Field(default=0.5, ge=0.0)
    """Weight of the match of outputs."""
    only_where_teacher_is_better: bool = False
    """Match outputs only in time-frequency bins where the teacher is nearer to the target than the student."""
    fade_share: float = Field(default=0.2, ge=0.0, le=1.0)
    """Both weights fall to 0 linearly over this last share of the steps."""
    initialise_from_teacher: bool = False
    """Start the student from the teacher's weights, whose shapes are the same."""


class DenoiserSettings(_Declared):
    """What differs from the preset's denoiser."""

    use_asa: bool = True
    """Whether its encoder and decoder contain complex axial self-attention."""


Window = Annotated[int, Field(ge=64, le=16384, multiple_of=4)]
"""Of an STFT, in samples; its hop is a quarter of it."""

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class Adversarial(_Declared):
    """Discriminators that judge the output of a stage, and how much of what they say is learnt."""

    stages: tuple[StageName, ...] = ()
    """Stages that have discriminators; none without."""
    resolution_windows: tuple[Window, ...] = (2048, 1024, 512)
    """One discriminator of magnitudes each; with none, there is no such discriminator."""
    band_windows: tuple[Window, ...] = (2048, 1024, 512)
    """One discriminator of bands of the complex spectrum each."""
    channels: int = Field(default=32, ge=1, le=1024)
    """Of every layer of every discriminator."""
    learning_rate: float = Field(default=1e-4, gt=0.0, le=1.0)
    """Of the discriminators' own optimiser, AdamW."""
    betas: tuple[Beta, Beta] = (0.8, 0.99)
    """Of the same."""
    start_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Share of a stage's steps with spectral losses alone, before the discriminators begin to train."""
    lead_steps: int = Field(default=100, ge=0)
    """So many steps they train without a say in the generator's loss."""
    adversarial: float = Field(default=1.0, ge=0.0)
    """Weight of the least-squares adversarial loss among the adversarial terms."""
    feature_matching: float = Field(default=2.0, ge=0.0)
    """Weight of feature matching among them."""
    spectral_dominance: float = Field(default=7.0, gt=0.0)
    """How many times larger the gradient of the spectral loss is than that of all adversarial terms together,
    where these begin; it fixes their common weight for the rest of the stage."""

    @model_validator(mode="after")
    def _has_something_to_say(self) -> Self:
        if self.stages and not (self.resolution_windows or self.band_windows):
            raise ValueError("stages have discriminators, but both lists of windows are empty")
        if self.stages and self.adversarial == self.feature_matching == 0.0:
            raise ValueError(
                "the weights 'adversarial' and 'feature_matching' are both 0; leave 'stages' empty instead"
            )
        return self


class Optimisation(_Declared):
    """What all stages share in how weights are moved."""

    clip_norm: float = Field(default=5.0, gt=0.0)
    """Largest gradient norm; larger gradients are scaled down to it."""
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Of the moving average of the weights, which is what is validated and kept; 0 keeps the last weights."""
    max_nan_steps: int = Field(default=10, ge=1)
    """So many steps in a row without a finite loss and gradient stop the run."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the networks' inner products; spectra, norms and losses are always float32. With float16 the loss is
    scaled up before its gradients are taken, as far as they stay finite."""
    accumulate: int = Field(default=1, ge=1, le=1024)
    """Batches whose gradients are averaged before weights move: as a batch so many times as large (but batch
    norms see each by itself), in the memory of one."""
    compile: bool = False
    """Compile the networks with torch.compile: minutes at the start of a stage, then faster steps; needs a C++
    compiler."""
    cuda_graphs: bool = True
    """On a GPU, record the losses and gradients of a step once and replay them: as much memory again, and the host no
    longer decides how long a step takes. Not with `compile` or `accumulate`, nor while discriminators train."""

    @property
    def recorded_on_cuda(self) -> bool:
        """Whether steps are recorded where there is a GPU."""
        return self.cuda_graphs and not self.compile and self.accumulate == 1


class Validation(_Declared):
    """The fixed stretches of the val split that every validation uses."""

    samples: int = Field(default=64, ge=0)
    """How many; 0 trains without validation."""
    segment_s: float = Field(default=4.0, ge=0.1, le=120.0)
    shown: int = Field(default=4, ge=0)
    """The first so many are handed to the tracker as audio."""
    best_by: BestBy = "loss"
    """The metric that says which weights are the best and are kept, and when the rate is halved or the stage
    stopped: the highest SI-SNR, the lowest of all others."""


class Loader(_Declared):
    """How batches are read ahead and kept; changes nothing in what is learnt."""

    threads: int = Field(default=2, ge=0, le=64)
    """0 reads in the training thread."""
    prefetch_batches: int = Field(default=4, ge=1, le=1024)
    window_shards: int = Field(default=8, ge=1)
    """Samples are shuffled among so many neighbouring shards of an epoch's shard order."""
    max_damaged_in_row: int = Field(default=16, ge=1)
    """So many unreadable samples in a row stop the run."""


class Records(_Declared):
    """How often progress is written down."""

    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints; the last step always leaves one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints kept, beside the best one."""
    metrics_every: int = Field(default=50, ge=1)
    """Steps whose metrics are sent to the tracker together."""


class Experiment(_Declared):
    """A complete experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str = ""
    preset: str
    """Size of the networks, a name of `training.models.presets`."""
    seed: int = 0
    stages: Stages
    loss: LossWeights = LossWeights()
    distillation: Distillation = Distillation()
    denoiser: DenoiserSettings = DenoiserSettings()
    adversarial: Adversarial = Adversarial()
    optimisation: Optimisation = Optimisation()
    validation: Validation = Validation()
    loader: Loader = Loader()
    records: Records = Records()

    @model_validator(mode="after")
    def _nothing_to_stop_by(self) -> "Experiment":
        for stage in STAGES:
            if self.stages.of(stage).stop_after and not self.validation.samples:
                raise ValueError(f"stages.{stage}.stop_after needs validation, and validation.samples is 0")
        return self

    def written(self) -> dict[str, Any]:
        """Return the experiment as plain JSON values."""
        return self.model_dump(mode="json")

    def stage_written(self, stage: StageName) -> dict[str, Any]:
        """Return what decides the weights of one stage, given its data and its parents.

        Names, other stages' settings and everything about reading ahead and keeping records are left out, so
        that changing them leaves finished stages and checkpoints valid. The shuffling window stays in: it
        decides the order of samples.
        """
        content = self.model_dump(
            mode="json", include={"preset", "seed", "loss", "optimisation", "validation", "distillation"}
        )
        content["validation"].pop("shown")
        content["optimisation"].pop("cuda_graphs")
        _drop_defaults(content["optimisation"], Optimisation, "accumulate", "compile")
        _drop_defaults(content["validation"], Validation, "best_by")
        if stage != "student":
            content.pop("distillation")
        if stage in ("denoiser", "joint") and self.denoiser != DenoiserSettings():
            content["denoiser"] = self.denoiser.model_dump(mode="json")
        if stage in self.adversarial.stages:
            content["adversarial"] = self.adversarial.model_dump(mode="json", exclude={"stages"})
        settings = self.stages.of(stage).model_dump(mode="json")
        _drop_defaults(settings, StageSettings, "warmup_steps", "schedule", "stop_after")
        return {**content, "stage": stage, "settings": settings, "window_shards": self.loader.window_shards}

    def stage_digest(self, stage: StageName) -> str:
        """Identity of one stage's settings."""
        return digest(self.stage_written(stage))


def _drop_defaults(content: dict[str, Any], model: type[BaseModel], *names: str) -> None:
    """Leave out what is as it was before there was a choice, so that digests from then hold."""
    for name in names:
        if content[name] == model.model_fields[name].default:
            content.pop(name)


def load_experiment(reference: str, settings: Iterable[str] = ()) -> Experiment:
    """Read an experiment by shipped name or path and apply `--set a.b=c` options.

    Raises:
        UserError: when there is no such experiment, or a field is wrong; it names the field and its line.
    """
    document: Document = with_overrides(load_document(reference, FOLDER), settings)
    return check(Experiment, document.content, document)


def chosen_stages(choice: str) -> tuple[StageName, ...]:
    """Return the stages that `--stage CHOICE` means, `all` being each in order.

    Raises:
        UserError: when there is no such stage.
    """
    if choice == "all":
        return STAGES
    for stage in STAGES:
        if choice == stage:
            return (stage,)
    raise UserError(f"--stage {choice}: no such stage; there are {', '.join(STAGES)} and all")
