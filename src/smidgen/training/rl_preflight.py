"""Before hours of reinforcement learning: is there anything to learn from?

Where every answer to a prompt earns the same, the loss is 0 and nothing ever says so (users.md #9). A few groups of
answers tell beforehand; a pass rate of 10 to 60% is where learning is fastest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.errors import TrainingError
from smidgen.training.advantages import check_rewards, informative_groups

LEAST_INFORMATIVE = 0.05
"""Share of groups whose rewards must differ: below it nineteen of twenty rollouts are thrown away."""


class Rewarded(Protocol):
    """What is looked at of a rollout."""

    @property
    def reward(self) -> float:
        """What the answer earned."""
        ...

    @property
    def text(self) -> str:
        """The answer."""
        ...

    @property
    def symbols(self) -> Sequence[int]:
        """The answer in symbols."""
        ...

    @property
    def done(self) -> str | None:
        """Why it ended: "stop" if it came to its end, else it was cut."""
        ...


@dataclass(frozen=True)
class RlPreflight:
    """What a few groups of answers show."""

    n_groups: int
    n_answers: int
    """In all groups together."""
    mean_reward: float
    pass_rate: float
    """Share of answers with the full reward."""
    solved: float
    """Share of groups with at least one such answer."""
    informative: float
    """Share of groups in which rewards differ."""
    mean_symbols: float
    cut: float
    """Share of answers that were still going on when they reached the longest allowed."""
    samples: tuple[tuple[float, str], ...]
    """Reward and text of some answers, one from each of the first groups, right ones first where there are any."""
    reason: str | None
    """Why nothing can be learned, in one line; None if something can."""


def look_before_learning(
    groups: Sequence[Sequence[Rewarded]], full_reward: float = 1.0, least_informative: float = LEAST_INFORMATIVE
) -> RlPreflight:
    """Judge groups of answers, one group a prompt. Raises TrainingError if a reward is not finite or all is empty."""
    answers = [answer for group in groups for answer in group]
    if not answers:
        raise TrainingError("there are no answers to look at: the task gave no prompts.")
    for group in groups:
        check_rewards(_rewards(group)[None])
    rewards = _rewards(answers)
    passed = rewards >= full_reward
    differing = [_differ(group) for group in groups]
    informative = sum(differing) / len(groups)
    cut = sum(answer.done != "stop" for answer in answers) / len(answers)
    best = [max(group, key=lambda answer: answer.reward) for group in groups if group]
    return RlPreflight(
        n_groups=len(groups),
        n_answers=len(answers),
        mean_reward=float(rewards.mean()),
        pass_rate=float(passed.float().mean()),
        solved=sum(answer.reward >= full_reward for answer in best) / len(groups),
        informative=informative,
        mean_symbols=sum(len(answer.symbols) for answer in answers) / len(answers),
        cut=cut,
        samples=tuple((answer.reward, answer.text) for answer in best[:3]),
        reason=_find_reason(rewards, full_reward, cut, informative, least_informative),
    )


def _rewards(answers: Sequence[Rewarded]) -> Float[Tensor, " n"]:
    return torch.tensor([float(answer.reward) for answer in answers])


def _differ(group: Sequence[Rewarded]) -> bool:
    return bool(group) and bool(informative_groups(_rewards(group)[None]))


def _find_reason(
    rewards: Float[Tensor, " n"], full_reward: float, cut: float, informative: float, least_informative: float
) -> str | None:
    n, least, most = len(rewards), float(rewards.min()), float(rewards.max())
    if least == most:
        if cut == 1:
            return f"all {n} answers were cut before they ended: allow longer answers, or ask for shorter ones."
        if least >= full_reward:
            return f"all {n} answers are right already: take a harder task."
        if least <= 0:
            return f"not one of {n} answers earned anything: take an easier task, show examples, or fine-tune first."
        return f"all {n} answers earned {least:g}: the reward tells nothing apart."
    if informative < least_informative:
        return (
            f"in {informative:.0%} of the groups answers to one prompt earn different rewards, fewer than "
            f"{least_informative:.0%}: prompts are always or never solved. Sample warmer, or take prompts in between."
        )
    return None


def describe(seen: RlPreflight) -> list[str]:
    """Return the preflight in lines for the terminal."""
    lines = [
        f"{seen.n_answers} answers to {seen.n_groups} prompts: {seen.pass_rate:.1%} right, mean reward "
        f"{seen.mean_reward:.3f}; {seen.solved:.1%} of the prompts solved at least once",
        f"answers differ in reward in {seen.informative:.1%} of the groups: only these teach; "
        "the loss stays near 0, watch the reward",
        f"{seen.mean_symbols:.1f} symbols an answer; {seen.cut:.1%} cut before they ended",
    ]
    return lines + [f"earned {reward:g}: {text[:120]!r}" for reward, text in seen.samples]


def require_signal(seen: RlPreflight) -> None:
    """Raise TrainingError with the reason if there is nothing to learn from."""
    if seen.reason is not None:
        raise TrainingError(f"nothing to learn from: {seen.reason}")
