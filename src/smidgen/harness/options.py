"""What lm-eval says about how to generate, in our words. An option that means nothing here is refused, not ignored."""

from collections.abc import Mapping
from typing import Any

from smidgen.config import validate_config
from smidgen.errors import ConfigError, TokenizerError
from smidgen.inference import SamplingParams
from smidgen.tokenizers.base import Tokenizer

MAX_SYMBOLS = 256
"""Most symbols of an answer where a task says nothing; the same in every model of the harness."""
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What the harness's tasks call the most symbols of an answer, the first that is said counts."""
_SAME = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
_UNDERSTOOD = {*_LENGTHS, *_SAME, "until", "do_sample"}


def read_gen_kwargs(said: Mapping[str, Any], tokenizer: Tokenizer) -> SamplingParams:
    """Return how to answer a request: greedily unless `do_sample` or a temperature above 0 is said.

    Raises ConfigError for an option unknown here, or a bad value.
    """
    unknown = sorted(said.keys() - _UNDERSTOOD)
    if unknown:
        known = ", ".join(sorted(_UNDERSTOOD))
        raise ConfigError(f"gen_kwargs: smidgen has no {unknown[0]!r}. It knows: {known}.")
    until = said.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    values = {name: said[name] for name in _SAME if said.get(name) is not None}
    values["temperature"] = float(values.get("temperature", 1.0 if said.get("do_sample") else 0.0))
    if said.get("do_sample") is False:
        values["temperature"] = 0.0
    length = next((said[name] for name in _LENGTHS if said.get(name) is not None), MAX_SYMBOLS)
    values |= {"max_symbols": int(length), "stop": [stop for stop in stops if stop]}
    ends = {number for stop in stops if (number := _special(tokenizer, stop)) is not None}
    values["stop_ids"] = sorted(ends | tokenizer.stop_ids)
    return validate_config(values, SamplingParams, "gen_kwargs")


def _special(tokenizer: Tokenizer, stop: str) -> int | None:
    """Return the id of a stop text that is a special symbol: it has no text that could be waited for."""
    try:
        return tokenizer.special_id(stop)
    except TokenizerError:
        return None
