"""The models every law is tested on: one of each switch and sharing layout, small enough for milliseconds."""

from smidgen.models import LlamaConfig
from smidgen.models.attention import AttentionConfig
from smidgen.models.layers import ReLU2Config, SwiGLUConfig
from smidgen.models.stack import StackConfig

VOCAB = 97


def tiny(**changes) -> LlamaConfig:
    """A Llama of a few thousand parameters; `stack`'s fields may be given flat."""
    stack_keys = set(StackConfig.model_fields)
    stack = {key: value for key, value in changes.items() if key in stack_keys}
    model = {key: value for key, value in changes.items() if key not in stack_keys}
    defaults = {
        "d_model": 32,
        "layers": (0, 1, 2),
        "attention": AttentionConfig(n_heads=4, n_kv_heads=2),
        "mlp": SwiGLUConfig(d_ff=48),
    }
    return LlamaConfig(vocab_size=VOCAB, max_seq_len=64, stack=StackConfig(**(defaults | stack)), **model)


MODELS = {
    "plain": tiny(attention=AttentionConfig(n_heads=4)),
    "gqa": tiny(),
    "mqa": tiny(attention=AttentionConfig(n_heads=4, n_kv_heads=1)),
    "untied": tiny(tie_embeddings=False),
    "wide-heads": tiny(attention=AttentionConfig(n_heads=4, n_kv_heads=2, d_head=16)),
    "pairwise": tiny(layers=(0, 0, 1, 1)),
    "universal": tiny(layers=(0, 0, 0, 0)),
    "one-mlp": tiny(mlps=(0, 0, 0)),
    "cyclic": tiny(layers="cyclic:5,2"),
    "middle": tiny(layers="middle:4,1,2,2"),
    "one-output": tiny(attention_outputs="universal:3"),
    "depth-lora": tiny(layers="cyclic:4,2", depth_lora_rank=3),
    "one-mlp-lora": tiny(mlps="universal:3", attention_outputs=(0, 1, 0), depth_lora_rank=3),
    "factored": tiny(embedding_rank=12),
    "factored-untied": tiny(embedding_rank=12, tie_embeddings=False),
    "smallest": tiny(
        layers="middle:3,1,1,3",
        mlps="universal:3",
        depth_lora_rank=2,
        mlp=ReLU2Config(d_ff=64),
        residual_scalars=True,
        zero_init_outputs=True,
        logit_softcap=20.0,
        embedding_rank=12,
    ),
    "relu2": tiny(mlp=ReLU2Config(d_ff=64)),
    "qk-norm": tiny(attention=AttentionConfig(n_heads=4, n_kv_heads=2, qk_norm=True)),
    "window": tiny(attention=AttentionConfig(n_heads=4, n_kv_heads=2, window=5)),
    "best": tiny(
        attention=AttentionConfig(n_heads=4, n_kv_heads=2, qk_norm=True),
        mlp=ReLU2Config(d_ff=64),
        residual_scalars=True,
        zero_init_outputs=True,
        logit_softcap=20.0,
    ),
}
