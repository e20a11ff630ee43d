"""`--time` is spent on preparation, training and the end; a resumed run does not spend its reserve twice."""

import time

import pytest

from smidgen.errors import BudgetError
from smidgen.journey.clock import Clock
from smidgen.planning.units import parse_time


def after(total: float | None, elapsed: float) -> Clock:
    return Clock(total, time.monotonic() - elapsed)


@pytest.mark.parametrize(("total", "prepared"), [(30, 2), (600, 40), (86_400, 3_000)])
def test_preparation_training_and_reserve_are_the_time_given(total, prepared):
    clock = after(total, prepared)
    assert prepared + clock.training_seconds() + clock.reserve == pytest.approx(total, abs=0.1)


def test_a_time_that_preparation_used_up_is_refused_with_one_that_does():
    with pytest.raises(BudgetError, match="preparing took 50 s") as refused:
        after(60, 50).training_seconds()
    advised = str(refused.value).rpartition("--time ")[2].rstrip(".")
    assert after(parse_time(advised), 50).training_seconds() > 0


def test_the_end_of_a_resumed_run_takes_no_longer_than_that_of_any_other():
    resumed = after(600, 60)  # nine minutes of it were trained by an earlier command
    assert resumed.seconds_to_end(training_seconds=570) == resumed.reserve
    assert after(600, 590).seconds_to_end(570) == pytest.approx(10, abs=0.1)
    assert after(600, 700).seconds_to_end(570) == 1.0


def test_without_a_total_the_end_takes_its_share_of_the_training():
    assert after(None, 5).seconds_to_end(100) == 10
    assert after(None, 5).seconds_to_end(1e6) == 60
