"""The tables of the documents, as they were published: rows of Qwen models and of their rivals (`published.toml`).

>>> [table.title for table in published_tables("blog")][0]
'The four sizes'

Figures of memory are in `train/published_memory.toml`, which the planner reads too; `published.toml` only names them.
"""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from qianwen.runtime.translation import language
from qianwen.train.plan import published

DOCUMENTS = ("memo", "blog", "models")
Figure = float | str | None  # a number, a word such as a date, or nothing if it was not published


@dataclass(frozen=True)
class Column:
    """A column, and what measures it here: the mean of `metric` over `tasks`, or, without a task, what it `needs`."""

    name: str
    tasks: tuple[str, ...] = ()
    metric: str = ""
    scale: float = 100.0  # from our value to the published unit
    digits: int = 1  # decimals
    needs: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """A table of a document. Each row is a name and one figure for each column."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Figure, ...]], ...]


def published_tables(document: str) -> list[PublishedTable]:
    """The tables of a document: `memo`, `blog`, or `models` for the README's tables of four sizes."""
    return [_table(table) for table in _file()["table"] if document in table["documents"]]


@functools.cache
def _file() -> dict[str, Any]:
    return tomllib.loads(resources.files("qianwen.eval").joinpath("published.toml").read_text("utf-8"))


def _table(table: Mapping[str, Any]) -> PublishedTable:
    columns = tuple(_column(**column) for column in table["columns"])
    rows = tuple((name, tuple(map(_figure, figures))) for name, *figures in table["rows"])
    assert all(len(figures) == len(columns) for _, figures in rows), table["name"]
    return PublishedTable(table["name"], table["title_zh" if language() == "zh" else "title"], columns, rows)


def _column(*, task: str = "", tasks: tuple[str, ...] = (), **fields: Any) -> Column:
    return Column(tasks=(task,) if task else tuple(tasks), **fields)


def _figure(cell: float | str | Mapping[str, str]) -> Figure:
    if isinstance(cell, Mapping):
        return _memory(cell["memory"])
    if isinstance(cell, str):
        return None if cell == "-" else cell
    return float(cell)


def _memory(place: str) -> float:
    """`generate.1.8b.4` is `published()["generate"]["1.8b"]["4"]`: a size has a dot, so the known keys are tried."""
    found: Any = published()
    while place:
        key = next(key for key in found if f"{place}.".startswith(f"{key}."))
        found, place = found[key], place[len(key) + 1 :]
    return float(found)
