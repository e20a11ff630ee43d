"""Random numbers that are a function of a key alone, with the same bits on every platform and in every version.

An adapter is a few numbers because everything else about it can be computed again; so what is computed again must be
the same everywhere. torch's generators promise no such thing between devices or releases, and even a logarithm differs
in its last bit between libraries: here is nothing but integers, summed.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_DRAWS = 12
"""Sixteen-bit draws whose sum is one number: their variance is then 2^32 - 1, that of a normal 65536 wide."""


def normals(shape: tuple[int, ...], std: float, seed: int, index: int) -> Float[Tensor, "..."]:
    """Return fp32 numbers that are nearly normal (none is beyond 6 std), those of stream `index` of a seed.

    A longer draw begins as a shorter one. Source: Philox, Salmon et al. 2011; raw words, which numpy keeps stable.
    """
    n = math.prod(shape)
    words = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(n * _DRAWS // 4)
    draws = words.astype("<u8", copy=False).view("<u2").reshape(n, _DRAWS)
    centred = draws.sum(1, dtype=np.int64) - _DRAWS * 65535 // 2
    return torch.from_numpy((centred * (std / 65536)).astype(np.float32)).reshape(shape)
