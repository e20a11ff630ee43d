"""Generation with a byte model that pools, beside a plain byte Llama and a BPE Llama of equal parameters: bytes/s.

All three are the presets of ten million parameters (recipes/stlm/10m-bytes.toml and 10m.toml, the latter over bytes
too), with random weights, and run in this project's engine, so what is compared is the architecture: how often the
large part of the model runs. Weights drawn at random would write noise, whose patches are no words; so every side is
made to write a given English text, through the same engine steps. Whole calls are timed, from the prompt to the last
symbol, each side in turn (A B A B). Bar: twice the plain byte model, at batch 1 and 16.

    python -m benchmarks.byte_decode [--quick] [--threads N] [--batches 1,16]
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from smidgen.data.village.corpus import VillageConfig, documents
from smidgen.inference import Engine, SamplingParams, prepare_for_decoding
from smidgen.inference import engine as engine_room
from smidgen.inference.sampling import Choice
from smidgen.models import LanguageModel, ModelConfig, build_model
from smidgen.models.stats import count_parameters, flops_per_symbol
from smidgen.recipe import load_recipe
from smidgen.runtime import choose_dtype, describe_hardware, keep_large_blocks
from smidgen.tokenizers.base import Tokenizer
from smidgen.tokenizers.bpe import BpeConfig, train_bpe
from smidgen.tokenizers.bytes import ByteTokenizer

SEED = 0
PROMPT_BYTES = 256
BAR = 2.0
RECIPES = Path(__file__).parents[1] / "recipes" / "stlm"
POOLED, BYTES, BPE = "byte-pooled", "plain bytes", "BPE 4096"


PLAIN_BYTES = ["tokenizer={type='bytes'}", "model.vocab_size=264", "model.stack.layers=[0,1,2,3,4,5,6,7,8]"]
"""What the vocabulary's weights are worth in blocks: one more."""

SHAPES: dict[str, ModelConfig] = {
    POOLED: load_recipe(RECIPES / "10m-bytes.toml").model,
    BYTES: load_recipe(RECIPES / "10m.toml", PLAIN_BYTES).model,
    BPE: load_recipe(RECIPES / "10m.toml").model,
}


@dataclass
class Side:
    name: str
    model: LanguageModel
    tokenizer: Tokenizer
    texts: list[str]

    def write(self, rows: int, n_bytes: int) -> float:
        """Write about so many bytes in every row and return bytes per second of all rows together."""
        prompts, answers = [], []
        for text in self.texts[:rows]:
            data = text.encode()
            prompts.append(self.tokenizer.encode(data[:PROMPT_BYTES].decode()))
            answers.append(self.tokenizer.encode(data[PROMPT_BYTES : PROMPT_BYTES + n_bytes].decode()))
        n_symbols = min(map(len, answers))
        engine = Engine(self.model, max_rows=rows, max_len=2048)
        params = [SamplingParams(max_symbols=n_symbols, stop_ids=frozenset(), seed=row) for row in range(rows)]
        with Dictated(answers):
            started = time.perf_counter()
            sequences = engine.generate(prompts, params)
            seconds = time.perf_counter() - started
        widths = self.tokenizer.symbol_bytes()
        return sum(widths[symbol] for sequence in sequences for symbol in sequence.symbols) / seconds


class Dictated:
    """Within this context the engine chooses as it always does, then takes the symbols of given answers instead."""

    def __init__(self, answers: list[list[int]]) -> None:
        self.answers = answers
        self.said = [0] * len(answers)
        self.choose: Callable[..., Choice] = engine_room.choose

    def __enter__(self) -> "Dictated":
        engine_room.choose = self.say
        return self

    def __exit__(self, *error: object) -> None:
        engine_room.choose = self.choose

    def say(self, logits: torch.Tensor, params: list[SamplingParams], *rest: object) -> Choice:
        """Each row's seed tells whose answer it is writing."""
        choice = self.choose(logits, params, *rest)
        wanted = [self.answers[p.seed][self.said[p.seed]] for p in params]
        for p in params:
            self.said[p.seed] += 1
        return choice._replace(symbols=torch.tensor(wanted))


def open_sides() -> list[Side]:
    texts = [d.text for d in documents(VillageConfig(), "train", n_bytes=1_500_000) if d.text.isascii()]
    whole = "\n\n".join(texts)
    long = [whole[row * 4096 :][:4096] for row in range(64)]
    bpe, _ = train_bpe(texts, BpeConfig(vocab_size=4096))
    dtype = choose_dtype("auto", torch.device("cpu"))
    tokenizers: dict[str, Tokenizer] = {POOLED: ByteTokenizer(), BYTES: ByteTokenizer(), BPE: bpe}
    return [
        Side(name, prepare_for_decoding(build_model(shape, SEED), dtype), tokenizers[name], long)
        for name, shape in SHAPES.items()
    ]


def measure(sides: list[Side], rows: int, n_bytes: int, rounds: int) -> dict[str, float]:
    """Return each side's median bytes/s at one batch size, sides in turn."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            rates[side.name].append(side.write(rows, n_bytes))
    return {name: median(values) for name, values in rates.items()}


def patch_bytes(side: Side) -> float:
    """Return the bytes of a patch in the text that is written."""
    ids = torch.tensor([side.tokenizer.encode(side.texts[0])[:2000]])
    with torch.inference_mode():
        return ids.shape[1] / int(side.model.patch(ids).ends.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 bytes a row, two rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", default="1,16")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_large_blocks()
    sides = open_sides()
    n_bytes, rounds = (128, 2) if chosen.quick else (512, 5)
    for side in sides:
        side.write(1, 16)
        config = SHAPES[side.name]
        work = flops_per_symbol(config, 512).total / 1e6
        parameters = count_parameters(config)
        looked_up = f"{parameters.embedding / 1e6:.2f}M of them looked up"
        print(f"{side.name:<14}{parameters.total / 1e6:>7.2f}M parameters, {looked_up}, {work:>7.2f} MFLOP a symbol")
    print(f"\n{patch_bytes(sides[0]):.2f} bytes a patch, {chosen.threads} threads, {n_bytes} bytes, {rounds} rounds\n")
    print(f"{'batch':>6}" + "".join(f"{side.name + ' B/s':>18}" for side in sides) + f"{'ratio':>8}{'bar':>6}")
    cases = []
    for rows in map(int, chosen.batches.split(",")):
        rates = measure(sides, rows, n_bytes, rounds)
        ratio = rates[POOLED] / rates[BYTES]
        cases.append({"batch": rows, "ratio": round(ratio, 3), **{name: round(v, 1) for name, v in rates.items()}})
        print(f"{rows:>6}" + "".join(f"{rates[side.name]:>18,.0f}" for side in sides) + f"{ratio:>8.2f}{BAR:>6}")
    weakest = min(cases, key=lambda case: case["ratio"])
    result = {
        "bench": "byte_decode",
        "ratio": weakest["ratio"],
        "ours": weakest[POOLED],
        "peer": weakest[BYTES],
        "unit": f"bytes/s of generation, batch {weakest['batch']} (nearest to its bar)",
        "hardware": describe_hardware(),
        "versions": {"torch": torch.__version__},
        "seed": SEED,
        "cases": cases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
