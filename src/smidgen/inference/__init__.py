"""The one generation path: prompts in, symbols, log-probabilities and text out. Loads no weights, serves no network."""

from smidgen.inference.engine import Engine
from smidgen.inference.prepare import prepare_for_decoding, refresh
from smidgen.inference.sampling import SamplingParams
from smidgen.inference.sequence import Sequence
from smidgen.inference.session import CHAT_DEFAULTS, ChatSession

__all__ = ["CHAT_DEFAULTS", "ChatSession", "Engine", "SamplingParams", "Sequence", "prepare_for_decoding", "refresh"]
