"""The one generation path: waiting prompts are prefilled, running rows decoded, one symbol each, in every `step`.

Chat, samples, evaluation and rollouts are loops over it. Sequences come and go at any step (continuous batching) and
none depends on its companions. What this room does not know: where weights come from, and what the text is for.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from collections.abc import Sequence as Several
from itertools import groupby
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from smidgen.errors import ConfigError, DataError
from smidgen.inference.memory import RowMemory, common_prefix
from smidgen.inference.prepare import refresh
from smidgen.inference.sampling import SamplingParams, choose
from smidgen.inference.scoring import score_sequences
from smidgen.inference.sequence import WORTH_REUSING, AnswerText, Sequence
from smidgen.inference.vectors import RowVectors
from smidgen.models import LanguageModel
from smidgen.models.exits import decode_early
from smidgen.models.llama import Llama
from smidgen.models.state import StackState
from smidgen.tokenizers.base import Tokenizer

HELD_SHARE = 0.5
"""Rows that wait with a heavy symbol go when they are this share of all: at 16 rows of a byte model that pools, nearly
every step would otherwise run its trunk, for three rows of 16 (LOG.md)."""

PREFILL_SYMBOLS = 2048
"""Most symbols of one prefill forward, padding included: bounds its memory; longer prompts go through in chunks."""


class Engine:
    """Generates with one model; at most `max_rows` sequences at a time, each of at most `max_len` symbols."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        max_rows: int = 8,
        max_len: int | None = None,
        overlong: Literal["refuse", "truncate"] = "refuse",
        drafts: int | None = None,
    ) -> None:
        """Take a model, prepared for decoding or not; without a tokenizer, prompts are ids and answers have no text.

        `max_len` None is the context the model was trained for. `overlong` says what becomes of a prompt that leaves
        no room for an answer: refused with DataError, or cut to its end and counted in `truncated_prompts`.
        `drafts` is how many symbols the model's future heads guess at each step, to be checked all at once at the next;
        None is all they can. The answers are the same with any number.
        """
        max_len = model.config.max_seq_len if max_len is None else max_len
        if max_rows < 1 or max_len < 2:
            raise ConfigError(f"an engine of {max_rows} rows of {max_len} symbols can generate nothing. Need 1 and 2.")
        self.model = model
        self.tokenizer = tokenizer
        self.max_rows = max_rows
        self.max_len = max_len
        self.overlong = overlong
        self.truncated_prompts = 0
        """Prompts that were cut because they left no room for an answer."""
        self.drafts = len(model.heads.future) if drafts is None else drafts
        if self.drafts > len(model.heads.future):
            kept = len(model.heads.future)
            raise ConfigError(f"{self.drafts} drafts a step need as many future heads; this model was kept {kept}.")
        self.decoded_symbols = 0
        """Symbols that came of decoding steps; the first of each answer comes of its prompt."""
        self.decoded_rows = 0
        """Rows of all decoding steps: `decoded_symbols` over this is how many symbols a step gives a row."""
        self.prefilled_symbols = 0
        """Prompt symbols that had to be run; those a row still remembered are not among them."""
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """Each at the index of its row."""
        self._memory = RowMemory(model, max_rows, max_len)
        self._vectors = RowVectors(model)
        self._weights = _version(model)

    def add(
        self,
        prompt: str | Several[int],
        params: SamplingParams | None = None,
        vector: Float[Tensor, " n"] | None = None,
    ) -> Sequence:
        """Queue a prompt, given as text (a document's beginning) or as ids; `step` will generate after it.

        `vector` is this row's own TinyLoRA vector: zeros are the base, None is what the model has now.
        Raises DataError for a prompt that is empty, too long or not made of this model's symbols.
        """
        params = params or SamplingParams()
        ids = self._fit(self._encode(prompt) if isinstance(prompt, str) else list(prompt), params)
        if params.stop and self.tokenizer is None:
            raise ConfigError(f"stop texts {list(params.stop)} need a tokenizer, and this engine has none.")
        if params.exit_confidence is not None and self.model.heads.exit is None:
            raise ConfigError("exit_confidence needs a model with exits: train one with the objective early_exit.")
        own = self.tokenizer.stop_ids if self.tokenizer else frozenset()
        answer = AnswerText(self.tokenizer, params.stop) if self.tokenizer else None
        vector = None if vector is None else self._vectors.check(vector)
        sequence = Sequence(ids, params, own if params.stop_ids is None else params.stop_ids, answer, vector)
        self.waiting.append(sequence)
        return sequence

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Decode for every running sequence, admit waiting ones, and return all that moved.

        A sequence gets one symbol, and with it those of its draft that turn out right.
        """
        places = self._due()
        moved = [self.running[place] for place in places]
        if moved:
            self._decode(moved, places)
            self._release_finished()
        while self.waiting and len(self.running) < self.max_rows:
            moved += self._admit()
            self._release_finished()
        return moved

    def generate(
        self, prompts: Several[str | Several[int]], params: SamplingParams | Several[SamplingParams] | None = None
    ) -> list[Sequence]:
        """Generate after every prompt, with one set of parameters for all or one for each, until all are done."""
        each = [params] * len(prompts) if params is None or isinstance(params, SamplingParams) else params
        sequences = [self.add(prompt, own) for prompt, own in zip(prompts, each, strict=True)]
        while any(sequence.done is None for sequence in sequences):
            self.step()
        return sequences

    def stream(self, prompt: str | Several[int], params: SamplingParams | None = None) -> Iterator[str]:
        """Yield the answer to one prompt as it comes, in whole characters; closing the iterator cancels the rest."""
        yield from self.follow(self.add(prompt, params))

    def follow(self, sequence: Sequence) -> Iterator[str]:
        """Step until a sequence is done, yielding its text as it comes; closing the iterator cancels the rest."""
        try:
            while sequence.done is None:
                self.step()
                if piece := sequence.read():
                    yield piece
        finally:
            self.cancel(sequence)

    def score(self, sequences: Several[Several[int]]) -> list[Tensor]:
        """Return, for each list of ids, the fp32 log-probability of every symbol after the first, on the CPU."""
        too_long = max((len(ids) for ids in sequences), default=0)
        if too_long > self.max_len:
            raise DataError(f"a sequence of {too_long} symbols cannot be scored in a context of {self.max_len}.")
        return score_sequences(self.model, sequences)

    def forget(self) -> None:
        """Forget what finished sequences left: what comes depends on nothing that was before."""
        self._memory.forget(len(self.running))

    def refresh(self, model: LanguageModel) -> None:
        """Take over the weights that the model has now which this engine's was prepared from.

        After full fine-tuning; adapters need none of it. Raises ConfigError while sequences are running.
        """
        if self.running:
            raise ConfigError(f"{len(self.running)} sequences are running: their weights cannot change under them.")
        refresh(self.model, model)
        self._vectors = RowVectors(self.model)
        self.forget()

    @torch.inference_mode()
    def cancel(self, sequence: Sequence) -> None:
        """End a sequence, waiting or running; one that is done already stays as it is."""
        if sequence.done is None:
            sequence.done = "cancelled"
            if sequence in self.waiting:
                self.waiting.remove(sequence)
            self._release_finished()

    def _due(self) -> list[int]:
        """Return the places of the sequences to decode now: all, unless some had better wait for others.

        A symbol that sets the large part of a model to work costs as much for one row as for many: such rows are held
        back until they are half of all. The others reach such a symbol, or their end, in a few steps.
        """
        state = self._memory.state
        heavy = [state.is_heavy(place, sequence.symbols[-1]) for place, sequence in enumerate(self.running)]
        together = sum(heavy) >= HELD_SHARE * len(heavy)
        return [place for place, held in enumerate(heavy) if together or not held]

    def _decode(self, rows: list[Sequence], places: list[int]) -> None:
        """Run the last symbol of some rows and what was drafted after it; each goes on as far as its draft is right."""
        longest = max(self._memory.state.lengths[place] for place in places)
        leaves = any(s.params.exit_confidence is not None for s in rows)
        n_drafted = 0 if leaves else min(self.max_len - 1 - longest, *(len(s.draft) for s in rows))
        self._memory.reserve(len(self.running), longest + 1 + n_drafted)
        state = self._memory.state
        state.carry(self._vectors.carried(self.running))
        fed = [[s.symbols[-1], *s.draft[:n_drafted]] for s in rows]
        ids = torch.tensor(fed, device=self._device)
        self.decoded_rows += len(rows)
        if leaves:
            self._emit(rows, self._leave_early(rows, places, ids))
            return
        features = self.model.features(ids, state, places)
        logits = self.model.logits(features)
        reached, going = [0] * len(rows), list(range(len(rows)))
        for place in range(1 + n_drafted):
            self._emit([rows[row] for row in going], logits[going, place])
            self.decoded_symbols += len(going)
            for row in going:
                reached[row] = place
            right = [row for row in going if rows[row].symbols[-1:] == fed[row][place + 1 : place + 2]]
            going = [row for row in right if rows[row].done is None]
            if not going:
                break
        if n_drafted:
            for place, sequence in zip(places, rows, strict=True):
                state.truncate(place, len(sequence.ids) - 1)
        self._draft(rows, features[list(range(len(rows))), reached])

    def _leave_early(self, rows: list[Sequence], places: list[int], ids: Tensor) -> Tensor:
        """Run one symbol of each row as deep as its confidence asks; return logits."""
        # 1 is never exceeded: without a confidence of its own a row runs to the end.
        sure = [s.params.exit_confidence or 1.0 for s in rows]
        state = cast(StackState, self._memory.state)
        logits, depths = decode_early(cast(Llama, self.model), ids, state, places, sure)
        self.decoded_symbols += len(rows)
        for sequence, depth in zip(rows, depths, strict=True):
            sequence.depths.append(depth)
            sequence.draft = []
        return logits

    def _draft(self, rows: list[Sequence], features: Tensor) -> None:
        """Let the future heads guess what follows each row's newest symbol, from the features that it came from."""
        if self.drafts:
            heads = list(self.model.heads.future)[: self.drafts]
            guesses = self.model.logits(torch.stack([head(features) for head in heads], 1)).argmax(-1).tolist()
            for sequence, draft in zip(rows, guesses, strict=True):
                sequence.draft = draft

    @property
    def _device(self) -> torch.device:
        return next(iter(self.model.parameters())).device

    def _encode(self, text: str) -> list[int]:
        if self.tokenizer is None:
            raise ConfigError("this engine has no tokenizer: give prompts as lists of ids.")
        return [self.tokenizer.bos_id, *self.tokenizer.encode(text)]

    def _fit(self, ids: list[int], params: SamplingParams) -> list[int]:
        vocab_size = self.model.config.vocab_size
        if not ids:
            raise DataError("an empty prompt has nothing to continue. Begin with the tokenizer's bos_id.")
        if not 0 <= min(ids) <= max(ids) < vocab_size:
            raise DataError(f"prompt ids {min(ids)}..{max(ids)} go beyond the model's {vocab_size} symbols.")
        if len(ids) < self.max_len:
            return ids
        if self.overlong == "refuse":
            advice = "Shorten it, raise max_len, or let the engine truncate."
            raise DataError(f"a prompt of {len(ids)} symbols leaves no room in a context of {self.max_len}. {advice}")
        self.truncated_prompts += 1
        return ids[-(self.max_len - min(params.max_symbols, self.max_len // 2)) :]

    def _admit(self) -> list[Sequence]:
        """Prefill the next waiting sequences together and give each its first symbol.

        One that begins like another of the same wave waits for the next, to start from what that one computed.
        """
        first = len(self.running)
        if _version(self.model) != self._weights:
            self._weights = _version(self.model)
            self._memory.forget(first)
        wave: list[Sequence] = []
        families: dict[object, list[list[int]]] = defaultdict(list)
        while self.waiting and first + len(wave) < self.max_rows:
            following = self.waiting[0]
            beginning, family = following.prompt[:-1], families[following.kin]
            shared = max((common_prefix(beginning, other) for other in family), default=0)
            if shared >= max(WORTH_REUSING, self._memory.find(following)[1] + 1):
                break
            family.append(following.prompt)
            wave.append(self.waiting.popleft())
        wave.sort(key=lambda sequence: -len(sequence.prompt))
        self._memory.reserve(first + len(wave), len(wave[0].prompt))
        starts = [self._memory.place(sequence, first + index) for index, sequence in enumerate(wave)]
        self.running += wave
        self._memory.state.carry(self._vectors.carried(self.running))
        features = self._prefill(first, starts)
        self._emit(wave, self.model.logits(features))
        self._draft(wave, features)
        return wave

    def _prefill(self, first: int, starts: list[int]) -> Tensor:
        """Run the prompts of rows from `first` on, from where their memory ends; return each last symbol's features.

        Rows run together when they start level and the longest is less than twice the shortest.
        """

        def kind(row: int) -> tuple[int, int]:
            return starts[row - first], len(self.running[row].prompt).bit_length()

        last: dict[int, Tensor] = {}
        for (start, _), group in groupby(sorted(range(first, len(self.running)), key=kind), key=kind):
            rows = sorted(group, key=lambda row: -len(self.running[row].prompt))
            while rows:
                longest = len(self.running[rows[0]].prompt)
                end = min(longest, start + max(1, PREFILL_SYMBOLS // len(rows)))
                last |= self._prefill_chunk(rows, start, end)
                rows = [row for row in rows if len(self.running[row].prompt) > end]
                start = end
        return torch.stack([last[row] for row in range(first, len(self.running))])

    def _prefill_chunk(self, rows: list[int], start: int, end: int) -> dict[int, Tensor]:
        """Run symbols start..end of prompts, padded on the right; return features of those that end here."""
        pieces = [self.running[row].prompt[start:end] for row in rows]
        padded = [piece + [0] * (end - start - len(piece)) for piece in pieces]
        features = self.model.features(torch.tensor(padded, device=self._device), self._memory.state, rows)
        self.prefilled_symbols += sum(map(len, pieces))
        last = {}
        for index, row in enumerate(rows):
            length = len(self.running[row].prompt)
            self._memory.state.truncate(row, length)
            if length <= end:
                last[row] = features[index, length - 1 - start]
        return last

    def _emit(self, sequences: list[Sequence], logits: Tensor) -> None:
        """Choose the next symbol of each sequence from logits."""
        params = [s.params for s in sequences]
        draws = [s.draw() if s.params.temperature else 0.0 for s in sequences]
        choice = choose(logits, params, [s.used for s in sequences], draws)
        # One transfer for all rows; fp32 holds ids up to 2^24 exactly.
        symbols, log_probs = torch.stack([choice.symbols.float(), choice.log_probs]).tolist()
        wanted = max(p.log_probs for p in params)
        if wanted:
            best = logits.topk(min(wanted, logits.shape[1]))
            likeliest = zip(best.indices.tolist(), (best.values - choice.log_normalizers).tolist(), strict=True)
            for sequence, (ids, values) in zip(sequences, likeliest, strict=True):
                if n := sequence.params.log_probs:
                    sequence.alternatives.append(list(zip(ids[:n], values[:n], strict=True)))
        for sequence, symbol, log_prob in zip(sequences, symbols, log_probs, strict=True):
            sequence.append(int(symbol), log_prob, self.max_len)

    def _release_finished(self) -> None:
        """Move finished sequences behind the running ones; their memory stays for whoever begins alike."""
        for row in reversed(range(len(self.running))):
            if self.running[row].done is not None:
                last = len(self.running) - 1
                self._memory.touch(row)
                self._memory.swap(row, last)
                self.running[row] = self.running[last]
                self.running.pop()


def _version(model: LanguageModel) -> int:
    """Return a number that grows when an optimizer changes weights in place."""
    return sum(weight._version for weight in model.parameters() if not weight.is_inference())
