"""A model written out: the same computation with every block, map and vector its own."""

import torch
from torch import Tensor

from smidgen.models.layers import AdaptedLinear
from smidgen.models.llama import Llama
from smidgen.models.stats import without_sharing


@torch.no_grad()
def merge_model(model: Llama) -> Llama:
    """Return a plain model that computes the same: depths' updates merged into their maps, factors multiplied.

    It is as large as the model is deep; the model itself is unchanged. In fp32 logits agree to rounding.
    """
    weights: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, AdaptedLinear):
            weights[f"{name}.weight"] = module.merged()
    embedding = model.model.embed_tokens.weight
    if model.config.embedding_rank is not None:
        weights["model.embed_tokens.weight"] = model.model.embed_map(embedding)
    with torch.device("meta"):
        plain = Llama(without_sharing(model.config))
    plain.to(embedding.dtype).to_empty(device=embedding.device)
    for name, weight in plain.named_parameters():
        weight.copy_(weights[name])
    plain.compute_dtype = model.compute_dtype
    return plain.train(model.training)
