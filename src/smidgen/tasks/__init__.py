"""What is asked and how it is graded, as pure text. The same task serves training, evaluation and reward.

TASKS is the visible list of what `--tasks` accepts.
"""

from collections.abc import Callable

from smidgen.tasks.base import Example, Grade, Task
from smidgen.tasks.village import VillageQuestions

TASKS: dict[str, Callable[[], Task]] = {
    "village": VillageQuestions,
}

__all__ = ["TASKS", "Example", "Grade", "Task", "VillageQuestions"]
