"""What a template makes may not grow without end: the size is checked before a text or a list becomes larger.

A list counts with all that it contains, as often as it is in there: `[x, x]` sixty times over is short to write and too
large to print. The filters here replace Jinja's where those check nothing; their results are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from jinja2 import pass_context
from jinja2.sandbox import SecurityError

from qianwen.runtime.translation import tr

MAX_TEXT = 1 << 25  # characters of any text that a template makes
MAX_ITEMS = 1 << 18  # entries of any list or object that a template makes
MAX_INDENT = 32


class TooLarge(SecurityError):
    def __str__(self) -> str:
        return tr("it makes a text or a list that is too large")


def bounded(value: Any) -> Any:
    """`value`, if it is not too large. What a list contains counts as often as it is in there."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise TooLarge
        return value
    count, open_lists = 0, [value]
    while open_lists:
        current = open_lists.pop()
        if isinstance(current, (list, tuple, dict)):
            count += len(current)
            if count > MAX_ITEMS:
                raise TooLarge
            open_lists += chain(current, current.values()) if isinstance(current, dict) else current
    return value


@pass_context
def container(_: object, value: Any) -> Any:
    return bounded(value)


@pass_context
def concat(_: object, values: Iterable[Any]) -> str:
    return join(values, "")


def join(values: Iterable[Any], separator: str) -> str:
    texts, size = [], 0
    for value in values:
        texts.append(str(bounded(value)))
        size += len(texts[-1]) + len(separator)
        if size > MAX_TEXT:
            raise TooLarge
    return separator.join(texts)


@pass_context
def join_filter(context: Any, values: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        values = (context.environment.getitem(value, attribute) for value in values)
    return join(values, str(d))


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    if len(text) + times * len(new) > MAX_TEXT:
        raise TooLarge
    return text.replace(old, new, times)


@pass_context
def replace_filter(_: object, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    return replace(str(bounded(text)), str(old), str(new), -1 if count is None else count)


@pass_context
def indent_filter(_: object, text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """The text with every line but the first moved to the right."""
    space = width if isinstance(width, str) else " " * min(width, MAX_INDENT)
    lines = str(bounded(text)).split("\n")
    moved = [space + line if (line or blank) and (number or first) else line for number, line in enumerate(lines)]
    return join(moved, "\n")


@pass_context
def tojson(
    _: object,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if isinstance(indent, int) and indent > MAX_INDENT:
        raise TooLarge
    value = list(islice(value, MAX_ITEMS + 1)) if isinstance(value, Iterator) else value
    pair = None if separators is None else (str(separators[0])[:8], str(separators[1])[:8])
    text = json.dumps(bounded(value), ensure_ascii=False, indent=indent, separators=pair, sort_keys=sort_keys)
    if ensure_ascii:  # but the marks of `marks.py`, which are in a private plane, stay what they are
        text = re.sub(r"[\u0080-\uffff]|[\U00010000-\U000effff]", lambda char: json.dumps(char[0])[1:-1], text)
    return bounded(text)


def check_product(left: Any, right: Any) -> None:
    sizes = [len(side) if isinstance(side, (str, list, tuple)) else abs(side) for side in (left, right)]
    is_number = not any(isinstance(side, (str, list, tuple)) for side in (left, right))
    if sizes[0] * sizes[1] > (1 << 62 if is_number else MAX_ITEMS):
        raise TooLarge
