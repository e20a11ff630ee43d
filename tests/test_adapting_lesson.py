"""Laws of what every way of learning is given."""

from collections import Counter
from types import SimpleNamespace

from smidgen.adapting.examine import Questions
from smidgen.adapting.lesson import talks_of
from smidgen.tasks import load_task


def test_what_a_task_draws_more_often_is_learned_more_often():
    """Each sum once was mostly the hard ones, of which there are more; the test asks all rungs alike."""
    exam = Questions(load_task("arithmetic", None, print), None, None)
    talks = talks_of(SimpleNamespace(task="arithmetic", seed=0), exam, None, 400)  # pyright: ignore[reportArgumentType]
    assert len(talks) == 400
    assert Counter(talks).most_common(1)[0][1] > 1
