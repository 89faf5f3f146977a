"""The time and dates, which a model does not know and computes badly."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

from qianwen.agents.tool import Tool
from qianwen.agents.tools.functions import function_tool
from qianwen.runtime.errors import ConfigError, ToolError, excerpt
from qianwen.runtime.translation import tr


def clock(*, zone: str = "") -> Sequence[Tool]:
    """The four tools. `zone` is where the user is, such as Asia/Shanghai; without it, the zone of this machine."""
    try:
        return clock_tools(_zone(zone) if zone else None, lambda: datetime.now(UTC))
    except ToolError as error:
        raise ConfigError(str(error)) from None


def clock_tools(home: tzinfo | None, now: Callable[[], datetime]) -> Sequence[Tool]:
    """The four tools for a user in the zone `home`, with any clock."""

    def current_time(zone: str = "") -> str:
        """The date, weekday and time now.

        Args:
            zone: a time zone such as Europe/Paris or UTC; without it, the user's
        """
        return _written(now().astimezone(_zone(zone) if zone else home))

    def convert_time(time: str, from_zone: str, to_zone: str) -> str:
        """What a date and time in one time zone is in another.

        Args:
            time: such as 2024-05-01 18:30
            from_zone: such as Asia/Shanghai
            to_zone: such as America/New_York
        """
        moment = _moment(time)
        start = moment if moment.tzinfo else moment.replace(tzinfo=_zone(from_zone))
        return _written(start.astimezone(_zone(to_zone)))

    tools = (current_time, convert_time, date_difference, shift_date)
    return tuple(function_tool(tool, effect="none", is_trusted=True) for tool in tools)


def date_difference(start: str, end: str) -> str:
    """The time from one date, or date and time, to another, and the weekdays of both.

    Args:
        start: such as 2024-02-28 or 2024-02-28 09:00
        end: in the same form
    """
    first, last = _moment(start), _moment(end)
    if (first.tzinfo is None) != (last.tzinfo is None):
        raise ToolError(tr("give both times with a time zone, or both without"))
    gap = last - first
    days, seconds = divmod(abs(gap).total_seconds(), 86400)
    text = f"{'-' if gap < timedelta(0) else ''}{int(days)} days"
    if seconds:
        text += f" {int(seconds // 3600):02}:{int(seconds % 3600 // 60):02}:{int(seconds % 60):02}"
    return f"{text} (from {first:%A} {first.date()} to {last:%A} {last.date()}; {gap.total_seconds():.0f} seconds)"


def shift_date(start: str, amount: int, unit: Literal["days", "weeks", "months", "years"]) -> str:
    """The date and weekday so many days, weeks, months or years after a date, or before it.

    Args:
        start: such as 2024-01-31
        amount: negative for before
    """
    day = _moment(start).date()
    try:
        if unit in ("days", "weeks"):
            return _named(day + timedelta(**{unit: amount}))
        month = day.year * 12 + day.month - 1 + amount * (12 if unit == "years" else 1)
        year, number = divmod(month, 12)
        # The last day of a shorter month: January 31 and one month is the end of February.
        return _named(date(year, number + 1, min(day.day, calendar.monthrange(year, number + 1)[1])))
    except (OverflowError, ValueError, IndexError):
        raise ToolError(tr("the date is outside of the years 1 to 9999")) from None


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip().replace("/", "-"))
    except ValueError:
        message = "{text} is not a date that exists; write 2024-05-01 or 2024-05-01 18:30"
        raise ToolError(tr(message, text=excerpt(text))) from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name; a folder of names
        message = "{name} is not a time zone; write one such as Asia/Shanghai, Europe/Paris or UTC"
        raise ToolError(tr(message, name=excerpt(name))) from None


def _written(moment: datetime) -> str:
    offset = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC{offset[:3]}:{offset[3:5]}, {moment:%A}"


def _named(day: date) -> str:
    return f"{day.isoformat()}, {day:%A}"
