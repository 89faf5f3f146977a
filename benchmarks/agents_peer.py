"""Cells on a peer, one after another, in one session; prints the seconds as JSON. The start does not count.

    python agents_peer.py smolagents|ipykernel CELLS.json REPEATS

`smolagents` is its local executor, an interpreter of Python's syntax tree in the same process, and is run by its own
environment's Python. `ipykernel` is a kernel without any isolation, through jupyter_client.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def smolagents():  # noqa: ANN201  yields a function that runs a cell
    from smolagents.local_python_executor import LocalPythonExecutor

    executor = LocalPythonExecutor(["numpy", "numpy.*", "pandas", "pandas.*"])
    executor.send_tools({})
    yield executor


@contextmanager
def ipykernel():  # noqa: ANN201  yields a function that runs a cell
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()

    def run(cell: str) -> None:
        reply = client.execute_interactive(cell, output_hook=lambda message: None, timeout=60)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(reply["content"])

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def repeat(run: Callable[[str], object], cells: list[str], repeats: int) -> float:
    """Seconds for all cells so many times, once they have run."""
    for cell in cells:
        run(cell)
    began = time.perf_counter()
    for _ in range(repeats):
        for cell in cells:
            run(cell)
    return time.perf_counter() - began


if __name__ == "__main__":
    name, path, repeats = sys.argv[1:]
    with {"smolagents": smolagents, "ipykernel": ipykernel}[name]() as run:
        seconds = repeat(run, json.loads(Path(path).read_text(encoding="utf-8")), int(repeats))
    print(json.dumps({"seconds": seconds}))
