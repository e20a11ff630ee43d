"""Bits per byte, the one implementation: what a model pays for a text, told in a unit no tokenizer can flatter.

Bytes are the UTF-8 length of the text itself, and a tokenizer whose symbols do not give back exactly that text is
refused: miscounted bytes are how records fall (openai/parameter-golf #897, #1271, #1734). The headline number scores
the symbols of the text and nothing else, so that it compares across tools; the price of marks that are no text, such
as the end of a document, is kept apart (`mark_nats`). This file scores texts; it knows no task, file or training loop.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.errors import DataError, TokenizerError
from smidgen.evaluation.windows import UNSCORED, ScoredSequence, WindowBatch, batch_windows, cut_windows
from smidgen.models import LanguageModel
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bytes import text_bytes

T = TypeVar("T")

_GROUP_CHARACTERS = 1 << 20
_BUFFER_SYMBOLS = 1 << 18
"""Symbols gathered before windows are sorted by length: enough for full batches, a few MB of memory."""
_HEAD_NUMBERS = 1 << 24
"""Logits alive at once, 64 MiB in fp32; the head of a 32k vocabulary over a whole batch would be 1 GiB."""


class Protocol(Config):
    """How a text is shown to the model: two numbers compare only under the same protocol."""

    context: Annotated[int, Field(ge=1)] = 512
    """Most symbols the model reads in one forward."""
    stride: Annotated[int, Field(ge=1)] = 256
    """New symbols scored per window of a long text: smaller gives more history and costs more forwards."""
    isolate_documents: bool = True
    """Each document alone; False: documents stream past one after another, each seeing what came before."""
    start_with_bos: bool = True
    """Show the symbol texts begin with; False: the first symbol is charged as a guess among the whole vocabulary."""

    @model_validator(mode="after")
    def _check(self) -> "Protocol":
        if self.stride > self.context:
            raise ValueError(f"stride ({self.stride}) must not exceed context ({self.context}): symbols would be lost.")
        if not self.isolate_documents and not self.start_with_bos:
            raise ValueError("streamed documents need start_with_bos = true: the boundary is what tells them apart.")
        return self


@dataclass(frozen=True)
class Measured:
    """What a model paid for some text, and under which protocol."""

    nll_nats: float
    """Negative log-likelihood of the symbols of the text, marks excluded."""
    bytes: int
    """UTF-8 bytes of the text."""
    symbols: int
    """Symbols of the text, marks excluded."""
    documents: int
    """Documents scored; empty ones are passed over."""
    mark_nats: float
    """Negative log-likelihood of what is no text: document ends, and the turns of conversations."""
    standard_error: float | None
    """Of the bits per byte, over documents; None for a single document."""
    protocol: Protocol
    document_nats: tuple[float, ...] = ()
    """What each document's text cost, for comparisons that pair documents."""
    document_bytes: tuple[int, ...] = ()
    """How long each document's text is."""

    @property
    def bits_per_byte(self) -> float:
        """The canonical number: exactly the bytes of the text."""
        return self.nll_nats / (math.log(2) * self.bytes)

    @property
    def bits_per_byte_with_marks(self) -> float:
        """The same with the price of every mark: what a lossless archive of the documents would cost."""
        return (self.nll_nats + self.mark_nats) / (math.log(2) * self.bytes)

    @property
    def nats_per_symbol(self) -> float:
        """Mean loss of a text symbol, comparable only within one tokenizer."""
        return self.nll_nats / self.symbols

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`, the protocol among them."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "standard_error": self.standard_error,
            "bits_per_byte_with_marks": self.bits_per_byte_with_marks,
            "nats_per_symbol": self.nats_per_symbol,
            "nll_nats": self.nll_nats,
            "mark_nats": self.mark_nats,
            "bytes": self.bytes,
            "symbols": self.symbols,
            "documents": self.documents,
            "protocol": self.protocol.model_dump(),
        }


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    bytes: int


def bits_per_byte(
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    protocol: Protocol | None = None,
    batch_symbols: int = 8192,
) -> Measured:
    """Score texts, each a document, and return what they cost; memory does not grow with their number.

    Without a protocol: windows of the context the model was trained for, moving by half of it.
    Raises TokenizerError if the symbols do not give back the bytes of a text, DataError if there is no text at all.
    """
    return _measure(model, tokenizer, _encode(tokenizer, texts), protocol, batch_symbols)


def bits_per_byte_of_symbols(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Iterable[Sequence[int]],
    protocol: Protocol | None = None,
    batch_symbols: int = 8192,
) -> Measured:
    """Score documents that are encoded already (without their two boundaries), as token shards hold them.

    The same measure as `bits_per_byte`: bytes are those the symbols decode to; special symbols inside a document, as
    a conversation has, are marks.
    """
    widths = np.asarray(tokenizer.symbol_bytes())
    encoded = (_Encoded(ids, _checked_bytes(tokenizer, widths, ids)) for ids in map(list, documents) if ids)
    return _measure(model, tokenizer, encoded, protocol, batch_symbols)


def _measure(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Iterable[_Encoded],
    protocol: Protocol | None,
    batch_symbols: int,
) -> Measured:
    if tokenizer.vocab_size > model.config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {tokenizer.vocab_size} symbols, the model knows {model.config.vocab_size}: "
            "they do not belong together."
        )
    context = model.config.max_seq_len
    protocol = protocol or Protocol(context=context, stride=max(1, context // 2))
    ledger = _Ledger(tokenizer, protocol)
    was_training = model.training
    model.train(False)
    try:
        for sequences in _gather(ledger, documents, protocol):
            windows = chain.from_iterable(cut_windows(s, protocol.context, protocol.stride) for s in sequences)
            for batch in batch_windows(windows, batch_symbols):
                ledger.charge(batch.accounts, score(model, batch))
    finally:
        model.train(was_training)
    return ledger.settle()


def score(model: LanguageModel, batch: WindowBatch) -> Float[Tensor, "B T"]:
    """Return fp32 losses in nats on the CPU, 0 where nothing was asked; the full logits never exist at once."""
    device = next(model.parameters()).device
    wanted = batch.accounts != UNSCORED
    losses = torch.zeros(batch.ids.shape)
    with torch.inference_mode():
        features = model.features(batch.ids.to(device))[wanted.to(device)]
        losses[wanted] = _nll(model, features, batch.targets[wanted].to(device)).cpu()
    return losses


def _nll(model: LanguageModel, features: Float[Tensor, "N D"], targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    size = max(1, _HEAD_NUMBERS // model.config.vocab_size)
    chunks = zip(features.split(size), targets.split(size), strict=True)
    return torch.cat([F.cross_entropy(model.logits(part), wanted, reduction="none") for part, wanted in chunks])


def _encode(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[_Encoded]:
    """Encode texts, in groups so that the tokenizer can use all cores; empty ones are passed over."""
    widths = np.asarray(tokenizer.symbol_bytes())
    for group in _group((text for text in texts if text), len, _GROUP_CHARACTERS):
        for text, ids in zip(group, tokenizer.encode_batch(group), strict=True):
            yield _Encoded(ids, _checked_bytes(tokenizer, widths, ids, text))


def _checked_bytes(tokenizer: Tokenizer, widths: np.ndarray, ids: list[int], text: str | None = None) -> int:
    """Return the bytes of a text; the space a sentencepiece vocabulary puts before it is paid for but not counted."""
    found = tokenizer.decode_bytes(ids)
    prefix = text_bytes(tokenizer.text_prefix)
    expected = found if text is None else prefix + text_bytes(text)
    if found != expected:
        at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), 0)
        raise TokenizerError(
            f"the tokenizer gives back {len(found)} bytes that differ from a text's {len(expected)} "
            f"(first near {expected[at : at + 20]!r}), so bits per byte would be of another text. "
            "Use a tokenizer without normalisation."
        )
    if int(widths[ids].sum()) != len(found):
        raise TokenizerError(
            f"symbol_bytes() counts {widths[ids].sum()} bytes where the text has {len(found)}: "
            "the tokenizer's byte table is wrong."
        )
    return len(found) - (len(prefix) if found.startswith(prefix) else 0)


class _Ledger:
    """Two accounts per document, text and marks, and the bytes the text is worth."""

    def __init__(self, tokenizer: Tokenizer, protocol: Protocol) -> None:
        self.tokenizer = tokenizer
        self.protocol = protocol
        self.specials = np.asarray(sorted(tokenizer.special_ids))
        self.bytes: list[int] = []
        self.symbols = 0
        self.nats: list[np.ndarray] = []
        """Paid so far, (documents, 2), one array per buffer; the last one is still open."""

    def open(self, documents: Sequence[_Encoded]) -> Iterator[ScoredSequence]:
        """Give every symbol of a buffer of documents its account."""
        self.nats.append(np.zeros((len(documents), 2)))
        start = [self.tokenizer.bos_id] if self.protocol.start_with_bos else []
        for index, document in enumerate(documents):
            ids = np.asarray([*start, *document.ids, self.tokenizer.eot_id], dtype=np.int32)
            is_mark = np.isin(ids, self.specials)
            accounts = 2 * index + is_mark
            accounts[: len(start)] = UNSCORED
            self.bytes.append(document.bytes)
            self.symbols += int((~is_mark[len(start) :]).sum())
            if not start:
                self.nats[-1][index, int(is_mark[0])] += math.log(self.tokenizer.vocab_size)
            yield ScoredSequence(ids, accounts)

    def charge(self, accounts: Int[Tensor, "B T"], losses: Float[Tensor, "B T"]) -> None:
        """Add losses to their accounts, in fp64: millions of fp32 terms would lose digits."""
        wanted = accounts != UNSCORED
        np.add.at(self.nats[-1].reshape(-1), accounts[wanted].numpy(), losses[wanted].double().numpy())

    def settle(self) -> Measured:
        """Sum up."""
        if not sum(self.bytes):
            raise DataError("there is no text to score: every document was empty. Give at least one byte of text.")
        nats = np.concatenate(self.nats)
        sizes = np.asarray(self.bytes, dtype=np.float64)
        text_nats, mark_nats = (float(column) for column in nats.sum(axis=0))
        return Measured(
            nll_nats=text_nats,
            bytes=sum(self.bytes),
            symbols=self.symbols,
            documents=len(self.bytes),
            mark_nats=mark_nats,
            standard_error=_ratio_error(nats[:, 0] / math.log(2), sizes),
            protocol=self.protocol,
            document_nats=tuple(nats[:, 0].tolist()),
            document_bytes=tuple(self.bytes),
        )


def _gather(ledger: _Ledger, documents: Iterable[_Encoded], protocol: Protocol) -> Iterator[Sequence[ScoredSequence]]:
    """Gather documents into buffers of sequences; a stream is one sequence per buffer, the last context carried on."""
    history = np.zeros(0, dtype=np.int32)
    for group in _group(documents, lambda document: len(document.ids) + 2, _BUFFER_SYMBOLS):
        sequences = list(ledger.open(group))
        if protocol.isolate_documents:
            yield sequences
            continue
        ids = np.concatenate([history, *(sequence.ids for sequence in sequences)])
        past = np.full(len(history), UNSCORED)
        accounts = np.concatenate([past, *(sequence.accounts for sequence in sequences)])
        yield [ScoredSequence(ids, accounts, first=max(1, len(history)))]
        history = ids[-protocol.context :]


def _group(things: Iterable[T], weigh: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Yield consecutive things in lists that weigh `limit` or a little more."""
    group: list[T] = []
    weight = 0
    for thing in things:
        group.append(thing)
        weight += weigh(thing)
        if weight >= limit:
            yield group
            group, weight = [], 0
    if group:
        yield group


def _ratio_error(bits: np.ndarray, sizes: np.ndarray) -> float | None:
    """Return the standard error of sum(bits) / sum(bytes), documents drawn at random, by the delta method.

    Source: Cochran 1977, Sampling Techniques, equation 6.13 (ratio estimator).
    """
    n = len(sizes)
    if n < 2:
        return None
    residuals = bits - bits.sum() / sizes.sum() * sizes
    return float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / sizes.sum())
