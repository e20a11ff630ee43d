"""From rewards to advantages: how much better an answer was than what could be expected. Pure functions.

A reward that is not finite is refused, a group in which all earned the same carries no signal: its advantages are 0,
exactly, never what rounding leaves of a mean divided by a vanishing deviation.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from smidgen.config import Config
from smidgen.errors import TrainingError

EPS = 1e-4
"""Added to a group's standard deviation, as in TRL's GRPOTrainer; the paper has none."""


class AdvantageConfig(Config):
    """What an answer's reward is compared with."""

    baseline: Literal["mean", "leave_one_out"] = "mean"
    """Mean of its whole group (GRPO, arXiv 2402.03300), or of the others (RLOO, arXiv 2402.14740)."""
    by_deviation: bool = True
    """Divide by the group's standard deviation; without, hard and easy prompts weigh as they vary (Dr. GRPO,
    arXiv 2503.20783)."""


def check_rewards(rewards: Float[Tensor, "G n"]) -> None:
    """Raise TrainingError if a reward is not finite, naming the first answer that has one."""
    wrong = (~rewards.isfinite()).nonzero()
    if len(wrong):
        group, answer = wrong[0].tolist()
        raise TrainingError(
            f"the reward of {len(wrong)} of {rewards.numel()} answers is not a finite number; the first is "
            f"{float(rewards[group, answer])}, of answer {answer + 1} to prompt {group + 1}. Check the reward."
        )


def informative_groups(rewards: Float[Tensor, "G n"]) -> Bool[Tensor, " G"]:
    """Return which groups carry a signal: those in which rewards differ.

    Keeping only these is dynamic sampling. Source: DAPO, arXiv 2503.14476, section 3.2.
    """
    return rewards.amax(1) > rewards.amin(1)


def group_advantages(rewards: Float[Tensor, "G n"], config: AdvantageConfig) -> Float[Tensor, "G n"]:
    """Return each answer's advantage over its group's baseline.

    Raises TrainingError for a reward that is not finite, or for groups of one, which have nothing to compare with.
    """
    check_rewards(rewards)
    n = rewards.shape[1]
    if n < 2:
        raise TrainingError("one answer a prompt has nothing to be compared with. Ask for at least 2, better 8.")
    advantages = rewards - rewards.mean(1, keepdim=True)
    if config.baseline == "leave_one_out":  # r - mean of the others is n / (n - 1) times r - mean of all
        advantages = advantages * (n / (n - 1))
    if config.by_deviation:
        advantages = advantages / (rewards.std(1, keepdim=True) + EPS)
    return advantages * informative_groups(rewards)[:, None]


def role_advantages(
    rewards: Float[Tensor, " N"], roles: Sequence[str], baselines: Mapping[str, float], decay: float = 0.95
) -> tuple[Float[Tensor, " N"], dict[str, float]]:
    """Return each game's advantage over what its role has earned so far, and the baselines with these games in them.

    A role names game and seat ("kuhn/first"): who moves first may win more often without playing better. Each game is
    compared with the baseline before it, in the order given, so that none is a part of what it is measured by.
    Source: role-conditioned advantage estimation of SPIRAL, arXiv 2506.24119; its decay is 0.95.
    """
    check_rewards(rewards[None])
    seen = dict(baselines)
    advantages = []
    for reward, role in zip(rewards.tolist(), roles, strict=True):
        expected = seen.get(role, 0.0)
        advantages.append(reward - expected)
        seen[role] = decay * expected + (1 - decay) * reward
    return torch.tensor(advantages, dtype=rewards.dtype), seen
