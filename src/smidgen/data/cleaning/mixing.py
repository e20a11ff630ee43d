"""How often each source is gone through, so that the mixture has the weights and the size that are asked for.

Arithmetic alone: sizes in, epochs out. `copies` turns a source's epochs into whole documents, by the hash of the key:
a document of a source with 2.25 epochs comes twice, and one in four of them a third time.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from smidgen.config import Config
from smidgen.data.cleaning.step import hash64
from smidgen.errors import ConfigError


class SourceShare(Config):
    """How much of one source; at most one of the three is said."""

    weight: Annotated[float, Field(gt=0)] | None = None
    """Its part of the mixture, relative to the other weights."""
    symbols: Annotated[int, Field(gt=0)] | None = None
    """Symbols of it, whatever the rest."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Times it is gone through, whatever the rest."""


class MixConfig(Config):
    """How the sources without a share of their own are weighed, and how much they are together."""

    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Without weights a source's part is its size to the power 1/temperature: 1 as they are, larger is more even.
    Source: Arivazhagan et al. 2019, arXiv 1907.05019 (5 for 103 languages)."""
    symbols: Annotated[int, Field(gt=0)] | None = None
    """Symbols of the whole mixture; None: as many as fit without repeating a weighted source."""
    max_epochs: Annotated[float, Field(gt=0)] = 4.0
    """No source that is weighed is gone through more often. Source: Muennighoff et al. 2023, arXiv 2305.16264 (up to
    four epochs are worth nearly as much as new text)."""


def plan_epochs(sizes: Mapping[str, int], shares: Mapping[str, SourceShare], config: MixConfig) -> dict[str, float]:
    """Return the epochs of each source, of so many symbols each.

    A source that reaches `max_epochs` stays there and the others take its room. Raises ConfigError if a share is said
    twice, a source is unknown, or only some of the sources that are weighed have a weight.
    """
    epochs = {name: _told(name, sizes, shares[name]) for name in shares if _told(name, sizes, shares[name]) is not None}
    weighed = [name for name in sizes if name not in epochs and sizes[name]]
    given = [name for name in weighed if name in shares and shares[name].weight is not None]
    if given and len(given) < len(weighed):
        missing = ", ".join(sorted(set(weighed) - set(given)))
        raise ConfigError(f"mixing: {missing} has no weight, others have. Give every source a weight, or epochs.")
    fixed = {name: value or 0.0 for name, value in epochs.items()}
    weights = {
        name: shares[name].weight or 0.0 if given else sizes[name] ** (1 / config.temperature) for name in weighed
    }
    fixed |= dict.fromkeys((name for name in sizes if not sizes[name]), 0.0)
    if not weights:
        return fixed
    if config.symbols is None:
        scale = min(sizes[name] / weight for name, weight in weights.items())
        return fixed | {name: scale * weight / sizes[name] for name, weight in weights.items()}
    room = config.symbols - sum(value * sizes[name] for name, value in fixed.items())
    return fixed | _filled(max(room, 0.0), weights, sizes, config.max_epochs)


def _told(name: str, sizes: Mapping[str, int], share: SourceShare) -> float | None:
    """Return the epochs that a share fixes, or None if it leaves them open."""
    if name not in sizes:
        raise ConfigError(f"mixing: no source is called {name!r}. There are: {', '.join(sorted(sizes))}.")
    said = [value for value in (share.weight, share.symbols, share.epochs) if value is not None]
    if len(said) > 1:
        raise ConfigError(f"mixing: source {name!r} has two of weight, symbols and epochs. Keep one.")
    if share.symbols is not None:
        return share.symbols / sizes[name] if sizes[name] else 0.0
    return share.epochs


def _filled(room: float, weights: Mapping[str, float], sizes: Mapping[str, int], most: float) -> dict[str, float]:
    """Return epochs that fill so much room by weight, none over `most`."""
    epochs: dict[str, float] = {}
    open_sources = dict(weights)
    while open_sources:
        scale = room / sum(open_sources.values())
        full = [name for name, weight in open_sources.items() if scale * weight > most * sizes[name]]
        for name in full or list(open_sources):
            epochs[name] = most if full else scale * open_sources[name] / sizes[name]
            room -= epochs[name] * sizes[name] if full else 0
            del open_sources[name]
    return epochs


def copies(document_id: str, epochs: float, seed: int = 0) -> int:
    """Return how often a document of a source with so many epochs comes."""
    whole, part = divmod(epochs, 1.0)
    return int(whole) + (hash64(f"{seed}:{document_id}") < part * 2**64)
