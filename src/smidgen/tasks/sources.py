"""Where examples come from: drawn without end, or read from files; either way what is tested is never trained on."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from random import Random

from smidgen.errors import ConfigError, DataError
from smidgen.tasks.base import Example, normalize_answer

TEST_SHARE = 4
"""One question in so many is kept for the test."""
_PATIENCE = 5000
"""Fruitless draws in a row after which all questions there are have been drawn: of 1,000 left, one is missed in 150."""

Draw = Callable[[Random], Example | None]
"""Draws an example, or None where a draw led to nothing and the next one may."""


def is_for_test(key: str) -> bool:
    """Tell whether a question is kept for the test: decided by its text alone, the same everywhere and for ever."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()[0] % TEST_SHARE == 0


def _key(example: Example) -> str:
    """Return what is really asked: the same for two questions that are two forms of one."""
    return example.extra.get("key", example.question)


@dataclass(frozen=True)
class Drawn:
    """Examples drawn at random. Which side one belongs to follows from `extra["key"]`, or its question if it has none.

    Questions that ask the same in another order (3 + 5, 5 + 3) share a key, so no seed brings a test question into
    training.
    """

    name: str
    """The task's name, for the ids of the examples."""
    draw: Draw
    """Makes one example from a generator."""
    n: int
    """Most examples of the test set; there are fewer where that many different questions do not exist."""

    def test(self) -> Iterator[Example]:
        """Yield the test set: different questions, the first `n` that one fixed generator draws."""
        seen: set[str] = set()
        for example in self._draws(Random(f"{self.name}/test"), True, seen):
            yield replace(example, id=f"{self.name}/test/{len(seen)}")
            seen.add(example.question)
            if len(seen) == self.n:
                return
        if not seen:
            raise ConfigError(f"task {self.name}: these options allow no question. Loosen them.")

    def train(self, seed: int) -> Iterator[Example]:
        """Yield training examples without end; a question may come again."""
        drawn = self._draws(Random(f"{self.name}/train/{seed}"), False, set())
        for number, example in enumerate(drawn):
            yield replace(example, id=f"{self.name}/train/{seed}/{number}")
        raise ConfigError(f"task {self.name}: these options allow no question to train on. Loosen them.")

    def _draws(self, rng: Random, test: bool, seen: set[str]) -> Iterator[Example]:
        fruitless = 0
        while fruitless < _PATIENCE:
            example = self.draw(rng)
            fruitless += 1
            if example is None or example.question in seen:
                continue
            if is_for_test(_key(example)) == test:
                fruitless = 0
                yield example


@dataclass(frozen=True)
class Listed:
    """Examples of two lists that are read when first needed; what is in both is left out of training, and that said."""

    name: str
    """The task's name, for what is said."""
    read_train: Callable[[], Iterable[Example]]
    """Reads the training examples."""
    read_test: Callable[[], Iterable[Example]]
    """Reads the test set."""
    say: Callable[[str], None]
    """Takes a line for the person."""

    def test(self) -> list[Example]:
        """Return the test set in the order of its file."""
        if not self._test:
            raise DataError(f"task {self.name}: the test set is empty.")
        return self._test

    def train(self, seed: int) -> Iterator[Example]:
        """Yield the training examples in an order drawn by the seed, then again in another one, and so on."""
        examples = self._train
        for epoch in count():
            order = list(range(len(examples)))
            Random(f"{self.name}/train/{seed}/{epoch}").shuffle(order)
            for index in order:
                yield examples[index]

    @cached_property
    def _test(self) -> list[Example]:
        return list(self.read_test())

    @cached_property
    def _train(self) -> list[Example]:
        asked = {normalize_answer(_key(example)) for example in self._test}
        examples = list(self.read_train())
        kept = [example for example in examples if normalize_answer(_key(example)) not in asked]
        if len(kept) < len(examples):
            self.say(
                f"task {self.name}: left out {len(examples) - len(kept)} training examples that the test asks too."
            )
        if not kept:
            raise DataError(f"task {self.name}: there is nothing to train on that the test does not ask too.")
        return kept
