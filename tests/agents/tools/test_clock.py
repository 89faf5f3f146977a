"""The time in zones, the difference of dates, and dates that do not exist."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from qianwen.agents.tool import CallContext
from qianwen.agents.tools.clock import clock, clock_tools
from qianwen.runtime.errors import ConfigError, ToolError

NOW = datetime(2024, 2, 29, 16, 5, 9, tzinfo=UTC)


def call(name: str, /, zone: str = "Asia/Shanghai", **arguments: object) -> str:
    tool = {tool.name: tool for tool in clock_tools(ZoneInfo(zone), lambda: NOW)}[name]
    assert (tool.effect, tool.is_trusted) == ("none", True)
    return tool.run(arguments, CallContext("k", Path("."), 1.0)).text


def test_the_time_now_is_that_of_the_user_or_of_a_zone():
    assert call("current_time") == "2024-03-01 00:05:09 UTC+08:00, Friday"
    assert call("current_time", zone="UTC") == "2024-02-29 16:05:09 UTC+00:00, Thursday"
    tools = {tool.name: tool for tool in clock()}
    assert "UTC" in tools["current_time"].run({}, CallContext("k", Path("."), 1.0)).text


@pytest.mark.parametrize(
    ("time", "start", "end", "expected"),
    [
        ("2024-05-01 18:30", "Asia/Shanghai", "America/New_York", "2024-05-01 06:30:00 UTC-04:00, Wednesday"),
        ("2024-01-01 18:30", "Asia/Shanghai", "America/New_York", "2024-01-01 05:30:00 UTC-05:00, Monday"),
        ("2024-05-01T00:00:00+00:00", "Asia/Tokyo", "Asia/Kolkata", "2024-05-01 05:30:00 UTC+05:30, Wednesday"),
    ],
)
def test_a_time_in_another_zone_knows_summer_time(time: str, start: str, end: str, expected: str):
    assert call("convert_time", time=time, from_zone=start, to_zone=end) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2024-02-28", "2024-03-01", "2 days (from Wednesday 2024-02-28 to Friday 2024-03-01; 172800 seconds)"),
        ("2024-03-01", "2024-02-28", "-2 days (from Friday 2024-03-01 to Wednesday 2024-02-28; -172800 seconds)"),
        (
            "2023/01/01 08:00",
            "2023/01/02 09:30:05",
            "1 days 01:30:05 (from Sunday 2023-01-01 to Monday 2023-01-02; 91805 seconds)",
        ),
        ("1900-01-01", "2000-01-01", "36524 days (from Monday 1900-01-01 to Saturday 2000-01-01; 3155673600 seconds)"),
    ],
)
def test_the_difference_of_two_dates(start: str, end: str, expected: str):
    assert call("date_difference", start=start, end=end) == expected


@pytest.mark.parametrize(
    ("start", "amount", "unit", "expected"),
    [
        ("2024-01-31", 1, "months", "2024-02-29, Thursday"),
        ("2024-02-29", 1, "years", "2025-02-28, Friday"),
        ("2024-02-29", -4, "years", "2020-02-29, Saturday"),
        ("2024-01-01", -1, "days", "2023-12-31, Sunday"),
        ("2024-01-15", -13, "months", "2022-12-15, Thursday"),
        ("2024-01-01", 2, "weeks", "2024-01-15, Monday"),
    ],
)
def test_a_date_after_or_before_another(start: str, amount: int, unit: str, expected: str):
    assert call("shift_date", start=start, amount=amount, unit=unit) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("current_time", {"zone": "Mars/Base"}, "time zone"),
        ("current_time", {"zone": "../../etc/passwd"}, "time zone"),
        ("current_time", {"zone": "/etc/localtime"}, "time zone"),
        ("current_time", {"zone": "Europe"}, "time zone"),
        ("current_time", {"zone": "UTC\0"}, "time zone"),
        ("date_difference", {"start": "2023-02-29", "end": "2024-01-01"}, "2023-02-29"),
        ("date_difference", {"start": "yesterday", "end": "2024-01-01"}, "yesterday"),
        ("date_difference", {"start": "2024-01-01T00:00:00Z", "end": "2024-01-01"}, "both"),
        ("shift_date", {"start": "2024-01-01", "amount": 10**6, "unit": "years"}, "9999"),
        ("shift_date", {"start": "2024-01-01", "amount": -(10**30), "unit": "days"}, "9999"),
        ("shift_date", {"start": "2024-01-01", "amount": -(10**6), "unit": "months"}, "9999"),
    ],
)
def test_what_does_not_exist_is_named(name: str, arguments: dict[str, object], reason: str):
    zone = arguments.pop("zone", None)
    with pytest.raises(ToolError, match=reason):
        tool = {tool.name: tool for tool in clock_tools(UTC, lambda: NOW)}[name]
        tool.run({**arguments, **({"zone": zone} if zone else {})}, CallContext("k", Path("."), 1.0))


def test_a_zone_of_the_user_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="Mars"):
        clock(zone="Mars")
