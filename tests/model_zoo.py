"""The models every law is tested on: one of each switch and sharing layout, small enough for milliseconds."""

import torch

from smidgen.models import BytePatchConfig, LlamaConfig, build_model
from smidgen.models.attention import AttentionConfig
from smidgen.models.heads import FutureConfig, HeadsConfig, ThoughtConfig
from smidgen.models.layers import ReLU2Config, SwiGLUConfig
from smidgen.models.patching import EntropyConfig, FixedConfig, LearnedConfig, SpaceConfig, SymbolConfig
from smidgen.models.pooling import CrossAttentionConfig, LastConfig, MaxConfig
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
    "ngrams": tiny(ngrams=(2, 4), ngram_buckets=50),
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


def tiny_bytes(**changes) -> BytePatchConfig:
    """A byte model with pooling of a few thousand parameters; `trunk` changes the trunk's fields."""
    local = {"d_model": 16, "attention": AttentionConfig(n_heads=2, window=6), "mlp": SwiGLUConfig(d_ff=24)}
    trunk = {"d_model": 24, "layers": (0, 1), "attention": AttentionConfig(n_heads=2), "mlp": SwiGLUConfig(d_ff=32)}
    trunk |= changes.pop("trunk", {})
    defaults = {
        "vocab_size": 265,
        "max_seq_len": 64,
        "encoder": StackConfig(**local, layers=(0,)),
        "stack": StackConfig(**trunk),
        "decoder": StackConfig(**local, layers=(0,)),
    }
    return BytePatchConfig(**(defaults | changes))


SURPRISED = EntropyConfig(
    longest=7,
    stack=StackConfig(d_model=16, layers=(0,), attention=AttentionConfig(n_heads=2), mlp=SwiGLUConfig(d_ff=16)),
)

BYTE_MODELS = {
    "bytes-fixed": tiny_bytes(patcher=FixedConfig(longest=3)),
    "bytes-space": tiny_bytes(patcher=SpaceConfig(longest=5)),
    "bytes-entropy": tiny_bytes(patcher=SURPRISED),
    "bytes-learned": tiny_bytes(patcher=LearnedConfig(longest=7), pooling=LastConfig()),
    "bytes-symbol": tiny_bytes(patcher=SymbolConfig(longest=4), tie_embeddings=False),
    "bytes-max": tiny_bytes(patcher=FixedConfig(longest=3), pooling=MaxConfig()),
    "bytes-last": tiny_bytes(pooling=LastConfig()),
    "bytes-cross-attention": tiny_bytes(patcher=FixedConfig(longest=3), pooling=CrossAttentionConfig(n_heads=2)),
    "bytes-ngrams": tiny_bytes(patcher=FixedConfig(longest=4), ngrams=(2, 4), ngram_buckets=50),
    "bytes-parallel": tiny_bytes(patcher=SpaceConfig(longest=4), head="parallel"),
    "bytes-parallel-learned": tiny_bytes(patcher=LearnedConfig(longest=4), head="parallel"),
    "bytes-shared": tiny_bytes(
        patcher=FixedConfig(longest=3),
        trunk={
            "layers": (0, 1, 1, 0),
            "mlps": (0, 0),
            "depth_lora_rank": 2,
            "mlp": ReLU2Config(d_ff=32),
            "residual_scalars": True,
            "zero_init_outputs": True,
        },
        logit_softcap=20.0,
    ),
    "bytes-thinking": tiny_bytes(
        patcher=FixedConfig(longest=3),
        heads=HeadsConfig(future=FutureConfig(n=1, keep=True), thought=ThoughtConfig(span=2)),
    ),
}
EVERY_MODEL = MODELS | BYTE_MODELS


def randomized(config, seed=0):
    """A model whose zero-initialised parts speak too, so that no law holds by silence."""
    model = build_model(config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
        if getattr(config, "patcher", None) == SURPRISED:  # what is drawn at random would end all patches or none
            logits = model.patch(some_ids(config, rows=8)).marks.logits
            model.patcher.threshold.fill_(-(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).median() / 8)
    return model.eval()


def some_ids(config, rows=2, length=24, seed=1):
    """Random symbols of a model's vocabulary."""
    return torch.randint(0, config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))
