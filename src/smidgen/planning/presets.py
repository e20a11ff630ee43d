"""Named models, and the rules that turn a number of parameters into a shape.

Two styles: `llama` is HF's Llama to the letter and exports everywhere; `best` adds the switches that pay at this
size. A rule is a small pure function; the number that settled it stands beside it.
"""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from math import log, log2

from smidgen.errors import BudgetError, ConfigError
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import MLPConfig, ReLU2Config, SwiGLUConfig
from smidgen.models.llama import LlamaConfig
from smidgen.models.stack import StackConfig
from smidgen.models.stats import count_parameters
from smidgen.planning.units import Size, parse_size

TOLERANCE = 0.03
"""A shape may miss the asked number of parameters by this share."""

SMALLEST, LARGEST = 250_000, 1_500_000_000
"""Parameters between which `shape_for` is known to find a shape, with the vocabulary of `vocabulary_for`."""

TIED_BELOW = 300_000_000
"""Models below this tie the head to the embedding. Source: Liu et al. 2024 (MobileLLM), arXiv 2402.14905."""


def _tinyllama() -> LlamaConfig:
    """Return TinyLlama-1.1B: 1,100,048,384 parameters. Source: Zhang et al. 2024, arXiv 2401.02385."""
    attention = AttentionConfig(n_heads=32, n_kv_heads=4)
    stack = StackConfig(d_model=2048, layers=tuple(range(22)), attention=attention, mlp=SwiGLUConfig(d_ff=5632))
    return LlamaConfig(vocab_size=32_000, max_seq_len=2048, tie_embeddings=False, stack=stack)


def _smollm2() -> LlamaConfig:
    """Return SmolLM2-135M: 134,515,008 parameters. Source: Ben Allal et al. 2025, arXiv 2502.02737."""
    attention = AttentionConfig(n_heads=9, n_kv_heads=3, rope_theta=100_000.0)
    stack = StackConfig(d_model=576, layers=tuple(range(30)), attention=attention, mlp=SwiGLUConfig(d_ff=1536))
    return LlamaConfig(vocab_size=49_152, max_seq_len=8192, tie_embeddings=True, stack=stack)


PRESETS: dict[str, Callable[[], LlamaConfig]] = {"tinyllama-1.1b": _tinyllama, "smollm2-135m": _smollm2}
STYLES = ("best", "llama")


def preset(name: str) -> LlamaConfig:
    """Return a named preset. Raises ConfigError listing the names."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} does not exist. Known: {', '.join(PRESETS)}.")
    return PRESETS[name]()


def read_size(text: str) -> Size:
    """Read what `--size` says: the name of a preset, or what `parse_size` reads. Raises BudgetError."""
    if text in PRESETS:
        return Size(count_parameters(preset(text)).total, preset=text)
    try:
        return parse_size(text)
    except BudgetError as error:
        near = difflib.get_close_matches(text.lower(), PRESETS, n=1)
        raise BudgetError(
            f"{error} " + (f"Did you mean {near[0]}?" if near else f"Presets: {', '.join(PRESETS)}.")
        ) from None


def vocabulary_for(parameters: int, corpus_bytes: int | None = None) -> int:
    """Choose a vocabulary: 4096 (parameters / 10M)^0.6 as a power of two, 512 to 32,768, halved for a small corpus.

    The exponent joins 512-2k at 1M, 4k at 10M, 8k at 30-50M, 16k at 100M and 32k at 1.1B (techniques.md,
    Vocabulary sized to the model); that the vocabulary grows slower than the model is Tao et al. 2024, arXiv
    2407.13623. Fewer than 512 bytes of text per entry leave most entries seen a handful of times.
    """
    exponent = round(log2(4096 * (parameters / 10e6) ** 0.6))
    vocabulary = 2 ** min(max(exponent, 9), 15)
    while corpus_bytes is not None and vocabulary > 512 and corpus_bytes < 512 * vocabulary:
        vocabulary //= 2
    return vocabulary


def depth_rule(parameters: int) -> float:
    """Return the depth a model of this size wants: 8 (parameters / 10M)^0.23.

    Passes the shapes that are known to work: 5 x 64 at 0.3M (llama2.c), 8 x 320 at 10M, 12 x 512 at 50M, 22 x 2048 at
    1.1B (TinyLlama). Width over depth is 40 at 10M and 64 at 300M, where 64 beats 128 (techniques.md, Depth vs width).
    """
    return 8 * (parameters / 10e6) ** 0.23


def shape_for(
    parameters: int, vocab_size: int, style: str = "best", seq_len: int = 512, at_most: bool = False
) -> LlamaConfig:
    """Find the config of a style nearest to a number of parameters, within 3%, from below only if `at_most`.

    Every width is a multiple of 32, so that the weights quantize in blocks; multiples of 256 are preferred, because
    k-quants need them (users.md #18). Raises ConfigError where no shape fits.
    """
    if style not in STYLES:
        raise ConfigError(f"style {style!r} does not exist. Known: {', '.join(STYLES)}.")
    wanted = min(_outlines(parameters, vocab_size, style, at_most), key=lambda outline: outline.cost, default=None)
    if wanted is None:
        raise ConfigError(
            f"no shape has {parameters:,} parameters with a vocabulary of {vocab_size:,}. "
            "Ask for more parameters or a smaller vocabulary."
        )
    stack = _stack(wanted.d_model, wanted.depth, wanted.d_ff, style)
    return _config(stack, vocab_size, style, seq_len, tied=parameters < TIED_BELOW)


@dataclass(frozen=True)
class _Outline:
    """A shape before it is a config, and how far it is from the rules."""

    d_model: int
    depth: int
    d_ff: int
    cost: float


def _outlines(parameters: int, vocab_size: int, style: str, at_most: bool) -> Iterator[_Outline]:
    """Walk widths and depths around the rule; solve the feed-forward for the parameters that are left."""
    wanted, ratio = depth_rule(parameters), 4.0 if style == "best" else 8 / 3  # equal parameters in both kinds
    for d_model in takewhile(lambda width: width * vocab_size < parameters, _widths()):
        # Counts are linear in depth and d_ff: two probes tell all of a width's shapes.
        probes = [_stack(d_model, depth, 32, style) for depth in (1, 2)]
        one, two = (count_parameters(_config(p, vocab_size, style, 512, parameters < TIED_BELOW)) for p in probes)
        per_d_ff = one.feed_forward // 32
        per_block = two.total - one.total - one.feed_forward
        outside = 2 * one.total - two.total
        n_heads = probes[0].attention.n_heads
        ungrouped = n_heads > 1 and kv_heads_for(n_heads) == n_heads
        for depth in range(max(1, round(wanted / 2)), round(wanted * 2) + 2):
            exact = ((parameters - outside) / depth - per_block) / per_d_ff
            for d_ff in (int(exact // step + up) * step for step in (32, 256) for up in (0, 1)):
                miss = (outside + depth * (per_block + d_ff * per_d_ff)) / parameters - 1
                if abs(miss) > TOLERANCE or (at_most and miss > 0) or not 1.5 * d_model <= d_ff <= 6 * d_model:
                    continue
                off_rule = log(depth / wanted) ** 2 + log(d_ff / d_model / ratio) ** 2 + (10 * miss) ** 2
                awkward = (d_model % 256 != 0) + (d_ff % 256 != 0) + ungrouped
                yield _Outline(d_model, depth, d_ff, off_rule + 0.01 * awkward)


def _widths() -> Iterator[int]:
    """Multiples of 32 while a head is 32 wide, of 64 above: heads of 64."""
    yield from range(32, 128, 32)
    yield from range(128, 1024, 64)
    yield from range(1024, 3072 + 1, 128)


def _stack(d_model: int, depth: int, d_ff: int, style: str) -> StackConfig:
    d_head = 64 if d_model >= 128 else 32
    n_heads = d_model // d_head
    best = style == "best"
    mlp: MLPConfig = ReLU2Config(d_ff=d_ff) if best else SwiGLUConfig(d_ff=d_ff)
    return StackConfig(
        d_model=d_model,
        layers=tuple(range(depth)),
        attention=AttentionConfig(n_heads=n_heads, n_kv_heads=kv_heads_for(n_heads), qk_norm=best),
        mlp=mlp,
        residual_scalars=best,
        zero_init_outputs=best,
    )


def kv_heads_for(n_heads: int) -> int:
    """Share a key/value head between 2 query heads, or 3 or 5 where 2 does not divide; 4 from 16 heads on.

    8/4 heads are parameter-golf's, 32/4 to 32/8 the habit at 1B (techniques.md, GQA).
    """
    sizes = (4, 2, 3, 5) if n_heads >= 16 else (2, 3, 5)
    return n_heads // next((size for size in sizes if n_heads % size == 0), 1)


def _config(stack: StackConfig, vocab_size: int, style: str, seq_len: int, tied: bool) -> LlamaConfig:
    cap = 20.0 if style == "best" else None
    return LlamaConfig(vocab_size=vocab_size, max_seq_len=seq_len, tie_embeddings=tied, logit_softcap=cap, stack=stack)
