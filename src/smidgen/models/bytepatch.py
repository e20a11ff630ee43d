"""The byte model with pooling: a small encoder over symbols, a trunk over patches of them, a small decoder.

    symbols ─► embedding (+ hashed n-grams) ─► encoder ─┬──────── skip ────────► decoder ─► next-symbol logits
                                                        └► patcher ─► pooling ─► trunk ─► context ─┘

At each symbol the decoder reads the trunk's thought about the latest patch that has ended by then, so nothing looks
ahead and the likelihood of any bytes is exact. The trunk is an ordinary stack, run once a patch and not once a byte:
that is where the time goes that a byte model saves. From outside it is a model like any other: ids in, logits out.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.data.branches import Branches
from smidgen.errors import ConfigError
from smidgen.models.attention import AttentionConfig
from smidgen.models.dropout import Dropout
from smidgen.models.heads import Heads, HeadsConfig, check_heads, thought_loss
from smidgen.models.layers import Embedding, Linear, SwiGLUConfig
from smidgen.models.ngrams import HashedNgrams, NgramLengths
from smidgen.models.patch_decoders import DECODERS
from smidgen.models.patch_state import PatchRecall, PatchState
from smidgen.models.patching import (
    FIRST_SPECIAL,
    PATCHERS,
    Marks,
    PatcherConfig,
    Seen,
    SpaceConfig,
    end_patches,
    smooth,
    with_confidence,
)
from smidgen.models.pooling import POOLINGS, MeanConfig, PoolingConfig
from smidgen.models.stack import Stack, StackConfig
from smidgen.models.state import Recall, StackState


def local_stack(depth: int, d_model: int = 128) -> StackConfig:
    """Return a small stack over symbols, whose attention sees no further than a line of text."""
    attention = AttentionConfig(n_heads=max(1, d_model // 64), window=64)
    return StackConfig(
        d_model=d_model, layers=tuple(range(depth)), attention=attention, mlp=SwiGLUConfig(d_ff=d_model * 5 // 2)
    )


class BytePatchConfig(Config):
    """A language model over bytes that does most of its work once a patch."""

    needs_bytes: ClassVar[bool] = True
    """Whether its symbols must be bytes."""
    type: Literal["bytepatch"] = "bytepatch"
    vocab_size: Annotated[int, Field(ge=256)] = 264
    """Symbols: 256 bytes, then the specials, and for the patcher `symbol` the end of a patch."""
    max_seq_len: Annotated[int, Field(ge=1)] = 2048
    """Longest context the model is trained for, in symbols."""
    tie_embeddings: bool = True
    """Use the embedding's weight as the output head."""
    logit_softcap: Annotated[float, Field(gt=0)] | None = None
    """Bend logits into (-cap, cap) by cap * tanh(logits / cap). Source: Gemma 2, arXiv 2408.00118."""
    ngrams: NgramLengths = ()
    """Lengths of the runs of symbols, ending with each, whose hashed embeddings are added. Source: arXiv 2412.09871."""
    ngram_buckets: Annotated[int, Field(ge=1)] = 4096
    """Vectors that the runs of one length share."""
    patcher: PatcherConfig = SpaceConfig()
    """What ends a patch."""
    pooling: PoolingConfig = MeanConfig()
    """How a patch's symbols become one vector."""
    encoder: StackConfig = local_stack(1)
    """The blocks over symbols, before pooling."""
    stack: StackConfig = StackConfig()
    """The trunk: the blocks over patches."""
    decoder: StackConfig = local_stack(2)
    """The blocks over symbols that read the trunk; with the parallel head, over the places of one patch."""
    head: Literal["autoregressive", "parallel"] = "autoregressive"
    """One symbol after the other, or STLM's: a patch's symbols all at once, each blind to the others."""
    heads: HeadsConfig = HeadsConfig()
    """What it has beside its output head; a thought is the trunk's, about patches. Exits are for token models."""

    @model_validator(mode="after")
    def _check(self) -> "BytePatchConfig":
        local, reading = self.encoder.d_model, self.decoder.d_model
        if local != reading:
            raise ValueError(f"encoder.d_model ({local}) and decoder.d_model ({reading}) must be the same.")
        if local % self.pooling.n_heads:
            raise ValueError(f"pooling.n_heads ({self.pooling.n_heads}) must divide encoder.d_model ({local}).")
        if self.patcher.type == "symbol" and self.vocab_size < 265:
            raise ValueError("patcher symbol needs the symbols of tokenizer bytes_bpe: set vocab_size to 265.")
        if self.heads.exit is not None:
            raise ValueError("heads.exit: the trunk of a byte model already runs once a patch only; it has no exits.")
        check_heads(self.heads, len(self.stack.layers))
        return self


class Patched(NamedTuple):
    """What a forward found out about a batch."""

    features: Float[Tensor, "B T D"]
    marks: Marks
    ends: Bool[Tensor, "B T"]


class BytePatch(nn.Module):
    """Symbol ids to next-symbol logits through patches; see the module's docstring."""

    def __init__(self, config: BytePatchConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = None
        """Dtype of the activations; None: that of the embedding's weight."""
        d_local, d_trunk = config.encoder.d_model, config.stack.d_model
        self.embed_tokens = Embedding(config.vocab_size, d_local)
        if config.ngrams:
            self.embed_ngrams = HashedNgrams(config.ngrams, config.ngram_buckets, d_local)
        self.encoder = Stack(config.encoder)
        self.patcher = PATCHERS[config.patcher.type](config.patcher, d_local, config.vocab_size)
        self.pooling = POOLINGS[config.pooling.type](config.pooling, d_local)
        self.down_proj = Linear(d_local, d_trunk)
        self.trunk = Stack(config.stack)
        self.trunk.n_lengths = self.patcher.n_lengths
        self.start = nn.Parameter(torch.empty(d_trunk))
        """What the decoder reads of the trunk while no patch has ended."""
        self.decoder = DECODERS[config.head](config.decoder, d_trunk, config.patcher.longest)
        if self.decoder.slots > 1:  # it too runs once a patch
            self.decoder.stack.n_lengths = self.patcher.n_lengths
        if not config.tie_embeddings:
            self.lm_head = Linear(d_local, config.vocab_size)
        beside, depth = config.heads, len(config.stack.layers)
        self.heads = Heads(HeadsConfig(future=beside.future), d_local, depth, config.decoder.norm_eps)
        self.thoughts = Heads(HeadsConfig(thought=beside.thought), d_trunk, depth, config.stack.norm_eps)
        self.dropout = Dropout()

    def forward(
        self, ids: Int[Tensor, "B T"], state: PatchState | None = None, rows: Sequence[int] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Return fp32 logits of the symbol after each position; with `state`, of T new symbols in `rows`."""
        return self.logits(self.features(ids, state, rows))

    def features(
        self,
        ids: Int[Tensor, "B T"],
        state: PatchState | None = None,
        rows: Sequence[int] | None = None,
        causal: bool = True,
    ) -> Float[Tensor, "B T D"]:
        """Return what the head reads, after the last norm. Raises ConfigError without `causal`: patches look back."""
        if not causal:
            raise ConfigError("a byte model with pooling reads forward only. Choose another objective than masked.")
        return self.patch(ids, state.extend(rows, ids) if state is not None else None).features

    @property
    def can_branch(self) -> bool:
        """Return False: where a patch ends depends on the symbols before it, whichever branch they are of."""
        return False

    def features_and_losses(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        weights: Float[Tensor, "B T"],
        branches: Branches | None = None,
    ) -> tuple[Float[Tensor, "B T D"], dict[str, Tensor]]:
        """Return the features, and what the patcher learns by, and the trunk's thought if it has one."""
        assert branches is None
        seen: list[tuple[Tensor, Tensor]] = []
        patched = self.patch(ids, seen=seen)
        losses = self.patcher.losses(patched.marks, targets, weights)
        if self.config.heads.thought is not None:
            n = seen[0][0].shape[1]
            ended = at_ends(torch.ones_like(weights), patched.ends, n)
            # What follows a row's last whole patch is a part of one, or padding: nothing to be predicted.
            followed = at_ends(weights, patched.ends, n) * F.pad(ended[:, 1:], (0, 1))
            losses["next_latent"] = thought_loss(*seen[0], followed, self.config.heads.thought.span)
        return patched.features, losses

    def patch(
        self,
        ids: Int[Tensor, "B T"],
        recall: PatchRecall | None = None,
        seen: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Patched:
        """Run symbols through the whole model; say what came out and where patches ended.

        The trunk's stream half-way and its thought about what follows go to `seen`.
        """
        encoder, *others = recall.recalls if recall else (None,)
        reading = others.pop(0) if others and self._decoder_remembers else None
        encoded = self.encoder(self._embed(ids, recall), encoder)
        marks, ends, places = self._find_ends(ids, encoded, recall, others[0] if others else None)
        if recall is None:
            latest = ends.cumsum(1)
            contexts = self._contexts(encoded, marks, ends, latest, seen)
            read = self._read(contexts, latest, ends, places)
        else:
            read = self._continue(recall, encoded, marks, ends, places)
        if marks.probability is not None:
            sure = torch.where(marks.ends, marks.probability, 1 - marks.probability).masked_fill(ends & ~marks.ends, 1)
            read = with_confidence(read, sure)
        return Patched(self.decoder(encoded, read, reading), marks, ends)

    def _find_ends(
        self,
        ids: Int[Tensor, "B T"],
        encoded: Float[Tensor, "B T D"],
        recall: PatchRecall | None,
        patcher: Recall | None,
    ) -> tuple[Marks, Bool[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Return what the patcher marks, which symbols end their patch, and each one's place in its patch."""
        if recall is None:
            id_before, encoded_before = torch.full_like(ids[:, :1], -1), torch.zeros_like(encoded[:, :1])
            n_open = torch.zeros_like(ids[:, :1])
        else:
            n_open = recall.n_open()
            if ids.shape[1] == 1 and self.patcher.sees_symbols_only:  # 25 calls less in every step of decoding
                ends = torch.tensor(recall.foreseen(), device=ids.device)
                return Marks(ends), ends, n_open
            id_before, encoded_before = recall.before(1), recall.encoded_before()
        marks = self.patcher(Seen(ids, encoded, id_before, encoded_before, patcher))
        return marks, *end_patches(marks.ends, ids, n_open, self.config.patcher.longest)

    def logits(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Return fp32 logits of features."""
        head = self.embed_tokens.attend if self.config.tie_embeddings else self.lm_head
        raw = head(features).float()
        cap = self.config.logit_softcap
        return raw if cap is None else cap * torch.tanh(raw / cap)

    def head_weight(self) -> Float[Tensor, "V D"]:
        """Return the output head's weight: the embedding's own when tied."""
        return self.embed_tokens.weight if self.config.tie_embeddings else self.lm_head.weight

    def init_state(self, rows: int, max_len: int) -> PatchState:
        """Allocate decoding memory for `rows` sequences of at most `max_len` symbols."""
        dtype = self.compute_dtype or self.embed_tokens.weight.dtype
        parts = [part.init_state(rows, max_len, dtype) for part in (self.encoder, self.decoder, self.patcher)]
        encoder, *others = (part for part in parts if part is not None)
        d_local = self.config.encoder.d_model

        def make_trunk(n_patches: int) -> StackState:
            return self.trunk.init_state(rows, n_patches, dtype)

        longest, foresees = self.config.patcher.longest, self.patcher.foresees

        def ends_patch(before: int, symbol: int, n_open: int) -> bool:
            return symbol >= FIRST_SPECIAL or n_open == longest - 1 or foresees(before, symbol)

        return PatchState(encoder, others, make_trunk, (d_local, self.decoder.slots * d_local), ends_patch)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight from the generator; the loss starts at about ln(vocab_size)."""
        for part in (self.encoder, self.patcher, self.trunk, self.decoder, self.heads, self.thoughts):
            part.init_weights(generator)
        for weight in self.pooling.parameters():
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5, generator=generator)
        nn.init.normal_(self.down_proj.weight, std=self.down_proj.in_features**-0.5, generator=generator)
        nn.init.normal_(self.start, generator=generator)
        nn.init.normal_(self.embed_tokens.weight, std=0.02, generator=generator)
        if self.config.ngrams:
            self.embed_ngrams.init_weights(generator)
        if not self.config.tie_embeddings:
            nn.init.normal_(self.lm_head.weight, std=0.02, generator=generator)

    def tp_plan(self) -> dict[str, str]:
        """Say how each weight is cut for tensor parallelism: the trunk's maps; the local stacks are small and whole."""
        inward = [f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")] + ["mlp.gate_proj", "mlp.up_proj"]
        plan = {f"trunk.layers.*.{name}": "column" for name in inward}
        return plan | {"trunk.layers.*.self_attn.o_proj": "row", "trunk.layers.*.mlp.down_proj": "row"}

    @property
    def _decoder_remembers(self) -> bool:
        return self.config.head == "autoregressive"

    def _embed(self, ids: Int[Tensor, "B T"], recall: PatchRecall | None) -> Float[Tensor, "B T D"]:
        x = self.embed_tokens(ids)
        if self.training:
            x = self.dropout(x)
        if self.config.ngrams:
            x = x + self.embed_ngrams(ids, None if recall is None else recall.before(self.embed_ngrams.n_back))
        return x.to(self.compute_dtype or x.dtype)

    def _contexts(
        self,
        encoded: Float[Tensor, "B T D"],
        marks: Marks,
        ends: Bool[Tensor, "B T"],
        latest: Int[Tensor, "B T"],
        seen: list[tuple[Tensor, Tensor]] | None,
    ) -> Float[Tensor, "B P C"]:
        """Return the start's context and that of every patch, patches padded to few distinct numbers.

        A symbol of the open patch belongs to the patch after the last, which nothing reads.
        """
        n = padded_patches(int(latest[:, -1].max()), encoded.shape[1])
        start = self._start_context(len(encoded))
        pooled = self.down_proj(self.pooling(encoded, latest - ends.long(), n))
        contexts = self.decoder.contexts(self.trunk(pooled, visit=self.thoughts.visitor(seen)))
        if marks.probability is not None:
            contexts = smooth(contexts, certainty(marks, ends, n), start)
        return torch.cat([start, contexts], 1)

    def _start_context(self, n_rows: int) -> Float[Tensor, "B 1 C"]:
        start = self.start.to(self.compute_dtype or self.start.dtype)
        return self.decoder.contexts(start[None, None]).expand(n_rows, -1, -1)

    def _read(
        self,
        contexts: Float[Tensor, "B P C"],
        latest: Int[Tensor, "B T"],
        ends: Bool[Tensor, "B T"],
        places: Int[Tensor, "B T"],
    ) -> Float[Tensor, "B T D"]:
        """Return what the decoder reads at each symbol: of the latest context, the slot of the symbol to come."""
        slots, n_rows = self.decoder.slots, len(contexts)
        at = latest + torch.arange(n_rows, device=latest.device)[:, None] * contexts.shape[1]
        if slots > 1:
            at = at * slots + (places + 1).masked_fill(ends, 0)
        flat = contexts.reshape(n_rows * contexts.shape[1] * slots, -1)
        return flat.index_select(0, at.flatten()).view(*latest.shape, -1)

    def _continue(
        self,
        recall: PatchRecall,
        encoded: Float[Tensor, "B T D"],
        marks: Marks,
        ends: Bool[Tensor, "B T"],
        places: Int[Tensor, "B T"],
    ) -> Float[Tensor, "B T D"]:
        """Remember the new symbols, let the trunk think about patches that ended, and return what the decoder reads."""
        state, rows = recall.state, recall.rows
        had = [state.n_patches(row) for row in rows]
        recall.record(encoded, ends.tolist())
        fresh = [row for row, start in zip(rows, recall.starts, strict=True) if start == 0]
        if fresh:
            state.contexts[fresh, :1] = self._start_context(len(fresh))
        chosen = [place for place, row in enumerate(rows) if state.n_patches(row) > had[place]]
        if chosen:
            self._think(recall, chosen, [had[place] for place in chosen], marks, ends)
        ended = [state.ended[row][start:] for row, start in zip(rows, recall.starts, strict=True)]
        latest, slots = torch.tensor(ended, device=encoded.device), self.decoder.slots
        contexts = state.contexts.unflatten(2, (slots, -1))
        slot = (places + 1).masked_fill(ends, 0) if slots > 1 else torch.zeros_like(latest)
        return contexts[recall.index, latest, slot]

    def _think(
        self, recall: PatchRecall, chosen: list[int], had: list[int], marks: Marks, ends: Bool[Tensor, "B T"]
    ) -> None:
        """Pool the patches that ended in the chosen rows, run the trunk over them and keep their contexts."""
        state, rows = recall.state, [recall.rows[place] for place in chosen]
        n = max(state.n_patches(row) - before for row, before in zip(rows, had, strict=True))
        state.reserve_patches(max(had) + n)
        encoded, owner = recall.unpooled(chosen, had)
        x = self.down_proj(self.pooling(encoded, owner, n))
        thoughts = self.trunk(x, state.trunk.extend(rows, n), visit=self.thoughts.visitor())
        contexts = self.decoder.contexts(thoughts)
        index, first = torch.tensor(rows, device=x.device)[:, None], torch.tensor(had, device=x.device)[:, None]
        if marks.probability is not None:
            some = Marks(marks.ends[chosen], marks.probability[chosen])
            contexts = smooth(contexts, certainty(some, ends[chosen], n), state.contexts[index, first])
        state.contexts[index, first + 1 + torch.arange(n, device=x.device)] = contexts
        for row in rows:
            state.trunk.truncate(row, state.n_patches(row))


def padded_patches(n: int, length: int) -> int:
    """Return the number of patches that `n` are padded to: a multiple of about a thirtieth of the symbols.

    Few distinct shapes serve a run, so that memory is used again and compiled code too.
    """
    step = max(8, 1 << max(0, (length // 32).bit_length() - 1))
    return -(-max(1, n) // step) * step


def at_ends(values: Float[Tensor, "B T"], ends: Bool[Tensor, "B T"], n: int) -> Float[Tensor, "B P"]:
    """Return what each of `n` patches has at its last symbol; 0 for patches that are not there."""
    patch = (ends.cumsum(1) - 1).masked_fill(~ends, n)
    return values.new_zeros(len(values), n + 1).scatter(1, patch, values)[:, :n]


def certainty(marks: Marks, ends: Bool[Tensor, "B T"], n: int) -> Float[Tensor, "B P"]:
    """Return the probability of each patch's end; 1 where a patch was ended by force, which is no opinion."""
    assert marks.probability is not None
    return at_ends(marks.probability.masked_fill(ends & ~marks.ends, 1.0), ends, n)
