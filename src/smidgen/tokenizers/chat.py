"""Conversations as symbols: messages, the chat template, and which symbols an assistant is taught."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """"system", "user" or "assistant"; a template may know others."""
    content: str
    """What was said; a special symbol spelled out in it is text like any other."""
