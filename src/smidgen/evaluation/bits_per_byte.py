"""Bits per byte, the one implementation: what a model pays for a text, told in a unit no tokenizer can flatter.

Bytes are the UTF-8 length of the text itself, and a tokenizer whose symbols do not give back exactly that text is
refused: miscounted bytes are how records fall (openai/parameter-golf #897, #1271, #1734). The headline number scores
the symbols of the text and nothing else, so that it compares across tools; the price of predicting where a document
ends is kept apart (`end_nats`). This file scores texts; it knows no task, no file and no training loop.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

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
    """Negative log-likelihood of the symbols of the text, document ends excluded."""
    bytes: int
    """UTF-8 bytes of the text."""
    symbols: int
    """Symbols of the text, boundaries excluded."""
    documents: int
    """Documents scored; empty ones are passed over."""
    end_nats: float
    """Negative log-likelihood of the document ends, kept apart from the text."""
    standard_error: float | None
    """Of the bits per byte, over documents; None for a single document."""
    protocol: Protocol

    @property
    def bits_per_byte(self) -> float:
        """The canonical number: exactly the bytes of the text."""
        return self.nll_nats / (math.log(2) * self.bytes)

    @property
    def bits_per_byte_with_ends(self) -> float:
        """The same with the price of every document end: what a lossless archive of the documents would cost."""
        return (self.nll_nats + self.end_nats) / (math.log(2) * self.bytes)

    @property
    def nats_per_symbol(self) -> float:
        """Mean loss of a text symbol, comparable only within one tokenizer."""
        return self.nll_nats / self.symbols

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`, the protocol among them."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "standard_error": self.standard_error,
            "bits_per_byte_with_ends": self.bits_per_byte_with_ends,
            "nats_per_symbol": self.nats_per_symbol,
            "nll_nats": self.nll_nats,
            "end_nats": self.end_nats,
            "bytes": self.bytes,
            "symbols": self.symbols,
            "documents": self.documents,
            "protocol": self.protocol.model_dump(),
        }


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
        for buffer in _fill(ledger, texts, protocol):
            windows = chain.from_iterable(cut_windows(s, protocol.context, protocol.stride) for s in buffer)
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


class _Ledger:
    """Two accounts per document, text and end, and the bytes the text is worth."""

    def __init__(self, tokenizer: Tokenizer, protocol: Protocol) -> None:
        self.tokenizer = tokenizer
        self.protocol = protocol
        self.widths = np.asarray(tokenizer.symbol_bytes())
        self.bytes: list[int] = []
        self.symbols = 0
        self.nats: list[np.ndarray] = []
        """Paid so far, (documents, 2), one array per buffer; the last one is still open."""
        self.opened = 0
        """Documents before the buffer that is open: accounts count from there."""

    def open(self, texts: list[str]) -> Iterator[ScoredSequence]:
        """Encode a buffer of texts, check their bytes and give every symbol its account."""
        self.opened = len(self.bytes)
        self.nats.append(np.zeros((len(texts), 2)))
        start = [self.tokenizer.bos_id] if self.protocol.start_with_bos else []
        for index, (text, ids) in enumerate(zip(texts, self.tokenizer.encode_batch(texts), strict=True)):
            self.bytes.append(self._checked_bytes(text, ids))
            self.symbols += len(ids)
            if not start:
                self.nats[-1][index, 0] += math.log(self.tokenizer.vocab_size)
            accounts = [*([UNSCORED] * len(start)), *([2 * index] * len(ids)), 2 * index + 1]
            symbols = [*start, *ids, self.tokenizer.eot_id]
            yield ScoredSequence(np.asarray(symbols, dtype=np.int32), np.asarray(accounts, dtype=np.int32))

    def _checked_bytes(self, text: str, ids: list[int]) -> int:
        """Return the bytes of the text; a sentencepiece space before it is paid for but not counted."""
        content = text_bytes(text)
        expected = text_bytes(self.tokenizer.text_prefix) + content
        found = self.tokenizer.decode_bytes(ids)
        if found != expected:
            at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), 0)
            raise TokenizerError(
                f"document {len(self.bytes)}: the tokenizer gives back {len(found)} bytes that differ from the text's "
                f"{len(expected)} (first near {expected[at : at + 20]!r}), so bits per byte would be of another text. "
                "Use a tokenizer without normalisation."
            )
        counted = int(self.widths[ids].sum())
        if counted != len(expected):
            raise TokenizerError(
                f"document {len(self.bytes)}: symbol_bytes() counts {counted} bytes where the text has "
                f"{len(expected)}. The tokenizer's byte table is wrong."
            )
        return len(content)

    def charge(self, accounts: Int[Tensor, "B T"], losses: Float[Tensor, "B T"]) -> None:
        """Add losses to their accounts, in fp64: millions of fp32 terms would lose digits."""
        wanted = accounts != UNSCORED
        np.add.at(self.nats[-1].reshape(-1), accounts[wanted].numpy(), losses[wanted].double().numpy())

    def settle(self) -> Measured:
        """Sum up."""
        if not self.bytes:
            raise DataError("there is no text to score: every document was empty. Give at least one byte of text.")
        nats = np.concatenate(self.nats)
        sizes = np.asarray(self.bytes, dtype=np.float64)
        text_nats, end_nats = (float(column) for column in nats.sum(axis=0))
        return Measured(
            nll_nats=text_nats,
            bytes=sum(self.bytes),
            symbols=self.symbols,
            documents=len(self.bytes),
            end_nats=end_nats,
            standard_error=_ratio_error(nats[:, 0] / math.log(2), sizes),
            protocol=self.protocol,
        )


def _fill(ledger: _Ledger, texts: Iterable[str], protocol: Protocol) -> Iterator[list[ScoredSequence]]:
    """Gather texts into buffers of sequences; a stream is one sequence per buffer, with the last context carried on."""
    history = np.zeros(0, dtype=np.int32)
    for group in _group(texts):
        buffer = list(ledger.open(group))
        if protocol.isolate_documents:
            yield buffer
            continue
        ids = np.concatenate([history, *(sequence.ids for sequence in buffer)])
        past = np.full(len(history), UNSCORED, dtype=np.int32)
        accounts = np.concatenate([past, *(sequence.accounts for sequence in buffer)])
        yield [ScoredSequence(ids, accounts, first=max(1, len(history)))]
        history = ids[-protocol.context :]


def _group(texts: Iterable[str]) -> Iterator[list[str]]:
    group, size = [], 0
    for text in texts:
        if not text:
            continue
        group.append(text)
        size += len(text) // 4 + 2  # about what a byte-pair vocabulary makes of it; only memory depends on it
        if size >= _BUFFER_SYMBOLS:
            yield group
            group, size = [], 0
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
