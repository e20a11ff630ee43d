"""Answers to a task's prompts, in groups, drawn by the engine from the weights as they are; and batches made of them.

The answers to one prompt share its prefill, rows end one by one, prompts go in longest first, and what each symbol's
log-probability was comes with it. Nothing here is drawn before it is asked for: reinforcement learning is `fit` over an
iterator that samples, and what it samples in a step follows from seed, step and weights alone, so a run that was killed
goes on bit for bit. What an answer earns is the task's affair, what follows from it the objective's.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.errors import ConfigError, DataError, SmidgenError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.inference import Sequence as Answering
from smidgen.inference.scoring import score_sequences
from smidgen.models import LanguageModel, Model
from smidgen.runtime import Runtime
from smidgen.seeds import derive_seed
from smidgen.tasks.base import Example, Task
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import encode_chat, strip_prefix
from smidgen.training.advantages import AdvantageConfig, group_advantages, informative_groups
from smidgen.training.objectives.policy import log_probs_of
from smidgen.training.parallel import as_written
from smidgen.training.policy_batches import policy_batches

PROMPTS_LEFT_OUT = 1000
"""Prompts in a row that do not fit, after which a task is taken to have none that does."""


class RolloutConfig(Config):
    """What is answered in each step, and how."""

    prompts: Annotated[int, Field(ge=1)] = 4
    """Prompts of a step, on each rank."""
    answers: Annotated[int, Field(ge=2)] = 8
    """Answers to each: what one earned is compared with the others."""
    updates: Annotated[int, Field(ge=1)] = 1
    """Steps of the optimizer on the same answers; above 1 the objective's clips keep the later ones near. A run that
    goes on between two of them answers anew."""
    sampling: SamplingParams = SamplingParams(temperature=1.0, max_symbols=64)
    """How answers are drawn; seeds are given to each. Log-probabilities are the model's own, at temperature 1."""
    draws: Annotated[int, Field(ge=1)] = 1
    """Times prompts may be drawn in a step until there are enough groups whose rewards differ; 1: as they come.
    More is dynamic sampling. Source: DAPO, arXiv 2503.14476."""
    max_rows: Annotated[int, Field(ge=1)] = 64
    """Most answers under way at once."""
    micro_symbols: Annotated[int, Field(ge=1)] = 1024
    """Most symbols of a micro-batch, padding included; an answer that is longer goes alone. SmolLM2-135M on a CPU: at
    256 a step takes 0.4 GB and 2.4 s, at 896 1.3 GB and 3.1 s (processor time, bf16)."""
    cut_earns: bool = False
    """Whether an answer that is still going on at the longest allowed earns what it would have; else it earns nothing,
    or never ending is as good as ending: a 135M model learned just that in 50 steps (LOG.md, 2026-11-22)."""
    kernels: Literal["prepared", "training"] = "prepared"
    """What answers: a copy laid out for decoding that shares the adapter's weights, or the very model that trains,
    slower. `measure_gap` says how far apart they are."""


@dataclass(frozen=True)
class Rollout:
    """One answer and what it earned."""

    example: Example
    prompt: list[int]
    symbols: list[int]
    """The answer, the symbol that ended it included."""
    log_probs: list[float]
    """Of each symbol, by the model that answered, before any sampling step."""
    text: str
    done: str
    """Why it ended: "stop" if it came to its end; else it was cut, by the longest allowed or a full context."""
    reward: float
    vector: int | None = None
    """Which of the given vectors answered; None: the model as it is."""

    @property
    def is_cut(self) -> bool:
        """Whether it was still going on."""
        return self.done != "stop"


def rollout(
    engine: Engine,
    task: Task,
    examples: Sequence[Example],
    n: int,
    params: SamplingParams,
    seed: int,
    vectors: Float[Tensor, "P n"] | None = None,
    cut_earns: bool = True,
) -> list[list[Rollout]]:
    """Return `n` answers to each example, one group an example, in the order given; `params.seed` is not read.

    With `vectors`, each of them answers every example, with the same draws: all groups of the first, then of the next.
    An answer's draws follow from the seed, its example's place and its own among the group's.
    Raises DataError for a prompt that leaves no room to answer, or for a reward that is not a number.
    """
    if n > 1 and params.temperature == 0:
        raise ConfigError(f"{n} answers at temperature 0 are {n} times the same answer. Sample warmer, or ask for 1.")
    tokenizer = _tokenizer(engine)
    prompts = [_encode(engine, tokenizer, task, example) for example in examples]
    own = [None] if vectors is None else list(vectors)
    # All prompts once, then again: the first answer computes what the others share, and many prompts prefill together.
    places = [(k, p, e) for k in range(n) for p in range(len(own)) for e in range(len(examples))]
    places.sort(key=lambda place: (place[0], -len(prompts[place[2]])))
    answers: dict[tuple[int, int, int], Answering] = {}
    try:
        for k, p, e in places:
            drawn = params.model_copy(update={"seed": derive_seed(seed, e, k)})
            answers[k, p, e] = engine.add(prompts[e], drawn, own[p])
        _run(engine, answers.values())
    finally:
        for answer in answers.values():
            engine.cancel(answer)
    indices = [None] if vectors is None else list(range(len(own)))
    return [
        [_finish(tokenizer, task, examples[e], answers[k, p, e], index, cut_earns) for k in range(n)]
        for p, index in enumerate(indices)
        for e in range(len(examples))
    ]


def fitting_examples(
    engine: Engine, task: Task, seed: int, say: Callable[[str], object] = lambda sentence: None
) -> Iterator[Example]:
    """Yield a task's training examples whose prompts leave room to answer; say once that others are left out.

    Raises DataError if a thousand in a row leave none.
    """
    tokenizer, left_out, is_told = _tokenizer(engine), 0, False
    for example in task.training_examples(seed):
        length = len(encode_chat(tokenizer, task.prompt(example), add_generation_prompt=True))
        if length < engine.max_len:
            left_out = 0
            yield example
            continue
        told = f"task {task.name}: the prompt of example {example.id} has {length:,} symbols and leaves no "
        told += f"room to answer in a context of {engine.max_len:,}"
        left_out += 1
        if left_out == PROMPTS_LEFT_OUT:
            raise DataError(f"{told}; nor had the {left_out - 1:,} before it. Take another task.")
        if not is_told:
            say(f"{told}. Prompts like it are left out.")
            is_told = True


def earn(task: Task, example: Example, answer: str) -> float:
    """Return the reward of an answer. Raises DataError, naming the example, if it fails or is not a finite number."""
    try:
        value = task.reward(example, answer)
        value = value.item() if isinstance(value, np.generic | Tensor) else value
    except SmidgenError:
        raise
    except Exception as error:  # a reward is anybody's code, and may raise anything
        told = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(f"task {task.name}: the reward of example {example.id} raised {told}") from error
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    found = repr(value)[:80]
    raise DataError(f"task {task.name}: the reward of example {example.id} is {found}, which is not a finite number.")


@dataclass(frozen=True)
class Seen:
    """What the rollouts of one step showed."""

    step: int
    """Of the run, counted from 1 as its log does."""
    mean_reward: float
    """Over all answers, those of groups that taught nothing too."""
    informative: float
    """Share of groups whose rewards differ."""
    cut: float
    """Share of answers that were still going on when they reached the longest allowed."""
    n_answers: int
    n_learned: int
    """Answers in the batches."""
    mean_symbols: float
    seconds: float
    sample: Rollout
    """The best answer of the first group."""

    def as_record(self) -> dict[str, float | int | str]:
        """Return plain values for the metrics log."""
        names = ("step", "mean_reward", "informative", "cut", "n_answers", "n_learned", "mean_symbols", "seconds")
        told = {name: getattr(self, name) for name in names}
        return {"kind": "rollouts", **told, "sample": self.sample.text, "sample_reward": self.sample.reward}


@dataclass(frozen=True)
class OnPolicy:
    """The batches of reinforcement learning, as `fit` takes them: a step's are sampled when the step asks for them."""

    engine: Engine
    """Over `open_engine(model)`."""
    model: Model
    """What is trained."""
    task: Task
    config: RolloutConfig
    advantages: AdvantageConfig
    seed: int
    runtime: Runtime
    on_seen: Callable[[Seen], object] = lambda seen: None
    say: Callable[[str], object] = lambda sentence: None
    """Told once that prompts are left out."""
    reference: Callable[[], AbstractContextManager[object]] | None = None
    """A context within which the model is the one that must not be left behind; None: the objective asks for none."""

    def __call__(self, step: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of a step, then of every step after it, for this rank."""
        a_step = self.config.prompts * self.config.draws * self.runtime.world
        turn, done = divmod(step, self.config.updates)
        examples = islice(fitting_examples(self.engine, self.task, self.seed, self.say), turn * a_step, None)
        while True:
            drawn = list(islice(examples, a_step))
            if len(drawn) < a_step:
                raise DataError(f"task {self.task.name}: its training examples came to an end in step {step + 1}.")
            batches = self.sample(step, drawn[self.runtime.rank :: self.runtime.world])
            for _ in range(done, self.config.updates):
                yield batches
                step += 1
            done = 0

    def sample(self, step: int, examples: Sequence[Example]) -> list[Batch]:
        """Answer a step's examples, as many as it takes, and return micro-batches of the answers."""
        began, config = time.perf_counter(), self.config
        follow(self.engine, self.model)
        groups: list[list[Rollout]] = []
        kept: list[list[Rollout]] = []
        with answering(self.engine.model):
            for draw in range(config.draws):
                some = examples[draw * config.prompts : (draw + 1) * config.prompts]
                seed = derive_seed(self.seed, step, draw, self.runtime.rank)
                sampling, cut_earns = config.sampling, config.cut_earns
                fresh = rollout(self.engine, self.task, some, config.answers, sampling, seed, cut_earns=cut_earns)
                groups += fresh
                differ = informative_groups(rewards_of(fresh)).tolist()
                kept += [group for group, teaches in zip(fresh, differ, strict=True) if teaches]
                if len(kept) >= config.prompts:
                    break
        # Without a choice, or where nothing teaches, all are taken: their advantages are 0, and the step is counted.
        learned = kept[: config.prompts] if config.draws > 1 and kept else groups[: config.prompts]
        rated = group_advantages(rewards_of(learned), self.advantages)
        made = policy_batches(learned, rated, config.micro_symbols, self.model.can_branch)
        batches = [self._compared(batch) for batch in made]
        self.on_seen(_see(step + 1, groups, learned, len(kept), time.perf_counter() - began))
        return batches

    def _compared(self, batch: Batch) -> Batch:
        """Add what the model says before it learns, and what the reference does, where either is asked for."""
        told: dict[str, Tensor] = {}
        if self.config.updates > 1:
            with answering(self.model):
                told["old_log_probs"] = log_probs_of(self.model, batch.to(self.runtime.device)).cpu()
        if self.reference is not None:
            with answering(self.model), self.reference():
                told["reference_log_probs"] = log_probs_of(self.model, batch.to(self.runtime.device)).cpu()
        return replace(batch, extra={**batch.extra, **told})


def follow(engine: Engine, model: Model) -> None:
    """Let an engine that answers for a model in training have its weights as they are now, and nothing from before."""
    if engine.model is not model:
        shared = {id(weight) for weight in engine.model.parameters()}
        if any(weight.requires_grad and id(weight) not in shared for weight in model.parameters()):
            engine.refresh(model)
    engine.forget()


def open_engine(model: Model, tokenizer: Tokenizer, config: RolloutConfig, runtime: Runtime) -> Engine:
    """Return the engine that answers while the model trains: it computes in the dtype that training does."""
    own: LanguageModel = model if config.kernels == "training" else prepare_for_decoding(model, runtime.dtype)
    return Engine(own, tokenizer, max_rows=min(config.max_rows, config.prompts * config.answers))


def score_vectors(
    engine: Engine,
    task: Task,
    examples: Sequence[Example],
    vectors: Float[Tensor, "P n"],
    params: SamplingParams,
    seed: int,
    n: int = 1,
    cut_earns: bool = True,
) -> list[float]:
    """Return the mean reward of each vector over `n` answers to every example, all with the same draws."""
    groups = rollout(engine, task, examples, n, params, seed, vectors, cut_earns)
    return rewards_of(groups).view(len(vectors), -1).mean(1).tolist()


def rewards_of(groups: Sequence[Sequence[Rollout]]) -> Float[Tensor, "G n"]:
    """Return what each answer earned."""
    return torch.tensor([[answer.reward for answer in group] for group in groups])


class Gap(NamedTuple):
    """How far log-probabilities of the same symbols are apart, in nats."""

    largest: float
    mean: float


def measure_gap(model: LanguageModel, groups: Sequence[Sequence[Rollout]]) -> Gap:
    """Say how far what answered is from what trains: the same symbols, run whole by the model as training runs it.

    Both add up in another order: symbol by symbol over a memory instead of the row at once; prepared kernels besides
    have weights laid out in blocks and several maps in one product. SmolLM2-135M with an adapter: 3e-5 at most in fp32;
    in bf16 0.3 at most and 0.04 on average, and no less where the very model that trains answers (0.25 and 0.04).
    """
    answers = [answer for group in groups for answer in group]
    with answering(model):
        scores = score_sequences(model, [[*answer.prompt, *answer.symbols] for answer in answers])
    pairs = zip(scores, answers, strict=True)
    apart = torch.cat([score[len(one.prompt) - 1 :] - torch.tensor(one.log_probs) for score, one in pairs]).abs()
    return Gap(float(apart.max()), float(apart.mean()))


@contextmanager
def answering(model: LanguageModel) -> Iterator[None]:
    """Within this context a model that is being trained is one that answers: no dropout, every depth, as written."""
    if not model.training:
        yield
        return
    model.train(False)
    try:
        with as_written():
            yield
    finally:
        model.train(True)


def _tokenizer(engine: Engine) -> Tokenizer:
    if engine.tokenizer is None:
        raise ConfigError("rollouts need an engine with a tokenizer.")
    return engine.tokenizer


def _encode(engine: Engine, tokenizer: Tokenizer, task: Task, example: Example) -> list[int]:
    ids = encode_chat(tokenizer, task.prompt(example), add_generation_prompt=True)
    # A cut prompt would be another question, so the engine is not asked to cut it.
    if len(ids) >= engine.max_len:
        told = f"task {task.name}: the prompt of example {example.id} has {len(ids)} symbols"
        raise DataError(f"{told} and leaves no room to answer in a context of {engine.max_len}. Leave it out.")
    return ids


def _run(engine: Engine, answers: Iterable[Answering]) -> None:
    waiting = {answer for answer in answers if answer.done is None}
    while waiting:
        engine.step()
        waiting = {answer for answer in waiting if answer.done is None}


def _finish(
    tokenizer: Tokenizer, task: Task, example: Example, answer: Answering, vector: int | None, cut_earns: bool
) -> Rollout:
    text, done = strip_prefix(tokenizer, answer.text), answer.done or "cancelled"
    reward = earn(task, example, text) if cut_earns or done == "stop" else 0.0
    return Rollout(example, answer.prompt, answer.symbols, answer.log_probs, text, done, reward, vector)


def _see(step: int, groups: list[list[Rollout]], learned: list[list[Rollout]], teaching: int, seconds: float) -> Seen:
    answers = [answer for group in groups for answer in group]
    return Seen(
        step=step,
        mean_reward=sum(answer.reward for answer in answers) / len(answers),
        informative=teaching / len(groups),
        cut=sum(answer.is_cut for answer in answers) / len(answers),
        n_answers=len(answers),
        n_learned=sum(map(len, learned)),
        mean_symbols=sum(len(answer.symbols) for answer in answers) / len(answers),
        seconds=seconds,
        sample=max(groups[0], key=lambda answer: answer.reward),
    )
