"""What is asked and how it is graded, as pure text. The same task serves training, evaluation and reward.

TASKS is the visible list of what `--task` accepts.
"""

from collections.abc import Callable

from smidgen.tasks.base import Example, Grade, Task
from smidgen.tasks.village import VillageQuestions

TASKS: dict[str, Callable[[int], Task]] = {"village": lambda limit: VillageQuestions("test", n_examples=limit)}
"""Task by name, given how many examples to ask."""

__all__ = ["TASKS", "Example", "Grade", "Task", "VillageQuestions"]
