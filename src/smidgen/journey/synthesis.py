"""Made text: the generator that a file asks for, a local model or players of games among them, and its folder."""

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from smidgen.checkpoint import load_model
from smidgen.config import load_config
from smidgen.data.synthetic.make import make_text
from smidgen.data.synthetic.spec import (
    Draft,
    GamesTextConfig,
    SyntheticConfig,
    TeacherConfig,
    TemplateConfig,
    TemplateWriter,
    VillageTextConfig,
    VillageWriter,
    Writer,
    rng_of,
)
from smidgen.errors import ConfigError
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.runtime import open_runtime
from smidgen.surgery.fingerprint import model_fingerprint
from smidgen.tasks.games import Game, Player, load_game, load_player, record_game
from smidgen.tokenizers.chat import Message, encode_chat, strip_prefix

_ROWS = 16


class TeacherWriter:
    """Has a model write, one prompt for each document, sampled with a seed of its own."""

    def __init__(self, config: SyntheticConfig, teacher: TeacherConfig, engine: Engine) -> None:
        tokenizer = engine.tokenizer
        if tokenizer is None or (teacher.ask and tokenizer.chat_template is None):
            raise ConfigError(f"{teacher.model}: has no chat template, so it cannot be asked. Say generator.ask=false.")
        self._config, self._teacher, self._engine, self._tokenizer = config, teacher, engine, tokenizer

    def write(self, numbers: range) -> list[Draft]:
        """Return what the model writes for the prompts of these numbers."""
        prompts = [self._teacher.prompts.fill(rng_of(self._config, number)) for number in numbers]
        told = [self._encoded(prompt) for prompt in prompts]
        sequences = self._engine.generate(told, [self._params(number) for number in numbers])
        drafts = []
        for prompt, sequence in zip(prompts, sequences, strict=True):
            asked = self._teacher.ask
            text = strip_prefix(self._tokenizer, sequence.text) if asked else prompt + sequence.text
            drafts.append(Draft(text=text, prompt=prompt, finished=sequence.done == "stop"))
        return drafts

    def _encoded(self, prompt: str) -> str | list[int]:
        if not self._teacher.ask:
            return prompt
        return encode_chat(self._tokenizer, [Message("user", prompt)], add_generation_prompt=True)

    def _params(self, number: int) -> SamplingParams:
        teacher = self._teacher
        return SamplingParams(
            temperature=teacher.temperature,
            min_p=teacher.min_p,
            max_symbols=teacher.max_symbols,
            seed=rng_of(self._config, number).getrandbits(31),
        )


class GamesWriter:
    """Plays games; a number is a game with a seed of its own."""

    def __init__(self, config: SyntheticConfig, game: Game, players: Sequence[Player]) -> None:
        self._config, self._game, self._players = config, game, players

    def write(self, numbers: range) -> list[Draft]:
        """Return the turns of the games of these numbers."""
        seeds = [rng_of(self._config, number).getrandbits(63) for number in numbers]
        return [Draft(turns=tuple(record_game(self._game, self._players, seed))) for seed in seeds]


def synthesize(
    spec: Path, overrides: tuple[str, ...], out: Path | None, device: str | None, progress: Callable[[int, int], None]
) -> tuple[Path, dict[str, Any]]:
    """Make the text that a file asks for; return its folder and its provenance."""
    config = load_config(spec, SyntheticConfig, overrides)
    folder = out or Path("synthetic") / config.name
    writer, facts = open_writer(config, device)
    return folder, make_text(config, writer, facts, folder, progress)


def open_writer(config: SyntheticConfig, device: str | None = None) -> tuple[Writer, dict[str, Any]]:
    """Return the generator of a body of text, and what of it the file does not say: hash of the model, whose rules."""
    generator = config.generator
    if isinstance(generator, TemplateConfig):
        return TemplateWriter(config, generator), {}
    if isinstance(generator, VillageTextConfig):
        return VillageWriter(generator), {}
    if isinstance(generator, GamesTextConfig):
        game, players = load_game(generator.game), [load_player(name) for name in generator.players]
        return GamesWriter(config, game, players), {"textarena": metadata.version("textarena")}
    runtime = open_runtime(device=device)
    loaded = load_model(generator.model, dtype=runtime.dtype, device=runtime.device)
    engine = Engine(prepare_for_decoding(loaded.model), loaded.tokenizer, max_rows=_ROWS)
    return TeacherWriter(config, generator, engine), {"model": model_fingerprint(loaded.model)}
