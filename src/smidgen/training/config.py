"""What a training run may choose. Horizons and schedules are fractions of the budget, never step numbers."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from smidgen.config import Config
from smidgen.training.objectives.build import ObjectiveConfig
from smidgen.training.objectives.next_token import NextTokenConfig

Fraction = Annotated[float, Field(ge=0, le=1)]
Recompute = Annotated[Fraction, BeforeValidator(lambda said: float(said) if isinstance(said, bool) else said)]
"""A share, or yes or no to all."""


class TimeBudget(Config):
    """Train for a time on this machine; the schedule follows the elapsed share, so the run ends decayed on time."""

    type: Literal["time"] = "time"
    seconds: Annotated[float, Field(gt=0)] = 600.0
    """Seconds of training, compilation included."""
    clock: Literal["wall", "processor"] = "wall"
    """What is counted; processor: processor time per thread, fair between runs on a machine that has other work too."""


class TokenBudget(Config):
    """Train on a number of symbols."""

    type: Literal["tokens"] = "tokens"
    tokens: Annotated[int, Field(ge=1)] = 10_000_000
    """Symbols to train on; rounded up to whole steps."""


class StepBudget(Config):
    """Train for a number of optimizer steps."""

    type: Literal["steps"] = "steps"
    steps: Annotated[int, Field(ge=1)] = 1000
    """Optimizer steps."""


Budget = Annotated[TimeBudget | TokenBudget | StepBudget, Field(discriminator="type")]


class AdamWConfig(Config):
    """AdamW for everything. Source: Loshchilov and Hutter 2017, arXiv 1711.05101."""

    type: Literal["adamw"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Peak learning rate."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decay of the first and second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-10
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay of matrices; vectors and scalars are never decayed."""


class MuonConfig(Config):
    """Muon for the matrices of the blocks, AdamW for embeddings, head, norms and scalars.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; techniques measured in LOG.md.
    """

    type: Literal["muon"] = "muon"
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Peak learning rate of the orthogonalised updates."""
    momentum: Fraction = 0.95
    """Nesterov momentum of the gradient."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=10)] = 5
    """Iterations of the orthogonalisation."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay of the matrices, scaled by the learning rate."""
    embedding_learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    """Peak AdamW learning rate of embeddings and head."""
    scalar_learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    """Peak AdamW learning rate of norms and scalars."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """AdamW's moments."""
    eps: Annotated[float, Field(gt=0)] = 1e-10
    """AdamW's epsilon."""


OptimizerConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="type")]


class ScheduleConfig(Config):
    """Learning-rate multiplier over the elapsed share of the budget."""

    type: Literal["wsd", "cosine", "linear"] = "wsd"
    """wsd: warm-up, stable, linear warm-down; cosine and linear decay from the end of the warm-up."""
    warmup: Fraction = 0.01
    """Share of the budget spent rising from zero."""
    decay: Fraction = 0.5
    """Share of the budget spent in wsd's warm-down."""
    floor: Fraction = 0.0
    """Multiplier at the end."""

    @model_validator(mode="after")
    def _check(self) -> "ScheduleConfig":
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup ({self.warmup}) and decay ({self.decay}) together must not exceed 1.")
        return self


class DropoutConfig(Config):
    """Dropout of embeddings and of what attention and feed-forwards add, and how it moves over the budget.

    Source of the schedules: Super Tiny Language Models' dropout report, arXiv 2409.05423; early cut: arXiv 2303.01500.
    """

    rate: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Greatest rate; auto: none where the data is read up to 5 times, then 0.1 more for each doubling, up to 0.3."""
    schedule: Literal["constant", "early_cut", "linear_up", "linear_down", "triangular"] = "constant"
    """constant, the best where dropout pays (docs/studies/super-tiny.md); early_cut: then none; linear_up from none;
    linear_down to none; triangular: up and down, 3 times."""
    until: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the budget at which the schedule is through and stays as it ended; None: 0.2 of early_cut, else all."""


class TrainConfig(Config):
    """One training run, given a model and data."""

    budget: Budget = TimeBudget()
    """When to stop."""
    seq_len: Annotated[int, Field(ge=2)] = 512
    """Symbols a row is trained on."""
    batch_tokens: Annotated[int, Field(ge=2)] = 8192
    """Symbols of one optimizer step, over all ranks."""
    micro_rows: Annotated[int, Field(ge=1)] | None = None
    """Rows of one forward; None: as many as a step has, up to 16. More rows than fit are accumulated."""
    answer_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of what assistants say in conversations, against 1 for everything else; above 1, answering comes first."""
    optimizer: OptimizerConfig = MuonConfig()
    """How weights move."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate moves."""
    objective: ObjectiveConfig = NextTokenConfig()
    """What is minimised."""
    dropout: DropoutConfig = DropoutConfig()
    """What is dropped while training."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Greatest gradient norm; None: no clipping."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep an exponential moving average of the weights and ship that; None: ship the last weights."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Dtype of activations and matrix products; auto: the fastest safe one of this device."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: after a probe, and only when the budget repays it."""
    recompute: Recompute = 0.0
    """Share of the depths that are computed once more in the backward pass instead of keeping what is inside them:
    slower, less memory. true: all."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work: each with all weights, or (FSDP2, saves memory) with a part of each."""
    loop_from: Fraction | None = None
    """Share of the budget from which repeated blocks repeat; before it each runs once. None: from the start."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest time between resume checkpoints of a time-budgeted run."""
    checkpoint_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between resume checkpoints; None: by `checkpoint_seconds` alone."""
    evaluations: Annotated[int, Field(ge=1)] = 10
    """Times validation bits per byte is measured, evenly over the budget, the end included."""
    samples: Annotated[int, Field(ge=0)] = 4
    """Times sample texts are written, evenly over the budget, the end included."""
    spike_factor: Annotated[float, Field(gt=1)] | Literal["off"] = 2.0
    """A smoothed loss this many times its best (in nats above zero) counts as a spike: roll back once, then stop.
    off: for losses that are no nats above zero, as those of policies; one that is not finite always stops."""
    tensorboard: bool = False
    """Also write metrics for TensorBoard (extra: tensorboard)."""

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if self.parallel == "fsdp" and self.compile == "on":
            raise ValueError('compile = "on" does not go with parallel = "fsdp". Leave one of them out.')
        return self
