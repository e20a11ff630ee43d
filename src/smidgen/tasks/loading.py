"""From what a person types to a task: a name with options, a table of questions, or a Python file."""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from smidgen.errors import ConfigError
from smidgen.tasks.arithmetic import make_arithmetic
from smidgen.tasks.base import Task
from smidgen.tasks.countdown import make_countdown
from smidgen.tasks.dialogue import make_dialogue
from smidgen.tasks.extraction import make_extraction
from smidgen.tasks.files import Files, say_on_stderr
from smidgen.tasks.gsm8k import make_gsm8k
from smidgen.tasks.letters import make_letters
from smidgen.tasks.own import load_own
from smidgen.tasks.sentiment import make_sentiment
from smidgen.tasks.sorting import make_sorting
from smidgen.tasks.summarization import make_summarization
from smidgen.tasks.tables import make_table
from smidgen.tasks.translation import make_translation
from smidgen.tasks.village import make_village

TASKS: Mapping[str, Callable[[str, Files], Task]] = {
    "village": make_village,
    "arithmetic": make_arithmetic,
    "countdown": make_countdown,
    "letters": make_letters,
    "sorting": make_sorting,
    "json": make_extraction,
    "gsm8k": make_gsm8k,
    "sentiment": make_sentiment,
    "translation": make_translation,
    "summarization": make_summarization,
    "dialogue": make_dialogue,
}
"""Maker of a task, from its options and the local files, by name. The first six need no file."""

_FILE = re.compile(r"(?P<path>.+?\.(?:py|(?:jsonl|ndjson|json|csv|tsv|parquet)(?:\.gz|\.zst)?))(?::(?P<options>.*))?")


def load_task(text: str, data: Path | None = None, say: Callable[[str], None] = say_on_stderr) -> Task:
    """Return the task that `name[:options]`, `FILE.jsonl[:options]` or `FILE.py` means.

    `data` is the folder of the tasks that read local files; `say` takes lines for the person, as that code is run.
    Raises ConfigError if there is no such task or option, DataError if a file is missing or broken.
    """
    files = Files(data, say)
    name, _, options = text.partition(":")
    if name in TASKS:
        return TASKS[name](options, files)
    if found := _FILE.fullmatch(text):
        path = Path(found["path"])
        if path.suffix != ".py":
            return make_table(path, found["options"] or "", files)
        if found["options"]:
            raise ConfigError(f"--task {text}: a task in a Python file takes no options.")
        return load_own(path, files)
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"--task {text} is no task.{hint} Known: {', '.join(TASKS)}; or a file of your own, .py or .jsonl."
    )
