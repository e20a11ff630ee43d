"""Conversations as symbols: messages, chat templates, and which symbols an assistant is taught.

Special symbols come from the template alone. What somebody said is text, whatever it spells: nobody can end a turn or
open another by writing <|im_end|>. The price is that a template must put each message in whole, or stripped of the
white space around it; one that rewrites messages otherwise is refused rather than guessed at.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from smidgen.errors import TokenizerError
from smidgen.tokenizers.base import SPECIAL_SYMBOLS, Tokenizer

CHATML = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n ' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The template of every tokenizer trained here: a conversation is a document, and begins like one.

ChatML, but for the space before what is said: with it the first word is the symbol it is inside a text, so an answer
can be copied from the question. Village questions after 2.6 M symbols: 52% right with the space, 41% without (LOG.md).
"""

HF_CONFIG: Mapping[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": SPECIAL_SYMBOLS[0],
    "eos_token": SPECIAL_SYMBOLS[0],
    "pad_token": SPECIAL_SYMBOLS[-1],
    "stop_symbols": ["<|endoftext|>", "<|im_end|>"],
    "add_bos_token": True,
    "clean_up_tokenization_spaces": False,
    "chat_template": CHATML,
}
"""The `tokenizer_config.json` of every tokenizer trained here; `stop_symbols` is ours, other readers pass it over."""

_HOLE = re.compile("\U0010fff0([0-9]+)\U0010fff1")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """"system", "user" or "assistant"; a template may know others."""
    content: str
    """What was said; a special symbol spelled out in it is text like any other."""


def answer_prefix(tokenizer: Tokenizer) -> str:
    """Return what every answer begins with that nobody said: the space a template puts before it, or nothing.

    A template that opens an answer without the space leaves it to the model, as part of the first symbol.
    """
    return _answer_prefix(tokenizer.chat_template, tuple(tokenizer.template_symbols.items()))


def strip_prefix(tokenizer: Tokenizer, answer: str) -> str:
    """Return what a model said when it was asked through the template: its answer without `answer_prefix`."""
    return answer.removeprefix(answer_prefix(tokenizer))


@functools.lru_cache(maxsize=4)
def _answer_prefix(template: str | None, symbols: tuple[tuple[str, str], ...]) -> str:
    probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        opened = _render(template, dict(symbols), probe[:1], True)
        return " " if _render(template, dict(symbols), probe, False).startswith(opened + " b") else ""
    except TokenizerError:  # a template that refuses so short a talk has its own way of beginning
        return ""


class _Piece(NamedTuple):
    text: str
    kind: Literal["template", "said", "answer"]


def render_chat(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """Render the chat template as text, for people to read; encode with `encode_chat`.

    Raises TokenizerError if there is no template, or it fails on these messages.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return _render(tokenizer.chat_template, tokenizer.template_symbols, turns, add_generation_prompt)


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False) -> list[int]:
    """Return the ids of a conversation, with the opening of the assistant's turn if it is to answer."""
    return encode_chat_weighted(tokenizer, messages, add_generation_prompt)[0]


def encode_chat_weighted(
    tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False
) -> tuple[list[int], list[float]]:
    """Return ids and supervision weights: 1 on what the assistant says and the symbol that ends it, 0 elsewhere."""
    ids: list[int] = []
    weights: list[float] = []
    prompt: list[_Piece] = []
    ending = 0.0
    prefix = answer_prefix(tokenizer) if any(message.role == "assistant" for message in messages) else ""
    for piece in [*_pieces(tokenizer, messages, add_generation_prompt), None]:
        if piece is not None and piece.kind != "answer":
            prompt.append(piece)
            continue
        if piece is not None and prefix:
            prompt[-1] = _Piece(prompt[-1].text.removesuffix(prefix), prompt[-1].kind)
        added = _encode_prompt(tokenizer, prompt)
        end = next((n + 1 for n, number in enumerate(added[:3]) if number in tokenizer.special_ids), 0)
        ids += added
        weights += [ending] * end + [0.0] * (len(added) - end)
        prompt = []
        if piece is not None:
            answer = tokenizer.encode_continuation(prefix + piece.text)
            ids += answer
            weights += [1.0] * len(answer)
            ending = 1.0
    return ids, weights


def _encode_prompt(tokenizer: Tokenizer, pieces: Sequence[_Piece]) -> list[int]:
    """Encode as one text, as other implementations do, unless that would make a special symbol of what was said."""
    apart: list[int] = []
    for text, kind in pieces:
        apart += tokenizer.encode_with_specials(text) if kind == "template" else tokenizer.encode_continuation(text)
    whole = tokenizer.encode_with_specials("".join(piece.text for piece in pieces))
    specials = tokenizer.special_ids
    return whole if [i for i in whole if i in specials] == [i for i in apart if i in specials] else apart


def _pieces(tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool) -> list[_Piece]:
    """Tell what the template wrote from what the messages say, by rendering it once with numbered holes."""
    turns = [{"role": m.role, "content": f"\U0010fff0{n}\U0010fff1"} for n, m in enumerate(messages)]
    parts = _HOLE.split(_render(tokenizer.chat_template, tokenizer.template_symbols, turns, add_generation_prompt))
    rendered = render_chat(tokenizer, messages, add_generation_prompt)
    pieces, position = [_Piece(parts[0], "template")], len(parts[0])
    matches = rendered.startswith(parts[0])
    for number, following in zip(parts[1::2], parts[2::2], strict=True):
        message = messages[int(number)]
        candidates = (message.content, message.content.strip())
        said = next((text for text in candidates if rendered.startswith(text + following, position)), None)
        if said is None:
            matches = False
            break
        pieces += [_Piece(said, "answer" if message.role == "assistant" else "said"), _Piece(following, "template")]
        position += len(said) + len(following)
    if not matches or position != len(rendered):
        raise TokenizerError("the chat template rewrites what messages say, so text and symbols cannot be told apart.")
    return pieces


def _render(
    template: str | None, symbols: Mapping[str, str], turns: list[dict[str, str]], add_generation_prompt: bool
) -> str:
    from jinja2 import TemplateError

    if template is None:
        raise TokenizerError("this tokenizer has no chat template: it belongs to a base model. Use generate, not chat.")
    try:
        compiled = _compile(template)
        return compiled.render(messages=turns, add_generation_prompt=add_generation_prompt, **symbols)
    except (TemplateError, TypeError, LookupError, ValueError) as error:
        raise TokenizerError(f"the chat template fails on this conversation: {error}") from None


@functools.lru_cache(maxsize=4)
def _compile(template: str) -> Any:
    """Compile a template; kept, since it takes as long as encoding the conversation itself."""
    # jinja2 takes 60 ms to import, and most commands never chat.
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TokenizerError(f"the chat template refuses this conversation: {message}")

    # The switches and names that `transformers` gives a template; sandboxed, since templates come with downloads.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return environment.from_string(template)
