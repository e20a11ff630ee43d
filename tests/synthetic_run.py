"""A run directory as training writes one, without the training: the only place where curves are made up."""

import json
import math
import random
from pathlib import Path
from typing import Any

RECIPE = 'name = "my_texts"\nseed = 0\n\n[model]\ntype = "llama"\nvocab_size = 4096\n\n[train]\nclip_norm = 1.0\n'
PROMPTS = ("Once upon a time", "")
STORIES = (
    " the the of and , the in a the . the of to the and the a the of the , the of",
    " the little dog was a big tree. The dog was so happy and the dog was so happy and the dog was so happy.",
    " there was a little girl named Lily. She liked to play in the park with her friend. One day she found a big red "
    "ball under a tree. She said, “Look what I found!” and her friend ran over to see.",
    " there was an old miller who lived by the river. Every morning he opened the gate, and the water turned the "
    "wheel.\n\nOne day the wheel stood still. “What can it be?” he said, and went down to look. A branch had caught "
    "between the spokes. He pulled until it came free, and the wheel began to turn again.",
)


def write_synthetic_run(path: Path, steps: int = 775, finished: bool = True, seed: int = 0) -> Path:
    """Write a run of `steps` steps of which all (or, unfinished, the first 43%) happened."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (path / "resolved.json").write_text(json.dumps(resolved(), indent=1), encoding="utf-8")
    done = steps if finished else max(1, int(0.43 * steps))
    lines = [json.dumps(record) for record in log(steps, done, random.Random(seed))]
    (path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    if finished:
        (path / "metrics.json").write_text(json.dumps(final(steps), indent=1), encoding="utf-8")
    return path


def log(steps: int, done: int, draw: random.Random) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [
        {"kind": "note", "step": 0, "text": "torch.compile is off: the probe took 38 s, more than it would repay."}
    ]
    for step in range(1, done + 1):
        share = step / steps
        level = 2.05 + 6.27 * math.exp(-step / 28) + 1.5 * math.exp(-step / 260) - 0.33 * max(0.0, share - 0.5)
        loss = level + draw.gauss(0, 0.06)
        records.append(
            {
                "kind": "train",
                "step": step,
                "symbols": step * 8192,
                "seconds": 600 * share,
                "share": share,
                "loss": loss,
                "bits_per_byte": loss / math.log(2) / 2.02 / 0.99,
                "learning_rate": min(1, share / 0.01, (1 - share) / 0.5),
                "gradient_norm": math.exp(draw.gauss(-1 - 0.6 * share, 0.25)) + 4 * math.exp(-step / 10),
                "tokens_per_second": 10580 * (1 + draw.gauss(0, 0.02)) * (0.62 if 300 < step < 340 else 1),
                "mfu": 0.34 + draw.gauss(0, 0.006),
            }
        )
        if step % max(1, steps // 10) == 0 or step == done:
            bits = level * 1.013 / math.log(2) / 2.02 / 0.99
            records.append(
                {"kind": "validation", "step": step, "seconds": 600 * share, "share": share}
                | {"bits_per_byte": bits, "loss": level * 1.013}
            )
        if step % max(1, steps // 4) == 0:
            text = STORIES[min(3, round(4 * step / steps) - 1)]
            records += [
                {"kind": "sample", "step": step, "prompt": prompt, "text": text.strip() if not prompt else text}
                | {"temperature": 0.8}
                for prompt in PROMPTS
            ]
        if step == 412:
            records.append(
                {"kind": "note", "step": step, "text": "The data has been seen once; from here on it repeats (pass 2)."}
            )
    return records


def resolved() -> dict[str, Any]:
    return {
        "name": "my_texts",
        "started": "2026-11-22T05:20:11",
        "git_commit": "2f628e3c0ffee",
        "recipe": {
            "train": {
                "clip_norm": 1.0,
                "optimizer": {"type": "muon", "learning_rate": 0.02, "embedding_learning_rate": 0.004},
            }
        },
        "plan": {
            "expected": {"bits_per_byte": 1.66, "memory_bytes": 1.6e9, "seconds": 600, "tokens": 6_200_000}
            | {"epochs": 0.52, "file_bytes": 20_400_000},
            "decisions": [
                {
                    "key": "model.stack.d_model",
                    "value": 320,
                    "rule": "widest multiple of 64 whose parameters stay within 10 M at 8 layers",
                    "source": "measured here, LOG.md",
                },
                {
                    "key": "tokenizer.vocab_size",
                    "value": 4096,
                    "rule": "4k at 10 M parameters: a larger head costs more than it saves",
                    "source": "Tao et al. 2024, arXiv 2407.13623",
                },
                {
                    "key": "train.optimizer.learning_rate",
                    "value": 0.02,
                    "rule": "flat optimum of Muon from 1 M to 100 M",
                    "source": "kellerjordan.github.io/posts/muon",
                },
            ],
        },
        "data": {
            "documents": 24_548,
            "bytes": 46_210_384,
            "train_documents": 24_301,
            "validation_documents": 247,
            "duplicates": 12,
            "train_symbols": 12_100_233,
            "bytes_per_symbol": 2.9,
            "hash": "9f2c41d07ab3",
        },
        "model": {"parameters": 10_174_080, "flops_per_symbol": 61_044_480, "kv_bytes_per_symbol": 2048},
        "hardware": {"cpu": "Intel(R) Xeon(R) Processor", "cores": 2, "threads": 2, "gpu": "none"},
        "versions": {"python": "3.11.9", "smidgen": "0.1.0", "torch": "2.13.0+cpu"},
    }


def final(steps: int) -> dict[str, Any]:
    return {
        "finished": True,
        "step": steps,
        "seconds": 603.2,
        "tokens": steps * 8192,
        "epochs": 0.525,
        "parameters": 10_174_080,
        "file_bytes": 20_391_212,
        "tokens_per_second": 10_531,
        "mfu": 0.34,
        "train_bits_per_byte": 1.379,
        "validation": {
            "bits_per_byte": 1.4021,
            "standard_error": 0.0058,
            "bits_per_byte_with_marks": 1.4038,
            "bytes": 461_310,
            "symbols": 159_072,
            "documents": 247,
            "protocol": {"context": 512, "stride": 256, "isolate_documents": True, "start_with_bos": True},
        },
        "health": health(),
        "tasks": [task()],
    }


def health() -> dict[str, Any]:
    rows = [
        ("repetition", "bad", 0.34, 0.06, "share", "Repeats itself: 34% of 4-grams occurred before in the same text "
         "(held-out text: 6%).", STORIES[1]),
        ("variety", "watch", 0.52, 0.71, "share", "Less varied than the data: 52% of all bigrams are distinct "
         "(held-out text: 71%).", ""),
        ("verbatim overlap", "good", 41, 38, "characters", "Writes its own text: the longest passage shared verbatim "
         "with it has 41 characters (held-out text: 38).", "there was an old miller who lived by the "),
        ("train-validation gap", "good", 0.023, None, "bits per byte", "Generalises: 1.402 bits per byte on held-out "
         "text, 1.379 in training (+1.7%).", ""),
    ]  # fmt: skip
    keys = ("name", "verdict", "value", "reference", "unit", "reason", "evidence")
    return {"verdict": "bad", "texts": 16, "words": 3120, "findings": [dict(zip(keys, r, strict=True)) for r in rows]}


def task() -> dict[str, Any]:
    def estimate(value: float, n: int) -> dict[str, float]:
        reach = 1.96 * math.sqrt(value * (1 - value) / n)
        return {"value": value, "low": max(0, value - reach), "high": min(1, value + reach), "n": n, "confidence": 0.95}

    kinds = [("who", 0.86, 90), ("where", 0.79, 110), ("what", 0.74, 120), ("why", 0.62, 80), ("how_many", 0.71, 100)]
    return {
        "name": "village",
        "n": 500,
        "strict": estimate(0.748, 500),
        "lenient": estimate(0.776, 500),
        "format": estimate(0.992, 500),
        "chance": 0.214,
        "majority": 0.302,
        "kinds": [
            {"kind": kind, "strict": estimate(v, n), "lenient": estimate(v + 0.02, n), "majority": 0.3, "chance": 0.2}
            for kind, v, n in kinds
        ],
        "items": [
            {
                "prompt": "Mira took the lantern to the mill. Tom was there.\nWhere is the lantern?",
                "answer": "at the mill",
                "expected": "at the mill",
                "strict": 1.0,
                "lenient": 1.0,
            },
            {
                "prompt": "Oscar had four apples and gave one to Ida.\nHow many apples does Oscar have?",
                "answer": "four",
                "expected": "three",
                "strict": 0.0,
                "lenient": 0.0,
            },
        ],
        "options": {"temperature": 0.0, "max_symbols": 32},
    }
