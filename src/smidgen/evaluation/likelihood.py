"""How likely a model finds continuations of contexts, computed with as few symbols as their likelihoods need.

What candidates have in common is run once (`branches`), sequences of similar length run together, and the output head
sees only what it is asked for: of a vocabulary of 49k it costs as much for two positions as all blocks for one. Works
for every model through its contract; give it one prepared for decoding and it is as fast as that is.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from smidgen.errors import CheckpointError, ConfigError, DataError, TokenizerError
from smidgen.evaluation.branches import Run, Span, group_neighbours, grow, into_forwards, plan_batches
from smidgen.models import LanguageModel
from smidgen.models.stats import kv_bytes_per_symbol
from smidgen.tokenizers.bytes import text_bytes

BATCH_SYMBOLS = 4096
"""Symbols computed together by one thread: three seconds of SmolLM2-135M, which is what a killed run loses. A larger
batch has fewer forwards of one length each and less padding; twice as many gain nothing, half as many lose 8%."""

MOST_AT_ONCE = 8
"""Batches computed at once: each has memory of its own."""

FORWARD_SYMBOLS = 2048
"""Most symbols of one forward, padding included: more would not be faster, and what it keeps at hand grows."""

MEMORY_BYTES = 1 << 29
"""Most keys and values that the batches computed at once remember together."""

LOGITS_AT_ONCE = 1 << 24
"""Logits computed at a time, 64 MB in fp32. Of 49k symbols that is 340 places, 73 us each on an AMX core; the head is
read for every one of 170 at 97 us, of 32 it takes most of the time."""

ROWS_IN_CACHE = 8
"""Places whose logits are normalised together: 1.6 MB of 49k symbols, which a core's cache holds from pass to pass."""

Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""


class Pair(Protocol):
    """A context and one continuation of it, as `tasks.choice.Choice` is."""

    @property
    def context(self) -> str:
        """What stands before; empty where nothing does."""
        ...

    @property
    def continuation(self) -> str:
        """What is scored."""
        ...


class Vocabulary(Protocol):
    """What of a tokenizer it takes to score: every `tokenizers.Tokenizer` is one, and says there what these mean."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        ...

    @property
    def bos_id(self) -> int:
        """The id a text begins with for the model."""
        ...

    @property
    def puts_bos(self) -> bool:
        """Whether `bos_id` stands before every text."""
        ...

    @property
    def template_symbols(self) -> Mapping[str, str]:
        """The names a chat template may use for special symbols, and what they stand for."""
        ...

    def special_id(self, symbol: str) -> int:
        """Return the id of a special symbol. Raises TokenizerError if there is none of that name."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode many texts."""
        ...


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model thinks of one continuation."""

    nats: float
    """Log-probability of the whole continuation, at most 0."""
    greedy: bool
    """Whether every symbol of it is the likeliest at its place; of equals the first is."""
    symbols: int
    """Symbols it has."""
    bytes: int
    """UTF-8 bytes it has."""
    cut: int = 0
    """Symbols of the context's beginning that did not fit and were not read."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One pair in symbols."""

    span: Span
    bytes: int
    cut: int
    fits: bool = True
    """Whether the model's context has room for the continuation itself; if not, it cannot be scored."""


class Scorer:
    """A model with what it takes to ask it for likelihoods."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Vocabulary,
        max_len: int | None = None,
        batch_symbols: int = BATCH_SYMBOLS,
    ) -> None:
        """Take a model, best one that `prepare_for_decoding` made; `max_len` None is the context it was trained for.

        Raises ConfigError for a context without room, TokenizerError if the tokenizer does not fit the model.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.max_len = model.config.max_seq_len if max_len is None else max_len
        self.batch_symbols = batch_symbols
        if self.max_len < 1 or batch_symbols < 1:
            raise ConfigError(f"a context of {self.max_len} and batches of {batch_symbols} symbols can score nothing.")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise TokenizerError(
                f"the tokenizer has {tokenizer.vocab_size} symbols, the model knows {model.config.vocab_size}: "
                "they do not belong together."
            )
        self._symbols_at_hand = MEMORY_BYTES // max(1, kv_bytes_per_symbol(model.config))

    @property
    def protocol(self) -> dict[str, Any]:
        """What decides the numbers beside model and items: two scores compare only where it is equal."""
        return {
            "context": self.max_len,
            "precision": precision_of(self.model),
            "begins_with": self.tokenizer.bos_id if self.tokenizer.puts_bos else None,
            "empty_context": empty_context_id(self.tokenizer),
        }

    def encode(self, pairs: Sequence[Pair]) -> list[Encoded]:
        """Encode pairs as lm-evaluation-harness does for causal models (`_encode_pair` of its api/model.py).

        Spaces that end a context go to the continuation; both are encoded as one text, of which the continuation is
        what is longer than the context alone. An empty context is one symbol, see `empty_context_id`; before any
        other stands what the tokenizer's own files put there, which for what is trained here is the document
        boundary. What is too long loses its beginning, and says how much.
        Raises DataError for a continuation that has no symbol.
        """
        texts: dict[str, list[int]] = {}
        split = [_split(pair) for pair in pairs]
        for context, continuation in split:
            texts |= {context: [], context + continuation: []}
        for text, ids in zip(texts, self.tokenizer.encode_batch(list(texts)), strict=True):
            texts[text] = ids
        begin = [self.tokenizer.bos_id] if self.tokenizer.puts_bos else []
        encoded = []
        for pair, (context, continuation) in zip(pairs, split, strict=True):
            before, whole = texts[context], texts[context + continuation]
            if context:
                before, after = begin + before, whole[len(before) :]
            else:
                before, after = [empty_context_id(self.tokenizer)], whole
                if after[:1] == before:
                    after = after[1:]
            if not after:
                shown = f"{pair.continuation!r} after {pair.context[-40:]!r}"
                raise DataError(f"the continuation {shown} adds no symbol, so it has no likelihood. Give it some text.")
            encoded.append(self._fit(before, after, len(text_bytes(pair.continuation))))
        return encoded

    def batches(self, encoded: Sequence[Encoded], groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return in what batches to score, as indices; what stands in one group is asked in one batch."""
        spans, at_once = [one.span for one in encoded], self._at_once()
        return plan_batches(spans, groups, self.batch_symbols, max(1, self._symbols_at_hand // at_once), at_once)

    def score(self, encoded: Sequence[Encoded]) -> list[Likelihood]:
        """Score one batch, all at once. Raises DataError for what cannot fit the context."""
        for one in encoded:
            if not one.fits:
                length = len(one.span.ids) - one.span.first
                raise DataError(f"a continuation of {length} symbols does not fit a context of {self.max_len}.")
        with _at_rest(self.model):
            scores = score_spans(self.model, [one.span for one in encoded], min(self.batch_symbols, FORWARD_SYMBOLS))
        if any(math.isnan(nats) for nats, _ in scores):
            raise CheckpointError("the model's probabilities are no numbers (NaN): its weights are damaged.")
        return [
            Likelihood(nats, greedy, len(one.span.ids) - one.span.first, one.bytes, one.cut)
            for one, (nats, greedy) in zip(encoded, scores, strict=True)
        ]

    def score_each(self, batches: Sequence[Sequence[Encoded]], planned: int) -> Iterator[list[Likelihood]]:
        """Score batches in their order, on a processor as many at once as it has threads, each by threads of its own.

        `planned` is how many there were before those that are known went: what is left is computed as all would be.
        Two cores are 1.9 times as fast as one that way, and 1.4 times when they share every product (SmolLM2-135M).
        Raises what `score` raises.
        """
        threads = torch.get_num_threads()
        n = min(self._at_once(), planned)
        if n <= 1:
            yield from map(self.score, batches)
            return
        try:
            with (
                _at_rest(self.model),
                ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(threads // n,)) as pool,
            ):
                yield from pool.map(self.score, batches)
        finally:
            torch.set_num_threads(threads)  # a thread's number is every later thread's

    def _at_once(self) -> int:
        if next(self.model.parameters()).device.type != "cpu":
            return 1
        threads = torch.get_num_threads()
        return threads // -(-threads // MOST_AT_ONCE)

    def _fit(self, before: list[int], after: list[int], n_bytes: int) -> Encoded:
        """Keep the end: the model reads at most `max_len` symbols, and the last one is not read at all."""
        cut = max(0, len(before) + len(after) - 1 - self.max_len)
        fits = cut < len(before)
        kept = before[cut:] if fits else before[-1:]
        return Encoded(Span((*kept, *after), len(kept)), n_bytes, min(cut, len(before) - 1), fits)


def score_choices(
    model: LanguageModel,
    tokenizer: Vocabulary,
    pairs: Sequence[Pair],
    *,
    max_len: int | None = None,
    batch_symbols: int = BATCH_SYMBOLS,
    progress: Progress | None = None,
) -> list[Likelihood]:
    """Return how likely a model finds each continuation, in the order given; neighbours are taken for one question.

    Raises DataError for a continuation without symbols, or one that is longer than the context.
    """
    scorer = Scorer(model, tokenizer, max_len, batch_symbols)
    encoded = scorer.encode(pairs)
    found: dict[int, Likelihood] = {}
    groups = group_neighbours([one.span for one in encoded], batch_symbols)
    batches = scorer.batches(encoded, groups)
    asked = scorer.score_each([[encoded[i] for i in batch] for batch in batches], len(batches))
    for batch, likelihoods in zip(batches, asked, strict=True):
        found |= zip(batch, likelihoods, strict=True)
        if progress is not None:
            progress(len(found), len(pairs))
    return [found[i] for i in range(len(pairs))]


def precision_of(model: LanguageModel) -> str:
    """Return the number format a model computes in, `bfloat16`."""
    return str(model.compute_dtype or next(model.parameters()).dtype).removeprefix("torch.")


def empty_context_id(tokenizer: Vocabulary) -> int:
    """Return the symbol that stands for an empty context: as in the harness `bos_token`, or else the document's end."""
    name = tokenizer.template_symbols.get("bos_token")
    try:
        return tokenizer.bos_id if name is None else tokenizer.special_id(name)
    except TokenizerError:
        return tokenizer.bos_id


@contextmanager
def _at_rest(model: LanguageModel) -> Iterator[None]:
    """Within this context the model does not train; one that does not anyway is not touched, whoever else asks it."""
    was_training = model.training
    if was_training:
        model.train(False)
    try:
        yield
    finally:
        if was_training:
            model.train(True)


def _split(pair: Pair) -> tuple[str, str]:
    context = pair.context.rstrip()
    return context, pair.context[len(context) :] + pair.continuation


@torch.inference_mode()
def score_spans(
    model: LanguageModel, spans: Sequence[Span], forward_symbols: int = FORWARD_SYMBOLS
) -> list[tuple[float, bool]]:
    """Return of each span the log-probability of all that it asks for, and whether each symbol of it is the likeliest.

    All spans in one batch; the model should be in evaluation mode. A forward has at most `forward_symbols`, padding
    included, unless a single run is longer.
    """
    runs = grow(spans)
    features, asks = _run(model, runs, into_forwards(runs, forward_symbols))
    terms: list[list[float]] = [[] for _ in spans]
    greedy = [True] * len(spans)
    for (_, _, index), value, is_best in zip(asks, *_head(model, features, asks), strict=True):
        terms[index].append(value)
        greedy[index] &= is_best
    # An exact sum: equal terms in another order are a tie, not a win by the last bit.
    return [(math.fsum(values), best) for values, best in zip(terms, greedy, strict=True)]


def _run(
    model: LanguageModel, runs: Sequence[Run], forwards: Sequence[Sequence[Run]]
) -> tuple[Float[Tensor, "N D"], list[tuple[int, int, int]]]:
    """Run everything; return the features that are asked for, and for each ask which of them, the symbol, the span."""
    device = next(iter(model.parameters())).device
    n_rows = 1 + max(run.row for run in runs)
    reach = max(max(run.start for run in forward) + len(forward[0].ids) for forward in forwards)
    state = model.init_state(n_rows, reach) if n_rows else None
    features: list[Tensor] = []
    asks: list[tuple[int, int, int]] = []
    n_features = 0
    for forward in forwards:
        width = len(forward[0].ids)
        ids = torch.tensor([(*run.ids, *(0,) * (width - len(run.ids))) for run in forward], device=device)
        if state is None:
            read = model.features(ids)
        else:
            for run in forward:
                if run.parent is None:
                    state.truncate(run.row, 0)
                else:
                    state.copy_row(run.parent.row, run.row, run.start)
            read = model.features(ids, state, [run.row for run in forward])
            for run in forward:
                state.truncate(run.row, run.end)
        wanted: list[int] = []
        for number, run in enumerate(forward):
            for place in sorted(run.asks):
                asks += ((n_features + len(wanted), symbol, span) for symbol, span in run.asks[place])
                wanted.append(number * width + place)
        n_features += len(wanted)
        features.append(read.flatten(0, 1)[torch.tensor(wanted, dtype=torch.long, device=device)])
    return torch.cat(features), asks


def _head(
    model: LanguageModel, features: Float[Tensor, "N D"], asks: Sequence[tuple[int, int, int]]
) -> tuple[list[float], list[bool]]:
    """Return the log-probability of each symbol asked for, and whether it is the likeliest there, in fp32."""
    at, symbols, _ = torch.tensor(asks, device=features.device).T.contiguous()
    places = torch.arange(0, len(features) + ROWS_IN_CACHE, ROWS_IN_CACHE, device=at.device)
    bounds = torch.searchsorted(at, places).tolist()
    values, is_best = [], []
    for number, log_probs in enumerate(_log_probs(model, features)):
        first, last = bounds[number : number + 2]
        rows, wanted = at[first:last] - number * ROWS_IN_CACHE, symbols[first:last]
        own = log_probs[rows, wanted]
        best = own == log_probs.amax(-1)[rows]
        best[best.clone()] = _come_first(log_probs[rows[best]], wanted[best])
        values += own.tolist()
        is_best += best.tolist()
    return values, is_best


def _log_probs(model: LanguageModel, features: Float[Tensor, "N D"]) -> Iterator[Float[Tensor, "n V"]]:
    """Yield the log-probabilities of all symbols, of ROWS_IN_CACHE places at a time."""
    size = max(1, LOGITS_AT_ONCE // model.config.vocab_size // ROWS_IN_CACHE) * ROWS_IN_CACHE
    for block in features.split(size):
        for part in model.logits(block).split(ROWS_IN_CACHE):
            # As fast as the sum of exponentials alone would be in three calls (24 against 50 us for 49k, fused).
            yield part.log_softmax(-1)


def _come_first(log_probs: Float[Tensor, "n V"], likeliest: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Return whether a likeliest symbol of each row is the first of those; writes over the rows.

    Without itself a row's largest is smaller, unless there is a tie: to look for that takes a sixteenth of the time of
    argmax (1.4 ms for 23, 170 rows of 49k), 4% of scoring PIQA.
    """
    every = torch.arange(len(log_probs), device=log_probs.device)
    own = log_probs[every, likeliest]
    log_probs[every, likeliest] = -torch.inf
    first = log_probs.amax(-1) < own
    for row in (~first).nonzero().flatten().tolist():
        first[row] = not bool((log_probs[row, : likeliest[row]] == own[row]).any())
    return first
