"""All kinds of service data as one file of dialogues.

    dialogues.jsonl   rows for `qianwen sft`: messages, tools, ability, kind, language
    drawn.jsonl       the same before a model rewrote them, if one did; rewrites.jsonl: what it wrote, in this order
    counts.json       dialogues by kind and language, and how many were rewritten

The kinds have equal shares, English and Chinese too. A dialogue that is equal to an earlier one is drawn again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.align.request_log import logged
from qianwen.align.service import interpreter, search, tool_calls
from qianwen.align.service.interpreter import Execute, InterpreterDialogues
from qianwen.align.service.rewriting import rewritten
from qianwen.align.service.search import SearchDialogues, definition_pages, plain_pages
from qianwen.align.service.tool_calls import CallDialogues
from qianwen.chat.model import ChatModel
from qianwen.data.documents.document import Document
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import atomic_file, write_jsonl
from qianwen.runtime.translation import tr

GROUPS = {"calls": tool_calls.KINDS, "search": search.KINDS, "interpreter": interpreter.KINDS}
LANGUAGES = ("en", "zh")
MAX_TRIES = 50  # for a dialogue that is not equal to an earlier one
DIALOGUES, DRAWN, REWRITES, COUNTS = "dialogues.jsonl", "drawn.jsonl", "rewrites.jsonl", "counts.json"


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What is built."""

    count: int = 1000  # dialogues
    groups: tuple[str, ...] = tuple(GROUPS)
    documents: str = ""  # a corpus as the "web"; empty: the texts of this package
    model: str = ""  # the model that rewrites; empty: none
    concurrency: int = 16  # rewrites at the same time
    seed: int = 0


def service_rows(
    config: ServiceConfig, documents: Iterable[Document], execute: Execute | None
) -> Iterator[dict[str, Any]]:
    """The dialogues, each different; without `execute` no programs. DataError if there are too few different ones."""
    documents = list(documents)
    builders = {language: _builders(config, documents, execute, language) for language in LANGUAGES}
    kinds = [kind for group in config.groups for kind in GROUPS[group]]
    seen: set[str] = set()
    for number in range(config.count):
        language = LANGUAGES[number // len(kinds) % len(LANGUAGES)]
        kind = kinds[number % len(kinds)]
        for _ in range(MAX_TRIES):
            row = builders[language][kind](kind)
            text = json.dumps(row["messages"], ensure_ascii=False)
            if text not in seen:
                break
        else:
            message = "only {number:,} different dialogues can be built ({kind}); use a smaller --count"
            raise DataError(tr(message, number=number, kind=kind))
        seen.add(text)
        yield row


def _builders(
    config: ServiceConfig, documents: list[Document], execute: Execute | None, language: str
) -> dict[str, Callable[[str], dict[str, Any]]]:
    pages = definition_pages((each for each in documents if each["lang"] == language), language)
    builders: dict[str, Any] = {
        "calls": CallDialogues(language, config.seed),
        "search": SearchDialogues(language, plain_pages(language) + pages, config.seed),
    }
    if execute is not None:
        builders["interpreter"] = InterpreterDialogues(language, execute, config.seed)
    return {kind: builders[group].row for group in builders for kind in GROUPS[group]}


def rewrite_rows(
    model: ChatModel, rows: list[dict[str, Any]], config: ServiceConfig, folder: Path
) -> Iterator[dict[str, Any]]:
    """The rows in other words (`rewriting.py`), in their order; those that are on the disk are not asked again."""

    def request(numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        return rewritten(model, numbered[1], seed=(config.seed * 1_000_003 + numbered[0]) * 97)

    yield from logged(folder / REWRITES, request, list(enumerate(rows)), config.concurrency)


def write_rows(rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the dialogues and their counts, and return the counts."""
    write_jsonl(folder / DIALOGUES, rows)
    counts = {
        "dialogues": len(rows),
        "kinds": dict(Counter(row["kind"] for row in rows)),
        "languages": dict(Counter(row["language"] for row in rows)),
        "rewritten": dict(Counter(part for row in rows for part in row.get("rewritten", ()))),
    }
    with atomic_file(folder / COUNTS, "w") as file:
        json.dump(counts, file, indent=1)
    return counts
