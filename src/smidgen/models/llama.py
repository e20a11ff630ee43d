"""The token model: a Llama of any size, with the few switches that pay at this size.

With every switch off this is HF's LlamaForCausalLM, parameter for parameter and name for name.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from smidgen.config import Config
from smidgen.data.branches import Branches
from smidgen.models.dropout import Dropout
from smidgen.models.heads import Heads, HeadsConfig, check_heads, thought_loss
from smidgen.models.layers import Embedding, EmbeddingMap, Linear
from smidgen.models.ngrams import HashedNgrams, NgramLengths
from smidgen.models.stack import Stack, StackConfig
from smidgen.models.state import StackState


class LlamaConfig(Config):
    """A Llama-family language model over symbol ids."""

    needs_bytes: ClassVar[bool] = False
    """Whether its symbols must be bytes."""
    type: Literal["llama"] = "llama"
    vocab_size: Annotated[int, Field(ge=1)] = 4096
    """Symbols, specials included."""
    max_seq_len: Annotated[int, Field(ge=1)] = 512
    """Longest context the model is trained for, in symbols."""
    tie_embeddings: bool = True
    """Use the embedding's weight as the output head."""
    embedding_rank: Annotated[int, Field(ge=1)] | None = None
    """Width of a factored embedding: a narrow table and one map to d_model; None: a table as wide as the stream."""
    ngrams: NgramLengths = ()
    """Lengths of the runs of symbols, ending with each, whose hashed embeddings are added; they pay for
    vocabularies up to 2k (techniques.md, Architecture). Source: arXiv 2412.09871."""
    ngram_buckets: Annotated[int, Field(ge=1)] = 4096
    """Vectors that the runs of one length share."""
    logit_softcap: Annotated[float, Field(gt=0)] | None = None
    """Bend logits into (-cap, cap) by cap * tanh(logits / cap). Source: Gemma 2, arXiv 2408.00118."""
    stack: StackConfig = StackConfig()
    """The blocks."""
    heads: HeadsConfig = HeadsConfig()
    """What it has beside its output head."""

    @model_validator(mode="after")
    def _check_heads(self) -> "LlamaConfig":
        check_heads(self.heads, len(self.stack.layers))
        return self


class Llama(nn.Module):
    """Symbol ids to next-symbol logits; tied heads *use* the embedding's weight, they do not alias the Parameter."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype: torch.dtype | None = None
        """Dtype of the activations; None: that of the embedding's weight."""
        self.model = Stack(config.stack)
        self.model.embed_tokens = Embedding(config.vocab_size, config.embedding_rank or config.stack.d_model)
        if config.embedding_rank is not None:
            self.model.embed_map = EmbeddingMap(config.embedding_rank, config.stack.d_model)
        if config.ngrams:
            self.embed_ngrams = HashedNgrams(config.ngrams, config.ngram_buckets, config.stack.d_model)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.stack.d_model, config.vocab_size)
        self.heads = Heads(config.heads, config.stack.d_model, len(config.stack.layers), config.stack.norm_eps)
        self.dropout = Dropout()

    def forward(
        self, ids: Int[Tensor, "B T"], state: StackState | None = None, rows: Sequence[int] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Return fp32 logits of the symbol after each position; with `state`, of T new symbols in `rows`."""
        return self.logits(self.features(ids, state, rows))

    def features(
        self,
        ids: Int[Tensor, "B T"],
        state: StackState | None = None,
        rows: Sequence[int] | None = None,
        causal: bool = True,
    ) -> Float[Tensor, "B T D"]:
        """Return what the head reads, after the last norm: for chunked losses and for heads that need few positions.

        Without `causal` (and without `state`) every position sees the whole row.
        """
        x = self.embed(ids, state, rows)
        recall = state.extend(rows, ids.shape[1]) if state is not None else None
        return self.model(x, recall, causal, self.heads.visitor())

    def embed(
        self, ids: Int[Tensor, "B T"], state: StackState | None = None, rows: Sequence[int] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the symbols' vectors in the dtype of the activations; `state` knows what `rows` had before."""
        embedding = self.model.embed_tokens
        x = embedding(ids).to(self.compute_dtype or embedding.weight.dtype)
        if self.config.embedding_rank is not None:
            x = self.model.embed_map(x)
        if self.config.ngrams:
            before = None
            if state is not None:
                before = state.before(rows, self.embed_ngrams.n_back)
                state.note(rows, ids.tolist())
            x = x + self.embed_ngrams(ids, before).to(x.dtype)
        return self.dropout(x) if self.training else x

    @property
    def can_branch(self) -> bool:
        """Whether nothing but attention looks along the row, and that as far as it goes."""
        window, thought = self.config.stack.attention.window, self.config.heads.thought
        return window is None and thought is None and not self.config.ngrams

    def features_and_losses(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        weights: Float[Tensor, "B T"],
        branches: Branches | None = None,
    ) -> tuple[Float[Tensor, "B T D"], dict[str, Tensor]]:
        """Return the features, and what its thought missed if it has one (`next_latent`)."""
        assert branches is None or self.can_branch
        seen: list[tuple[Tensor, Tensor]] = []
        features = self.model(self.embed(ids), visit=self.heads.visitor(seen), branches=branches)
        thought = self.config.heads.thought
        return features, {"next_latent": thought_loss(*seen[0], weights, thought.span)} if thought else {}

    def logits(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Return fp32 logits of features."""
        if self.config.tie_embeddings and self.config.embedding_rank is not None:
            features = self.model.embed_map.attend(features)
        head = self.model.embed_tokens.attend if self.config.tie_embeddings else self.lm_head
        raw = head(features).float()
        cap = self.config.logit_softcap
        return raw if cap is None else cap * torch.tanh(raw / cap)

    def head_weight(self) -> Float[Tensor, "V D"]:
        """Return the output head's weight: the embedding's own when tied, its two factors multiplied when factored."""
        if not self.config.tie_embeddings:
            return self.lm_head.weight
        table = self.model.embed_tokens.weight
        return table if self.config.embedding_rank is None else self.model.embed_map(table)

    def init_state(self, rows: int, max_len: int) -> StackState:
        """Allocate decoding memory for `rows` sequences of at most `max_len` symbols."""
        return self.model.init_state(rows, max_len, self.compute_dtype or self.model.embed_tokens.weight.dtype)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight from the generator; the loss starts at about ln(vocab_size)."""
        self.model.init_weights(generator)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.02, generator=generator)
        if self.config.embedding_rank is not None:
            # Fan-in scaled, so that the product of the factors is drawn as wide as an unfactored table.
            nn.init.normal_(self.model.embed_map.weight, std=self.config.embedding_rank**-0.5, generator=generator)
        if self.config.ngrams:
            self.embed_ngrams.init_weights(generator)
        if not self.config.tie_embeddings:
            nn.init.normal_(self.lm_head.weight, std=0.02, generator=generator)
        self.heads.init_weights(generator)

    def tp_plan(self) -> dict[str, str]:
        """Say how each weight is cut for tensor parallelism: by output ("column") or by input ("row")."""
        columns = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
        plan = {f"model.layers.*.self_attn.{name}": "column" for name in columns[:3]}
        plan |= {f"model.layers.*.mlp.{name}": "column" for name in columns[3:]}
        return plan | {"model.layers.*.self_attn.o_proj": "row", "model.layers.*.mlp.down_proj": "row"}
