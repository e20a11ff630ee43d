"""Where a patch ends: every symbol is told, from the symbols up to it, whether it is the last of its patch.

What ends a patch is known when its last symbol is (causal patching): nothing is re-read, the likelihood of the symbols
is exact, and decoding never looks back. Symbols from 256 on (document ends, turns of a chat) always end their patch,
so a document begins with a patch of its own, and no patch is longer than `longest`: it is ended there, never cut.
"""

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.models.attention import AttentionConfig
from smidgen.models.dropout import Dropout
from smidgen.models.layers import Embedding, Linear, SwiGLUConfig
from smidgen.models.stack import Stack, StackConfig
from smidgen.models.state import Recall, StackState

FIRST_SPECIAL = 256
"""Ids below are bytes; the symbols from here on stand for none and always end their patch."""

Longest = Annotated[int, Field(ge=1, le=64)]


class FixedConfig(Config):
    """A patch every so many symbols, counted from the last special symbol. Source: MegaByte, arXiv 2305.07185."""

    type: Literal["fixed"] = "fixed"
    longest: Longest = 4
    """Symbols of a patch."""

    @property
    def bytes_per_patch(self) -> float:
        """Symbols a patch is expected to have."""
        return float(self.longest)


class SpaceConfig(Config):
    """Patches that end behind words. Source: SpaceByte, arXiv 2404.14408.

    Letters, digits and all bytes of other scripts are inside words. The first symbol after a word ends the patch, as
    the space in "word " does; further spaces and signs go to the next patch, before its word: so the trunk has always
    spoken when a word begins, and never twice in a run of signs.
    """

    type: Literal["space"] = "space"
    longest: Longest = 16
    """A patch is ended here: 1 of 1,000 English words is longer; scripts without spaces are cut into pieces of this."""

    @property
    def bytes_per_patch(self) -> float:
        """Symbols a patch is expected to have: English prose."""
        return min(5.7, float(self.longest))


class EntropyConfig(Config):
    """Patches that end where a tiny model of its own cannot tell what comes next. Source: BLT, arXiv 2412.09871.

    It learns beside the rest from its own loss, which sends nothing into the rest; so does the threshold, by quantile
    regression, until so many symbols make a patch: it is a weight, saved and restored like any other.
    """

    type: Literal["entropy"] = "entropy"
    target: Annotated[float, Field(gt=1)] = 5.0
    """Symbols of a patch, on average, that the threshold is trained to give; patches ended by force make it fewer."""
    longest: Longest = 16
    """A patch is ended here."""
    stack: StackConfig = StackConfig(
        d_model=64, layers=(0, 1), attention=AttentionConfig(n_heads=2, window=32), mlp=SwiGLUConfig(d_ff=128)
    )
    """The tiny model."""

    @property
    def bytes_per_patch(self) -> float:
        """Symbols a patch is expected to have."""
        return min(self.target, float(self.longest))


class LearnedConfig(Config):
    """Patches that end where neighbouring symbols look different to the encoder. Source: H-Net, arXiv 2507.07955."""

    type: Literal["learned"] = "learned"
    target: Annotated[float, Field(gt=1)] = 5.0
    """Symbols of a patch, on average, that the ratio loss pulls toward."""
    longest: Longest = 16
    """A patch is ended here."""
    ratio_weight: Annotated[float, Field(ge=0)] = 0.03
    """Weight of the ratio loss; H-Net's."""

    @property
    def bytes_per_patch(self) -> float:
        """Symbols a patch is expected to have."""
        return min(self.target, float(self.longest))


class SymbolConfig(Config):
    """Patches that end at a symbol of the stream itself: the ends of BPE tokens, written out by `bytes_bpe`.

    The patches of STLM, whose ends depend on later bytes, made causal: the model predicts the end as it predicts a
    byte. Its likelihood is that of the bytes *and* of their segmentation, so its bits per byte are an upper bound on
    those of the bytes alone. Source: arXiv 2405.14159.
    """

    type: Literal["symbol"] = "symbol"
    longest: Longest = 16
    """A patch is ended here, its end symbol included; STLM: 12 bytes."""

    @property
    def bytes_per_patch(self) -> float:
        """Symbols a patch is expected to have: tokens of a 4k vocabulary and their ends."""
        return min(4.6, float(self.longest))


PatcherConfig = Annotated[
    FixedConfig | SpaceConfig | EntropyConfig | LearnedConfig | SymbolConfig, Field(discriminator="type")
]


class Seen(NamedTuple):
    """What a patcher looks at: T symbols of each row, what came just before them, and its own memory of the rest."""

    ids: Int[Tensor, "B T"]
    encoded: Float[Tensor, "B T D"]
    """The encoder's outputs."""
    id_before: Int[Tensor, "B 1"]
    """The symbol before the first; -1 where a row begins."""
    encoded_before: Float[Tensor, "B 1 D"]
    """The encoder's output before the first; anything where a row begins."""
    recall: Recall | None = None
    """Memory of a patcher that is a model itself."""


class Marks(NamedTuple):
    """What a patcher says of each symbol."""

    ends: Bool[Tensor, "B T"]
    """It ends its patch, by the patcher's own rule."""
    probability: Float[Tensor, "B T"] | None = None
    """How much it looks like an end, if a gradient is to say so: fp32 in [0, 1]."""
    logits: Float[Tensor, "B T V"] | None = None
    """What the patcher's own model expects next."""


class Rule(NamedTuple):
    """What ends a patch, where nothing is learned: decided by a symbol and the one before it."""

    ends: Callable[[Int[Tensor, "B U"]], Bool[Tensor, "B T"]]
    """Which symbols end their patch, from them and the one before the first: U = T + 1."""
    foresees: Callable[[int, int], bool]
    """The same of one symbol, from the one before and itself; special symbols are not asked about."""


def _no_ends(ids: Int[Tensor, "B U"]) -> Bool[Tensor, "B T"]:
    return torch.zeros_like(ids[:, 1:], dtype=torch.bool)


def _after_words(ids: Int[Tensor, "B U"]) -> Bool[Tensor, "B T"]:
    lower = ids | 32
    letter = (lower >= ord("a")) & (lower <= ord("z"))
    digit = (ids >= ord("0")) & (ids <= ord("9"))
    inside = (letter | digit | (ids >= 0x80)) & (ids < FIRST_SPECIAL)
    return inside[:, :-1] & ~inside[:, 1:]


IN_WORDS = [byte >= 0x80 or chr(byte).isalnum() for byte in range(FIRST_SPECIAL)]
"""Whether each byte is part of a word."""

RULES = {
    "fixed": Rule(_no_ends, lambda before, symbol: False),
    "symbol": Rule(_no_ends, lambda before, symbol: False),
    "space": Rule(_after_words, lambda before, symbol: IN_WORDS[before] and not IN_WORDS[symbol]),
}
"""Of the patchers that learn nothing. Beside their rule, special symbols and the greatest length end a patch."""


class ByRule(nn.Module):
    """A patcher that learns nothing."""

    n_lengths: ClassVar[int] = 2
    """Numbers of patches, padded, that batches come to (LOG.md, 2026-11-22); 0: any, while a rule is learned."""
    sees_symbols_only: ClassVar[bool] = True
    """Whether what ends a patch is known before anything is run, and `foresees` tells it all."""

    def __init__(self, config: FixedConfig | SpaceConfig | SymbolConfig, d_local: int, vocab_size: int) -> None:
        super().__init__()
        self.rule = RULES[config.type]

    def forward(self, seen: Seen) -> Marks:
        """Mark symbols as the rule says."""
        return Marks(self.rule.ends(torch.cat([seen.id_before, seen.ids], 1)))

    def foresees(self, before: int, symbol: int) -> bool:
        """Whether a symbol is known to end its patch before it is run, from itself and the one before it."""
        return 0 <= before < FIRST_SPECIAL > symbol and self.rule.foresees(before, symbol)

    def losses(self, marks: Marks, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return nothing: there is nothing to learn."""
        return {}

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState | None:
        """Remember nothing."""
        return None

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw nothing."""


class Surprise(nn.Module):
    """The rule of `entropy`: what comes next is less certain than the threshold."""

    n_lengths: ClassVar[int] = 0
    sees_symbols_only: ClassVar[bool] = False

    def __init__(self, config: EntropyConfig, d_local: int, vocab_size: int) -> None:
        super().__init__()
        self.quantile = 1 - 1 / config.target
        self.embed_tokens = Embedding(vocab_size, config.stack.d_model)
        self.stack = Stack(config.stack)
        for module in self.stack.modules():
            if isinstance(module, Dropout):
                module.allowed = False  # or the threshold would be fitted to surprises that nobody meets later
        self.threshold = nn.Parameter(torch.empty(1))  # not a scalar: FSDP2 has no way to cut one

    def forward(self, seen: Seen) -> Marks:
        """Mark symbols after which the next one is hard to tell; in the dtype of the encoder's outputs."""
        x = self.embed_tokens(seen.ids).to(seen.encoded.dtype)
        logits = self.embed_tokens.attend(self.stack(x, seen.recall)).float()
        return Marks(_entropy(logits) > self.threshold * THRESHOLD_UNIT, logits=logits)

    def foresees(self, before: int, symbol: int) -> bool:
        """Whether a symbol is known to end its patch before it is run, from itself and the one before it."""
        return False

    def losses(self, marks: Marks, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return the tiny model's next-symbol loss and the threshold's quantile loss."""
        assert marks.logits is not None
        surprise = F.cross_entropy(marks.logits.flatten(0, 1), targets.flatten(), reduction="none")
        above = _entropy(marks.logits).detach() - self.threshold * THRESHOLD_UNIT
        # Koenker and Bassett 1978: least where a share `quantile` of the entropies lies below the threshold.
        pinball = torch.maximum(self.quantile * above, (self.quantile - 1) * above)
        return {"surprise": (surprise * weights.flatten()).sum(), "threshold": (pinball * weights).sum()}

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState | None:
        """Allocate the tiny model's memory."""
        return self.stack.init_state(rows, max_len, dtype)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw the tiny model; the threshold begins where nothing is surprising, and patches are the longest."""
        self.stack.init_weights(generator)
        nn.init.normal_(self.embed_tokens.weight, std=0.02, generator=generator)
        nn.init.constant_(self.threshold, math.log(self.embed_tokens.num_embeddings) / THRESHOLD_UNIT)


THRESHOLD_UNIT = 8.0
"""Nats of one unit of the threshold's weight: AdamW moves it by about 0.004 a step, 0.03 nats then; 150 steps suffice
to come down from ln(V)."""


def _entropy(logits: Float[Tensor, "B T V"]) -> Float[Tensor, "B T"]:
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


class Dissimilar(nn.Module):
    """The rule of `learned`: the encoder's output points away from the one before it."""

    n_lengths: ClassVar[int] = 0
    sees_symbols_only: ClassVar[bool] = False

    def __init__(self, config: LearnedConfig, d_local: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.q_proj = Linear(d_local, d_local)
        self.k_proj = Linear(d_local, d_local)

    def forward(self, seen: Seen) -> Marks:
        """Mark symbols whose probability of ending a patch is one half or more; a row's first symbol ends one."""
        before = torch.cat([seen.encoded_before, seen.encoded[:, :-1]], 1)
        likeness = F.cosine_similarity(self.q_proj(seen.encoded).float(), self.k_proj(before).float(), dim=-1)
        begins = F.pad(seen.id_before < 0, (0, seen.ids.shape[1] - 1))
        probability = ((1 - likeness) / 2).masked_fill(begins, 1.0).clamp(0, 1)
        return Marks(probability >= 0.5, probability)

    def foresees(self, before: int, symbol: int) -> bool:
        """Whether a symbol is known to end its patch before it is run, from itself and the one before it."""
        return False

    def losses(self, marks: Marks, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return H-Net's ratio loss (its equation 10), row by row, so that accumulation changes nothing."""
        assert marks.probability is not None
        n = self.config.target
        marked, expected = marks.ends.float().mean(1), marks.probability.mean(1)
        ratio = n / (n - 1) * ((n - 1) * marked * expected + (1 - marked) * (1 - expected))
        return {"ratio": self.config.ratio_weight * (ratio * weights.sum(1)).sum()}

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState | None:
        """Remember nothing but the encoder's outputs, which are kept anyway."""
        return None

    def init_weights(self, generator: torch.Generator) -> None:
        """Begin by comparing the outputs as they are, as H-Net does."""
        nn.init.eye_(self.q_proj.weight)
        nn.init.eye_(self.k_proj.weight)


Patcher = ByRule | Surprise | Dissimilar
PATCHERS = {"fixed": ByRule, "symbol": ByRule, "space": ByRule, "entropy": Surprise, "learned": Dissimilar}


def end_patches(
    marked: Bool[Tensor, "B T"], ids: Int[Tensor, "B T"], n_open: Int[Tensor, "B 1"], longest: int
) -> tuple[Bool[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Return which symbols end their patch, by mark, by being special or by force, and each one's place in its patch.

    `n_open` is how many symbols each row's open patch has already.
    """
    ends = marked | (ids >= FIRST_SPECIAL)
    if ids.shape[1] == 1:
        return ends | (n_open == longest - 1), n_open
    at = torch.arange(ids.shape[1], device=ids.device)
    starts = torch.cat([-n_open, torch.where(ends, at + 1, -longest)[:, :-1]], 1).cummax(1).values
    places = (at - starts) % longest
    return ends | (places == longest - 1), places


def smooth(
    new: Float[Tensor, "B P C"], certain: Float[Tensor, "B P"], previous: Float[Tensor, "B 1 C"]
) -> Float[Tensor, "B P C"]:
    """Mix each patch's context with the one before it: z[p] = certain[p] new[p] + (1 - certain[p]) z[p-1].

    The recurrence of H-Net's smoothing module, written out: weights of z[i] over new[j] are certain[j] times the
    product of (1 - certain) from j + 1 to i, a difference of cumulated logarithms. Source: arXiv 2507.07955, eq. 5.
    """
    certain = certain.clamp(max=1 - 1e-4)  # a logarithm of 0 would make differences of infinities
    remains = torch.log1p(-certain).cumsum(1)
    weights = (remains[:, :, None] - remains[:, None]).tril().exp().tril() * certain[:, None]
    mixed = torch.bmm(weights, new.float()) + remains.exp()[..., None] * previous.float()
    return mixed.to(new.dtype)


def with_confidence(x: Float[Tensor, "B T D"], sure: Float[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """Return x unchanged, but let its gradient make the patcher surer of decisions that x was good for.

    Straight-through, as in H-Net (equation 8): forward as if every decision were certain, backward as if not.
    """
    return x * (1 + (sure - sure.detach()))[..., None].to(x.dtype) if sure.requires_grad else x
