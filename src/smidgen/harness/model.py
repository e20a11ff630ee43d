"""Our engine as a model of lm-eval: likelihoods by our scorer, text by our engine; tasks and metrics are the harness's.

What `--batch_size` says is not needed: batches are made by symbols, and by what requests share.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, cast

import torch

from smidgen import __version__
from smidgen.checkpoint import load_model
from smidgen.checkpoint.adapters import load_adapter
from smidgen.errors import ConfigError, DataError, MissingExtraError
from smidgen.evaluation.asking import Prompt, ask
from smidgen.evaluation.contexts import encode_context
from smidgen.evaluation.likelihood import score_choices
from smidgen.harness.options import read_gen_kwargs
from smidgen.harness.rolling import text_log_probs
from smidgen.harness.symbols import SpecialsMeant
from smidgen.inference import Engine, prepare_for_decoding
from smidgen.models.stats import count_parameters
from smidgen.runtime import choose_dtype, open_runtime
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.tasks.choice import Choice
from smidgen.tokenizers.chat import Message, render_chat

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from tqdm import tqdm
except ImportError:
    raise MissingExtraError("Being a model of lm-eval", "harness") from None

_ENGINE_ROWS = 16
_KEPT_TOGETHER = 2048
"""Requests between two times that `--use_cache` is told: what a killed evaluation loses at most."""

logger = logging.getLogger(__name__)


class SmidgenLM(LM):
    """A run, a model directory, a .gguf file or a pulled name, as `--model smidgen`.

    The one class here that inherits: the harness asks `isinstance`, and its base class has the cache and the ranks.
    """

    def __init__(
        self,
        path: str,
        adapter: str | None = None,
        dtype: str = "auto",
        max_length: int | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        """Load a model and perhaps an adapter to it; the arguments are those of `--model_args`.

        `dtype` is auto (the fastest of this machine), bf16, fp16 or fp32; `max_length` is the context, in place of the
        model's own. Raises SmidgenError for what does not exist.
        """
        super().__init__()
        dtypes = {"auto": "auto", "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16"}
        dtypes |= {"fp32": "fp32", "float32": "fp32"}
        if dtype not in dtypes:
            raise ConfigError(f"dtype={dtype} is none of auto, bf16, fp16, fp32.")
        if device and device.startswith("cuda") and not torch.cuda.is_available():
            logger.warning("There is no CUDA device here (lm-eval asks for %s if nothing is said).", device)
            device = None
        runtime = open_runtime(device=device)
        chosen = choose_dtype(dtypes[dtype], runtime.device)
        loaded = load_model(path, dtype=chosen, device=runtime.device)
        if adapter is not None:
            load_adapter(adapter, loaded.model)
        self._parameters = count_parameters(loaded.model.config).total
        self._fingerprint = model_fingerprint(loaded.model)
        # Laid out once, for likelihoods, whole texts and answers alike; the weights as they were read are let go.
        self._model = prepare_for_decoding(loaded.model)
        self._tokenizer, self._dtype = loaded.tokenizer, chosen
        self._meant = SpecialsMeant(self._tokenizer)
        self._device = runtime.device
        self._path, self._adapter = str(path), adapter
        self.max_length = int(max_length or self._model.config.max_seq_len)
        """Symbols of context."""
        self.shortened = 0
        """Contexts that lost their beginning because they did not fit."""

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether each symbol of it is the likeliest one."""
        pairs = [Choice(*request.args) for request in requests]
        found: list[tuple[float, bool]] = []
        with _bar("loglikelihood", len(pairs), disable_tqdm) as tell:
            for part in _parts(pairs):
                told = partial(_tell_part, tell, len(found))
                scored = score_choices(self._model, self._meant, part, max_len=self.max_length, progress=told)
                self._count(sum(one.cut > 0 for one in scored), "contexts")
                for pair, one in zip(part, scored, strict=True):
                    found.append((one.nats, one.greedy))
                    self.cache_hook.add_partial("loglikelihood", (pair.context, pair.continuation), found[-1])
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each whole text; a long one is cut into windows as the harness cuts it."""
        texts = [request.args[0] for request in requests]
        found: list[float] = []
        with _bar("loglikelihood_rolling", len(texts), disable_tqdm) as tell:
            for part in _parts(texts):
                found += text_log_probs(self._model, self._meant, part, self.max_length)
                for text, log_prob in zip(part, found[-len(part) :], strict=True):
                    self.cache_hook.add_partial("loglikelihood_rolling", (text,), log_prob)
                tell(len(found))
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return what the model says after each context, up to a stop text or the end of its turn."""
        prompts = []
        for number, request in enumerate(requests):
            context, said = cast(tuple[str, dict[str, Any]], request.args)
            options = read_gen_kwargs(said, self._tokenizer)
            if options.max_symbols >= self.max_length:
                asked = f"{options.max_symbols} symbols are to be generated in a context of {self.max_length}"
                raise ConfigError(f"gen_kwargs: {asked}. Say --gen_kwargs max_gen_toks={self.max_length // 2}")
            ids = tuple(encode_context(self._tokenizer, context, specials=True))
            prompts.append(Prompt(str(number), ids, options, may_shorten=True))
        with _bar("generate_until", len(prompts), disable_tqdm) as tell:
            answers = ask(self._engine, prompts, progress=lambda done, total: tell(done))
        self._count(sum(answer.shortened > 0 for answer in answers), "prompts")
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, answer.text)
        return [answer.text for answer in answers]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as the model's template writes it; without the opening of an answer, its last message
        is left open to be gone on with."""
        messages = [Message(turn["role"], turn["content"]) for turn in chat_history]
        text = render_chat(self._tokenizer, messages, add_generation_prompt)
        if add_generation_prompt or not messages:
            return text
        said = messages[-1].content.strip()
        return text[: text.rindex(said) + len(said)]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the template, for the record. Raises DataError if one is asked for by a name: there is only one."""
        if isinstance(chat_template, str):
            raise DataError(f"{self._path}: has one chat template, and none called {chat_template!r}.")
        return self._tokenizer.chat_template

    @property
    def tokenizer_name(self) -> str:
        """Name the tokenizer, so that requests cached for one are not taken for another."""
        return f"smidgen-{self._tokenizer.fingerprint()[:16]}"

    def get_model_info(self) -> dict[str, Any]:
        """Return what stands in the results for the model."""
        return {
            "model_num_parameters": self._parameters,
            "model_dtype": str(self._dtype),
            "model_sha": self._fingerprint,
            "model_adapter": self._adapter,
            "smidgen_version": __version__,
        }

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._model, self._tokenizer, max_rows=_ENGINE_ROWS, max_len=self.max_length)

    def _count(self, shortened: int, what: str) -> None:
        """Say how many requests lost their beginning."""
        if shortened:
            self.shortened += shortened
            logger.warning("%d %s did not fit %d symbols and lost their beginning.", shortened, what, self.max_length)


def _parts(requests: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(requests), _KEPT_TOGETHER):
        yield requests[start : start + _KEPT_TOGETHER]


def _tell_part(tell: Callable[[int], None], before: int, done: int, total: int) -> None:
    tell(before + done)


@contextmanager
def _bar(name: str, total: int, disabled: bool) -> Iterator[Callable[[int], None]]:
    """Show progress as the harness's own models do; what is yielded takes the number that is done."""
    with tqdm(total=total, desc=f"Running {name} requests", disable=disabled, file=sys.stderr) as bar:

        def tell(done: int) -> None:
            bar.update(done - bar.n)

        yield tell
