"""Why a plan is as it is: each decision with its rule and the rule's source, as plain data."""

from dataclasses import dataclass
from typing import Any

from smidgen.models.llama import LlamaConfig
from smidgen.models.stats import count_parameters, weight_bytes
from smidgen.planning import rules
from smidgen.planning.corpus import CorpusFacts
from smidgen.planning.drafts import BYTE_VOCABULARY, Draft, Workplace
from smidgen.planning.footprint import file_bytes, tokenizer_bytes
from smidgen.planning.presets import depth_rule
from smidgen.planning.scaling import (
    CHINCHILLA_TOKENS_PER_PARAMETER,
    ERROR_SHARE,
    NANOCHAT_TOKENS_PER_PARAMETER,
)
from smidgen.planning.units import Size, format_bytes, format_count, format_time


@dataclass(frozen=True)
class Decision:
    """One choice of a plan."""

    key: str
    """What was decided; the recipe's key where it has one."""
    value: Any
    """What it was decided to be."""
    rule: str
    """The rule that decided it, with its numbers."""
    source: str
    """Where the rule comes from."""


def decide(
    chosen: Draft, place: Workplace, size: Size | None, time_seconds: float | None, later: LlamaConfig | None
) -> list[Decision]:
    """Write down every decision of a draft; `later` is what a byte budget will hold in int8."""
    return [
        *_budgets(chosen, size, time_seconds, later),
        *(_shape(chosen, place) if size is None or size.preset is None else _preset(chosen, size)),
        *_training(chosen, place),
        *_outlook(chosen, place),
    ]


def _budgets(chosen: Draft, size: Size | None, time_seconds: float | None, later: LlamaConfig | None) -> list[Decision]:
    asked = "asked for" if time_seconds else "ten minutes unless asked, or as long as the size needs at least"
    decisions = [Decision("train.budget.seconds", chosen.seconds, f"{format_time(chosen.seconds)}: {asked}", "--time")]
    if size is None:
        rule = "the smallest within 1% of the best score expected in this time; at most a parameter for a byte of text"
        return [*decisions, Decision("parameters", chosen.parameters, rule, "scaling law, docs/planning.md")]
    if size.preset is not None:
        return [*decisions, Decision("parameters", chosen.parameters, f"those of the preset {size}", "--size")]
    if not size.in_bytes:
        rule = f"nearest shape to {size}, within 3%"
        return [*decisions, Decision("parameters", chosen.parameters, rule, "--size")]
    decisions.append(
        Decision(
            "parameters", chosen.parameters, f"most that {size} holds: {_arithmetic(chosen.config, 'bf16')}", "--size"
        )
    )
    if later is not None:
        held = count_parameters(later).total
        rule = f"what {size} will hold once weights are quantized: {_arithmetic(later, 'int8')}"
        decisions.append(
            Decision("parameters in int8, later", held, rule, "16-bit embedding: techniques.md, Compression")
        )
    return decisions


def _arithmetic(config: LlamaConfig, precision: str) -> str:
    """Show how a file's bytes add up."""
    parameters, total = count_parameters(config), file_bytes(config, precision)
    elsewhere = parameters.total - parameters.matrices
    matrices = weight_bytes(config, precision) - 2 * elsewhere
    tokenizer = tokenizer_bytes(config.vocab_size)
    rest = total - matrices - 2 * elsewhere - tokenizer
    return (
        f"matrices {precision} {format_bytes(matrices)} + embedding and norms 16-bit {format_bytes(2 * elsewhere)} + "
        f"tokenizer {format_bytes(tokenizer)} + other files {format_bytes(rest)} = {format_bytes(total)}"
    )


def _shape(chosen: Draft, place: Workplace) -> list[Decision]:
    config, stack = chosen.config, chosen.config.stack
    heads = stack.attention
    return [
        _vocabulary(config.vocab_size, place.corpus),
        Decision(
            "model.stack.layers",
            len(stack.layers),
            f"8 (parameters / 10M)^0.23 = {depth_rule(chosen.parameters):.1f}, as widths allow",
            "8 x 320 at 10M, 12 x 512 at 50M, 22 x 2048 at 1.1B; techniques.md, Depth vs width",
        ),
        Decision(
            "model.stack.d_model",
            stack.d_model,
            f"what the parameters leave at that depth; {stack.d_model / len(stack.layers):.0f} times the depth; "
            "multiples of 32 quantize in blocks, of 256 in k-quants",
            "users.md #18",
        ),
        Decision(
            "model.stack.mlp",
            f"{stack.mlp.type} {stack.mlp.d_ff}",
            f"{stack.mlp.d_ff / stack.d_model:.2f} times the width",
            "ReLU² 4x for best, SwiGLU 8/3x for llama: techniques.md, Architecture",
        ),
        Decision(
            "model.stack.attention",
            f"{heads.n_heads} heads of {stack.d_head}, {heads.kv_heads} for keys",
            "heads of 64, keys shared by 2 (3 or 5 where 2 does not divide, 4 from 16 heads)",
            "Ainslie et al. 2023, arXiv 2305.13245; techniques.md, GQA",
        ),
        Decision(
            "model.tie_embeddings",
            config.tie_embeddings,
            "tied below 300M parameters",
            "Liu et al. 2024 (MobileLLM), arXiv 2402.14905",
        ),
        _style(place.style),
    ]


def _preset(chosen: Draft, size: Size) -> list[Decision]:
    stack = chosen.config.stack
    shape = f"{len(stack.layers)} x {stack.d_model}, {stack.mlp.type} {stack.mlp.d_ff}"
    rule = f"the preset {size}, with its vocabulary of {chosen.config.vocab_size:,}; the context it is trained on here"
    return [Decision("model.stack", shape, rule, "presets"), _style("llama")]


def _vocabulary(vocab_size: int, corpus: CorpusFacts) -> Decision:
    if vocab_size == BYTE_VOCABULARY:
        rule, source = "plain bytes: less than 32 kB of text trains no merges", "docs/planning.md"
    else:
        rule = "4096 (parameters / 10M)^0.6, a power of two; at least 512 bytes of text an entry"
        source = "techniques.md, Vocabulary sized to the model; Tao et al. 2024, arXiv 2407.13623"
    return Decision(
        "model.vocab_size", vocab_size, f"{rule}; {corpus.symbol_bytes(vocab_size):.2f} bytes a symbol", source
    )


def _style(style: str) -> Decision:
    if style == "llama":
        return Decision("style", style, "HF Llama to the letter: exports everywhere", "--style")
    rule = "QK-norm, ReLU², zero-init outputs, residual scalars, softcap 20: what pays at this size"
    return Decision("style", style, rule, "techniques.md, Recommended starting presets")


def _training(chosen: Draft, place: Workplace) -> list[Decision]:
    config, machine = chosen.config, place.machine
    verdict = "repays" if chosen.compile_seconds else "cannot be used, or would not repay"
    compiling = f"compiling {verdict} its {machine.compile_seconds:.0f} s on this machine"
    return [
        Decision(
            "train.seq_len",
            config.max_seq_len,
            "256 below 1M, 512, 1,024 from 100M, 2,048 from 300M; at most 512 on a CPU",
            "measured.md: attention is a third of a CPU step at 512",
        ),
        Decision(
            "train.batch_tokens",
            chosen.batch_tokens,
            f"8,192 (tokens / 6.35M)^0.383, at least {rules.GOOD_STEPS} steps, optimizer at most a fifth of the time",
            "nanochat dev/LOG.md (exponent), measured.md (anchor)",
        ),
        Decision(
            "train.micro_rows",
            chosen.micro_rows,
            f"up to 8,192 symbols a forward on a CPU, 65,536 on a GPU; {format_bytes(chosen.memory_bytes)} in all",
            "measured.md: 8 rows are within 9% of 32",
        ),
        Decision(
            "train.optimizer.learning_rate",
            rules.PEAK_LEARNING_RATE,
            "Muon's is the same at every width and batch: 0.02 at 8,192 and at 524,288 symbols a step",
            "measured.md; nanochat",
        ),
        Decision(
            "train.optimizer.embedding_learning_rate",
            rules.embedding_rate_for(config.stack.d_model),
            "4e-3 (width / 320)^-0.5",
            "nanochat (width rule), measured.md (anchor)",
        ),
        Decision(
            "train.schedule",
            f"wsd, warm-up {rules.warmup_for(chosen.steps)}, warm-down {rules.DECAY_SHARE}",
            "shares of the budget, never steps; 0.5 warm-down was best; warm-up of at least 10 steps",
            "techniques.md, Linear or WSD warm-down",
        ),
        Decision("train.precision", machine.dtype, "the fastest safe dtype of this machine, measured", "runtime"),
        Decision("train.compile", "auto" if chosen.compile_seconds else "off", compiling, "measured.md"),
    ]


def _outlook(chosen: Draft, place: Workplace) -> list[Decision]:
    counts = count_parameters(chosen.config)
    per_core = chosen.tokens / (counts.matrices + counts.embedding)
    machine, score = place.machine, chosen.bits_per_byte
    speed = f"{machine.threads} threads, {machine.matmul_flops / 1e12:.2f} TFLOP/s {machine.dtype}"
    return [
        Decision(
            "tokens",
            chosen.tokens,
            f"{chosen.steps} steps at {chosen.tokens_per_second:,.0f} symbols/s in "
            f"{format_time(chosen.seconds)}, less {rules.OUTSIDE_SHARE:.0%} for validation and samples"
            + (f" and {chosen.compile_seconds:.0f} s for compiling" if chosen.compile_seconds else ""),
            f"measured: {machine.name}, {speed}",
        ),
        Decision(
            "tokens per parameter",
            round(chosen.tokens / chosen.parameters, 2),
            f"{per_core:.2f} per matrix and head parameter; large runs do best at {NANOCHAT_TOKENS_PER_PARAMETER} "
            f"({CHINCHILLA_TOKENS_PER_PARAMETER:.0f} by Chinchilla), minutes afford less",
            "nanochat; Hoffmann et al. 2022, arXiv 2203.15556",
        ),
        Decision(
            "epochs",
            round(chosen.epochs, 3),
            f"tokens over {_text(place.corpus, chosen.seconds)}; a repeat is worth less and less, e^-1 after 15.4",
            "Muennighoff et al. 2023, arXiv 2305.16264",
        ),
        Decision(
            "bits per byte",
            round(score, 2),
            f"between {score * (1 - ERROR_SHARE):.2f} and {score * (1 + ERROR_SHARE):.2f} for "
            f"{format_count(chosen.parameters)} parameters; text {place.corpus.difficulty:.2f} times as hard as ours",
            "Hoffmann's and Kaplan's law refitted at this size: docs/planning.md",
        ),
    ]


def _text(corpus: CorpusFacts, seconds: float) -> str:
    amount = format_bytes(corpus.unique_bytes(seconds))
    return f"{amount} of text" if corpus.bytes is not None else f"the {amount} that a tenth of the time can tell"
