"""Conversations as supervised examples: only what the assistant says, and the symbol that ends it, is taught."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from smidgen.data.batch import Batch
from smidgen.data.branches import lay_out, padded
from smidgen.data.scored import ScoredBytes
from smidgen.errors import DataError, TokenizerError
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


def encode_numbered(tokenizer: Tokenizer, messages: Sequence[Message], where: str) -> Conversation:
    """Encode one conversation of many; an error names it by `where`."""
    try:
        return encode_conversation(tokenizer, messages)
    except (DataError, TokenizerError) as error:
        raise type(error)(f"{where}: {error}") from None


def conversation_batch(tokenizer: Tokenizer, conversations: Sequence[Conversation], seq_len: int) -> Batch:
    """Put one conversation into each row, padded at the end; `bytes_scored` counts what is taught.

    Raises DataError for a conversation longer than `seq_len` + 1 symbols: cutting it is the caller's decision.
    """
    longest = max(len(conversation.ids) for conversation in conversations)
    if longest > seq_len + 1:
        raise DataError(f"a conversation has {longest} symbols; at most {seq_len + 1} fit a row. Shorten or drop it.")
    return pad_conversations(conversations, tokenizer.eot_id, ScoredBytes(tokenizer), seq_len)


def pack_conversations(conversations: Sequence[Conversation], scored: ScoredBytes | None = None) -> Batch:
    """Put conversations into one row, one behind the other, none of which sees another."""
    lengths = [len(conversation.ids) - 1 for conversation in conversations]
    branches = lay_out([0] * len(lengths), [[length] for length in lengths], padded(sum(lengths)))
    ids, targets = np.zeros((2, 1, len(branches.positions)), dtype=np.int64)
    taught = np.zeros(ids.shape, dtype=np.float32)
    at = 0
    for conversation, length in zip(conversations, lengths, strict=True):
        here = slice(at, at + length)
        ids[0, here], targets[0, here] = conversation.ids[:-1], conversation.ids[1:]
        taught[0, here] = conversation.weights[1:]
        at += length
    told = 0 if scored is None else scored(ids, targets, taught)
    places = torch.from_numpy(np.flatnonzero(taught))
    rows = torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(taught)
    return Batch(*rows, bytes_scored=told, extra={"supervised": places}, branches=branches)


def pad_conversations(
    conversations: Sequence[Conversation], padding: int, scored: ScoredBytes | None = None, seq_len: int | None = None
) -> Batch:
    """Put one conversation into each row, padded to the longest or to `seq_len` targets.

    What is taught is named in `extra["supervised"]`; its bytes are counted if there is somebody to count them.
    """
    seq_len = seq_len or max(len(conversation.ids) for conversation in conversations) - 1
    symbols = np.full((len(conversations), seq_len + 1), padding, dtype=np.int64)
    weights = np.zeros((len(conversations), seq_len + 1), dtype=np.float32)
    for row, conversation in enumerate(conversations):
        symbols[row, : len(conversation.ids)] = conversation.ids
        weights[row, : len(conversation.ids)] = conversation.weights
    ids, targets, taught = symbols[:, :-1].copy(), symbols[:, 1:].copy(), weights[:, 1:].copy()
    told = 0 if scored is None else scored(ids, targets, taught)
    places = torch.from_numpy(np.flatnonzero(taught))
    rows = torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(taught)
    return Batch(*rows, bytes_scored=told, extra={"supervised": places})
