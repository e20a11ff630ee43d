"""Evolution strategies as pure functions: a state of plain tensors gives vectors to try, their scores the next state.

Whatever is drawn is drawn from a seed and the number of the generation, and every generation begins from nothing but
its state: a search that is resumed is the search that was interrupted, bit for bit.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from smidgen.config import Config
from smidgen.errors import CheckpointError, ConfigError, MissingExtraError

State = Mapping[str, Tensor]

MOST_CMA_PARAMETERS = 1000
"""CMA-ES keeps an n x n covariance and decomposes it in every generation: 0.2 s at 1,000, minutes at 10,000."""


class CmaEsConfig(Config):
    """Covariance matrix adaptation: learns step size and shape of its distribution; for up to some hundred parameters.

    Source: Hansen 2016, arXiv 1604.00772; the library `cmaes` computes it.
    """

    type: Literal["cma_es"] = "cma_es"
    population: Annotated[int, Field(ge=4)] | None = None
    """Vectors a generation; None: 4 + 3 ln(n), and no fewer than 16: rewards are noisy."""
    sigma: Annotated[float, Field(gt=0)] = 0.05
    """Standard deviation of the first generation."""
    slow_when_noisy: bool = False
    """Let learning rates follow the signal-to-noise ratio. Source: Nomura et al. 2023, arXiv 2304.03473."""


class OpenAiEsConfig(Config):
    """Antithetic pairs around a mean that Adam moves along their rank-shaped gradient; for any number of parameters.

    Source: Salimans et al. 2017, arXiv 1703.03864.
    """

    type: Literal["openai_es"] = "openai_es"
    population: Annotated[int, Field(ge=2, multiple_of=2)] = 32
    """Vectors a generation, half of them mirror images of the others."""
    sigma: Annotated[float, Field(gt=0)] = 0.05
    """Standard deviation of what is added to the mean; it stays."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Adam's step."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Adam's moments."""


StrategyConfig = Annotated[CmaEsConfig | OpenAiEsConfig, Field(discriminator="type")]


class Strategy(NamedTuple):
    """How one kind of search begins, asks and is told; `seed` is one of this generation alone."""

    population: Callable[[Any, int], int]
    begin: Callable[[Any, Float[Tensor, " n"]], dict[str, Tensor]]
    ask: Callable[[Any, State, int], Float[Tensor, "P n"]]
    tell: Callable[[Any, State, Float[Tensor, "P n"], Float[Tensor, " P"]], dict[str, Tensor]]


_NOT_STATE = ("_funhist_values",)
"""Of a CMA's attributes: uninitialised memory that only its own stopping rule reads."""


def _cma_population(config: CmaEsConfig, n: int) -> int:
    return config.population or max(16, 4 + int(3 * np.log(n)))


def _new_cma(config: CmaEsConfig, mean: np.ndarray) -> Any:
    try:
        from cmaes import CMA
    except ImportError:
        raise MissingExtraError("Searching with CMA-ES", "adapt") from None
    n = len(mean)
    if n > MOST_CMA_PARAMETERS:
        raise ConfigError(
            f"cma_es over {n} parameters keeps a {n} x {n} matrix; at most {MOST_CMA_PARAMETERS}. Use openai_es."
        )
    population = _cma_population(config, n)
    return CMA(mean=mean, sigma=config.sigma, population_size=population, lr_adapt=config.slow_when_noisy)


def _cma_state(cma: Any) -> dict[str, Tensor]:
    """Return what the library pickles of itself, its generator aside, as tensors; what is None is none of it."""
    attributes = {name: value for name, value in cma.__getstate__().items() if name not in _NOT_STATE}
    return {name: torch.from_numpy(np.array(value)) for name, value in attributes.items() if value is not None}


def _cma_from(config: CmaEsConfig, state: State) -> Any:
    cma = _new_cma(config, state["_mean"].numpy())
    attributes = cma.__getstate__()
    told = {name: value for name, value in attributes.items() if value is not None and name not in _NOT_STATE}
    if told.keys() != state.keys():
        raise CheckpointError("the state of the search is of another version of the library cmaes. Start it anew.")
    for name, value in told.items():
        saved = state[name].numpy().copy()
        attributes[name] = saved if isinstance(value, np.ndarray) and value.ndim else type(value)(saved.item())
    cma.__setstate__(attributes)
    return cma


def _begin_cma(config: CmaEsConfig, start: Tensor) -> dict[str, Tensor]:
    return _named(_cma_state(_new_cma(config, start.double().numpy())))


def _ask_cma(config: CmaEsConfig, state: State, seed: int) -> Tensor:
    cma = _cma_from(config, _unnamed(state))
    cma.reseed_rng(seed)
    return torch.from_numpy(np.stack([cma.ask() for _ in range(cma.population_size)]))


def _tell_cma(config: CmaEsConfig, state: State, vectors: Tensor, scores: Tensor) -> dict[str, Tensor]:
    cma = _cma_from(config, _unnamed(state))
    pairs = zip(vectors.double().numpy(), scores.double().tolist(), strict=True)
    cma.tell([(vector, -score) for vector, score in pairs])  # it minimises
    return _named(_cma_state(cma))


def _named(state: State) -> dict[str, Tensor]:
    return {"mean": state["_mean"]} | {f"cma.{name}": value for name, value in state.items() if name != "_mean"}


def _unnamed(state: State) -> dict[str, Tensor]:
    own = {name.removeprefix("cma."): value for name, value in state.items() if name.startswith("cma.")}
    return own | {"_mean": state["mean"]}


def _begin_openai(config: OpenAiEsConfig, start: Tensor) -> dict[str, Tensor]:
    mean = start.double()
    return {"mean": mean, "first": torch.zeros_like(mean), "second": torch.zeros_like(mean), "steps": torch.tensor(0)}


def _ask_openai(config: OpenAiEsConfig, state: State, seed: int) -> Tensor:
    mean = state["mean"]
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(config.population // 2, len(mean), generator=draw, dtype=torch.float64)
    return mean + config.sigma * torch.cat([noise, -noise])


def _tell_openai(config: OpenAiEsConfig, state: State, vectors: Tensor, scores: Tensor) -> dict[str, Tensor]:
    mean, steps = state["mean"], state["steps"] + 1
    away = (vectors.double() - mean) / config.sigma
    gradient = centered_ranks(scores) @ away / (len(vectors) * config.sigma)
    low, high = config.betas
    first = low * state["first"] + (1 - low) * gradient
    second = high * state["second"] + (1 - high) * gradient.square()
    unbiased = (first / (1 - low**steps)) / ((second / (1 - high**steps)).sqrt() + 1e-8)
    return {"mean": mean + config.learning_rate * unbiased, "first": first, "second": second, "steps": steps}


def centered_ranks(scores: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Return ranks scaled to -0.5 ... 0.5, equal scores sharing theirs: no outlier leads, and ties lead nowhere."""
    below = (scores[:, None] > scores).double().sum(1)
    equal = (scores[:, None] == scores).double().sum(1)
    return (below + (equal - 1) / 2) / max(1, len(scores) - 1) - 0.5


STRATEGIES: Mapping[str, Strategy] = {
    "cma_es": Strategy(_cma_population, _begin_cma, _ask_cma, _tell_cma),
    "openai_es": Strategy(lambda config, n: config.population, _begin_openai, _ask_openai, _tell_openai),
}
"""The strategies there are, by the type of their config; the state of each has a `mean`."""
