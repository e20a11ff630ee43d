"""How many bytes of text the supervised targets of rows stand for."""

import numpy as np

from smidgen.tokenizers.base import Tokenizer


class ScoredBytes:
    """Counts the bytes of supervised targets, exactly."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._eot_id = tokenizer.eot_id
        self._symbol_bytes = np.array(tokenizer.symbol_bytes(), dtype=np.int64)
        self._prefix_bytes = len(tokenizer.text_prefix)

    def __call__(self, ids: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> int:
        """Return the bytes that targets of weight above 0 stand for."""
        taught = weights > 0
        sizes = self._symbol_bytes[targets]
        scored = int(sizes[taught].sum())
        if self._prefix_bytes:  # the space a sentencepiece vocabulary puts before a text is not a byte of the text
            scored -= self._prefix_bytes * int((taught & (ids == self._eot_id) & (sizes > 0)).sum())
        return scored
