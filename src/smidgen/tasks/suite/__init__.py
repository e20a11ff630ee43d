"""The tiny suite: the small evaluation sets everybody reports, with the very prompts of lm-evaluation-harness.

SUITE is the visible list, in the order of a table. Summaries, translations, sentiment in words and village questions
are asked in conversation and stand in `smidgen.tasks.TASKS`.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from smidgen.errors import ConfigError
from smidgen.tasks.choice import ChoiceTask
from smidgen.tasks.completion import CompletionTask
from smidgen.tasks.files import say_on_stderr
from smidgen.tasks.suite.arc import ARC_CHALLENGE, ARC_EASY
from smidgen.tasks.suite.blimp import make_blimp
from smidgen.tasks.suite.boolq import BOOLQ
from smidgen.tasks.suite.build import HARNESS
from smidgen.tasks.suite.commonsense_qa import COMMONSENSE_QA
from smidgen.tasks.suite.copa import COPA
from smidgen.tasks.suite.gsm8k import make_gsm8k
from smidgen.tasks.suite.hellaswag import HELLASWAG
from smidgen.tasks.suite.lambada import LAMBADA_OPENAI
from smidgen.tasks.suite.openbookqa import OPENBOOKQA
from smidgen.tasks.suite.piqa import PIQA
from smidgen.tasks.suite.sciq import SCIQ
from smidgen.tasks.suite.shelf import Shelf
from smidgen.tasks.suite.sst2 import SST2
from smidgen.tasks.suite.winogrande import WINOGRANDE

__all__ = ["HARNESS", "SUITE", "Shelf", "load_suite_task"]

SUITE: Mapping[str, Callable[[Shelf], ChoiceTask | CompletionTask]] = {
    "blimp": make_blimp,
    "arc_easy": ARC_EASY.make,
    "arc_challenge": ARC_CHALLENGE.make,
    "hellaswag": HELLASWAG.make,
    "winogrande": WINOGRANDE.make,
    "piqa": PIQA.make,
    "openbookqa": OPENBOOKQA.make,
    "boolq": BOOLQ.make,
    "sciq": SCIQ.make,
    "copa": COPA.make,
    "lambada_openai": LAMBADA_OPENAI.make,
    "commonsense_qa": COMMONSENSE_QA.make,
    "sst2": SST2.make,
    "gsm8k": make_gsm8k,
}
"""Maker of a task of the suite by the harness's name for it."""


def load_suite_task(
    name: str, data: Path | None = None, say: Callable[[str], None] = say_on_stderr
) -> ChoiceTask | CompletionTask:
    """Return a task of the suite. Its files are those in the folder `data`, else the hub's.

    Raises ConfigError if there is no such task, DataError that says where to put which file if it has none.
    """
    if name not in SUITE:
        near = difflib.get_close_matches(name, SUITE, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{name} is no task of the suite.{hint} Known: {', '.join(SUITE)}.")
    return SUITE[name](Shelf(data, say))
