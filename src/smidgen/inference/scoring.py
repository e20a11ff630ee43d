"""Log-probabilities of given symbols, without generating: what evaluation and reinforcement learning ask for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smidgen.models import LanguageModel

BATCH_SYMBOLS = 4096
"""Most symbols of one forward, padding included, unless a single sequence is longer."""

LOGITS_AT_ONCE = 2**24
"""Most logits held at a time: 64 MB in fp32, whatever the vocabulary."""


@torch.inference_mode()
def score_sequences(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the fp32 log-probabilities of every symbol after the first of each sequence, in the order given.

    Sequences of similar length run together, padded on the right; the full logits are never held.
    """
    device = next(iter(model.parameters())).device
    scores: dict[int, Tensor] = {i: torch.zeros(0) for i, ids in enumerate(sequences) if len(ids) < 2}
    order = sorted((i for i in range(len(sequences)) if i not in scores), key=lambda i: -len(sequences[i]))
    while order:
        longest = len(sequences[order[0]])
        n_rows = max(1, BATCH_SYMBOLS // longest)
        batch, order = order[:n_rows], order[n_rows:]
        padded = [[*sequences[i], *[0] * (longest - len(sequences[i]))] for i in batch]
        ids = torch.tensor(padded, device=device)
        features = model.features(ids[:, :-1])
        flat = _log_probs(model, features.flatten(0, 1), ids[:, 1:].flatten()).view(len(batch), -1).cpu()
        scores |= {i: flat[row, : len(sequences[i]) - 1].clone() for row, i in enumerate(batch)}
    return [scores[i] for i in range(len(sequences))]


def _log_probs(model: LanguageModel, features: Tensor, targets: Tensor) -> Tensor:
    at_once = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    parts = []
    for piece, wanted in zip(features.split(at_once), targets.split(at_once), strict=True):
        logits = model.logits(piece)
        parts.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(parts)
