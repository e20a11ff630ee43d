"""The shapes every throughput figure is told for."""

from smidgen.models import LlamaConfig
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import SwiGLUConfig
from smidgen.models.stack import StackConfig


def llama(depth: int, width: int, d_ff: int, heads: tuple[int, int], vocab: int, tied: bool = True) -> LlamaConfig:
    """A plain Llama of the given shape."""
    attention = AttentionConfig(n_heads=heads[0], n_kv_heads=heads[1])
    stack = StackConfig(d_model=width, layers=tuple(range(depth)), attention=attention, mlp=SwiGLUConfig(d_ff=d_ff))
    return LlamaConfig(vocab_size=vocab, max_seq_len=2048, tie_embeddings=tied, stack=stack)


SHAPES = {
    "10m": llama(8, 320, 896, (5, 1), 4096),
    "50m": llama(12, 512, 1408, (8, 4), 8192),
    "smollm2-135m": llama(30, 576, 1536, (9, 3), 49152),
    "tinyllama-1.1b": llama(22, 2048, 5632, (32, 4), 32000, tied=False),
}
