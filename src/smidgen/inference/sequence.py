"""One prompt and what has been generated after it: symbols, log-probabilities, text."""

import random
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from smidgen.errors import ConfigError
from smidgen.inference.sampling import SamplingParams
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.stream import TextStream

Ending = Literal["stop", "length", "full", "cancelled"]
"""Why a sequence ended: a stop symbol or text; max_symbols; the engine's max_len; somebody's wish."""


class AnswerText:
    """Text of an answer as it grows: whole characters only, and nothing that may yet turn out to be a stop text."""

    def __init__(self, tokenizer: Tokenizer, stops: Several[str]) -> None:
        self._stream = TextStream(tokenizer)
        self._stops = stops
        self._held = ""
        self._pieces: list[str] = []
        self.stopped = False
        """A stop text has come; it and what follows it are not part of the text."""

    def feed(self, symbols: Several[int]) -> None:
        """Take the next symbols."""
        self._take(self._stream.feed(symbols))

    def finish(self) -> None:
        """Release what was held back."""
        self._take(self._stream.finish())
        if not self.stopped:
            self._release(len(self._held))

    @property
    def text(self) -> str:
        """All that is certain to be part of the answer."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def _take(self, text: str) -> None:
        if self.stopped or not text:
            return
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        self.stopped = bool(found)
        self._release(min(found) if found else len(self._held) - self._suspicious())

    def _suspicious(self) -> int:
        """Return the length of the longest end of the held text that begins a stop text."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        lengths = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(self._held[-n:]) for stop in self._stops)), 0)

    def _release(self, length: int) -> None:
        self._pieces.append(self._held[:length])
        self._held = self._held[length:]


WORTH_REUSING = 16
"""Shortest common prefix used again: below it, prompts that start level are faster prefilled together."""


@dataclass(eq=False)
class Sequence:
    """A prompt and its answer so far; the engine writes it, everybody reads it."""

    prompt: list[int]
    params: SamplingParams
    stop_ids: frozenset[int]
    answer: AnswerText | None
    """None when the engine has no tokenizer."""
    vector: Tensor | None = None
    """This row's own TinyLoRA vector; None: whatever adapter the model has."""
    symbols: list[int] = field(default_factory=list)
    """Generated symbols, the one that stopped it included."""
    log_probs: list[float] = field(default_factory=list)
    """Log-probability of each generated symbol under the model's own distribution, before any sampling step."""
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    """The likeliest symbols at each place with their log-probabilities, when asked for."""
    done: Ending | None = None
    """Why it ended; None while it goes on."""
    depths: list[int] = field(default_factory=list)
    """Where it may leave the model early: depths run for each symbol but the first, which came of the prompt."""
    draft: list[int] = field(default_factory=list)
    """Symbols that the model's future heads expect next, not yet known to be right."""
    used: set[int] = field(default_factory=set)
    """Symbols a repetition penalty applies to."""

    def __post_init__(self) -> None:
        variant = b"" if self.vector is None else self.vector.numpy().tobytes()
        self.kin = variant, tuple(self.prompt[:WORTH_REUSING])
        """Which weights run it and how it begins: what rows of other kin remember is nothing to it."""
        self._random = random.Random(self.params.seed)
        self._n_fed = 0
        self._n_read = 0

    @property
    def ids(self) -> list[int]:
        """Prompt and answer."""
        return self.prompt + self.symbols

    @property
    def text(self) -> str:
        """The answer as text: whole characters, no special symbols, up to a stop text."""
        return self._read_symbols().text

    def may_begin(self, other: "Sequence") -> bool:
        """Whether what this row remembers may be worth reusing for another; said at a glance, for every two rows."""
        # After a shorter prompt its answer may go on like the other's.
        return self.kin == other.kin or (len(self.prompt) < WORTH_REUSING and self.kin[0] == other.kin[0])

    def read(self) -> str:
        """Return the text that has come since the last call; the pieces together are `text`."""
        text = self.text
        piece = text[self._n_read :]
        self._n_read = len(text)
        return piece

    def draw(self) -> float:
        """Draw this sequence's next number from [0, 1)."""
        return self._random.random()

    def append(self, symbol: int, log_prob: float, max_len: int) -> None:
        """Take the next symbol and notice whether it is the last."""
        self.symbols.append(symbol)
        self.log_probs.append(log_prob)
        if self.params.repetition_penalty != 1:
            self.used.add(symbol)
        if symbol in self.stop_ids or (self.params.stop and self._read_symbols().stopped):
            self.done = "stop"
        elif len(self.symbols) >= self.params.max_symbols:
            self.done = "length"
        elif len(self.prompt) + len(self.symbols) >= max_len:
            self.done = "full"

    def _read_symbols(self) -> AnswerText:
        if self.answer is None:
            raise ConfigError("this engine has no tokenizer: its sequences have symbols, but no text.")
        self.answer.feed(self.symbols[self._n_fed :])
        self._n_fed = len(self.symbols)
        if self.done is not None:
            self.answer.finish()
        return self.answer
