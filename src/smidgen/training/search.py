"""Training without gradients: try vectors, move towards those that score. For adapters of few numbers.

Every row of a rollout batch tries a vector of its own, so the memory is that of inference, and the base need not be
one that gradients pass through. Rewards are noise around a mean: prompts are fresh in every generation, the same for
all its candidates (common random numbers), and what is kept is no candidate, which had luck, but the mean of the
distribution; at the end the best of these means are scored again, beside the start, on prompts of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from smidgen.config import Config
from smidgen.errors import CheckpointError, TrainingError
from smidgen.training.config import StepBudget, TimeBudget, TokenBudget
from smidgen.training.evolution import STRATEGIES, CmaEsConfig, StrategyConfig
from smidgen.training.schedule import BudgetClock

Evaluate = Callable[[Float[Tensor, "P n"], int], Sequence[float]]
"""Score vectors, higher being better, all on the same prompts and draws: those of the round whose number is given."""

_OWN = ("generation", "seconds", "generation_seconds", "flat", "finalists", "finalist_scores")


class EvaluationBudget(Config):
    """Search for a number of scored vectors."""

    type: Literal["evaluations"] = "evaluations"
    evaluations: Annotated[int, Field(ge=1)] = 5000
    """Vectors to score; rounded up to whole generations."""


SearchBudget = Annotated[TimeBudget | StepBudget | EvaluationBudget, Field(discriminator="type")]
"""Steps are generations."""


class SearchConfig(Config):
    """One search."""

    strategy: StrategyConfig = CmaEsConfig()
    """How candidates are drawn."""
    budget: SearchBudget = TimeBudget()
    """When to stop; the last comparison included."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides every draw of the search; what a round asks is up to whoever scores it."""
    finalists: Annotated[int, Field(ge=1)] = 3
    """Means of past generations that are scored again at the end, beside the start and the last."""
    final_rounds: Annotated[int, Field(ge=1)] = 4
    """Rounds of fresh prompts on which they are."""
    patience: Annotated[int, Field(ge=1)] = 10
    """Generations in a row that may score all alike before the search ends: settled, or without any signal."""


@dataclass(frozen=True)
class Generation:
    """What one generation showed, and the state after it."""

    number: int
    """Counted from 1."""
    evaluations: int
    """Vectors scored so far."""
    seconds: float
    mean_score: float
    """Of the candidates."""
    best_score: float
    """Of the luckiest."""
    center_score: float
    """Of the mean of the distribution they were drawn from, on the same prompts."""
    state: Mapping[str, Tensor]
    """What `search` goes on from."""


@dataclass(frozen=True)
class SearchResult:
    """What was found."""

    vector: Float[Tensor, " n"]
    """The best mean; the start, if nothing beat it."""
    score: float
    """Its score on the last rounds, which chose it: measure anew before you tell; nan if interrupted."""
    start_score: float
    """The start's score on the same rounds."""
    generations: int
    evaluations: int
    seconds: float
    ended: Literal["budget", "settled", "interrupted"]
    """Why: settled is a distribution so narrow that all candidates score alike."""
    state: Mapping[str, Tensor]


def search(
    evaluate: Evaluate,
    n: int,
    config: SearchConfig,
    state: Mapping[str, Tensor] | None = None,
    on_generation: Callable[[Generation], object] = lambda generation: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SearchResult:
    """Search from the zero vector, which is an adapter that does nothing, or go on from a `state`.

    Raises TrainingError if a score is not finite, or if all candidates of the first `patience` generations score alike.
    """
    run = _Run(evaluate, n, config, state)
    while not (run.is_over or run.is_settled):
        if should_stop():
            return run.result(run.mean.float(), (float("nan"), float("nan")), "interrupted")
        on_generation(run.advance())
    return run.finish()


class _Run:
    """One search under way; all of it that must outlive the process is in `state`."""

    def __init__(self, evaluate: Evaluate, n: int, config: SearchConfig, state: Mapping[str, Tensor] | None) -> None:
        if n < 1:
            raise TrainingError(f"there are {n} parameters to search over: the adapter trains nothing.")
        self._evaluate, self._config = evaluate, config
        self._strategy = STRATEGIES[config.strategy.type]
        self._population = self._strategy.population(config.strategy, n)
        self.state = dict(state) if state is not None else self._begin(n)
        self._check_state(n)
        budget = config.budget
        if isinstance(budget, EvaluationBudget):
            budget = TokenBudget(tokens=budget.evaluations)
        self._clock = BudgetClock(budget, self._population + 1, float(self.state["seconds"]))

    @property
    def mean(self) -> Tensor:
        """Return the mean of the distribution now."""
        return self.state["mean"]

    @property
    def generation(self) -> int:
        """Return the generations done."""
        return int(self.state["generation"])

    @property
    def is_over(self) -> bool:
        """Whether the budget has no room for a generation and the last comparison."""
        config = self._config
        last = config.final_rounds * (config.finalists + 2) / (self._population + 1)
        # What the last one took is part of the state: a search that was over is over when it is gone on with.
        return self._clock.is_over(self.generation, float(self.state["generation_seconds"]) * (1 + 2 * last))

    @property
    def is_settled(self) -> bool:
        """Whether candidates have scored all alike for a while."""
        return int(self.state["flat"]) >= self._config.patience

    def advance(self) -> Generation:
        """Try one generation and move the distribution."""
        number, began, strategy = self.generation, self._clock.seconds, self._config.strategy
        own = {name: value for name, value in self.state.items() if name not in _OWN}
        # What is told is what was tried: fp32, as adapters are.
        vectors = self._strategy.ask(strategy, own, self._seed(number)).float()
        scores = self._score(torch.cat([vectors, self.mean.float()[None]]), number)
        candidates, center = scores[:-1], float(scores[-1])
        is_flat = bool((candidates == candidates[0]).all())
        flat = int(self.state["flat"]) + 1 if is_flat else 0
        if number + 1 == flat == self._config.patience:
            raise TrainingError(
                f"nothing to learn from: all candidates scored {float(candidates[0]):g}, in all of the first {flat} "
                "generations. Take an easier task, more prompts a generation, or a larger sigma."
            )
        finalists, finalist_scores = self._keep(center)
        if not is_flat:
            own = self._strategy.tell(strategy, own, vectors, candidates)
        self.state = own | {
            "generation": torch.tensor(number + 1),
            "seconds": torch.tensor(self._clock.seconds, dtype=torch.float64),
            "generation_seconds": torch.tensor(self._clock.seconds - began, dtype=torch.float64),
            "flat": torch.tensor(flat),
            "finalists": finalists,
            "finalist_scores": finalist_scores,
        }
        best, mean = float(candidates.max()), float(candidates.mean())
        return Generation(number + 1, self.evaluations, self._clock.seconds, mean, best, center, dict(self.state))

    @property
    def evaluations(self) -> int:
        """Return the vectors scored so far."""
        return self.generation * (self._population + 1)

    def finish(self) -> SearchResult:
        """Score the start, the best means and the last again, together, and return the best of them."""
        contenders = torch.cat([torch.zeros(1, len(self.mean)), self.state["finalists"], self.mean.float()[None]])
        first = self.generation
        rounds = [self._score(contenders, first + at) for at in range(self._config.final_rounds)]
        scores = torch.stack(rounds).mean(0)
        best = int(scores.argmax())  # the first of equals: what moved and gained nothing has not won
        extra = len(contenders) * len(rounds)
        ended = "settled" if self.is_settled else "budget"
        return self.result(contenders[best], (float(scores[best]), float(scores[0])), ended, extra)

    def result(
        self,
        vector: Tensor,
        scores: tuple[float, float],
        ended: Literal["budget", "settled", "interrupted"],
        extra: int = 0,
    ) -> SearchResult:
        """Return what there is to tell."""
        return SearchResult(
            vector, *scores, self.generation, self.evaluations + extra, self._clock.seconds, ended, dict(self.state)
        )

    def _begin(self, n: int) -> dict[str, Tensor]:
        own = self._strategy.begin(self._config.strategy, torch.zeros(n))
        counters = {"generation": torch.tensor(0)} | {
            name: torch.zeros((), dtype=torch.float64) for name in ("seconds", "generation_seconds")
        }
        kept = {"finalists": torch.zeros(0, n), "finalist_scores": torch.zeros(0, dtype=torch.float64)}
        return own | counters | kept | {"flat": torch.tensor(0)}

    def _check_state(self, n: int) -> None:
        missing = [name for name in ("mean", *_OWN) if name not in self.state]
        if missing or len(self.mean) != n:
            found = f"lacks {missing[0]}" if missing else f"searches over {len(self.mean)} parameters, not {n}"
            raise CheckpointError(f"the state of the search is of another search: it {found}. Start anew.")

    def _keep(self, score: float) -> tuple[Tensor, Tensor]:
        """Return the best-scored means so far, this one considered; of equals the later. The start is in anyway."""
        if self.generation == 0:
            return self.state["finalists"], self.state["finalist_scores"]
        means = torch.cat([self.mean.float()[None], self.state["finalists"]])
        scores = torch.cat([torch.tensor([score], dtype=torch.float64), self.state["finalist_scores"]])
        best = scores.argsort(descending=True, stable=True)[: self._config.finalists]
        return means[best], scores[best]

    def _score(self, vectors: Tensor, number: int) -> Tensor:
        """Score vectors on the prompts of a round. Raises TrainingError unless there is a finite score for each."""
        scores = torch.tensor([float(score) for score in self._evaluate(vectors, number)], dtype=torch.float64)
        if len(scores) != len(vectors):
            raise TrainingError(f"{len(vectors)} vectors were to be scored, and {len(scores)} scores came back.")
        wrong = (~scores.isfinite()).nonzero()
        if len(wrong):
            first = int(wrong[0])
            raise TrainingError(
                f"the score of vector {first + 1} of {len(vectors)} in round {number} is {float(scores[first])}. "
                "Check the reward; the state of the last generation is kept."
            )
        return scores

    def _seed(self, generation: int) -> int:
        return int(np.random.SeedSequence([self._config.seed, generation]).generate_state(1)[0])
