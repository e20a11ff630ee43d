"""What decides an adaptation, whole: the base, the task, the adapter and the way it learns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from smidgen.config import Config
from smidgen.inference import SamplingParams
from smidgen.surgery.config import AdapterConfig, FullConfig, TinyLoraConfig
from smidgen.training.advantages import AdvantageConfig
from smidgen.training.config import Budget, Recompute, TimeBudget, TokenBudget
from smidgen.training.evolution import MOST_CMA_PARAMETERS, CmaEsConfig, StrategyConfig
from smidgen.training.objectives.policy import PolicyConfig
from smidgen.training.objectives.preference import PreferenceConfig
from smidgen.training.rollouts import RolloutConfig
from smidgen.training.selfplay import SelfPlayConfig
from smidgen.training.spin import SpinConfig

GAME = "game:"
"""A task that begins so is played, not asked."""
LearningRate = Annotated[float, Field(gt=0)] | None


class RlConfig(Config):
    """Learn from rewards: the model's own answers, those that earned more made likelier."""

    type: Literal["rl"] = "rl"
    rollouts: RolloutConfig = RolloutConfig()
    """What is answered in each step."""
    advantages: AdvantageConfig = AdvantageConfig()
    """What a reward is compared with."""
    objective: PolicyConfig = PolicyConfig(clip_high=0.28, normalize="constant", answer_symbols=64)
    """The loss: no KL, clip-higher, length that earns nothing."""
    learning_rate: LearningRate = None
    """Peak; None: where to begin with this adapter (`training.fine_tuning`)."""
    preflight_prompts: Annotated[int, Field(ge=1)] = 32
    """Prompts answered before anything is trained, to see whether there is something to learn from."""


class SftConfig(Config):
    """Learn from right answers: the task's own, or conversations of a file."""

    type: Literal["sft"] = "sft"
    data: Path | None = None
    """Conversations to learn from, .jsonl, .csv or .parquet; None: the task's training examples."""
    pool: Annotated[int, Field(ge=1)] = 10_000
    """Most training examples of a task without end that are made and gone through."""
    examples: Annotated[int, Field(ge=1)] = 32
    """Examples of a step, over all ranks."""
    max_symbols: Annotated[int, Field(ge=2)] = 512
    """Longest example; longer ones are left out, counted and told."""
    micro_symbols: Annotated[int, Field(ge=1)] = 4096
    """Most symbols of a micro-batch, padding included."""
    learning_rate: LearningRate = None
    """Peak; None: where to begin with this adapter (`training.fine_tuning`)."""


class DpoConfig(Config):
    """Learn from preferences: pairs of a better and a worse answer."""

    type: Literal["dpo"] = "dpo"
    data: Path
    """Records with prompt, chosen and rejected."""
    objective: PreferenceConfig = PreferenceConfig()
    """The loss."""
    pairs: Annotated[int, Field(ge=1)] = 16
    """Pairs of a step, over all ranks."""
    max_symbols: Annotated[int, Field(ge=2)] = 512
    """Longest prompt and answer; longer ones are left out, counted and told."""
    micro_symbols: Annotated[int, Field(ge=1)] = 4096
    """Most symbols of a micro-batch, padding included."""
    learning_rate: LearningRate = None
    """Peak; None: where to begin with this adapter (`training.fine_tuning`)."""


class SpinMethod(Config):
    """Learn from oneself: the data's answers preferred to the model's own, round by round."""

    type: Literal["spin"] = "spin"
    data: Path | None = None
    """Conversations whose answers are preferred; None: the task's training examples."""
    pool: Annotated[int, Field(ge=1)] = 4096
    """Most training examples of a task without end that are played with."""
    play: SpinConfig = SpinConfig()
    """Rounds and pairs."""
    objective: PreferenceConfig = PreferenceConfig()
    """The loss."""
    learning_rate: LearningRate = None
    """Peak; None: where to begin with this adapter (`training.fine_tuning`)."""


class SelfPlayMethod(Config):
    """Learn by playing: matches of a game, the moves of who won made likelier."""

    type: Literal["selfplay"] = "selfplay"
    play: SelfPlayConfig = SelfPlayConfig()
    """Matches of a step, opponents, openings."""
    objective: PolicyConfig = PolicyConfig()
    """The loss."""
    learning_rate: LearningRate = None
    """Peak; None: of all weights of a small model 5e-4, else where to begin with this adapter."""

    @model_validator(mode="after")
    def _check(self) -> "SelfPlayMethod":
        if self.objective.kl:
            raise ValueError("self-play keeps no reference to stay near: objective.kl=0.")
        if self.play.sampling.temperature == 0:
            raise ValueError("by.play.sampling.temperature=0 plays one game many times: 1.0 is usual.")
        return self


class SearchMethod(Config):
    """Learn without gradients: try vectors, move towards those that earn more. For adapters of few numbers."""

    type: Literal["search"] = "search"
    strategy: StrategyConfig = CmaEsConfig()
    """How candidates are drawn."""
    prompts: Annotated[int, Field(ge=1)] = 16
    """Prompts that every candidate of a generation answers."""
    answers: Annotated[int, Field(ge=1)] = 1
    """Answers of each candidate to each prompt."""
    sampling: SamplingParams = SamplingParams(temperature=0.0, max_symbols=64)
    """How answers are drawn; greedy ones are what is asked for in the end, and as reproducible."""
    cut_earns: bool = False
    """Whether an answer that is still going on at the longest allowed earns what it would have, or nothing."""
    max_rows: Annotated[int, Field(ge=1)] = 64
    """Most answers under way at once."""
    preflight_prompts: Annotated[int, Field(ge=1)] = 32
    """Prompts answered before anything is tried, to see whether there is something to learn from."""


MethodConfig = Annotated[
    RlConfig | SftConfig | DpoConfig | SpinMethod | SearchMethod | SelfPlayMethod, Field(discriminator="type")
]


METHODS: Mapping[str, type[Config]] = {
    "rl": RlConfig,
    "sft": SftConfig,
    "dpo": DpoConfig,
    "spin": SpinMethod,
    "search": SearchMethod,
    "selfplay": SelfPlayMethod,
}
"""The ways to learn by the names that `--by` takes."""


class Adaptation(Config):
    """One adaptation: the same one on the same machine gives the same adapter."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "adapted"
    """What the run is called; its directory is runs/NAME."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides every random draw."""
    base: str
    """The model to adapt: a run, a model directory, a .gguf file or a pulled name."""
    task: str
    """What is asked: a task's name with options, a table of questions, a Python file; or `game:` and a game."""
    data: Path | None = None
    """Folder of the tasks that read local files."""
    adapter: AdapterConfig = TinyLoraConfig(parameters=13)
    """What is trained."""
    by: MethodConfig = RlConfig()
    """How it learns."""
    budget: Budget = TimeBudget()
    """When to stop learning."""
    test_examples: Annotated[int, Field(ge=1)] | None = None
    """Most questions of the test set that are asked, before and after; None: all of it. Of a game: the matches against
    each opponent, an even number; None: 400."""
    test_symbols: Annotated[int, Field(ge=1)] | None = None
    """Longest answer in the test; None: what the longest right one takes, and some. Of a game: the longest move."""
    shots: Annotated[int, Field(ge=0)] = 4
    """Worked examples that the control shows the untrained base: what form alone would gain; 0: no control."""
    recompute: Recompute = 0.0
    """Share of the depths that are computed once more in the backward pass instead of keeping what is inside them:
    slower, less memory. true: all."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Dtype of the base and of activations; adapters train in fp32."""
    base_bits: Literal[8] | None = None
    """Bits that a frozen weight of a block is rounded to, for as long as the command runs: half the memory of bf16. The
    adapter is built from the base as it is and belongs to that one. None: as computed."""

    @property
    def game(self) -> str | None:
        """The game that is played, if the task is one: of `game:nim:piles=1-2` `nim:piles=1-2`."""
        return self.task.removeprefix(GAME) if self.task.startswith(GAME) else None

    @model_validator(mode="after")
    def _check_game(self) -> "Adaptation":
        by = self.by
        if self.game is None:
            if isinstance(by, SelfPlayMethod):
                raise ValueError(f"by selfplay plays a game; {self.task} is none. Name one: --task game:tictactoe.")
            return self
        if not isinstance(by, SelfPlayMethod) and (isinstance(by, RlConfig | SearchMethod) or by.data is None):
            raise ValueError(f"by {by.type} asks questions, and a game has none. Learn it by selfplay, or from a file.")
        return self

    @model_validator(mode="after")
    def _check(self) -> "Adaptation":
        if isinstance(self.by, SearchMethod):
            _check_search(self.by, self.adapter, self.budget)
        if self.base_bits is not None and isinstance(self.adapter, FullConfig):
            raise ValueError("base_bits rounds what is frozen, and with the adapter 'full' nothing is.")
        if isinstance(self.by, RlConfig) and self.by.rollouts.sampling.temperature == 0:
            raise ValueError("by.rollouts.sampling.temperature=0 gives one answer many times: 1.0 is usual.")
        return self


def _check_search(by: SearchMethod, adapter: AdapterConfig, budget: Budget) -> None:
    if not isinstance(adapter, TinyLoraConfig):
        raise ValueError(f"by search needs an adapter that rows can bring: tinylora, not {adapter.type}.")
    if adapter.stored:
        raise ValueError("by search builds its adapter from the base: adapter.stored is for files from elsewhere.")
    if isinstance(budget, TokenBudget):
        raise ValueError("a search trains on no symbols: give it a time (--time 15m) or generations (--steps 100).")
    if by.answers > 1 and by.sampling.temperature == 0:
        raise ValueError(f"by.answers={by.answers} at temperature 0 are the same answer: by.sampling.temperature=1.")
    if isinstance(by.strategy, CmaEsConfig) and (adapter.parameters or 0) > MOST_CMA_PARAMETERS:
        raise ValueError(
            f"by.strategy cma_es searches over {MOST_CMA_PARAMETERS:,} numbers at most, not {adapter.parameters:,}: "
            "by.strategy.type=openai_es has no such limit."
        )
