"""A short name for the weights of a base, so that an adapter is applied to the model it was trained on or not at all.

Of the tensors and not of a file: the same for a GGUF file and a directory with equal weights, and for a model with an
adapter attached and without. Values count as bf16: the same model in fp32 for training and in bf16 for talking has one
name, and any other training of it another.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from smidgen.surgery.adapted import base_weights

_WORKERS = 4
"""hashlib lets go of the interpreter lock: digests of several tensors are made side by side."""


def model_fingerprint(model: nn.Module) -> str:
    """Return 16 hexadecimal digits of the base's weights.

    Heads that only guess symbols ahead are left out: they change no probability, and are not always saved.
    """
    weights = {n: w for n, w in base_weights(model).items() if not n.startswith("heads.future.")}
    names = sorted(weights)
    with ThreadPoolExecutor(_WORKERS) as pool:
        digests = list(pool.map(lambda name: _digest(weights[name]), names))
    whole = hashlib.sha256()
    for name, digest in zip(names, digests, strict=True):
        whole.update(f"{name} {list(weights[name].shape)} {digest}\n".encode())
    return whole.hexdigest()[:16]


def _digest(weight: Tensor) -> str:
    rounded = weight.detach().to(torch.bfloat16).cpu().contiguous().flatten()
    return hashlib.sha256(rounded.view(torch.int16).numpy().astype("<i2", copy=False).data).hexdigest()
