"""Self-play for text: the model learns to tell the data's answers from its own, round by round.

In each round the model as it is answers prompts of the data; its own answers are the rejected side, the data's the
chosen one, and the reference is the model as the round began (Chen et al. 2024, arXiv 2401.01335). What is minimised is
`objectives.preference`; here its batches are made, each round's when its first step asks for them. Below some ten
million parameters others saw it do harm (docs/notes/techniques.md): measure before and after.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from random import Random
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from smidgen.config import Config
from smidgen.data.batch import Batch
from smidgen.data.preferences import PairSet, Preference, encode_preferences
from smidgen.data.supervised import StepLayout
from smidgen.errors import ConfigError, DataError, RunError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.models import Model
from smidgen.runs import atomic_write
from smidgen.runtime import Runtime
from smidgen.seeds import derive_seed
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import Message, encode_chat, strip_prefix
from smidgen.training.objectives.preference import reference_log_probs
from smidgen.training.rollouts import answering, follow


class SpinConfig(Config):
    """How the model plays against itself."""

    prompts: Annotated[int, Field(ge=1)] = 512
    """Conversations of the data that are answered anew in each round."""
    round_steps: Annotated[int, Field(ge=1)] = 50
    """Steps of a round: those of its pairs are gone through again and again."""
    pairs: Annotated[int, Field(ge=1)] = 32
    """Pairs of a step, over all ranks."""
    sampling: SamplingParams = SamplingParams(temperature=1.0, max_symbols=128)
    """How the model answers; seeds are given to each."""
    max_symbols: Annotated[int, Field(ge=2)] = 512
    """Longest prompt and answer; longer ones are left out, counted and told."""
    max_rows: Annotated[int, Field(ge=1)] = 64
    """Most answers under way at once."""
    micro_symbols: Annotated[int, Field(ge=1)] = 8192
    """Most symbols of a micro-batch, padding included."""


@dataclass(frozen=True)
class OwnAnswers:
    """Pairs of the data's answer and the model's own, to the same prompts."""

    preferences: list[Preference]
    cut: int
    """Answers that were still going on at the longest allowed: rejected as they are."""
    same: int
    """Answers that are word for word the data's: nothing to prefer, left out when pairs are encoded."""
    too_long: int
    """Prompts that leave the model no room to answer: left out."""

    def __str__(self) -> str:
        told = f"{len(self.preferences)} own answers, {self.same} as in the data, {self.cut} cut"
        return told + (f"; {self.too_long} prompts are too long to answer" if self.too_long else "")


def answer_anew(engine: Engine, talks: Sequence[Sequence[Message]], params: SamplingParams, seed: int) -> OwnAnswers:
    """Let the model answer the last turn of conversations; a draw follows from the seed and the talk's place.

    Raises DataError for a conversation that does not end with an answer, or if none leaves room for one.
    """
    tokenizer = engine.tokenizer
    if tokenizer is None:
        raise ConfigError("answering needs an engine with a tokenizer.")
    for number, talk in enumerate(talks, start=1):
        if len(talk) < 2 or talk[-1].role != "assistant":
            raise DataError(f"conversation {number} does not end with an answer to something: nothing to play against.")
    asked = [
        (place, talk, ids)
        for place, talk in enumerate(talks)
        if len(ids := encode_chat(tokenizer, talk[:-1], add_generation_prompt=True)) < engine.max_len
    ]
    if not asked:
        raise DataError(f"none of {len(talks)} prompts leaves room to answer in a context of {engine.max_len} symbols.")
    drawn = [params.model_copy(update={"seed": derive_seed(seed, "spin", place)}) for place, _, _ in asked]
    answers = engine.generate([ids for _, _, ids in asked], drawn)
    preferences = [
        Preference(tuple(talk[:-1]), talk[-1].content, strip_prefix(tokenizer, answer.text))
        for (_, talk, _), answer in zip(asked, answers, strict=True)
    ]
    same = sum(one.chosen == one.rejected for one in preferences)
    cut = sum(answer.done != "stop" for answer in answers)
    return OwnAnswers(preferences, cut, same, len(talks) - len(asked))


@dataclass
class Spin:
    """The batches of self-play fine-tuning, as `fit` takes them."""

    model: Model
    """What is trained."""
    tokenizer: Tokenizer
    talks: Sequence[Sequence[Message]]
    """The data's conversations; each ends with an answer."""
    config: SpinConfig
    seed: int
    runtime: Runtime
    directory: Path
    """Where each round's pairs are kept, so that a run that was killed goes on with them."""
    say: Callable[[str], object] = print
    """Takes a line about each round."""

    def __post_init__(self) -> None:
        if not self.talks:
            raise DataError("there are no conversations to play against.")

    @cached_property
    def engine(self) -> Engine:
        """Return what answers: a copy of the model, laid out for decoding."""
        prepared = prepare_for_decoding(self.model, self.runtime.dtype)
        return Engine(prepared, self.tokenizer, max_rows=self.config.max_rows)

    def batches_from(self, step: int) -> Iterator[Sequence[Batch]]:
        """Yield the micro-batches of a step, then of every step after it, for this rank.

        Raises RunError if the pairs of the round that the step belongs to are gone.
        """
        config, runtime = self.config, self.runtime
        layout = StepLayout(config.pairs, config.micro_symbols, runtime.rank, runtime.world)
        first, place = divmod(step, config.round_steps)
        for current in count(first):
            pairs = self._open_round(current, begins=place == 0)
            stream = pairs.stream(layout, derive_seed(self.seed, "order", current))
            for at in range(place, config.round_steps):
                yield stream.step(at)
            place = 0

    def _open_round(self, number: int, begins: bool) -> PairSet:
        """Return a round's pairs: those kept, or, at its beginning, new ones of the weights as they are."""
        path = self.directory / f"round-{number:04d}.rank-{self.runtime.rank}.json"
        if not begins:
            if not path.is_file():
                raise RunError(f"{path}: is gone, so this round cannot go on. Begin anew.")
            return self._read(path)
        self.directory.mkdir(parents=True, exist_ok=True)
        # Every rank answers the same prompts with the same draws: its pairs are those of all, and each takes its share.
        rng = Random(derive_seed(self.seed, "round", number))
        talks = rng.sample(self.talks, min(self.config.prompts, len(self.talks)))
        follow(self.engine, self.model)
        with answering(self.engine.model):
            own = answer_anew(self.engine, talks, self.config.sampling, derive_seed(self.seed, number))
        pairs = encode_preferences(self.tokenizer, own.preferences, self.config.max_symbols)
        with answering(self.model):
            reference = reference_log_probs(self.model, pairs.batch, pairs.lengths, self.config.micro_symbols)
        self.say(f"round {number + 1}: {own}; {pairs.note}")
        _write(path, own.preferences, reference)
        return pairs.compared_with(reference)

    def _read(self, path: Path) -> PairSet:
        kept = json.loads(path.read_text(encoding="utf-8"))
        preferences = [
            Preference(tuple(Message(*message) for message in prompt), chosen, rejected)
            for prompt, chosen, rejected in kept["preferences"]
        ]
        pairs = encode_preferences(self.tokenizer, preferences, self.config.max_symbols)
        return pairs.compared_with(torch.tensor(kept["reference"]))


def _write(path: Path, preferences: Sequence[Preference], reference: Float[Tensor, "N 2"]) -> None:
    told = [
        [[[message.role, message.content] for message in one.prompt], one.chosen, one.rejected] for one in preferences
    ]
    atomic_write(path, json.dumps({"preferences": told, "reference": reference.tolist()}))
