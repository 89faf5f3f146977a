"""Many requests to a model, whose results are written to a file in order, so that a killed run goes on where it was.

    items → `concurrency` requests at the same time → one row each, appended in the order of the items

The file is the state: its n rows are the results of the first n items. Only requests that were under way are lost.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from qianwen.runtime.files import json_text, read_jsonl, repair_jsonl

AHEAD = 4  # requested results for each of the `concurrency` that run
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(request: Callable[[Item], Result], items: Iterable[Item], concurrency: int) -> Iterator[Result]:
    """The results in the order of the items, of which `concurrency` are computed at the same time."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="request") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(request, item))
                if len(waiting) >= AHEAD * concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def logged(
    path: Path, request: Callable[[Item], dict[str, Any]], items: Sequence[Item], concurrency: int
) -> Iterator[dict[str, Any]]:
    """A row for each item: first those in the file, then new ones, each after it was appended.

    An incomplete last row, left by a kill, is removed.
    """
    done = repair_jsonl(path)
    if done:
        yield from read_jsonl(path)
    with path.open("a", encoding="utf-8") as file:
        for row in in_order(request, items[done:], concurrency):
            file.write(json_text(row) + "\n")
            file.flush()
            yield row
        os.fsync(file.fileno())
