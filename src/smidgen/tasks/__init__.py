"""What is asked and how it is graded, as pure text. The same task serves training, evaluation and reward.

TASKS is the visible list of what `--task` accepts by name; `load_task` also reads a person's own table or Python file.
"""

from smidgen.tasks.base import Example, Grade, Task, default_reward, exact_match, half_credit, worked_prompt
from smidgen.tasks.loading import TASKS, load_task
from smidgen.tasks.question import QuestionTask
from smidgen.tasks.sources import Drawn, Listed
from smidgen.tasks.village import VillageQuestions

__all__ = [
    "TASKS",
    "Drawn",
    "Example",
    "Grade",
    "Listed",
    "QuestionTask",
    "Task",
    "VillageQuestions",
    "default_reward",
    "exact_match",
    "half_credit",
    "load_task",
    "worked_prompt",
]
