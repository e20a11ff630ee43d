"""Village questions: a short story never seen, a question about a combination never seen, one exact answer.

Beside the score stand two numbers that cost nothing. *Chance*: guessing among the candidates of the right kind that
the story itself names (its people for `who`, its places for `where`, its things for `what`, its number words, reasons,
colours, containers; yes or no), averaged over the questions. *Majority*: answering each kind of question with the most
frequent answer of the other questions of that kind; `evaluation.runner` counts it.
"""

import re
from collections.abc import Iterator
from random import Random

from pydantic import Field

from smidgen.config import Config
from smidgen.data.village import Question, Tale, tell
from smidgen.data.village.corpus import VillageConfig, question_prompt, spread
from smidgen.data.village.words import COLOURS, NUMBERS, Split, lists, vocabulary
from smidgen.tasks.base import Example, Grade, default_reward, exact_match, worked_prompt
from smidgen.tasks.files import Files
from smidgen.tasks.options import read_options
from smidgen.tokenizers.chat import Message

MAX_WORDS = 12
"""The longest answers are reasons, as `to bring the lantern to Oscar`; anything much longer is no short answer."""


class VillageTaskConfig(Config):
    """Which village is asked about."""

    n: int = Field(default=2000, ge=1)
    """Questions of the test set."""
    seed: int = 0
    """Seed of the village."""


def make_village(options: str, files: Files) -> "VillageQuestions":
    """Make the task; the village of seed 0, which recipes train on, if nothing is said."""
    config = read_options("village", options, VillageTaskConfig)
    return VillageQuestions("test", config.n, VillageConfig(seed=config.seed))


class VillageQuestions:
    """Questions about held-out combinations, `questions_per_tale` of different kinds from each tale."""

    name = "village"

    def __init__(
        self,
        split: Split = "test",
        n_examples: int = 500,
        config: VillageConfig | None = None,
        questions_per_tale: int = 2,
    ) -> None:
        self.split: Split = split
        self.n_examples = n_examples
        self.config = config or VillageConfig()
        self.questions_per_tale = questions_per_tale

    def examples(self) -> Iterator[Example]:
        """Yield `n_examples` questions from tales 0, 1, 2, ... of the split."""
        made = index = 0
        while made < self.n_examples:
            for example in self._asked(self.split, index)[: self.n_examples - made]:
                made += 1
                yield example
            index += 1

    def training_examples(self, seed: int) -> Iterator[Example]:
        """Yield questions from tales of the training side, drawn by the seed, without end."""
        rng = Random(f"village/train/{seed}")
        while True:
            yield from self._asked("train", rng.randrange(1 << 31))

    def _asked(self, split: Split, index: int) -> list[Example]:
        tale = tell(self.config.seed, split, index, detail=self.config.chat_detail)
        return [
            Example(
                id=f"village/{split}/{index}/{question.kind}",
                question=question_prompt(tale.text, question.question),
                answer=question.answer,
                kind=question.kind,
                chance=1 / candidates(tale, question),
                extra={"about": question.about},
            )
            for question in spread(tale, self.questions_per_tale)
        ]

    def prompt(self, example: Example) -> list[Message]:
        """Return one user message: the story and the question."""
        return [Message("user", example.question)]

    def grade(self, example: Example, answer: str) -> Grade:
        """Grade by exact match; leniently but for case, punctuation and articles."""
        return exact_match(answer, example.answer, MAX_WORDS)

    def reward(self, example: Example, answer: str) -> float:
        """Return the strict grade."""
        return default_reward(self.grade(example, answer))

    def few_shot(self, example: Example, k: int) -> list[Message]:
        """Return the story and question with `k` others, answered, in front."""
        return worked_prompt(self, example, k)


def candidates(tale: Tale, question: Question) -> int:
    """Count the answers of the right kind that the story names; at least 1."""
    words = set(re.findall(r"[A-Za-z]+", tale.text))
    named = [vocabulary().by_text[w] for w in words if w in vocabulary().by_text]
    kind = question.kind
    if kind == "yes_no":
        return 2
    if kind.startswith("who"):
        found = [w for w in named if w.role == "person"]
    elif kind.startswith("where"):
        found = [w for w in named if w.role == "place"]
    elif kind == "what_color":
        found = [c for c in COLOURS if c in words]
    elif kind == "what_in":
        found = [b for b in lists("cast.txt")["box"] if b in words]
    elif kind.startswith("what"):
        found = [w for w in named if w.role == "thing"]
    elif kind.startswith("how_many"):
        # The answer may be a difference that the text does not name: every number word is plausible then.
        found = [n for n in NUMBERS if n in words] if kind != "how_many_left" else NUMBERS
    else:
        found = {act.r for act in tale.world.log if act.r}
    return max(1, len(found))
