"""A conversation over the engine: history, template, context that never overflows silently, text as it comes."""

import logging
from collections.abc import Iterator

from smidgen.errors import DataError
from smidgen.inference.engine import Engine
from smidgen.inference.sampling import SamplingParams
from smidgen.tokenizers.chat import Message, encode_chat, strip_prefix

CHAT_DEFAULTS = SamplingParams(temperature=0.2, top_p=0.9, repetition_penalty=1.1, max_symbols=256)
"""Decoding for tiny chat models, which loop when decoded greedily and babble when sampled freely (users.md #6).

Temperature 0.2 and top-p 0.9 are what SmolLM2-135M chats sensibly with, where 0.7 wanders off (its card says the same);
the penalty of 1.1 breaks loops and counts only what the answer itself has used, so names can still be copied from the
question.
"""

logger = logging.getLogger(__name__)


class ChatSession:
    """Messages so far and the engine that answers; the engine remembers the common beginning between turns."""

    def __init__(self, engine: Engine, params: SamplingParams = CHAT_DEFAULTS, system: str | None = None) -> None:
        if engine.tokenizer is None:
            raise DataError("a chat needs an engine with a tokenizer.")
        self.engine = engine
        self.tokenizer = engine.tokenizer
        self.params = params
        self.messages = [Message("system", system)] if system else []
        self.forgotten_messages = 0
        """Oldest messages left out because the context was full."""
        self._turn = 0

    def reply(self, text: str) -> Iterator[str]:
        """Say something and yield the answer as it comes; closing the iterator keeps what has been said so far.

        Raises DataError if the message alone does not fit the context.
        """
        self.messages.append(Message("user", text))
        sequence = None
        try:
            params = self.params.model_copy(update={"seed": self.params.seed + self._turn})
            sequence = self.engine.add(self._fit_context(), params)
            self._turn += 1
            for number, piece in enumerate(self.engine.follow(sequence)):
                if said := piece if number else strip_prefix(self.tokenizer, piece):
                    yield said
        finally:
            if sequence is not None and sequence.text:
                self.messages.append(Message("assistant", strip_prefix(self.tokenizer, sequence.text)))
            else:
                self.messages.pop()

    def _fit_context(self) -> list[int]:
        """Return the ids of the conversation, its oldest turns left out until an answer has room."""
        room = self.engine.max_len - min(self.params.max_symbols, self.engine.max_len // 2)
        first = 1 if self.messages[0].role == "system" else 0
        dropped = 0
        while len(ids := encode_chat(self.tokenizer, self.messages, add_generation_prompt=True)) > room:
            if len(self.messages) - first < 3:
                raise DataError(f"this message takes {len(ids)} symbols; at most {room} leave room to answer.")
            del self.messages[first : first + 2]
            dropped += 2
        if dropped:
            self.forgotten_messages += dropped
            logger.warning("The context is full: the oldest %d messages are forgotten.", dropped)
        return ids
