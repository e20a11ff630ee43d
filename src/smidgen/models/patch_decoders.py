"""From what the trunk thinks of the patches so far to the next symbol: one symbol after the other, or a patch at once.

A decoder makes *contexts* of each of the trunk's thoughts, `slots` of them, and features of each symbol from the one
context the symbol reads. Which one that is, is decided by the model; that it lies in the past, too.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from smidgen.models.layers import Linear
from smidgen.models.stack import Stack, StackConfig
from smidgen.models.state import Recall, StackState


class SymbolBySymbol(nn.Module):
    """Autoregressive: a causal stack over symbols that reads the encoder's output and the latest thought."""

    def __init__(self, stack: StackConfig, d_trunk: int, longest: int) -> None:
        super().__init__()
        self.slots = 1
        self.up_proj = Linear(d_trunk, stack.d_model)
        self.stack = Stack(stack)

    def contexts(self, thoughts: Float[Tensor, "B P W"]) -> Float[Tensor, "B P D"]:
        """Bring thoughts to the local width."""
        return self.up_proj(thoughts)

    def forward(
        self, encoded: Float[Tensor, "B T D"], read: Float[Tensor, "B T D"], recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return features of symbols from the encoder's outputs and the contexts they read."""
        return self.stack(encoded + read, recall)

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState | None:
        """Allocate decoding memory."""
        return self.stack.init_state(rows, max_len, dtype)

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight."""
        self.stack.init_weights(generator)
        nn.init.normal_(self.up_proj.weight, std=self.up_proj.in_features**-0.5, generator=generator)


class PatchAtOnce(nn.Module):
    """STLM's own: all symbols of the next patch in parallel, none knowing of the others.

    A thought becomes `longest` vectors, blocks that see all of them mix them, and each gives the distribution of the
    symbol at its place: faithful to `models/experimental/byte_level` of SuperTinyLanguageModels with `longest` 12 and
    seven layers, but for rotary instead of learned places. Source: arXiv 2405.14159.
    """

    def __init__(self, stack: StackConfig, d_trunk: int, longest: int) -> None:
        super().__init__()
        self.slots = longest
        self.up_proj = Linear(d_trunk, longest * stack.d_model)
        self.stack = Stack(stack)

    def contexts(self, thoughts: Float[Tensor, "B P W"]) -> Float[Tensor, "B P slots_D"]:
        """Decode a whole patch from each thought; its places lie one after the other."""
        places = self.up_proj(thoughts).unflatten(-1, (self.slots, -1))
        return self.stack(places.flatten(0, 1), causal=False).unflatten(0, places.shape[:2]).flatten(2)

    def forward(
        self, encoded: Float[Tensor, "B T D"], read: Float[Tensor, "B T D"], recall: Recall | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the contexts as they are: the symbols of the open patch change nothing."""
        return read

    def init_state(self, rows: int, max_len: int, dtype: torch.dtype) -> StackState | None:
        """Remember nothing but the contexts, which are kept anyway."""
        return None

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight."""
        self.stack.init_weights(generator)
        nn.init.normal_(self.up_proj.weight, std=self.up_proj.in_features**-0.5, generator=generator)


PatchDecoder = SymbolBySymbol | PatchAtOnce
DECODERS = {"autoregressive": SymbolBySymbol, "parallel": PatchAtOnce}
