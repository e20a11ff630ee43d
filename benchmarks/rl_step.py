"""One step of GRPO beside TRL's GRPOTrainer: SmolLM2-135M, 8 answers of 64 symbols, to 1 and to 4 prompts.

Both sides train the same adapter of the same weights on the same prompts with a reward of digits, in micro-batches of
as many answers, sample at temperature 1 and never stop an answer early. Each contestant is a process of its own: its
steps are timed inside its own training loop (median, the first left out), its memory is the peak of what the process
held, imports and all. They take turns, a run of a few steps each (A B A B). Bars: a third of the seconds of TRL's best
of fp32 and bf16, half of its memory. As TRL comes: eight answers at once, each depth computed again in the backward
pass. TRL can do that with all depths or none; we do it with as many as half of its memory asks for.

    python -m benchmarks.rl_step [--quick] [--threads N] [--adapter lora:r=8] [--prompts 1,4] [--micro N]
        [--recompute 0.75,0.4]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import islice, pairwise
from statistics import median

import torch

SEED = 0
ANSWERS, SYMBOLS = 8, 64
MODEL = "smollm2-135m"
BARS = {"seconds": 3.0, "memory": 2.0}
SIDES = ("smidgen", "trl fp32", "trl bf16")


def reward(text: str) -> float:
    """Return the share of digits: it varies within every group, whatever is answered."""
    return sum(letter.isdigit() for letter in text) / (1 + len(text))


def questions(n: int) -> list[str]:
    return [f"Write the numbers from {3 * k + 2} to {3 * k + 9}, one after the other." for k in range(n)]


def train_ours(chosen: argparse.Namespace, n_prompts: int, spoken: list[float]) -> list[float]:
    from smidgen.checkpoint import load_model
    from smidgen.inference import SamplingParams
    from smidgen.inference.once import held_once
    from smidgen.runtime import open_runtime
    from smidgen.surgery.adapter import attach
    from smidgen.surgery.config import read_adapter
    from smidgen.tasks.base import Example, Grade
    from smidgen.tokenizers.chat import Message
    from smidgen.training import Outside, TrainConfig, fit
    from smidgen.training.advantages import AdvantageConfig
    from smidgen.training.config import AdamWConfig, StepBudget
    from smidgen.training.objectives.policy import Policy, PolicyConfig
    from smidgen.training.rollouts import OnPolicy, RolloutConfig, open_engine

    class Digits:
        name = "digits"

        def examples(self):
            return [Example(f"digits/{k}", text, "1") for k, text in enumerate(questions(64))]

        def training_examples(self, seed):
            while True:
                yield from self.examples()

        def prompt(self, example):
            return [Message("user", example.question)]

        def grade(self, example, answer):
            return Grade(0.0, 0.0, True)

        def reward(self, example, answer):
            return reward(answer)

        def few_shot(self, example, k):
            return self.prompt(example)

    runtime = open_runtime("auto", "cpu")
    # What is frozen needs no more than the dtype it is computed in; what trains is fp32.
    loaded = load_model(MODEL, dtype=torch.float32 if chosen.adapter == "full" else runtime.dtype)
    attach(loaded.model, read_adapter(chosen.adapter))
    sampling = SamplingParams(temperature=1.0, max_symbols=SYMBOLS, stop_ids=frozenset())
    longest = SYMBOLS + 64  # the prompts have about 40 symbols
    config = RolloutConfig(prompts=n_prompts, answers=ANSWERS, sampling=sampling, micro_symbols=chosen.micro * longest)
    with held_once(loaded.model, runtime.dtype):
        engine = open_engine(loaded.model, loaded.tokenizer, config, runtime)
        steps = OnPolicy(
            engine,
            loaded.model,
            Digits(),
            config,
            AdvantageConfig(),
            SEED,
            runtime,
            lambda seen: spoken.append(seen.seconds),
        )
        optimizer = AdamWConfig(learning_rate=1e-5, weight_decay=0.0)
        training = TrainConfig(
            budget=StepBudget(steps=chosen.steps), optimizer=optimizer, compile="off", recompute=float(chosen.recompute)
        )
        ends: list[float] = [time.perf_counter()]
        fit(
            loaded.model,
            steps,
            Policy(PolicyConfig()),
            training,
            runtime,
            Outside(on_record=[lambda record: ends.append(time.perf_counter())]),
        )
    return [after - before for before, after in pairwise(ends)]


def train_theirs(chosen: argparse.Namespace, n_prompts: int, dtype: str) -> list[float]:
    import transformers
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    from smidgen.checkpoint.cache import pull
    from smidgen.surgery.config import LoraConfig as Lora
    from smidgen.surgery.config import read_adapter

    transformers.logging.set_verbosity_error()
    wanted = read_adapter(chosen.adapter)
    peft = None
    if isinstance(wanted, Lora):
        peft = LoraConfig(r=wanted.r, lora_alpha=wanted.scale * wanted.r, target_modules="all-linear")
    folder = str(pull(MODEL))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32
    )
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in islice(questions(64), 64)]
    ends: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **more):
            if not ends:
                ends.append(time.perf_counter())

        def on_step_end(self, args, state, control, **more):
            ends.append(time.perf_counter())

    config = GRPOConfig(
        output_dir="unused",
        per_device_train_batch_size=chosen.micro,
        gradient_accumulation_steps=ANSWERS * n_prompts // chosen.micro,
        num_generations=ANSWERS,
        max_completion_length=SYMBOLS,
        generation_kwargs={"min_new_tokens": SYMBOLS},
        temperature=1.0,
        beta=0.0,
        learning_rate=1e-5,
        max_steps=chosen.steps,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=float(chosen.recompute) > 0,
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        seed=SEED,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **more: [reward(answer[0]["content"]) for answer in completions],
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        peft_config=peft,
        callbacks=[Clock()],
    )
    trainer.train()
    return [after - before for before, after in pairwise(ends)]


def work(chosen: argparse.Namespace) -> None:
    """Train and print what it took as one JSON line."""
    side, _, dtype = chosen.worker.partition(" ")
    n_prompts = int(chosen.prompts)
    spoken: list[float] = []
    if side == "trl":
        seconds = train_theirs(chosen, n_prompts, dtype)
    else:
        seconds = train_ours(chosen, n_prompts, spoken)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds[1:], "megabytes": megabytes, "answering": spoken[1:]}))


def ask(side: str, n_prompts: int, recompute: str, chosen: argparse.Namespace) -> dict:
    command = [sys.executable, "-m", "benchmarks.rl_step", "--worker", side, "--prompts", str(n_prompts)]
    command += ["--adapter", chosen.adapter, "--steps", str(chosen.steps), "--threads", str(chosen.threads)]
    command += ["--micro", str(chosen.micro), "--recompute", recompute]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(n_prompts: int, recompute: str, chosen: argparse.Namespace) -> dict:
    """Let the sides take turns, print their lines and return ours beside the best of theirs."""
    told: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(chosen.rounds):
        for side in SIDES:
            told[side].append(ask(side, n_prompts, recompute, chosen))
    figures = {
        side: {
            "seconds": median(second for one in runs for second in one["seconds"]),
            "megabytes": median(one["megabytes"] for one in runs),
        }
        for side, runs in told.items()
    }
    ours, peers = figures["smidgen"], [figures[side] for side in SIDES[1:]]
    best = {name: min(peer[name] for peer in peers) for name in ours}
    ratios = {"seconds": best["seconds"] / ours["seconds"], "memory": best["megabytes"] / ours["megabytes"]}
    for side, figure in figures.items():
        mark = f"{ratios['seconds']:>9.2f}{ratios['memory']:>9.2f}" if side == "smidgen" else ""
        again = f"{float(recompute):.0%}" if side == "smidgen" else "all" if float(recompute) else "none"
        print(
            f"{n_prompts:<9}{again:<7}{side:<12}{figure['seconds']:>10.2f}{figure['megabytes']:>10.0f}{mark}",
            flush=True,
        )
    return {
        "prompts": n_prompts,
        "recompute": float(recompute),
        "ratios": ratios,
        "ours": ours,
        "peer": best,
        "figures": figures,
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one prompt, three steps, one round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--adapter", default="lora:r=8", help="what is trained: lora:r=N or full")
    parser.add_argument("--micro", type=int, default=8, help="answers of a micro-batch: the memory of a step")
    parser.add_argument(
        "--recompute",
        default="0.75,0.4",
        help="share of the depths computed again in the backward pass, for each number of prompts; 0: none",
    )
    parser.add_argument("--prompts", default="1,4")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    torch.set_num_threads(chosen.threads)
    if chosen.worker:
        work(chosen)
        return
    if chosen.quick:
        chosen.prompts, chosen.steps, chosen.rounds = "1", 3, 1
    told = f"{ANSWERS} answers of {SYMBOLS} symbols, {chosen.micro} at a time"
    print(f"{MODEL}, {chosen.adapter}, {told}, {chosen.threads} threads\n")
    print(f"{'prompts':<9}{'again':<7}{'side':<12}{'s/step':>10}{'peak MB':>10}{'faster':>9}{'smaller':>9}")
    shares = dict(zip(chosen.prompts.split(","), chosen.recompute.split(","), strict=False))
    cases = [compare(int(n), again, chosen) for n, again in shares.items()]
    weakest = min(cases, key=lambda case: case["ratios"]["seconds"])
    from smidgen.runtime import describe_hardware

    result = {
        "bench": "rl_step",
        "ratio": round(weakest["ratios"]["seconds"], 3),
        "ours": round(weakest["ours"]["seconds"], 3),
        "peer": round(weakest["peer"]["seconds"], 3),
        "unit": f"s/step, {MODEL}, {chosen.adapter}, {weakest['prompts']} prompts (nearest to its bar of 3)",
        "memory_ratio": round(min(case["ratios"]["memory"] for case in cases), 3),
        "hardware": describe_hardware(),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "seed": SEED,
        "cases": cases,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
