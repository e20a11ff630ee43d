"""Conversations as supervised examples: only what the assistant says, and the symbol that ends it, is taught."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from smidgen.data.batch import Batch
from smidgen.errors import DataError
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.chat import Message, encode_chat_weighted


@dataclass(frozen=True)
class Conversation:
    """One encoded conversation."""

    ids: list[int]
    weights: list[float]
    """One for each id: whether it is taught when it is the target."""


def encode_conversation(tokenizer: Tokenizer, messages: Sequence[Message]) -> Conversation:
    """Encode one conversation. Raises DataError if nothing in it would be taught."""
    ids, weights = encode_chat_weighted(tokenizer, messages)
    if not any(weights[1:]):
        roles = ", ".join(message.role for message in messages) or "no messages"
        raise DataError(f"a conversation of {roles} teaches nothing: it needs a message of the assistant.")
    return Conversation(ids, weights)


def conversation_batch(tokenizer: Tokenizer, conversations: Sequence[Conversation], seq_len: int) -> Batch:
    """Put one conversation into each row, padded at the end; `bytes_scored` counts what is taught.

    Raises DataError for a conversation longer than `seq_len` + 1 symbols: cutting it is the caller's decision.
    """
    longest = max(len(conversation.ids) for conversation in conversations)
    if longest > seq_len + 1:
        raise DataError(f"a conversation has {longest} symbols; at most {seq_len + 1} fit a row. Shorten or drop it.")
    symbols = torch.full((len(conversations), seq_len + 1), tokenizer.eot_id)
    weights = torch.zeros(len(conversations), seq_len + 1)
    for row, conversation in enumerate(conversations):
        symbols[row, : len(conversation.ids)] = torch.tensor(conversation.ids)
        weights[row, : len(conversation.ids)] = torch.tensor(conversation.weights)
    targets, taught = symbols[:, 1:], weights[:, 1:]
    scored = int(torch.tensor(tokenizer.symbol_bytes())[targets][taught > 0].sum())
    return Batch(symbols[:, :-1].contiguous(), targets.contiguous(), taught.contiguous(), bytes_scored=scored)
