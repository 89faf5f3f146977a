import time

import pytest

from qianwen.agents.budget import Budget, Stopwatch, overspent, spent_calls
from qianwen.agents.step import Given, Result
from qianwen.agents.tool import Observation
from qianwen.chat.messages import Message
from qianwen.runtime.errors import ConfigError


def results(*statuses):
    return [Result(str(number), "t", Observation(""), status) for number, status in enumerate(statuses)]


@pytest.mark.parametrize(
    ("statuses", "count"),
    [
        (["done", "failed", "denied", "unknown"], 4),
        (["skipped", "skipped"], 0),
        (["invalid"], 0),
        (["invalid", "invalid", "invalid"], 2),
        (["invalid", "done", "invalid", "done"], 2),
    ],
)
def test_a_call_that_can_be_repaired_is_free_once(statuses, count):
    assert spent_calls(results(*statuses)) == count
    assert spent_calls([*results("done"), Given(Message("user", "Again.")), *results(*statuses)]) == count


def test_tokens_and_seconds_end_the_run():
    budget = Budget(tokens=10, seconds=5)
    assert [overspent(budget, *spent) for spent in ((9, 4.9), (10, 0.0), (0, 5.0))] == [None, "tokens", "time"]


@pytest.mark.parametrize(
    "limits",
    [
        {"calls": -1},
        {"tokens": 0},
        {"seconds": "60"},
        {"observation_chars": 10},
        {"calls": True},
        {"seconds": float("nan")},
    ],
)
def test_a_limit_that_is_no_limit_is_refused(limits):
    with pytest.raises(ConfigError, match=next(iter(limits))):
        Budget(**limits)


def test_a_stopwatch_counts_only_inside_and_while_it_runs():
    watch = Stopwatch(1.0)
    with watch:
        time.sleep(0.02)
        assert watch.seconds > 1.01
    counted = watch.seconds
    time.sleep(0.02)
    assert watch.seconds == counted < 1.5
