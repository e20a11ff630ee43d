"""What a model may have beside its output head: guesses further ahead, exits on the way, a thought of what follows.

All small, all optional, all causal. They say what they predict; what is minimised is the objectives' affair, except
for the thought, whose loss is about the model's own insides.
"""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from smidgen.config import Config
from smidgen.models.layers import Linear, RMSNorm, rms_normalize
from smidgen.models.stack import Visit


class FutureConfig(Config):
    """Heads for the symbols after the next. Source: Gloeckle et al. 2024, arXiv 2404.19737."""

    n: Annotated[int, Field(ge=1, le=8)] = 3
    """Heads: one for each symbol further ahead."""
    d_hidden: Annotated[int, Field(ge=1)] | None = None
    """Hidden width of each; None: 2 * d_model."""
    keep: bool = False
    """Ship them with the model, where they draft symbols for faster decoding; else they only teach the trunk."""


class ExitConfig(Config):
    """Exits on the way, by one norm and the model's own output head. Source: LayerSkip, arXiv 2404.16710."""

    every: Annotated[int, Field(ge=1)] = 1
    """An exit after every so many depths: asking costs a product with the vocabulary, too much after each of few."""


class ThoughtConfig(Config):
    """A prediction of what follows, made half-way and read by the rest of the network ("next thought").

    Source of the idea: Super Tiny Language Models, arXiv 2405.14159; predicting latents: Assran et al. 2023,
    arXiv 2301.08243.
    """

    after: Annotated[int, Field(ge=1)] | None = None
    """Depths before it; None: half of them."""
    span: Annotated[int, Field(ge=1)] = 4
    """Positions that follow whose pooled representation is predicted: symbols, or patches of a pooled model."""
    d_hidden: Annotated[int, Field(ge=1)] | None = None
    """Hidden width of the predictor; None: 2 * d_model."""


class HeadsConfig(Config):
    """What a model has beside its output head."""

    future: FutureConfig | None = None
    """Heads for the symbols after the next; trained by the objective `multi_token`."""
    exit: ExitConfig | None = None
    """Exits on the way; trained by the objective `early_exit`."""
    thought: ThoughtConfig | None = None
    """A prediction of what follows; trained by the objective `next_latent`."""

    def shipped(self) -> "HeadsConfig":
        """Return what goes with the finished model: everything but future heads that are not kept."""
        return self if self.future is None or self.future.keep else self.model_copy(update={"future": None})


class FutureHead(nn.Module):
    """Features that predict the next symbol, turned into features that predict a later one.

    It looks at one position only and so needs no memory. Source: Cai et al. 2024 (Medusa), arXiv 2401.10774.
    """

    def __init__(self, d_model: int, d_hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.up_proj = Linear(d_model, d_hidden)
        self.down_proj = Linear(d_hidden, d_model)
        self.norm = RMSNorm(d_model, norm_eps)

    def forward(self, features: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows D"]:
        """Return features for the model's own output head."""
        return self.norm(features + self.down_proj(F.silu(self.up_proj(features))))


class Thought(nn.Module):
    """Predicts the pooled stream of the positions that follow, and puts the prediction into the stream."""

    def __init__(self, d_model: int, d_hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(d_model, norm_eps)
        self.up_proj = Linear(d_model, d_hidden)
        self.down_proj = Linear(d_hidden, d_model)
        self.read_proj = Linear(d_model, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
        """Return the stream with the prediction read into it, and the prediction."""
        predicted = self.down_proj(F.silu(self.up_proj(self.norm(x))))
        return x + self.read_proj(predicted), predicted


class Heads(nn.Module):
    """The modules of a HeadsConfig, for a stream of one width."""

    def __init__(self, config: HeadsConfig, d_model: int, n_depths: int, norm_eps: float) -> None:
        super().__init__()
        future, thought = config.future, config.thought
        n_future = 0 if future is None else future.n
        hidden = (future and future.d_hidden) or 2 * d_model
        self.future = nn.ModuleList(FutureHead(d_model, hidden, norm_eps) for _ in range(n_future))
        self.exit = RMSNorm(d_model, norm_eps) if config.exit is not None else None
        hidden = (thought and thought.d_hidden) or 2 * d_model
        self.thought = Thought(d_model, hidden, norm_eps) if thought is not None else None
        self.thinks_after = (thought and thought.after) or max(1, n_depths // 2)
        """Depths before the thought."""
        every = 0 if config.exit is None else config.exit.every
        self.exits = tuple(range(every, n_depths, every)) if every else ()
        """How many depths lie before each exit, the end of the stack not among them."""

    def visitor(self, seen: list[tuple[Tensor, Tensor]] | None = None) -> Visit | None:
        """Return what a stack is to do between depths, or None; each thought's (stream, prediction) goes to `seen`."""
        thought = self.thought
        if thought is None:
            return None

        def visit(depth: int, x: Tensor) -> Tensor:
            if depth != self.thinks_after:
                return x
            read, predicted = thought(x)
            if seen is not None:
                seen.append((x, predicted))
            return read

        return visit

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw every weight: fan-in scaled; the outputs of future heads and the reading of a thought start small."""
        for name, weight in self.named_parameters():
            if weight.ndim < 2:
                nn.init.ones_(weight)
                continue
            small = name.endswith("read_proj.weight") or (name.startswith("future") and "down_proj" in name)
            nn.init.normal_(weight, std=(0.1 if small else 1.0) * weight.shape[1] ** -0.5, generator=generator)


def check_heads(config: HeadsConfig, n_depths: int) -> None:
    """Raise ValueError if a head has no place in a stack of so many depths."""
    if config.exit is not None and config.exit.every >= n_depths:
        raise ValueError(f"heads.exit.every ({config.exit.every}) leaves no exit before the end of {n_depths} depths.")
    if config.thought is not None and (config.thought.after or 1) >= n_depths:
        raise ValueError(f"heads.thought needs a depth after it to read it; this stack has {n_depths}.")


def thought_loss(
    stream: Float[Tensor, "B T D"], predicted: Float[Tensor, "B T D"], weights: Float[Tensor, "B T"], span: int
) -> Float[Tensor, ""]:
    """Return 1 - cosine between predictions and the pooled stream of the next `span` positions, summed by `weights`.

    `weights[:, t]` is that of what follows position t; where it is 0 something unrelated begins, and pooling ends
    before it. The target is cut off from the gradient: predictions move towards the stream, not it towards them.
    """
    targets = rms_normalize(stream.detach().float(), 1e-6)
    pooled = torch.zeros_like(targets)
    related = (weights > 0).float()
    reach = torch.ones_like(related)
    for step in range(1, min(span, stream.shape[1] - 1) + 1):
        reach = reach * F.pad(related[:, step - 1 :], (0, step - 1))
        pooled = pooled + F.pad(reach[:, :-step, None] * targets[:, step:], (0, 0, 0, step))
    # What follows the last position is not in the row: its pooled target is zero, and so is its weight.
    known = pooled.square().sum(-1) > 0
    return ((1 - F.cosine_similarity(predicted.float(), pooled, dim=-1)) * weights * known).sum()
