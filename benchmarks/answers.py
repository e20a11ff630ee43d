"""Tasks answered in text, by our engine and by lm-evaluation-harness' HF backend: the same files, prompts and graders.

SmolLM2-135M on the CPU in bf16, greedily, the first items of each task. Our side is `run_task` and `run_completions`,
theirs `HFLM.generate_until` with the same stop texts and the same room; the strings of a conversation are what its own
tokenizer makes of the messages, as with lm-eval's `--apply_chat_template`. The table has both scores with our interval,
the share of items that earn the same from both, and the ratio of seconds.

    python -m benchmarks.answers [--data DIR] [--tasks gsm8k,translation] [--limit N] [--batch N] [--threads N]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.score import MODEL, SEED
from smidgen.evaluation.intervals import estimate_share
from smidgen.evaluation.runner import TaskResult, run_completions, run_task
from smidgen.inference import Engine
from smidgen.runtime import describe_hardware, keep_large_blocks
from smidgen.tasks.base import Grade
from smidgen.tasks.completion import CompletionTask
from smidgen.tasks.loading import load_task
from smidgen.tasks.suite import load_suite_task
from smidgen.tokenizers.chat import strip_prefix

TASKS = ("gsm8k", "translation", "summarization", "village")


class Theirs(NamedTuple):
    """What the peer is asked."""

    prompts: list[str]
    stops: list[str]
    room: int
    grade: Callable[[int, str], Grade]


def open_ours(rows: int) -> Engine:
    from smidgen.checkpoint import load_model
    from smidgen.inference import prepare_for_decoding

    loaded = load_model(MODEL, dtype=torch.bfloat16)
    return Engine(prepare_for_decoding(loaded.model), loaded.tokenizer, max_rows=rows)


def open_peer() -> Any:
    import transformers
    from lm_eval.models.huggingface import HFLM

    from smidgen.checkpoint.cache import pull

    transformers.logging.set_verbosity_error()
    return HFLM(pretrained=str(pull(MODEL)), dtype="bfloat16", device="cpu")


def ask_ours(name: str, engine: Engine, peer: Any, chosen: argparse.Namespace) -> tuple[TaskResult, Theirs]:
    """Answer the first items of a task; return what came of it, and how the peer is asked the same."""
    if name == "gsm8k":
        suite = load_suite_task(name, chosen.data)
        assert isinstance(suite, CompletionTask)
        items = list(suite.items())[: chosen.limit]
        result = run_completions(suite, engine, chosen.limit)
        prompts = [item.context for item in items]
        return result, Theirs(
            prompts, list(items[0].stops), items[0].max_symbols, lambda at, text: suite.grade(items[at], text)
        )
    task = load_task(name, chosen.data)
    result = run_task(task, engine, chosen.limit)
    examples = [item.example for item in result.items]
    tokenizer, peers = engine.tokenizer, peer.tokenizer
    assert tokenizer is not None
    prompts = [
        peers.apply_chat_template(
            [{"role": said.role, "content": said.content} for said in task.prompt(example)],
            add_generation_prompt=True,
            tokenize=False,
        )
        for example in examples
    ]
    room = result.options.max_symbols
    return result, Theirs(
        prompts, [peers.eos_token], room, lambda at, text: task.grade(examples[at], strip_prefix(tokenizer, text))
    )


def ask_theirs(peer: Any, asked: Theirs, batch: int) -> list[Grade]:
    from lm_eval.api.instance import Instance

    told = {"until": asked.stops, "do_sample": False, "max_gen_toks": asked.room}
    requests = [Instance("generate_until", {}, (prompt, dict(told)), n) for n, prompt in enumerate(asked.prompts)]
    peer.batch_size_per_gpu = batch
    return [asked.grade(n, text) for n, text in enumerate(peer.generate_until(requests, disable_tqdm=True))]


def row(name: str, ours: TaskResult, theirs: Sequence[Grade], seconds: float) -> dict[str, Any]:
    """Return a task's figures."""
    figures: dict[str, Any] = {"task": name, "items": len(theirs), "of": ours.of}
    for kind, field in (("strict", "strict"), ("lenient", "lenient"), ("format", "formatted")):
        figures[kind] = getattr(ours, kind).as_dict()
        figures[f"their {kind}"] = estimate_share([float(getattr(grade, field)) for grade in theirs]).value
    same = sum(item.grade.strict == grade.strict for item, grade in zip(ours.items, theirs, strict=True))
    return figures | {"same": same / len(theirs), "seconds": ours.seconds, "their seconds": seconds}


def told(figures: dict[str, Any]) -> str:
    strict = figures["strict"]
    scores = " | ".join(
        f"{figures[kind]['value']:.1%} | {figures[f'their {kind}']:.1%}" for kind in ("strict", "lenient", "format")
    )
    ratio = figures["their seconds"] / figures["seconds"]
    asked = f"{figures['items']:,} of {figures['of']:,}"
    interval = f"{strict['low']:.1%} to {strict['high']:.1%}"
    return f"| {figures['task']} | {asked} | {interval} | {scores} | {figures['same']:.1%} | {ratio:.2f} |"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/eval"), help="folder of the sets")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=64, help="items of each task")
    parser.add_argument("--batch", type=int, default=16, help="answers at a time, on both sides")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    chosen = options()
    if not chosen.data.is_dir():
        sys.exit(f"{chosen.data}: is no folder. --data names the one of the evaluation sets (docs/evaluation.md).")
    if unknown := [name for name in chosen.tasks.split(",") if name not in TASKS]:
        sys.exit(f"{unknown[0]} is not answered in text. Known: {', '.join(TASKS)}.")
    torch.set_num_threads(chosen.threads)
    keep_large_blocks()
    engine, peer = open_ours(chosen.batch), open_peer()
    print("| task | items | 95% | strict | lm-eval, HF | lenient | lm-eval | format | lm-eval | same | seconds |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = []
    for name in chosen.tasks.split(","):
        ours, asked = ask_ours(name, engine, peer, chosen)
        started = time.perf_counter()
        theirs = ask_theirs(peer, asked, chosen.batch)
        rows.append(row(name, ours, theirs, time.perf_counter() - started))
        print(told(rows[-1]), flush=True)
    mine, others = (sum(figures[side] for figures in rows) for side in ("seconds", "their seconds"))
    result = {
        "bench": "answers",
        "ratio": round(others / mine, 3),
        "ours": round(mine, 1),
        "peer": round(others, 1),
        "unit": f"seconds for {sum(figures['items'] for figures in rows)} answers, {MODEL}; peer bf16 {chosen.batch}",
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "lm_eval")},
        "seed": SEED,
        "rows": rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
