"""The ways to learn: from rewards, right answers, preferences, oneself, or by search; each a few lines over `fit`.

What a way reads is gathered before anybody is asked anything: a file that is not there must not cost an exam of
minutes. Playing games is in `selfplay`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smidgen.adapting.config import Adaptation, DpoConfig, RlConfig, SearchMethod, SftConfig, SpinMethod
from smidgen.adapting.examine import Exam
from smidgen.adapting.lesson import Learned, Lesson, as_it_was, fit_lesson, talks_of, task_of
from smidgen.adapting.selfplay import learn_by_play
from smidgen.checkpoint import load_training_state, save_training_state
from smidgen.data.preferences import PairSet, encode_preferences, read_preferences
from smidgen.data.supervised import ExampleSet, ExampleStream, StepLayout, Talk, encode_examples
from smidgen.errors import CheckpointError, DataError
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.inference.once import held_once
from smidgen.seeds import derive_seed
from smidgen.tokenizers.base import Tokenizer
from smidgen.training.config import TimeBudget, TokenBudget
from smidgen.training.interrupts import stop_at_once
from smidgen.training.objectives.next_token import NextTokenConfig
from smidgen.training.objectives.preference import reference_log_probs
from smidgen.training.rl_preflight import describe, look_before_learning, require_signal
from smidgen.training.rollouts import (
    OnPolicy,
    RolloutConfig,
    Seen,
    answering,
    fitting_examples,
    measure_gap,
    open_engine,
    rollout,
    score_vectors,
)
from smidgen.training.search import Generation, SearchConfig, search
from smidgen.training.spin import Spin
from smidgen.training.state import fingerprint_frozen

LOOK_ANSWERS = 8
"""Answers to each prompt that are looked at before a search, which itself may ask for one."""


def learn_by_rewards(lesson: Lesson, config: RlConfig) -> Learned:
    """Raise the probability of answers that earn more than others to the same prompt.

    Raises TrainingError, before anything is trained, if there is nothing to learn from.
    """
    with held_once(lesson.model, lesson.runtime.dtype):
        return _learn_by_rewards(lesson, config)


def _learn_by_rewards(lesson: Lesson, config: RlConfig) -> Learned:
    engine = open_engine(lesson.model, lesson.tokenizer, config.rollouts, lesson.runtime)
    if lesson.is_new:
        _look(lesson, engine, config.preflight_prompts, config.rollouts)
    speak = lesson.speaker()

    def see(seen: Seen) -> None:
        lesson.tell(seen.as_record())
        speak(
            f"step {seen.step:,}: mean reward {seen.mean_reward:.3f}, {seen.informative:.0%} of groups differ, "
            f"{seen.mean_symbols:.0f} symbols an answer, {seen.cut:.0%} cut"
        )

    begun = {name: tensor.clone() for name, tensor in lesson.adapter.state().items()} if config.objective.kl else {}
    source = OnPolicy(
        engine,
        lesson.model,
        lesson.task,
        config.rollouts,
        config.advantages,
        lesson.asked.seed,
        lesson.runtime,
        see,
        lesson.screen.say,
        functools.partial(as_it_was, lesson.adapter, begun) if config.objective.kl else None,
    )
    return fit_lesson(lesson, source, config.objective, config.learning_rate)


def learn_by_examples(lesson: Lesson, config: SftConfig) -> Learned:
    """Learn right answers."""
    found: ExampleSet = lesson.material
    lesson.screen.say(found.note)
    layout = StepLayout(config.examples, config.micro_symbols, lesson.runtime.rank, lesson.runtime.world)
    packed = lesson.model.can_branch
    batch_of = found.packed if packed else found.batch
    stream = ExampleStream(batch_of, found.lengths, layout, lesson.asked.seed, packed=packed)
    return fit_lesson(lesson, stream.batches_from, NextTokenConfig(), config.learning_rate, [_show_loss(lesson)])


def learn_by_preferences(lesson: Lesson, config: DpoConfig) -> Learned:
    """Prefer the better answers of pairs to the worse ones."""
    pairs: PairSet = lesson.material
    lesson.screen.say(pairs.note)
    # Before anything is resumed the adapter does nothing: the model is its own reference.
    with answering(lesson.model):
        reference = reference_log_probs(lesson.model, pairs.batch, pairs.lengths, config.micro_symbols)
    layout = StepLayout(config.pairs, config.micro_symbols, lesson.runtime.rank, lesson.runtime.world)
    stream = pairs.compared_with(reference).stream(layout, lesson.asked.seed)
    return fit_lesson(lesson, stream.batches_from, config.objective, config.learning_rate, [_show_loss(lesson)])


def learn_by_oneself(lesson: Lesson, config: SpinMethod) -> Learned:
    """Prefer the data's answers to the model's own, round by round."""
    spin = Spin(
        lesson.model,
        lesson.tokenizer,
        lesson.material,
        config.play,
        lesson.asked.seed,
        lesson.runtime,
        lesson.run.path / "rounds",
        lesson.screen.say,
    )
    return fit_lesson(lesson, spin.batches_from, config.objective, config.learning_rate, [_show_loss(lesson)])


def learn_by_search(lesson: Lesson, config: SearchMethod) -> Learned:
    """Move the adapter's numbers towards those that earn more, without gradients.

    Raises TrainingError, before anything is tried, if there is nothing to learn from.
    """
    budget = lesson.budget
    assert not isinstance(budget, TokenBudget)  # refused before anything was asked
    newest = load_training_state(lesson.run.checkpoints)
    frozen = fingerprint_frozen(lesson.model)
    if newest is not None and newest.meta.get("frozen") != frozen:
        raise CheckpointError(
            f"{lesson.run.checkpoints}: the search is of another base: {newest.meta.get('frozen')} there, {frozen} "
            "here. Begin anew with another --name."
        )
    engine = Engine(
        prepare_for_decoding(lesson.model, lesson.runtime.dtype), lesson.tokenizer, max_rows=config.max_rows
    )
    if lesson.is_new:
        _look(lesson, engine, config.preflight_prompts, _like_rollouts(config))
    seed, speak = lesson.asked.seed, lesson.speaker()

    def evaluate(vectors: Tensor, number: int) -> Sequence[float]:
        first = number * config.prompts
        fitting = fitting_examples(engine, lesson.task, seed)  # what is left out, the look before learning has told
        examples = list(islice(fitting, first, first + config.prompts))
        drawn = derive_seed(seed, number)
        asked = engine, lesson.task, examples, vectors
        return score_vectors(*asked, config.sampling, drawn, config.answers, config.cut_earns)

    def see(done: Generation) -> None:
        figures = {"mean_reward": done.center_score, "candidates": done.mean_score, "best": done.best_score}
        lesson.tell({"kind": "rollouts", "step": done.number, "seconds": done.seconds, **figures})
        save_training_state(lesson.run.checkpoints, done.number, dict(done.state), {"frozen": frozen})
        speak(f"generation {done.number:,}: the mean earns {done.center_score:.3f}, candidates {done.mean_score:.3f}")

    with answering(engine.model):
        found = search(
            evaluate,
            lesson.adapter.n_parameters,
            SearchConfig(strategy=config.strategy, budget=budget, seed=seed),
            None if newest is None else newest.tensors,
            see,
            lesson.should_stop,
        )
    vector = lesson.adapter.weights["v"]
    lesson.adapter.load_state({"v": found.vector.view(vector.shape).to(vector)})
    whole, done = (
        (budget.seconds, found.seconds) if isinstance(budget, TimeBudget) else (budget.steps, found.generations)
    )
    share = done / whole if found.ended == "interrupted" else 1.0
    return Learned(found.ended, found.generations, share, found.seconds)


class Method(NamedTuple):
    """How a method's config is carried out."""

    gather: Callable[[Adaptation, Any, Exam, Tokenizer], Any]
    """Reads what is learned from, before anything else is done; the lesson's `material`."""
    learn: Callable[[Lesson, Any], Learned]


def gather_nothing(asked: Adaptation, config: Any, exam: Exam, tokenizer: Tokenizer) -> None:
    """Read nothing: players make what they learn from."""


def gather_questions(asked: Adaptation, config: RlConfig | SearchMethod, exam: Exam, tokenizer: Tokenizer) -> None:
    """See that there are questions to learn from; they are drawn as they are needed."""
    task = task_of(asked, exam)
    if next(iter(task.training_examples(asked.seed)), None) is None:
        raise DataError(f"task {task.name}: has no examples to learn from.")


def gather_examples(asked: Adaptation, config: SftConfig, exam: Exam, tokenizer: Tokenizer) -> ExampleSet:
    """Read and encode right answers."""
    return encode_examples(tokenizer, talks_of(asked, exam, config.data, config.pool), config.max_symbols)


def gather_pairs(asked: Adaptation, config: DpoConfig, exam: Exam, tokenizer: Tokenizer) -> PairSet:
    """Read and encode pairs of answers."""
    return encode_preferences(tokenizer, read_preferences(config.data), config.max_symbols)


def gather_talks(asked: Adaptation, config: SpinMethod, exam: Exam, tokenizer: Tokenizer) -> list[Talk]:
    """Read conversations."""
    return talks_of(asked, exam, config.data, config.pool)


METHODS: Mapping[str, Method] = {
    "rl": Method(gather_questions, learn_by_rewards),
    "sft": Method(gather_examples, learn_by_examples),
    "dpo": Method(gather_pairs, learn_by_preferences),
    "spin": Method(gather_talks, learn_by_oneself),
    "search": Method(gather_questions, learn_by_search),
    "selfplay": Method(gather_nothing, learn_by_play),
}
"""Every way to learn, by the type of its config."""


def _like_rollouts(config: SearchMethod) -> RolloutConfig:
    warm = config.sampling.model_copy(update={"temperature": config.sampling.temperature or 1.0})
    return RolloutConfig(answers=LOOK_ANSWERS, sampling=warm, cut_earns=config.cut_earns)


@torch.no_grad()
def _look(lesson: Lesson, engine: Engine, prompts: int, config: RolloutConfig) -> None:
    """Answer some prompts before anything is trained, and say what there is to learn from."""
    seed = derive_seed(lesson.asked.seed, -1)
    examples = list(islice(fitting_examples(engine, lesson.task, seed, lesson.screen.say), prompts))
    asked = f"{config.answers} answers to each of {len(examples)} prompts"
    lesson.screen.say(f"Looking whether there is anything to learn from, {asked} ...")
    with answering(engine.model), stop_at_once():
        sampling, cut_earns = config.sampling, config.cut_earns
        groups = rollout(engine, lesson.task, examples, config.answers, sampling, seed, cut_earns=cut_earns)
    seen = look_before_learning(groups)
    for line in describe(seen):
        lesson.screen.say(f"  {line}")
    gap = measure_gap(lesson.model, groups[:4])
    lesson.tell(
        {
            "kind": "preflight",
            "step": 0,
            "pass_rate": seen.pass_rate,
            "informative": seen.informative,
            "mean_reward": seen.mean_reward,
            "gap": gap.largest,
        }
    )
    lesson.screen.say(f"  rollouts and training differ by {gap.largest:.2g} nats at most, {gap.mean:.1g} on average")
    require_signal(seen)


def _show_loss(lesson: Lesson) -> Callable[[dict[str, Any]], None]:
    speak = lesson.speaker()

    def show(record: dict[str, Any]) -> None:
        speak(f"step {record['step']:,}: loss {record['loss']:.3f}, {record['share']:.0%} of the budget")

    return show
