"""What whole texts cost, in the harness's windows: each text alone, and no end of a document charged."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from smidgen.evaluation.bits_per_byte import score
from smidgen.evaluation.likelihood import Vocabulary, empty_context_id
from smidgen.evaluation.windows import UNSCORED, ScoredSequence, batch_windows, cut_windows
from smidgen.models import LanguageModel

_BATCH_SYMBOLS = 8192


def text_log_probs(model: LanguageModel, tokenizer: Vocabulary, texts: Sequence[str], context: int) -> list[float]:
    """Return the log-probability of each text, 0 for an empty one.

    Windows of the whole context do not overlap but for the last, which is as long as the others (`lm_eval/utils.py`,
    get_rolling_token_windows); before a text stands what stands for an empty context.
    """
    begin, totals = empty_context_id(tokenizer), np.zeros(len(texts))
    sequences = [
        ScoredSequence(np.asarray([begin, *ids]), np.asarray([UNSCORED, *[number] * len(ids)]))
        for number, ids in enumerate(tokenizer.encode_batch(texts))
    ]
    windows = chain.from_iterable(cut_windows(sequence, context, context) for sequence in sequences)
    for batch in batch_windows(windows, _BATCH_SYMBOLS):
        wanted = batch.accounts != UNSCORED
        np.add.at(totals, batch.accounts[wanted].numpy(), score(model, batch)[wanted].double().numpy())
    return (-totals).tolist()
