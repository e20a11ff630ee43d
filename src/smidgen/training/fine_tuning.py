"""What fine-tuning asks of a run that pretraining does not: few weights, few and dear steps, losses around zero."""

from collections.abc import Mapping
from typing import Literal

from smidgen.errors import ConfigError
from smidgen.training.config import AdamWConfig, Budget, DropoutConfig, ScheduleConfig, TrainConfig
from smidgen.training.objectives.build import ObjectiveConfig

LEARNING_RATES: Mapping[str, Mapping[str, float]] = {
    "full": {"next_token": 1e-4, "preference": 5e-6, "policy": 5e-6},
    "bias": {"next_token": 1e-3, "preference": 1e-4, "policy": 3e-4},
    "ia3": {"next_token": 3e-3, "preference": 3e-4, "policy": 1e-3},
    "lora": {"next_token": 5e-4, "preference": 5e-5, "policy": 5e-4},
    "lora_xs": {"next_token": 4e-3, "preference": 5e-4, "policy": 1e-3},
    "tinylora": {"next_token": 1e-2, "preference": 2e-3, "policy": 5e-3},
}
"""Peak learning rates by type of adapter and objective: where to begin.

The fewer the numbers, the farther each must go: v is 0.01 to 1 in the end (facts.md, section 3), and Adam moves a
weight by about its rate a step, so 200 steps at the paper's 2e-4 end at 0.04. The sweep to try around tinylora's is
5e-5, 1e-4, 2e-4, 1e-3, 5e-3.
"""

SCHEDULES: Mapping[str, ScheduleConfig] = {
    "next_token": ScheduleConfig(type="linear", warmup=0.03),
    "preference": ScheduleConfig(type="linear", warmup=0.1),
    "policy": ScheduleConfig(type="wsd", warmup=0.0, decay=0.0),
}
"""A policy's rate is constant, as in every reproduction of facts.md; a warm-up from 0 would throw rollouts away."""


def fine_tuning_config(
    adapter: str, objective: ObjectiveConfig, budget: Budget, learning_rate: float | None = None
) -> TrainConfig:
    """Return how a model with an adapter of a type ("lora", "full", ...) is trained by an objective.

    AdamW without decay, gradients clipped, nothing compiled (every step has lengths of its own), no dropout; what is
    no sum of nats is not watched for spikes. Raises ConfigError if a learning rate is not known and not given.
    """
    rates = LEARNING_RATES.get(adapter, {})
    if learning_rate is None and objective.type not in rates:
        raise ConfigError(f"no learning rate is known for adapter {adapter} and {objective.type}: give one.")
    spikes: float | Literal["off"] = "off" if objective.type in ("policy", "preference") else 2.0
    return TrainConfig(
        budget=budget,
        objective=objective,
        optimizer=AdamWConfig(learning_rate=learning_rate or rates[objective.type], weight_decay=0.0),
        schedule=SCHEDULES.get(objective.type, ScheduleConfig()),
        dropout=DropoutConfig(rate=0.0),
        clip_norm=1.0,
        compile="off",
        spike_factor=spikes,
    )
