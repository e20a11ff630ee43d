"""What is looked at while a run trains: held-out text, and what the model writes by itself."""

from collections.abc import Callable, Sequence
from typing import Any

from smidgen.evaluation.bits_per_byte import Protocol, bits_per_byte_of_symbols
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.journey.begin import Begun
from smidgen.journey.material import Material
from smidgen.runtime import Runtime
from smidgen.training import Hook, Progress

Log = Callable[[dict[str, Any]], None]

TEMPERATURE = 0.7
"""Of samples: below 1, because a small model's tail is noise."""
SAMPLE_SYMBOLS = 120
_OPENING_WORDS, _OPENING_CHARACTERS = 8, 60
"""A script without spaces is one word."""


def hooks(begun: Begun, runtime: Runtime, log: Log) -> list[Hook]:
    """Return what `fit` is to do on the way: measure held-out text, write samples."""
    recipe, material = begun.recipe, begun.material
    same_bytes = begun.resolved.get("validation_bytes")  # in a study: curves of different tokenizers compare
    if same_bytes:
        documents = material.held_out(same_bytes)
    else:
        documents = material.validation_documents(begun.resolved["validation_symbols"])
    # Windows that do not overlap: half the cost of the final protocol, for a number that only has to show the way.
    protocol = Protocol(context=recipe.train.seq_len, stride=recipe.train.seq_len)
    prompts = openings(material)

    def validate(progress: Progress) -> None:
        measured = bits_per_byte_of_symbols(progress.model, material.tokenizer, documents, protocol)
        log(
            {
                "kind": "validation",
                "step": progress.step,
                "seconds": round(progress.seconds, 3),
                "share": round(progress.share, 6),
                "bits_per_byte": measured.bits_per_byte,
                "loss": measured.nats_per_symbol,
            }
        )

    def sample(progress: Progress) -> None:
        written = write_samples(progress.model, material, prompts, runtime, recipe.seed)
        for prompt, text in zip(prompts, written, strict=True):
            log({"kind": "sample", "step": progress.step, "prompt": prompt, "text": text, "temperature": TEMPERATURE})

    return [Hook(recipe.train.evaluations, validate), Hook(recipe.train.samples, sample)]


def openings(material: Material, count: int = 3) -> list[str]:
    """Return prompts: nothing at all, and the first words of held-out documents."""
    texts = [material.tokenizer.decode(ids) for ids in material.validation_documents(400 * count)[:count]]
    return ["", *(" ".join(text.split()[:_OPENING_WORDS])[:_OPENING_CHARACTERS] for text in texts)]


def write_samples(model: Any, material: Material, prompts: Sequence[str], runtime: Runtime, seed: int) -> list[str]:
    """Let the model continue each prompt."""
    length = min(model.config.max_seq_len, 2 * SAMPLE_SYMBOLS)
    prepared = prepare_for_decoding(model, runtime.dtype)
    engine = Engine(prepared, material.tokenizer, len(prompts), length, overlong="truncate")
    params = SamplingParams(temperature=TEMPERATURE, max_symbols=SAMPLE_SYMBOLS, seed=seed)
    return [sequence.text for sequence in engine.generate(list(prompts), params)]
